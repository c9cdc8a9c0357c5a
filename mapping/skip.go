package mapping

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// SkipDepth is how much of a skipped transaction is followed all the same. Its
// rows are never written; but what comes after it must not be written under a
// tenant that it has taken away.
type SkipDepth int

// From what is wanted to what is left when the target refuses that, too.
const (
	// SkipRows leaves out the rows alone: path values are taken over, and rows
	// that depend on them change their tenant.
	SkipRows SkipDepth = iota
	// SkipMoves takes the path values over and leaves rows that depend on them
	// where they are.
	SkipMoves
	// SkipAll takes nothing over and finds no tenants.
	SkipAll
)

// Counts are changes by source table and operation.
type Counts map[string]map[string]int64

// Sum is how many there are in all.
func (c Counts) Sum() (n int64) {
	for _, ops := range c {
		for _, changes := range ops {
			n += changes
		}
	}
	return n
}

func (c Counts) add(table, op string) {
	if c[table] == nil {
		c[table] = map[string]int64{}
	}
	c[table][op]++
}

// Skipped says what a transaction that is skipped would have done.
type Skipped struct {
	XID    uint32
	Commit cdc.LSN
	// Total are its changes of mapped tables, Tenants those that concern a tenant
	// that is known: as a row's former or its new one.
	Total   Counts
	Tenants map[string]Counts
	moved   []sink.Moved
}

// Skip passes over one transaction, or the next slice of one. What it takes over
// instead of rows goes to the target with the next Flush.
func (b *Batch) Skip(ctx context.Context, t *cdc.Transaction, s *Skipped, depth SkipDepth) error {
	s.XID, s.Commit = t.XID, t.Commit
	if s.Total == nil {
		s.Total, s.Tenants = Counts{}, map[string]Counts{}
	}
	for i := range t.Changes {
		rel := t.Changes[i].Relation
		if rel == nil {
			continue
		}
		if of, _ := b.e.sourceOf(rel); of != nil {
			s.Total.add(of.FullName(), opName(t.Changes[i].Op))
		}
	}
	if depth == SkipAll {
		return nil
	}
	works, err := b.takeApart([]*cdc.Transaction{t})
	if err != nil {
		return err
	}
	w := &works[0]
	if err := b.prefetch(ctx, works); err != nil {
		return err
	}
	if err := w.pathPass(ctx); err != nil {
		return err
	}
	for i := range w.items {
		if err := w.skipRow(ctx, &w.items[i], s); err != nil {
			return err
		}
	}
	if depth == SkipMoves {
		return nil
	}
	m, _, err := w.move(ctx)
	if err != nil || m == nil {
		return err
	}
	for _, moved := range m.rows {
		for _, m := range crossing(moved) {
			s.addMoved(m)
		}
	}
	return nil
}

// addMoved sums moves by table and direction, which are few.
func (s *Skipped) addMoved(m sink.Moved) {
	m.Key = ""
	for i := range s.moved {
		if o := &s.moved[i]; o.Table == m.Table && o.From == m.From && o.To == m.To {
			o.Rows += m.Rows
			return
		}
	}
	s.moved = append(s.moved, m)
}

// skipRow notes whose row a change concerns.
func (w *work) skipRow(ctx context.Context, it *item, s *Skipped) error {
	t := it.source.Target
	if t == nil || it.skip || it.c.Op == cdc.Truncate {
		return nil
	}
	var tenants []cdc.Value
	var before cdc.Row
	if it.c.Op != cdc.Insert {
		key, err := t.targetKey(it.in)
		if it.old != nil {
			key, err = t.targetKey(it.old)
		}
		if err != nil {
			return err
		}
		st, err := w.b.row(ctx, it.source, key)
		if err != nil {
			return err
		}
		if st.now.place == inTable {
			before = st.now.row
			tenants = withTenant(tenants, before[t.Table.Tenant])
		}
	}
	if it.c.Op != cdc.Delete {
		row, err := w.b.build(ctx, it.source, it.in, before, w.t.Time)
		if err != nil {
			return err
		}
		tenants = withTenant(tenants, row[t.Table.Tenant])
	}
	for _, v := range tenants {
		if s.Tenants[v.Text] == nil {
			s.Tenants[v.Text] = Counts{}
		}
		s.Tenants[v.Text].add(it.source.FullName(), opName(it.c.Op))
	}
	return nil
}

// SkipEntries makes the entries of a skipped transaction: one for each tenant
// that is known to be concerned, with the number of its changes by table. request
// is the one that asked for it, at its moment.
func (b *Batch) SkipEntries(s *Skipped, request int64, at time.Time) {
	if b.e.m.Audit == nil {
		return
	}
	for _, m := range s.moved {
		for _, v := range []cdc.Value{m.From, m.To} {
			if v.Kind == cdc.Text && s.Tenants[v.Text] == nil {
				s.Tenants[v.Text] = Counts{}
			}
		}
	}
	for _, tenant := range slices.Sorted(maps.Keys(s.Tenants)) {
		d := draft{Commit: s.Commit, Action: "transaction.skipped", Time: at, Rest: s.rest(tenant, request)}
		b.emit(&d, tenant)
	}
}

// rest writes the details of a tenant's entry behind "n". Its seq is 0, which no
// change of the transaction has.
func (s *Skipped) rest(tenant string, request int64) rest {
	buf := appendLSN([]byte(`"op":"skip","lsn":`), s.Commit)
	buf = strconv.AppendUint(append(buf, `,"xid":`...), uint64(s.XID), 10)
	buf = strconv.AppendInt(append(buf, `,"seq":0,"request":`...), request, 10)
	buf = append(buf, `,"tables":{`...)
	tables := s.Tenants[tenant]
	for i, table := range slices.Sorted(maps.Keys(tables)) {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(appendString(buf, table), ":{"...)
		for j, op := range slices.Sorted(maps.Keys(tables[table])) {
			if j > 0 {
				buf = append(buf, ',')
			}
			buf = strconv.AppendInt(append(appendString(buf, op), ':'), tables[table][op], 10)
		}
		buf = append(buf, '}')
	}
	var along []sink.Moved
	for _, m := range s.moved {
		if m.From.Text == tenant || m.To.Text == tenant {
			along = append(along, m)
		}
	}
	return appendMoved(append(buf, '}'), along)
}
