package postgres

import (
	"context"
	"fmt"
	"time"

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

// A page ends behind the entry with which it has come to pageBytes. The one after
// it has fewer numbers then, because the target has read the rest for nothing, and
// more where there was room.
const (
	pageBytes              = 4 << 20
	fewNumbers, allNumbers = 100, 10_000
)

// numberedEntries reads entries by their numbers, which the index of a chained
// audit table finds. The bound on both sides keeps what is read small whichever
// plan is chosen. More than one entry with a number are somebody else's work, of
// which a few are enough. %[1]s is the number as the index has it, %[2]s the
// table, %[3]s … the columns.
const numberedEntries = `
	SELECT q.id, q.tenant, q."user", q.action, q.details, q.at, q.n FROM (
		SELECT p.*, pg_catalog.sum(pg_catalog.octet_length(p.details)) OVER (ORDER BY p.n ROWS UNBOUNDED PRECEDING) - pg_catalog.octet_length(p.details) AS before
		FROM (
			SELECT t.%[3]s::text AS id, t.%[4]s::text AS tenant, t.%[5]s::text AS "user", t.%[6]s::text AS action, t.%[7]s::text AS details,
				CASE WHEN pg_catalog.isfinite(t.%[8]s) THEN (extract(epoch FROM t.%[8]s) * 1000000)::int8 END AS at, %[1]s AS n
			FROM %[2]s AS t WHERE t.%[7]s::jsonb ->> 'by' = 'walbridge' AND %[1]s > $1::int8 AND %[1]s <= $2::int8
			ORDER BY n LIMIT 2 * ($2::int8 - $1::int8)
		) AS p
	) AS q WHERE q.before < $3::int8 ORDER BY q.n`

// Numbered reads a page of entries.
func (r *reader) Numbered(ctx context.Context, after, upto int64) (entries []sink.Entry, next int64, err error) {
	e := r.s.schema.Entries
	r.numbers = max(r.numbers, fewNumbers)
	next = min(upto, after+r.numbers)
	bytes, last := 0, after
	err = r.query(ctx, "read audit entries", op{
		sql: fmt.Sprintf(numberedEntries, entryNumber("t", e), pg.Quote(e.Schema, e.Name), pg.Quote(e.ID), pg.Quote(e.Tenant), pg.Quote(e.User),
			pg.Quote(e.Action), pg.Quote(e.Details), pg.Quote(e.Time)),
		args: [][]byte{argInt(after), argInt(next), argInt(pageBytes)},
		read: each(func(v [][]byte) error {
			d := decoder{values: v}
			entry := sink.Entry{ID: d.text(), Tenant: d.text(), User: d.value(), Action: d.text(), Details: d.text()}
			at := d.value()
			if last = d.int64(); !at.IsNull() {
				d.values = [][]byte{[]byte(at.Text)}
				entry.Time = time.UnixMicro(d.int64()).UTC()
			}
			bytes += len(entry.Details)
			entries = append(entries, entry)
			return d.err
		}),
	})
	switch {
	case bytes >= pageBytes:
		next, r.numbers = last, r.numbers/2
	case bytes < pageBytes/2:
		r.numbers = min(2*r.numbers, allNumbers)
	}
	return entries, next, err
}

// entryNumber is an entry's number as the index has it.
func entryNumber(table string, e *sink.EntryTable) string {
	details := pg.Quote(e.Details)
	if table != "" {
		details = table + "." + details
	}
	return "(" + details + "::jsonb ->> 'n')::int8"
}
