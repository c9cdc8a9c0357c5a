package sinktest

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// lookup follows a path from a row's own value, as the path values are now.
func (t *memoryTx) lookup(l sink.Lookup, row cdc.Row) cdc.Value {
	v := row[l.Column]
	for _, step := range l.Steps {
		if v.IsNull() {
			return v
		}
		p, ok := t.data.paths.get(t.own(step.Node.Name, sink.Key(v.Text)))
		if !ok {
			return cdc.Value{}
		}
		v = p.Values[step.Column]
	}
	return v
}

// derive returns row with its derived columns as they are now.
func (t *memoryTx) derive(table *sink.Table, row cdc.Row) cdc.Row {
	row = slices.Clone(row)
	values := make([]cdc.Value, len(table.Derived))
	for i, d := range table.Derived {
		for _, l := range d.From {
			if values[i] = t.lookup(l, row); !values[i].IsNull() {
				break
			}
		}
	}
	for i, d := range table.Derived {
		row[d.Column] = values[i]
	}
	return row
}

// passes returns the keys of node that row is reached over.
func (t *memoryTx) passes(table *sink.Table, row cdc.Row, node *sink.Node) map[sink.Key]bool {
	keys := make(map[sink.Key]bool)
	for _, d := range table.Derived {
		for _, l := range d.From {
			v := row[l.Column]
			for _, step := range l.Steps {
				if v.IsNull() {
					break
				}
				if step.Node == node {
					keys[sink.Key(v.Text)] = true
				}
				p, ok := t.data.paths.get(t.own(step.Node.Name, sink.Key(v.Text)))
				if !ok {
					break
				}
				v = p.Values[step.Column]
			}
		}
	}
	return keys
}

// reachedOver returns the first of r.Keys that row is reached over.
func (t *memoryTx) reachedOver(r *sink.Recompute, row cdc.Row) (sink.Key, bool) {
	passed := t.passes(r.Table, row, r.Node)
	for _, k := range r.Keys {
		if passed[k] {
			return k, true
		}
	}
	return "", false
}

