package check

import (
	"context"
	"fmt"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/supabase"
)

const (
	// selectRealtime are tables that the publication lacks. There may be none to
	// lack them.
	selectRealtime = withTargets + `
	SELECT w.schema, w.name, coalesce(pg_catalog.to_regclass('walbridge.quieted')::text, ''), ''
	FROM w JOIN pg_catalog.pg_publication p ON p.pubname = 'supabase_realtime' AND NOT p.puballtables
	WHERE w.oid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_tables t WHERE t.pubname = p.pubname AND t.schemaname = w.schema AND t.tablename = w.name)
	ORDER BY 1, 2`
	// selectQuieted are tables that a bridge has taken out for the time of a copy.
	selectQuieted = `SELECT DISTINCT n.nspname::text, c.relname::text FROM walbridge.quieted AS q
	JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(q."table") JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace`
)

// realtimeCheck compares what Supabase's Realtime carries with what the mapping
// says of it.
func realtimeCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	wanted, out := map[pg.TableName]bool{}, map[pg.TableName]bool{}
	for _, t := range supabase.Tables(e.mapping) {
		wanted[t.Name] = t.Realtime
	}
	rows, err := e.targetRows(ctx, selectRealtime)
	if err != nil {
		return nil, fmt.Errorf("read what Realtime carries: %w", err)
	}
	if len(rows) > 0 && rows[0].a != "" {
		quieted, err := e.target.ask(ctx, selectQuieted)
		if err != nil {
			return nil, fmt.Errorf("read what was taken out of Realtime: %w", err)
		}
		for _, r := range quieted {
			out[pg.TableName{Schema: r[0].Text, Name: r[1].Text}] = true
		}
	}
	for _, r := range rows {
		f := Finding{Severity: Info, What: fmt.Sprintf("Realtime doesn't carry table %s", r.table),
			Why: "The mapping says realtime: true, and nobody who listens is told of its changes.",
			Fix: "ALTER PUBLICATION supabase_realtime ADD TABLE " + r.table.SQL() + ";"}
		switch {
		case out[r.table]:
			f.Why, f.Fix = "The bridge has taken it out while it copies, and puts it back.", ""
		case !wanted[r.table]:
			continue
		}
		found = append(found, f)
	}
	return found, nil
}
