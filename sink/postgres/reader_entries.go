package postgres

import (
	"context"
	"fmt"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// countEntries looks at the numbers of the entries and the changes that they are
// of, from number $2 on. %[1]s is the details as jsonb, %[2]s the tenant, %[3]s the table.
const countEntries = `
	WITH entries AS (
		SELECT (%[1]s ->> 'n')::int8 AS n, %[1]s ->> 'lsn' AS lsn, (%[1]s ->> 'seq')::int8 AS seq, t.%[2]s AS tenant
		FROM %[3]s AS t WHERE %[1]s ->> 'by' = 'walbridge'
			AND ((%[1]s ->> 'n')::int8 BETWEEN 1 AND $2::int8 - 1) IS NOT TRUE
	), head AS (
		SELECT coalesce(pg_catalog.max(audit_head), 0) AS n FROM walbridge.checkpoint WHERE name = $1
	), numbers AS (
		SELECT n, pg_catalog.count(*) AS times FROM entries GROUP BY n
	), lost AS (
		-- Between two numbers that are there, before the first and after the last.
		SELECT before + 1 AS first, n - before - 1 AS numbers FROM (
			SELECT n, pg_catalog.lag(n, 1, $2::int8 - 1) OVER (ORDER BY n) AS before FROM (
				SELECT n FROM numbers WHERE n BETWEEN 1 AND (SELECT n FROM head)
				UNION ALL SELECT n + 1 FROM head) AS present
		) AS gaps WHERE n > before + 1
	)
	SELECT (SELECT n FROM head),
		(SELECT pg_catalog.count(*) FROM entries),
		(SELECT coalesce(pg_catalog.sum(numbers), 0)::int8 FROM lost),
		(SELECT coalesce(pg_catalog.min(first), 0)::int8 FROM lost),
		(SELECT pg_catalog.count(*) FROM entries WHERE n IS NULL OR n < 1 OR n > (SELECT n FROM head)),
		(SELECT coalesce(pg_catalog.sum(times - 1), 0)::int8 FROM numbers),
		(SELECT coalesce(pg_catalog.sum(times - 1), 0)::int8 FROM (
			SELECT pg_catalog.count(*) AS times FROM entries WHERE seq IS NOT NULL GROUP BY lsn, seq, tenant) AS changes),
		(SELECT pg_catalog.count(*) FROM entries WHERE tenant IS NULL)`

// Entries counts the bridge's entries from number first on.
func (r *reader) Entries(ctx context.Context, first int64) (sink.EntryCounts, error) {
	var c sink.EntryCounts
	e := r.s.schema.Entries
	err := r.query(ctx, "check audit entries", op{
		sql:  fmt.Sprintf(countEntries, "t."+pg.Quote(e.Details)+"::jsonb", pg.Quote(e.Tenant), pg.Quote(e.Schema, e.Name)),
		args: [][]byte{arg(r.s.name), argInt(first)},
		read: one(func(v [][]byte) error {
			d := decoder{values: v}
			c = sink.EntryCounts{Removed: first - 1, Head: d.int64(), Rows: d.int64(), Lost: d.int64(), FirstLost: d.int64(),
				Beyond: d.int64(), Doubled: d.int64(), Repeated: d.int64(), Tenantless: d.int64()}
			return d.err
		}),
	})
	return c, err
}
