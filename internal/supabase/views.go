package supabase

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// view is one that counts; its query is the caller's, with his row security.
type view struct {
	name  pg.TableName
	query string
}

// mark is the comment of a view or a policy: whose it is, and which version.
func mark(definition string) string {
	sum := sha256.Sum256([]byte(definition))
	return "walbridge " + hex.EncodeToString(sum[:6])
}

// resolution averages the hours from a conversation's beginning to its end, over
// those that have ended. The end is by the database's clock and the beginning by
// the application's, so it may seem to come first.
const resolution = `avg(extract(epoch FROM greatest(c.{ended} - c.{created}, interval '0')) / 3600)
		FILTER (WHERE c.{status} IN ({closed}) AND c.{ended} IS NOT NULL) AS avg_resolution_time_hours`

const conversationCounts = `count(*) AS total_conversations,
	count(*) FILTER (WHERE c.{status} IN ({open})) AS open_conversations,
	count(*) FILTER (WHERE c.{status} IN ({closed})) AS closed_conversations,
	` + resolution

// metrics are the views that the mapping asks for, in the schema of their table.
func (p *planner) metrics() (list []view) {
	d := p.m.Dashboard
	if d == nil {
		return nil
	}
	if m := d.Conversations; m != nil {
		r := strings.NewReplacer("{of}", pg.Quote(m.Table.Schema, m.Table.Name), "{tenant}", column(m.Table, m.Table.Tenant),
			"{status}", column(m.Table, m.Status), "{created}", column(m.Table, m.Created), "{ended}", column(m.Table, m.Ended),
			"{open}", literals(m.Open), "{closed}", literals(m.Closed))
		list = append(list,
			view{pg.TableName{Schema: m.Table.Schema, Name: "dashboard_metrics"}, r.Replace(`SELECT c.{tenant},
	` + conversationCounts + `
FROM {of} AS c
WHERE c.{created} >= now() - interval '24 hours'
GROUP BY c.{tenant}`)},
			view{pg.TableName{Schema: m.Table.Schema, Name: "conversation_metrics"}, r.Replace(`SELECT c.{tenant}, c.{created}::date AS day,
	` + conversationCounts + `
FROM {of} AS c
WHERE c.{created} >= now() - interval '30 days'
GROUP BY c.{tenant}, c.{created}::date`)})
	}
	if m := d.Feedback; m != nil {
		r := strings.NewReplacer("{of}", pg.Quote(m.Table.Schema, m.Table.Name), "{tenant}", column(m.Table, m.Table.Tenant), "{rating}", column(m.Table, m.Rating))
		list = append(list, view{pg.TableName{Schema: m.Table.Schema, Name: "csat_metrics"}, r.Replace(`SELECT f.{tenant},
	count(*) AS total_feedbacks,
	avg(f.{rating}) AS avg_rating,
	count(*) FILTER (WHERE f.{rating} >= 4) AS satisfied,
	count(*) FILTER (WHERE f.{rating} = 3) AS neutral,
	count(*) FILTER (WHERE f.{rating} <= 2) AS dissatisfied
FROM {of} AS f
GROUP BY f.{tenant}`)})
	}
	return list
}

func column(t *sink.Table, i int) string { return pg.Quote(t.Columns[i].Name) }

func literals(values []string) string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = pg.QuoteLiteral(v)
	}
	return strings.Join(list, ", ")
}

// views makes those that are missing, and renews those that an earlier release or
// another mapping has made. One of the same name that is somebody else's stays as it is.
func (p *planner) views() {
	views := p.metrics()
	if len(views) > 0 && p.has.version < 150000 {
		p.note("The views dashboard_metrics, conversation_metrics and csat_metrics are left out: before PostgreSQL 15 a view\nreads with the rights of its owner, and shows every tenant's numbers to every tenant.")
		return
	}
	var list []pg.Statement
	for _, v := range views {
		name := v.name.SQL()
		have, exists := p.has.views[v.name.String()]
		if exists && !strings.HasPrefix(have, "v walbridge ") {
			p.note("%s is there and not walbridge's; it stays as it is. To have walbridge's with the next run:\nDROP VIEW %s;", v.name, name)
			continue
		}
		if have == "v "+mark(v.query) {
			continue
		}
		list = append(list,
			do("CREATE OR REPLACE VIEW %s WITH (security_invoker = true) AS\n%s", name, v.query),
			do("COMMENT ON VIEW %s IS %s", name, pg.QuoteLiteral(mark(v.query))))
		if p.has.api {
			list = append(list, do("REVOKE ALL ON TABLE %s FROM PUBLIC, anon, authenticated", name), do("GRANT SELECT ON TABLE %s TO authenticated", name))
		}
	}
	p.add("What dashboards count. The views read with the rights of whoever asks, so that each tenant sees its own\nnumbers: conversations of the last 24 hours, those of the last 30 days by day, and all feedback.", list...)
}
