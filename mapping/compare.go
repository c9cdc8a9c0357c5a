package mapping

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// Comparison is a part of a source table as it is at the point of the stream
// where it is held against the target. Only what differs is written.
type Comparison struct {
	Source *Source
	// Rows are as in Piece. PathsOnly leaves their target rows alone.
	Rows      []cdc.Row
	PathsOnly bool
	// GonePaths are source keys that the source has no rows of.
	GonePaths []sink.Key
	// Gone are target rows that the source has no rows of.
	Gone []GoneRow
	// Request names the request. Each makes an entry of its own for every row
	// that is mended.
	Request int64
	Each    bool
	// Commit and Time name the point of the stream.
	Commit cdc.LSN
	Time   time.Time
}

// GoneRow is a row of the target without one at the source.
type GoneRow struct {
	// Target is its key there. Source is its key at the source, empty where that
	// can't be told from the other.
	Target, Source sink.Key
	// Ours: the bridge has written the row, so it goes as the table's policy says.
	// Of a row whose path values are kept that needs no saying; every other one is
	// foreign and stays.
	Ours bool
}

// Compared says what a comparison found.
type Compared struct {
	Rows    int64 // rows of the source
	Written int64 // of which the target had another version, or none
	Gone    int64 // rows that the source hasn't any more
	Held    int64 // rows that have no tenant, or that the target refuses
	Foreign int64 // rows that somebody else has written
	// Tenants counts by tenant.
	Tenants map[string]TenantCompared
}

// TenantCompared is one tenant's part of a comparison.
type TenantCompared struct {
	Rows    int64 `json:"rows"`
	Written int64 `json:"written,omitempty"`
	Gone    int64 `json:"gone,omitempty"`
}

// Add adds what n found.
func (c *Compared) Add(n *Compared) {
	c.Rows += n.Rows
	c.Written += n.Written
	c.Gone += n.Gone
	c.Held += n.Held
	c.Foreign += n.Foreign
	for tenant, t := range n.Tenants {
		sum := c.Tenants[tenant]
		sum.Rows += t.Rows
		sum.Written += t.Written
		sum.Gone += t.Gone
		c.tally(tenant, sum)
	}
}

func (c *Compared) tally(tenant string, sum TenantCompared) {
	if c.Tenants == nil {
		c.Tenants = map[string]TenantCompared{}
	}
	c.Tenants[tenant] = sum
}

func (c *Compared) count(tenant cdc.Value, n TenantCompared) {
	if tenant.Kind == cdc.Text {
		c.Add(&Compared{Tenants: map[string]TenantCompared{tenant.Text: n}})
	}
}

// comparison is one Compare.
type comparison struct {
	*Comparison
	w   *work
	out *Compared
	// mended are the rows that make entries of their own.
	mended []step
}

// Compare brings the target in line with a part of the source: path values, rows
// of the table, held rows and deletion marks. Observed columns keep what the
// stream has set.
func (b *Batch) Compare(ctx context.Context, p *Comparison) (*Compared, error) {
	c := &comparison{Comparison: p, out: &Compared{}, w: &work{b: b, t: &cdc.Transaction{Commit: p.Commit, Time: p.Time, First: true, Last: true}}}
	rows := c.take()
	if err := c.prefetch(ctx); err != nil {
		return nil, err
	}
	if err := c.w.walkPaths(ctx); err != nil {
		return nil, err
	}
	if p.Source.Target != nil && !p.PathsOnly {
		for i := range rows {
			if err := c.row(ctx, &c.w.items[i], p.Rows[i][len(p.Source.Inputs):]); err != nil {
				return nil, fmt.Errorf("table %s: %w", p.Source.FullName(), err)
			}
		}
		for i := range p.Gone {
			if err := c.gone(ctx, &p.Gone[i]); err != nil {
				return nil, fmt.Errorf("table %s: %w", p.Source.FullName(), err)
			}
		}
	}
	if b.careful {
		if err := c.w.writeOneByOne(ctx); err != nil {
			return nil, err
		}
	}
	if _, _, err := c.w.move(ctx); err != nil {
		return nil, err
	}
	return c.out, c.entries()
}

// take makes items of the rows, then of the path values whose rows are gone.
func (c *comparison) take() []item {
	s := c.Source
	n := len(s.Inputs)
	insert, remove := &cdc.Change{Op: cdc.Insert}, &cdc.Change{Op: cdc.Delete}
	for _, row := range c.Rows {
		in := row[:n:n]
		c.w.items = append(c.w.items, item{c: insert, source: s, in: in, key: s.KeyOf(in)})
	}
	if s.Node != nil {
		for _, key := range c.GonePaths {
			c.w.items = append(c.w.items, item{c: remove, source: s, key: key})
		}
	}
	return c.w.items[:len(c.Rows)]
}

