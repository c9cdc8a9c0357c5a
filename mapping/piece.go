package mapping

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// Piece is a part of a source table as it is at the point of the stream where it
// is applied.
type Piece struct {
	Source *Source
	// Rows are the source's inputs, followed by one value for each observed
	// column, in the order of the target's columns.
	Rows []cdc.Row
	// Progress is stored with the rows. Its Rows and Tenants are moved on here.
	Progress *sink.CopyProgress
	// Commit and Time name the point of the stream, for what is held and for the
	// entries at the end.
	Commit cdc.LSN
	Time   time.Time
	// Compare: the target may have the rows already, so that only what differs is
	// written, and observed columns keep what the stream has set.
	Compare bool
	// Found says what the comparison has found.
	Found Compared
	// Finish makes the entries of the whole copy: one for each tenant.
	Finish bool
}

// Piece takes a piece of a copy over. Its paths are those that the stream has
// left behind, so that they can't be older or newer than the rows.
func (b *Batch) Piece(ctx context.Context, p *Piece) error {
	if err := b.takeOver(ctx, p); err != nil {
		return err
	}
	p.Progress.Rows += int64(len(p.Rows))
	if p.Finish {
		p.Progress.Done = true
		b.copyEntries(p)
	}
	b.copied = append(b.copied, *p.Progress)
	return nil
}

func (b *Batch) takeOver(ctx context.Context, p *Piece) error {
	if !p.Compare {
		return b.takeNew(ctx, p)
	}
	found, err := b.Compare(ctx, &Comparison{Source: p.Source, Rows: p.Rows, Commit: p.Commit, Time: p.Time})
	if err != nil {
		return err
	}
	p.Found = *found
	for tenant, n := range found.Tenants {
		p.count(tenant, n.Rows)
	}
	return nil
}

func (p *Piece) count(tenant string, rows int64) {
	if rows == 0 {
		return
	}
	if p.Progress.Tenants == nil {
		p.Progress.Tenants = map[string]int64{}
	}
	p.Progress.Tenants[tenant] += rows
}

// takeNew writes rows that the target doesn't have. One that is there after all is
// overwritten.
func (b *Batch) takeNew(ctx context.Context, p *Piece) error {
	w := &work{b: b, t: &cdc.Transaction{Commit: p.Commit, Time: p.Time, First: true, Last: true}}
	w.items = make([]item, len(p.Rows))
	if p.Source.Target != nil {
		b.touched = slices.Grow(b.touched, len(p.Rows))
		if b.rows[p.Source] == nil {
			b.rows[p.Source] = make(map[sink.Key]*rowState, len(p.Rows))
		}
	}
	n := len(p.Source.Inputs)
	insert := &cdc.Change{Op: cdc.Insert}
	for i, row := range p.Rows {
		in := row[:n:n]
		w.items[i] = item{c: insert, source: p.Source, in: in, key: p.Source.sourceKey(in)}
	}
	if err := b.prefetchPiece(ctx, w); err != nil {
		return err
	}
	if err := w.walkPaths(ctx); err != nil {
		return err
	}
	if p.Source.Target != nil {
		for i := range w.items {
			if err := w.copyRow(ctx, p, &w.items[i], p.Rows[i][n:]); err != nil {
				return fmt.Errorf("table %s: %w", p.Source.FullName(), err)
			}
		}
	}
	if b.careful {
		if err := w.writeOneByOne(ctx); err != nil {
			return err
		}
	}
	for _, st := range w.released {
		if st.now.place != inTable {
			continue
		}
		if err := b.emitHeld(st, st.now.tenant(p.Source.Target.Table)); err != nil {
			return err
		}
	}
	_, _, err := w.move(ctx)
	return err
}

// prefetchPiece asks for the path values that the piece's rows need.
func (b *Batch) prefetchPiece(ctx context.Context, w *work) error {
	n := &needs{b: b, rows: map[*Source]map[sink.Key]bool{}, paths: map[pathKey]bool{}, waiting: map[pathKey]bool{}}
	for i := range w.items {
		it := &w.items[i]
		if it.source.Node != nil {
			k := pathKey{it.source.Node, it.key}
			n.path(k)
			if b.Counters.Held > 0 {
				n.waiting[k] = true
			}
			n.next(it.source, it.in)
		}
		if it.source.Target != nil {
			n.derived(it.source.Target, it.in)
			if b.mayBeHeld() {
				if err := n.row(it.source, it.in); err != nil {
					return err
				}
			}
		}
	}
	return b.load(ctx, n.query())
}

// copyRow makes the row of a copy. An observed column takes its initial value.
func (w *work) copyRow(ctx context.Context, p *Piece, it *item, initial cdc.Row) error {
	t := p.Source.Target
	key, err := t.targetKey(it.in)
	if err != nil {
		return err
	}
	st := w.b.fresh(p.Source, key)
	if w.b.mayBeHeld() {
		if st, err = w.b.row(ctx, p.Source, key); err != nil {
			return err
		}
	}
	row, err := w.b.build(ctx, p.Source, it.in, nil, p.Time)
	if err != nil {
		return err
	}
	if missing(row) {
		return errors.New("a row that was read from the source lacks a value")
	}
	n := 0
	for i := range t.Columns {
		if t.Columns[i].Observed == nil {
			continue
		}
		if row[i] = initial[n]; st.now.incomplete() {
			row[i] = st.now.row[i] // the stream has seen what happened
		}
		n++
	}
	next := version{row: row}
	if t.settle(&next) {
		w.b.Counters.Dropped++
		if st.now.place != inHeld {
			return nil
		}
	}
	if next.place == inTable {
		p.count(row[t.Table.Tenant].Text, 1)
	}
	if len(st.waiting) > 0 {
		w.released = append(w.released, st)
	}
	if w.b.careful {
		w.advance(step{item: it, st: st, op: cdc.Insert, prev: st.now, next: next, quiet: true})
		return nil
	}
	w.adopt(st, next) // a row that was there makes no entry
	return nil
}

// copyEntries makes one entry for each tenant of a table that has been copied.
func (b *Batch) copyEntries(p *Piece) {
	t := p.Source.Target
	if b.e.m.Audit == nil || t == nil || t.Audit == nil {
		return
	}
	w := &work{b: b, t: &cdc.Transaction{Commit: p.Commit}}
	it := &item{source: p.Source, c: &cdc.Change{Ordinal: uint32(b.e.bySource[p.Source])}}
	for _, tenant := range sortedKeys(p.Progress.Tenants) {
		d := draft{Commit: p.Commit, Seq: it.c.Ordinal, Action: t.Audit.Entity + ".copied", Time: p.Time}
		d.Rest = w.copyRest(it, p.Progress.Tenants[tenant])
		b.emit(&d, tenant)
	}
}
