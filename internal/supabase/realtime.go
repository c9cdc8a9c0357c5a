package supabase

import (
	"fmt"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink/postgres"
)

// realtime adds the tables to the publication that Supabase's Realtime reads. Those
// that a bridge has taken out for the time of its first copy are left to it.
func (p *planner) realtime() {
	if !p.has.realtime {
		return
	}
	var list []pg.Statement
	for _, t := range p.tables {
		if !t.Realtime {
			continue
		}
		name := pg.QuoteLiteral(t.Name.SQL())
		list = append(list, pg.Statement{
			SQL: "ALTER PUBLICATION supabase_realtime ADD TABLE " + t.Name.SQL(),
			Unless: fmt.Sprintf("SELECT FROM pg_catalog.pg_publication_rel AS r JOIN pg_catalog.pg_publication AS p ON p.oid = r.prpubid WHERE p.pubname = 'supabase_realtime' AND r.prrelid = %s::regclass"+
				" UNION ALL SELECT FROM walbridge.quieted AS q WHERE pg_catalog.to_regclass(q.\"table\") = %[1]s::regclass", name),
		})
	}
	if p.has.realtimeOwner != "" {
		var sql []string
		for _, s := range list {
			sql = append(sql, s.SQL+";")
		}
		p.note("The publication supabase_realtime belongs to %s, so this is left to it, and a first copy isn't kept out of Realtime:\n%s",
			p.has.realtimeOwner, strings.Join(sql, "\n"))
		return
	}
	p.add("What Realtime carries.", list...)
}

// schedule gives the alerts to pg_cron, which raises them while no bridge runs, too.
func (p *planner) schedule() {
	switch {
	case p.m.Schema.Alerts == nil:
	case p.has.cron:
		p.add("Alerts are raised every minute by pg_cron, and by the bridge no longer.",
			do("SELECT cron.schedule(%s, '* * * * *', %s)", pg.QuoteLiteral("walbridge alerts of "+p.bridge), pg.QuoteLiteral(postgres.RaiseAlerts(p.bridge))))
	case p.has.cronKnown:
		p.note("The bridge raises alerts while it runs. pg_cron would do so without it: CREATE EXTENSION pg_cron; then run this again.")
	}
}
