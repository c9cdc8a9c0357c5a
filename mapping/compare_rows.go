package mapping

import (
	"context"
	"slices"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// row holds one row of the source against the target's.
func (c *comparison) row(ctx context.Context, it *item, initial cdc.Row) error {
	b, t := c.w.b, c.Source.Target
	key, err := t.targetKey(it.in)
	if err != nil {
		return err
	}
	st, err := b.row(ctx, c.Source, key)
	if err != nil {
		return err
	}
	row, err := b.build(ctx, c.Source, it.in, nil, c.Time)
	if err != nil {
		return err
	}
	prev := st.now
	n := 0
	for i := range t.Columns {
		if o := t.Columns[i].Observed; o != nil {
			row[i] = o.compared(row, prev.row, i, initial[n])
			n++
		}
	}
	next := version{row: row}
	c.out.Rows++
	if t.settle(&next) && prev.place == nowhere {
		return nil
	}
	tenant := next.tenant(t.Table)
	switch {
	case next.place == inTable:
		c.out.count(tenant, TenantCompared{Rows: 1})
	case next.place == inHeld:
		c.out.Held++
	}
	if prev.same(&next) && !st.unknown {
		return nil
	}
	c.written(t, &prev, &next)
	op := cdc.Update
	if prev.place == nowhere {
		op = cdc.Insert
	}
	c.advance(step{item: it, st: st, op: op, prev: prev, next: next})
	return nil
}

// written counts a row that differed: for the tenant that it has, and for the one
// that it had.
func (c *comparison) written(t *Target, prev, next *version) {
	c.out.Written++
	tenant := next.tenant(t.Table)
	c.out.count(tenant, TenantCompared{Written: 1})
	if from := prev.tenant(t.Table); prev.place == inTable && from != tenant {
		c.out.count(from, TenantCompared{Written: 1})
	}
}

// advance takes a version over. Its entry is made when the path values have been
// settled, too.
func (c *comparison) advance(s step) {
	if s.prev.incomplete() && s.item.key != "" {
		c.w.b.cov.Settled(c.Source, s.item.key)
	}
	c.w.adopt(s.st, s.next)
	if c.w.b.careful {
		c.w.steps = append(c.w.steps, s)
	}
	if c.Each {
		c.mended = append(c.mended, s)
	}
}

// compared is an observed column's value beside a row that was read. What the
// stream has set stays; where it saw nothing the initial value has to do.
func (o *Observed) compared(row, before cdc.Row, i int, initial cdc.Value) cdc.Value {
	is := func(row cdc.Row) bool {
		return row != nil && row[o.Column].Kind == cdc.Text && o.When[row[o.Column].Text]
	}
	switch {
	case !is(row):
		return cdc.Value{}
	case is(before) && before[i].Kind == cdc.Text:
		return before[i]
	}
	return initial
}

// same reports whether a row is as it should be.
func (v *version) same(next *version) bool {
	if v.place != next.place || v.deleted != next.deleted || v.reason != next.reason {
		return false
	}
	return next.place == nowhere || equalRows(v.row, next.row)
}

// reaches reports whether the path values that l passes from row are known. Of a
// row that others refer to and that never was there, nothing is.
func (b *Batch) reaches(ctx context.Context, l *sink.Lookup, row cdc.Row) (bool, error) {
	v := row[l.Column]
	for _, step := range l.Steps {
		if v.Kind != cdc.Text {
			return true, nil
		}
		p, present, err := b.path(ctx, pathKey{step.Node, sink.Key(v.Text)})
		if err != nil || !present || p.Gone && !slices.ContainsFunc(p.Values, func(v cdc.Value) bool { return v.Kind == cdc.Text }) {
			return false, err
		}
		v = p.Values[step.Column]
	}
	return true, nil
}

// gone settles a row of the target that has none at the source.
func (c *comparison) gone(ctx context.Context, g *GoneRow) error {
	b, s, t := c.w.b, c.Source, c.Source.Target
	st, err := b.row(ctx, s, g.Target)
	if err != nil {
		return err
	}
	prev := st.now
	if prev.place == nowhere {
		return nil
	}
	ours := g.Ours || prev.deleted || prev.place == inHeld
	if !ours && s.Node != nil && g.Source != "" {
		p, present, err := b.path(ctx, pathKey{s.Node, g.Source})
		if err != nil {
			return err
		}
		ours = present && !p.Gone // what others only refer to counts as gone, too
	}
	if !ours {
		c.out.Foreign++
		return nil
	}
	if t.OnDelete == Keep {
		return c.keep(ctx, st)
	}
	next := prev
	next.place, next.deleted = nowhere, false
	b.Counters.Dropped += int64(len(st.waiting))
	st.waiting = nil
	c.left(st, next)
	return nil
}

// left takes over what becomes of a row that the source hasn't any more.
func (c *comparison) left(st *rowState, next version) {
	prev := st.now
	c.out.Gone++
	c.out.count(prev.tenant(c.Source.Target.Table), TenantCompared{Gone: 1})
	c.advance(step{item: c.nameless(prev.row), st: st, op: cdc.Delete, prev: prev, next: next})
}

// keep marks a row that the source hasn't any more, and has it follow its parents.
func (c *comparison) keep(ctx context.Context, st *rowState) error {
	prev := st.now
	next := prev
	if prev.place == inTable {
		if err := c.follow(ctx, &next); err != nil {
			return err
		}
	}
	switch {
	case !prev.deleted:
		next.deleted, st.deletedAt = true, c.Commit
		c.left(st, next)
	case !equalRows(prev.row, next.row):
		c.written(c.Source.Target, &prev, &next)
		c.advance(step{item: c.nameless(prev.row), st: st, op: cdc.Update, prev: prev, next: next})
	}
	return nil
}

// follow brings a row that stays after its deletion in line with its parents, as
// far as their path values are known.
func (c *comparison) follow(ctx context.Context, v *version) error {
	b, t := c.w.b, c.Source.Target
	for i := range t.Table.Derived {
		d := &t.Table.Derived[i]
		for j := range d.From {
			known, err := b.reaches(ctx, &d.From[j], v.row)
			if err != nil || !known {
				return err
			}
		}
	}
	next := *v
	next.row = slices.Clone(v.row)
	if err := b.derive(ctx, t.Table, next.row); err != nil {
		return err
	}
	t.settle(&next)
	if next.place != nowhere { // else the mapping holds no rows of this table
		*v = next
	}
	return nil
}

// nameless is the item of a row that only the target has: its source key is taken
// from the row, as far as that carries it.
func (c *comparison) nameless(row cdc.Row) *item {
	it := &item{source: c.Source, c: &cdc.Change{}, in: make(cdc.Row, len(c.Source.Inputs))}
	for i := range c.Source.Key {
		if carrier := c.Source.Inputs[i].Carrier; carrier >= 0 {
			it.in[i] = row[carrier]
		}
	}
	return it
}