func (t *memoryTx) Recompute(_ context.Context, r *sink.Recompute) ([]sink.Moved, error) {
	type move struct {
		key      sink.Key
		from, to cdc.Value
	}
	var counts map[move]int64
	err := t.run(OpRecompute, func() error {
		counts = make(map[move]int64)
		t.refreshHeld(r)
		_, tenantDerived := derivedColumn(r.Table, r.Table.Tenant)
		for k, stored := range t.data.rows.all() {
			if k.table != r.Table.FullName() {
				continue
			}
			row := stored.project(r.Table)
			via, ok := t.reachedOver(r, row)
			now := t.derive(r.Table, row)
			if !ok || slices.Equal(row, now) {
				continue
			}
			to := now[r.Table.Tenant]
			lost := to.IsNull() && tenantDerived
			if _, beside := t.data.held.get(t.own(r.Table.FullName(), k.key)); lost && beside {
				t.data.rows.remove(k) // another writer's; the held one is the source's
				continue
			}
			counts[move{via, row[r.Table.Tenant], to}]++
			if lost {
				t.data.rows.remove(k)
				h := sink.HeldRow{Table: r.Table, Key: k.key, Row: now, Reason: sink.HeldTenant, Since: r.LSN}
				t.data.held.put(t.own(r.Table.FullName(), k.key), h)
				continue
			}
			merged := maps.Clone(stored)
			maps.Copy(merged, named(r.Table, now))
			if err := t.check(r.Table, k, merged); err != nil {
				return err
			}
			t.data.rows.put(k, merged)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var moved []sink.Moved
	for m, n := range counts {
		moved = append(moved, sink.Moved{Table: r.Table, Key: m.key, From: m.from, To: m.to, Rows: n})
	}
	return moved, nil
}

// refreshHeld brings the derived columns of held rows in line, but for the tenant:
// a row that has one is released.
func (t *memoryTx) refreshHeld(r *sink.Recompute) {
	for k, h := range t.data.held.all() {
		if k.bridge != t.s.name || k.table != r.Table.FullName() || h.Reason != sink.HeldTenant {
			continue
		}
		if _, ok := t.reachedOver(r, h.Row); ok {
			tenant := h.Row[r.Table.Tenant]
			h.Row = t.derive(r.Table, h.Row)
			h.Row[r.Table.Tenant] = tenant
			t.data.held.put(k, h)
		}
	}
}

func derivedColumn(table *sink.Table, column int) (sink.Derived, bool) {
	for _, d := range table.Derived {
		if d.Column == column {
			return d, true
		}
	}
	return sink.Derived{}, false
}

func (t *memoryTx) ReleaseHeld(_ context.Context, r *sink.Recompute, limit int) ([]sink.HeldRow, error) {
	var released []sink.HeldRow
	err := t.run(OpReleaseHeld, func() error {
		released = nil
		if _, ok := derivedColumn(r.Table, r.Table.Tenant); !ok {
			return nil
		}
		for k, h := range t.data.held.all() {
			if k.bridge != t.s.name || k.table != r.Table.FullName() || h.Reason != sink.HeldTenant {
				continue
			}
			h.Table, h.Row = r.Table, t.derive(r.Table, h.Row)
			if _, ok := t.reachedOver(r, h.Row); ok && !h.Row[r.Table.Tenant].IsNull() {
				released = append(released, h)
			}
		}
		slices.SortFunc(released, func(a, b sink.HeldRow) int {
			return cmp.Or(cmp.Compare(a.Since, b.Since), cmp.Compare(a.Key, b.Key))
		})
		released = released[:min(limit, len(released))]
		for _, h := range released {
			k := t.row(r.Table, h.Key)
			old, _ := t.data.rows.get(k)
			row := maps.Clone(old)
			if row == nil {
				row = make(namedRow)
			}
			maps.Copy(row, named(r.Table, h.Row))
			if err := t.check(r.Table, k, row); err != nil {
				return err
			}
			t.data.held.remove(t.own(r.Table.FullName(), h.Key))
			t.data.rows.put(k, row)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return released, nil
}

func (t *memoryTx) Truncate(_ context.Context, r *sink.Truncate) ([]sink.Moved, error) {
	var counts map[cdc.Value]int64
	err := t.run(OpTruncate, func() error {
		counts = make(map[cdc.Value]int64)
		if r.Node != nil {
			for k, p := range t.data.paths.all() {
				if k.bridge == t.s.name && k.table == r.Node.Name {
					p.Gone = true
					t.data.paths.put(k, p)
				}
			}
			return nil
		}
		name := r.Table.FullName()
		for k, row := range t.data.rows.all() {
			if k.table != name {
				continue
			}
			mark := t.own(name, k.key)
			_, marked := t.data.marks.get(mark)
			switch {
			case !r.Keep:
				t.data.rows.remove(k)
			case marked:
				continue
			default:
				t.data.marks.put(mark, r.LSN)
			}
			counts[row[r.Table.Columns[r.Table.Tenant].Name]]++
		}
		for k := range t.data.held.all() {
			if k.bridge != t.s.name || k.table != name {
				continue
			}
			if r.Keep {
				if _, marked := t.data.marks.get(k); marked {
					continue
				}
				t.data.marks.put(k, r.LSN)
			} else {
				t.data.held.remove(k)
			}
			counts[cdc.Value{}]++
		}
		for k := range t.data.marks.all() {
			if !r.Keep && k.bridge == t.s.name && k.table == name {
				t.data.marks.remove(k)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var moved []sink.Moved
	for tenant, n := range counts {
		moved = append(moved, sink.Moved{Table: r.Table, From: tenant, To: tenant, Rows: n})
	}
	return moved, nil
}
