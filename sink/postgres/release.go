package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/walbridge/walbridge/sink"
)

// ReleaseHeld moves held rows that have a tenant now back into their table.
func (t *tx) ReleaseHeld(ctx context.Context, r *sink.Recompute, limit int) ([]sink.HeldRow, error) {
	if err := t.usable(); err != nil {
		return nil, fmt.Errorf("release held rows: %w", err)
	}
	sql := t.s.releaseSQL(r)
	if sql == "" || len(r.Keys) == 0 || limit <= 0 {
		return nil, nil
	}
	t.touchAll()
	t.analyze()
	var released []sink.HeldRow
	err := t.careful(ctx, func() error {
		released = nil
		return t.flush(ctx, op{
			sql:   sql,
			args:  [][]byte{keyArray(dedupe(r.Keys)), argInt(int64(limit))},
			table: r.Table.FullName(),
			read: each(func(v [][]byte) error {
				d := decoder{values: v}
				h := sink.HeldRow{Table: r.Table, Reason: sink.HeldTenant, Key: sink.Key(d.text()), Code: d.text(), Since: d.lsn()}
				for _, w := range d.array() {
					h.Waiting = append(h.Waiting, w.Text)
				}
				h.Row = d.array()
				released = append(released, h)
				return d.err
			}),
		})
	})
	if err != nil {
		return nil, fmt.Errorf("release held rows of table %s: %w", r.Table.FullName(), err)
	}
	return released, nil
}

// refreshHeldSQL brings the derived columns of held rows in line: a held row is
// kept up to date, whether or not what changed gives it a tenant. It leaves the
// tenant null, because a row that has one is released.
func (s *Sink) refreshHeldSQL(r *sink.Recompute) string {
	table := r.Table
	ways := reaches(table, r.Node)
	if len(ways) == 0 {
		return ""
	}
	others := false
	l := s.lookups(table, func(c int) string { return val("h", c) })
	vals := "ARRAY[" + list(len(table.Columns), ", ", func(i int) string {
		if d, ok := derivedAt(table, i); ok && i != table.Tenant {
			others = true
			return l.text(d)
		}
		return val("h", i)
	}) + "]"
	if !others {
		return ""
	}
	reached := make([]string, len(ways))
	for i, way := range ways {
		reached[i] = "SELECT h.key " + s.heldOver(table, way, anyKey)
	}
	return fmt.Sprintf(`WITH n AS MATERIALIZED (
			SELECT h.key, %s AS vals FROM walbridge.held AS h%s WHERE %s AND h.key IN (%s))
		UPDATE walbridge.held AS h SET vals = n.vals FROM n WHERE %[3]s AND h.key = n.key AND h.vals IS DISTINCT FROM n.vals`,
		vals, l.joins.String(), s.heldHere(table), strings.Join(reached, " UNION "))
}

// releaseSQL picks the oldest rows that have a tenant now (c), takes them out of
// walbridge.held (d) and writes them like new rows (i). Their deletion marks
// stay: a kept row that lost its tenant is still one whose source is gone.
func (s *Sink) releaseSQL(r *sink.Recompute) string {
	table := r.Table
	ways := reaches(table, r.Node)
	tenant, ok := derivedAt(table, table.Tenant)
	if len(ways) == 0 || !ok {
		return ""
	}
	l := s.lookups(table, func(c int) string { return val("h", c) })
	vals := "ARRAY[" + list(len(table.Columns), ", ", func(i int) string {
		if d, ok := derivedAt(table, i); ok {
			return l.text(d)
		}
		return val("h", i)
	}) + "]"
	hasTenant := "(" + l.text(tenant) + ") IS NOT NULL"
	reached := make([]string, len(ways))
	for i, way := range ways {
		reached[i] = "SELECT h.key " + s.heldOver(table, way, anyKey)
	}
	set := &sink.RowSet{Table: table, Mode: sink.Insert}
	for i := range table.Columns {
		set.Columns = append(set.Columns, i)
	}
	values := list(len(table.Columns), ", ", func(i int) string {
		return val("c", i) + "::" + table.Columns[i].Type
	})
	return fmt.Sprintf(`WITH c AS MATERIALIZED (
			SELECT h.key, %s AS vals, h.code, h.since, h.held_at, h.waiting FROM walbridge.held AS h%s
			WHERE %s AND h.key IN (%s) AND %s
			ORDER BY h.since, h.held_at, h.key LIMIT $2::int8),
		d AS (DELETE FROM walbridge.held AS h USING c WHERE %s AND h.key = c.key),
		i AS (%s)
		SELECT c.key, c.code, c.since, c.waiting, c.vals FROM c ORDER BY c.since, c.held_at, c.key`,
		vals, l.joins.String(), s.heldHere(table), strings.Join(reached, " UNION "), hasTenant,
		s.heldHere(table), upsertSQL(set, values, "c"))
}
