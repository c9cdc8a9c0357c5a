package verify

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
)

// EntriesReport is what was found about the bridge's audit entries.
type EntriesReport struct {
	// Head is the number of the newest entry by the checkpoint, Rows how many
	// entries there are.
	Head, Rows int64
	// Lost are numbers up to Head that no entry has, FirstLost the first of
	// them.
	Lost, FirstLost int64
	// Beyond are entries whose number is above Head or no number from 1 on.
	Beyond int64
	// Doubled are entries that share their number with another one, Repeated
	// those that share their change and tenant.
	Doubled, Repeated int64
	// Tenantless entries belong to nobody.
	Tenantless int64
}

// OK reports whether nothing is missing, doubled or out of place.
func (r *EntriesReport) OK() bool {
	return r.Rows == r.Head && r.Lost+r.Beyond+r.Doubled+r.Repeated+r.Tenantless == 0
}

func (r *EntriesReport) String() string {
	if r.OK() {
		return fmt.Sprintf("%d entries, none missing, none twice", r.Rows)
	}
	return fmt.Sprintf("%d entries, head %d: %d missing (first n = %d), %d beyond the head, %d with a number twice, %d with a change twice, %d without a tenant",
		r.Rows, r.Head, r.Lost, r.FirstLost, r.Beyond, r.Doubled, r.Repeated, r.Tenantless)
}

// Entries checks the bridge's audit log by itself: its numbers run from 1 to the
// head that the checkpoint names, and no change of the source has two entries
// for one tenant. name is the bridge's, DefaultName if empty. It returns nil
// where the mapping audits nothing.
func Entries(ctx context.Context, m *mapping.Mapping, target *pgx.Conn, name string) (*EntriesReport, error) {
	e := m.Schema.Entries
	if e == nil {
		return nil, nil
	}
	if name == "" {
		name = DefaultName
	}
	details := "t." + pg.Quote(e.Details) + "::jsonb"
	sql := fmt.Sprintf(`
		WITH entries AS (
			SELECT (%[1]s ->> 'n')::int8 AS n, %[1]s ->> 'lsn' AS lsn, (%[1]s ->> 'seq')::int8 AS seq, t.%[2]s AS tenant
			FROM %[3]s AS t WHERE %[1]s ->> 'by' = 'walbridge'
		), head AS (
			SELECT coalesce(pg_catalog.max(audit_head), 0) AS n FROM walbridge.checkpoint WHERE name = $1
		), numbers AS (
			SELECT n, pg_catalog.count(*) AS times FROM entries GROUP BY n
		), lost AS (
			-- Between two numbers that are there, before the first and after the last.
			SELECT before + 1 AS first, n - before - 1 AS numbers FROM (
				SELECT n, pg_catalog.lag(n, 1, 0::int8) OVER (ORDER BY n) AS before FROM (
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
			(SELECT pg_catalog.count(*) FROM entries WHERE tenant IS NULL)`,
		details, pg.Quote(e.Tenant), pg.Quote(e.Schema, e.Name))
	var r EntriesReport
	err := target.QueryRow(ctx, sql, name).Scan(&r.Head, &r.Rows, &r.Lost, &r.FirstLost, &r.Beyond, &r.Doubled, &r.Repeated, &r.Tenantless)
	if err != nil {
		return nil, fmt.Errorf("check audit entries: %w", pg.Safe(err))
	}
	return &r, nil
}