// prefetch asks for all that the comparison needs, in one round trip.
func (c *comparison) prefetch(ctx context.Context) error {
	b, s := c.w.b, c.Source
	n := newNeeds(b)
	for i := range c.w.items {
		it := &c.w.items[i]
		if s.Node != nil {
			b.distrust(pathKey{s.Node, it.key})
			n.path(pathKey{s.Node, it.key})
			if b.Counters.Held > 0 && it.c.Op == cdc.Insert {
				n.waiting[pathKey{s.Node, it.key}] = true
			}
			if it.c.Op == cdc.Insert {
				n.next(s, it.in)
			}
		}
		if s.Target == nil || c.PathsOnly || it.c.Op == cdc.Delete {
			continue
		}
		n.derived(s.Target, it.in)
		if err := n.row(s, it.in); err != nil {
			return err
		}
	}
	for i := range c.Gone {
		g := &c.Gone[i]
		if b.rows[s][g.Target] == nil {
			if n.rows[s] == nil {
				n.rows[s] = map[sink.Key]bool{}
			}
			n.rows[s][g.Target] = true
		}
		if s.Node != nil && g.Source != "" {
			n.path(pathKey{s.Node, g.Source})
		}
	}
	return b.load(ctx, n.query())
}

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

// entries makes those of rows that were mended, and those that waited with rows
// that are held no longer.
func (c *comparison) entries() error {
	b, s := c.w.b, c.Source
	if b.e.m.Audit == nil || s.Target == nil || c.PathsOnly {
		return nil
	}
	for _, st := range c.released() {
		if err := b.emitHeld(st, st.now.tenant(s.Target.Table)); err != nil {
			return err
		}
	}
	if s.Target.Audit == nil {
		return nil
	}
	for i := range c.mended {
		c.mendedEntry(&c.mended[i])
	}
	return nil
}

// released are the rows of this comparison that entries waited with and that are
// in their table now.
func (c *comparison) released() []*rowState {
	var list []*rowState
	for _, st := range c.w.b.rows[c.Source] {
		if len(st.waiting) > 0 && st.now.place == inTable {
			list = append(list, st)
		}
	}
	slices.SortFunc(list, func(a, b *rowState) int { return cmp.Compare(a.key, b.key) })
	return list
}

func (c *comparison) mendedEntry(s *step) {
	b, t := c.w.b, c.Source.Target
	if s.st.now.place == inHeld {
		return // nothing has been mended while nobody can see it
	}
	d := draft{Commit: c.Commit, Action: t.Audit.Entity + ".repaired", Time: c.Time}
	buf := append(appendTable(nil, c.Source), `,"key":{`...)
	buf = append(appendKey(buf, c.Source, s.keyed()), '}')
	buf = appendLSN(append(buf, `,"op":"repair","lsn":`...), c.Commit)
	buf = strconv.AppendInt(append(buf, `,"request":`...), c.Request, 10)
	if s.op == cdc.Delete {
		buf = append(buf, `,"gone":true`...)
	}
	d.Rest = b.appendChanged(buf, b.changed(s))
	var few [2]cdc.Value
	tenants := withTenant(few[:0], s.st.now.tenant(t.Table))
	if s.prev.place == inTable {
		tenants = withTenant(tenants, s.prev.tenant(t.Table))
	}
	for _, tenant := range tenants {
		name := fmt.Appendf(nil, "request/%d/%s/%s/%s", c.Request, t.Table.FullName(), s.st.key, tenant.Text)
		b.number(b.nameID(name), &d, tenant.Text)
	}
}

// keyed is a row of the step that has the key.
func (s *step) keyed() cdc.Row {
	if s.next.row != nil {
		return s.next.row
	}
	return s.prev.row
}

// CopiedEntries makes one entry for each tenant of a table that has been compared.
func (b *Batch) CopiedEntries(s *Source, request int64, tenants map[string]TenantCompared, commit cdc.LSN, at time.Time) {
	if b.e.m.Audit == nil || s.Target == nil || s.Target.Audit == nil {
		return
	}
	for _, tenant := range slices.Sorted(maps.Keys(tenants)) {
		n := tenants[tenant]
		buf := append(appendTable(nil, s), `,"op":"copy"`...)
		buf = appendLSN(append(buf, `,"lsn":`...), commit)
		buf = strconv.AppendInt(append(buf, `,"request":`...), request, 10)
		buf = strconv.AppendInt(append(buf, `,"rows":`...), n.Rows, 10)
		buf = strconv.AppendInt(append(buf, `,"written":`...), n.Written, 10)
		buf = strconv.AppendInt(append(buf, `,"gone":`...), n.Gone, 10)
		d := draft{Action: s.Target.Audit.Entity + ".copied", Time: at, Rest: buf}
		name := fmt.Appendf(nil, "request/%d/copied/%s/%s", request, s.FullName(), tenant)
		b.number(b.nameID(name), &d, tenant)
	}
}

// GapEntries makes one entry for each tenant about a range of the source's
// history that the bridge has not seen.
func (b *Batch) GapEntries(request int64, tenants []string, from, to cdc.LSN, why string, at time.Time) {
	if b.e.m.Audit == nil {
		return
	}
	for _, tenant := range tenants {
		buf := appendLSN([]byte(`"op":"skip","from":`), from)
		buf = appendLSN(append(buf, `,"lsn":`...), to)
		buf = strconv.AppendInt(append(buf, `,"request":`...), request, 10)
		buf = appendString(append(buf, `,"reason":`...), why)
		d := draft{Action: "audit.gap", Time: at, Rest: buf}
		b.number(b.nameID(fmt.Appendf(nil, "request/%d/gap/%s", request, tenant)), &d, tenant)
	}
}
