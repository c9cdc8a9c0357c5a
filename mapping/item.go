package mapping

import (
	"context"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// item is a change of a followed table, taken apart.
type item struct {
	c      *cdc.Change
	source *Source
	in     cdc.Row // the new inputs; a delete's old ones
	old    cdc.Row // an update's old inputs when its key changed
	key    sink.Key
	oldKey sink.Key
	// skip, skipOld: the row has not been copied yet and is left to its piece.
	skip, skipOld bool
	user          cdc.Value
}

// takeApart binds the changes of txs and reads their inputs and keys.
func (b *Batch) takeApart(txs []*cdc.Transaction) ([]work, error) {
	n := 0
	for _, t := range txs {
		n += len(t.Changes)
	}
	works := make([]work, len(txs))
	items := make([]item, 0, n)
	for i, t := range txs {
		w := &works[i]
		w.b, w.t = b, t
		if t.First {
			b.user = cdc.Value{}
		}
		first := len(items)
		for j := range t.Changes {
			c := &t.Changes[j]
			if c.Op == cdc.Message {
				w.message(c)
				continue
			}
			bd, err := b.e.bind(c.Relation)
			if err != nil {
				return nil, &TransactionError{Commit: t.Commit, Err: err}
			}
			if bd == nil {
				continue
			}
			items = append(items, item{c: c, source: bd.source, user: b.user})
			if c.Op != cdc.Truncate {
				items[len(items)-1].read(b, bd)
			}
		}
		w.items = items[first:len(items):len(items)]
	}
	return works, nil
}

// sortOut finds the changes of rows that aren't covered.
func (w *work) sortOut(ctx context.Context) (err error) {
	for i := range w.items {
		it := &w.items[i]
		if it.c.Op == cdc.Truncate {
			w.b.cov.Skipped(w.t.XID, it.source, "", true)
			continue
		}
		if it.skip, err = w.skip(ctx, it.source, it.key, it.in); err != nil {
			return err
		}
		if it.old == nil {
			continue
		}
		if it.skipOld, err = w.skip(ctx, it.source, it.oldKey, it.old); err != nil {
			return err
		}
	}
	return nil
}

// skip reports whether a change is left to the piece that the row is read with. A
// row of which the target has a part, and lacks the rest, is kept up to date all
// the same: its changes make entries, and one of them may bring the rest.
func (w *work) skip(ctx context.Context, s *Source, key sink.Key, in cdc.Row) (bool, error) {
	if w.b.cov.Covers(w.t.XID, s, key) {
		return false, nil
	}
	w.b.cov.Skipped(w.t.XID, s, key, false)
	if s.Target == nil || !w.b.mayBeHeld() {
		return true, nil
	}
	k, err := s.Target.targetKey(in)
	if err != nil {
		return false, err
	}
	st, err := w.b.row(ctx, s, k)
	if err != nil {
		return false, err
	}
	return !st.now.incomplete(), nil
}

// read takes the inputs and keys out of a row change.
func (it *item) read(b *Batch, bd *binding) {
	if it.c.Op == cdc.Delete {
		it.in = bd.inputs(b, it.c.Old)
		it.key = it.source.KeyOf(it.in)
		return
	}
	it.in = bd.inputs(b, it.c.New)
	if it.c.Op == cdc.Insert {
		it.key = it.source.KeyOf(it.in)
		return
	}
	old := bd.oldInputs(b, it.c)
	for i := range it.in {
		if it.in[i].Kind == cdc.Unchanged && old != nil && (it.c.OldFull || i < len(it.source.Key)) {
			it.in[i] = old[i]
		}
	}
	it.key = it.source.KeyOf(it.in)
	if old != nil {
		if k := it.source.KeyOf(old); k != it.key {
			it.old, it.oldKey = old, k
		}
	}
}
