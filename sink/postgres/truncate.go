package postgres

import (
	"context"
	"fmt"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// Truncate empties a table, or marks all of its rows.
func (t *tx) Truncate(ctx context.Context, r *sink.Truncate) ([]sink.Moved, error) {
	if err := t.usable(); err != nil {
		return nil, fmt.Errorf("truncate: %w", err)
	}
	t.touchAll()
	if r.Node != nil {
		t.s.paths.known = false
		err := t.flush(ctx, op{
			sql:  "UPDATE walbridge.path_values SET gone = true WHERE bridge = $1 AND source = $2 AND NOT gone",
			args: [][]byte{arg(t.s.name), arg(r.Node.Name)},
		})
		if err != nil {
			return nil, fmt.Errorf("truncate path values of %s: %w", r.Node.Name, err)
		}
		return nil, nil
	}
	o := op{sql: t.s.emptySQL(r.Table), table: r.Table.FullName()}
	if r.Keep {
		o.sql = t.s.markAllSQL(r.Table)
		o.args = [][]byte{argLSN(r.LSN)}
	}
	var counts []sink.Moved
	o.read = each(func(v [][]byte) error {
		d := decoder{values: v}
		tenant := d.value()
		counts = append(counts, sink.Moved{Table: r.Table, From: tenant, To: tenant, Rows: d.int64()})
		return d.err
	})
	err := t.careful(ctx, func() error {
		counts = nil
		return t.flush(ctx, op{sql: noTimeout}, o)
	})
	if err != nil {
		return nil, fmt.Errorf("truncate table %s: %w", r.Table.FullName(), err)
	}
	delete(t.s.unmarked, r.Table) // after whatever was pending before it
	return counts, nil
}

// markAllSQL marks held rows, too: they stay held as rows without a source.
func (s *Sink) markAllSQL(table *sink.Table) string {
	bridge, name := pg.QuoteLiteral(s.name), pg.QuoteLiteral(table.FullName())
	key := keyText(table)
	return fmt.Sprintf(`WITH n AS MATERIALIZED (
			SELECT a.key, a.tenant FROM (
				SELECT (%s) COLLATE "C" AS key, %s AS tenant FROM %s AS t
				UNION ALL SELECT h.key, NULL FROM walbridge.held AS h WHERE h.bridge = %s AND h."table" = %s) AS a
			WHERE NOT EXISTS (SELECT FROM walbridge.deleted AS x WHERE x.bridge = %[4]s AND x."table" = %[5]s AND x.key = a.key)),
		m AS (INSERT INTO walbridge.deleted (bridge, "table", key, lsn) SELECT %[4]s, %[5]s, n.key, $1::pg_lsn FROM n)
		SELECT tenant, count(*) FROM n GROUP BY tenant`,
		key, textOf(column(table, table.Tenant), table.Columns[table.Tenant].Type), tableName(table), bridge, name)
}

// emptySQL doesn't use TRUNCATE: its lock would wait for every reader, and it
// returns no counts.
func (s *Sink) emptySQL(table *sink.Table) string {
	here := fmt.Sprintf(`x.bridge = %s AND x."table" = %s`, pg.QuoteLiteral(s.name), pg.QuoteLiteral(table.FullName()))
	return fmt.Sprintf(`WITH d AS (DELETE FROM %s AS t WHERE true RETURNING %s AS tenant),
		h AS (DELETE FROM walbridge.held AS x WHERE %s RETURNING 1),
		m AS (DELETE FROM walbridge.deleted AS x WHERE %[3]s)
		SELECT tenant, count(*) FROM d GROUP BY tenant
		UNION ALL SELECT NULL, count(*) FROM h HAVING count(*) > 0`,
		tableName(table), textOf(column(table, table.Tenant), table.Columns[table.Tenant].Type), here)
}
