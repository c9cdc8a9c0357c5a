package mapping

import (
	"context"
	"fmt"

	"github.com/walbridge/walbridge/internal/cdc"
)

// rowPass folds the row changes into the states of their rows.
func (w *work) rowPass(ctx context.Context) error {
	for i := range w.items {
		it := &w.items[i]
		if it.source.Target == nil {
			continue
		}
		var err error
		switch {
		case it.c.Op == cdc.Truncate:
			err = w.truncate(ctx, it)
		case it.c.Op == cdc.Delete:
			if !it.skip {
				err = w.remove(ctx, it, it.in, false)
			}
		default:
			err = w.upsert(ctx, it)
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", it.source.FullName(), err)
		}
	}
	return nil
}

// upsert handles an insert or update, a changed key included.
func (w *work) upsert(ctx context.Context, it *item) error {
	t := it.source.Target
	var carried *version // the row under its old key
	var waiting []string // and the entries that wait with it
	if it.old != nil && !it.skipOld {
		oldKey, err := t.targetKey(it.old)
		if err != nil {
			return err
		}
		st, err := w.b.row(ctx, it.source, oldKey)
		if err != nil {
			return err
		}
		v := st.now
		carried, waiting = &v, st.waiting
		if err := w.remove(ctx, it, it.old, true); err != nil {
			return err
		}
	}
	if it.skip {
		return nil
	}
	key, err := t.targetKey(it.in)
	if err != nil {
		return err
	}
	var st *rowState
	if it.c.Op == cdc.Insert && !w.b.mayBeHeld() {
		st = w.b.fresh(it.source, key)
	} else if st, err = w.b.row(ctx, it.source, key); err != nil {
		return err
	}
	prev := st.now
	before := prev.row
	if prev.deleted || prev.place == nowhere || it.c.Op == cdc.Insert {
		before = nil
	}
	if carried != nil || it.c.Op == cdc.Insert && prev.deleted {
		// What waits here belongs to a row that was kept and is replaced. Its tenant
		// never became known, and this row's may be another.
		w.b.Counters.Dropped += int64(len(st.waiting))
		st.waiting = waiting
	}
	if carried != nil {
		w.follows(it, st)
		before, prev.place, prev.reason = carried.row, carried.place, carried.reason
		if prev.place == nowhere {
			before = nil // one that was dropped; only this batch still has it
		}
	}
	return w.write(ctx, it, st, prev, before)
}

// follows notes for the steps of a row that it goes on as st under its new key.
func (w *work) follows(it *item, st *rowState) {
	last := len(w.steps) - 1 // the step that took the row away from its old key
	if last < 0 || w.steps[last].item != it {
		return
	}
	old := w.steps[last].st
	for i := last - 1; i >= 0; i-- {
		s := &w.steps[i]
		if s.end() != old {
			continue
		}
		if s.op == cdc.Delete {
			return // of an earlier row
		}
		s.moved = st
	}
}

// write builds the new version of a row and takes it over.
func (w *work) write(ctx context.Context, it *item, st *rowState, prev version, before cdc.Row) error {
	row, err := w.b.build(ctx, it.source, it.in, before, w.t.Time)
	if err != nil {
		return err
	}
	next := version{row: row}
	if it.source.Target.settle(&next) && (it.c.Op == cdc.Insert || prev.place != nowhere) {
		w.b.Counters.Dropped++
	}
	if prev.place == nowhere && prev.row != nil && st.was.place != nowhere && it.source.Target.OnDelete == Delete {
		st.replaced = true
	}
	switch {
	case next.incomplete():
		w.b.cov.Reread(w.t.XID, it.source, it.key)
	case st.now.incomplete():
		w.b.cov.Settled(it.source, it.key)
	}
	prev.row = before
	w.advance(step{item: it, st: st, op: it.c.Op, prev: prev, next: next})
	return nil
}

// remove handles the deletion of the row with the given inputs. A moved row goes
// whatever the policy says, because it lives on under another key.
func (w *work) remove(ctx context.Context, it *item, in cdc.Row, moved bool) error {
	key, err := it.source.Target.targetKey(in)
	if err != nil {
		return err
	}
	st, err := w.b.row(ctx, it.source, key)
	if err != nil {
		return err
	}
	prev := st.now
	next := prev
	switch {
	case prev.place == nowhere && !st.unknown:
		return nil // it never had a tenant, or is gone already
	case prev.incomplete():
		// What it lacks can't be had any more, so that there is no row to keep.
		w.letGo(it, st, &next, moved)
	case it.source.Target.OnDelete == Keep && !moved:
		next.deleted = true
		st.deletedAt = w.t.Commit
	default:
		next.place, next.deleted = nowhere, false
		// What waited belongs to this row; another may come under its key.
		st.waiting = nil
	}
	w.advance(step{item: it, st: st, op: cdc.Delete, prev: prev, next: next, quiet: moved})
	return nil
}

// letGo ends an incomplete row, whose source row is gone or has another key.
func (w *work) letGo(it *item, st *rowState, next *version, moved bool) {
	key := it.key
	if moved {
		key = it.oldKey
	} else if it.source.Target.OnDelete == Keep {
		w.b.Counters.Dropped++
	}
	w.b.cov.Settled(it.source, key)
	*next = version{row: next.row}
	st.waiting = nil
}

// advance takes a new version over.
func (w *work) advance(s step) {
	w.adopt(s.st, s.next)
	w.steps = append(w.steps, s)
}

func (w *work) adopt(st *rowState, next version) {
	st.now = next
	if !st.touched {
		st.touched = true
		w.b.touched = append(w.b.touched, st)
	}
	if next.place == inHeld {
		w.b.heldHere = true
		if st.since == 0 {
			st.since = w.t.Commit
		}
	}
}
