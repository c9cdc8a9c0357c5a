package mapping

import (
	"context"
	"fmt"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// work is one transaction being worked through.
type work struct {
	b     *Batch
	t     *cdc.Transaction
	items []item
	// steps are the row changes in the order of the source.
	steps []step
	// written is how many of steps writeOneByOne has written.
	written int
	paths   []pathChange
	// truncated are the tables that a TRUNCATE emptied, with the rows it hit.
	truncated []truncation
	// released are rows of a piece that entries wait with.
	released []*rowState
}

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

// step is one version of a row following another.
type step struct {
	item       *item
	st         *rowState
	op         cdc.Op
	prev, next version
	quiet      bool // makes no entry: the other half of a key change
	// moved is where the row is after a later change of its key, nil without one.
	moved *rowState
}

// end is where the row is at the end of the transaction.
func (s *step) end() *rowState {
	if s.moved != nil {
		return s.moved
	}
	return s.st
}

// pathChange is a source row whose path values the transaction touched, with the
// values from before it.
type pathChange struct {
	key     pathKey
	before  sink.PathRow
	had     bool
	ordinal uint32
	item    *item
}

type truncation struct {
	item  *item
	moved []sink.Moved
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

// pathPass brings the path values to the end of the transaction.
func (w *work) pathPass(ctx context.Context) error {
	if err := w.sortOut(ctx); err != nil {
		return err
	}
	return w.walkPaths(ctx)
}

func (w *work) walkPaths(ctx context.Context) error {
	var seen map[pathKey]bool
	for i := range w.items {
		it := &w.items[i]
		if it.source.Node == nil {
			continue
		}
		if it.c.Op == cdc.Truncate {
			if err := w.truncatePaths(ctx, it); err != nil {
				return err
			}
			continue
		}
		if seen == nil {
			seen = map[pathKey]bool{}
		}
		var former cdc.Row // the values under the old key
		if it.old != nil && !it.skipOld {
			// Kept children still refer to the old key.
			k := pathKey{it.source.Node, it.oldKey}
			st, err := w.b.state(ctx, k)
			if err != nil {
				return err
			}
			former = st.now.Values
			if st.present {
				w.b.setPath(k, st, sink.PathRow{Values: former, Gone: true})
			}
		}
		if it.skip {
			continue
		}
		k := pathKey{it.source.Node, it.key}
		st, err := w.b.state(ctx, k)
		if err != nil {
			return err
		}
		if it.c.Op == cdc.Delete {
			// Those that still depend on it keep its last values.
			if st.present && !st.now.Gone {
				w.b.setPath(k, st, sink.PathRow{Values: st.now.Values, Gone: true})
			}
			continue
		}
		vals := make(cdc.Row, len(it.source.NodeInputs))
		for j, n := range it.source.NodeInputs {
			vals[j] = it.in[n]
			if vals[j].Kind != cdc.Unchanged {
				continue
			}
			if former == nil && st.present && !st.now.Gone {
				former = st.now.Values
			}
			if former == nil {
				return fmt.Errorf("table %s: %w", it.source.FullName(), errIncomplete)
			}
			vals[j] = former[j]
		}
		if differs := !st.present || !equalRows(st.now.Values, vals); differs || st.now.Gone {
			if differs && !seen[k] {
				// What moves by it counts as moved by the first change that made
				// a difference.
				seen[k] = true
				w.paths = append(w.paths, pathChange{key: k, before: st.now, had: st.present, ordinal: it.c.Ordinal, item: it})
			}
			w.b.setPath(k, st, sink.PathRow{Values: vals})
		}
	}
	return w.follow(ctx)
}

// follow remembers what the rows of the path pass refer to and what isn't there.
// It comes behind them all, because a child may come before its parent.
func (w *work) follow(ctx context.Context) error {
	for i := range w.paths {
		k := w.paths[i].key
		st := w.b.paths[k]
		if !st.present || st.now.Gone {
			continue
		}
		for j, next := range k.node.Next {
			v := st.now.Values[j]
			if next == nil || v.Kind != cdc.Text {
				continue
			}
			if _, err := w.b.referred(ctx, pathKey{next, sink.Key(v.Text)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func equalRows(a, b cdc.Row) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

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

// truncate empties the target table, or marks its rows, at this point of the
// transaction: what came before has to be there.
func (w *work) truncate(ctx context.Context, it *item) error {
	if w.b.careful {
		if err := w.writeOneByOne(ctx); err != nil {
			return err
		}
	}
	if err := w.b.Flush(ctx); err != nil {
		return err
	}
	incomplete, err := w.truncateIncomplete(ctx, it)
	if err != nil {
		return err
	}
	t := it.source.Target
	moved, err := w.b.tx.Truncate(ctx, &sink.Truncate{Table: t.Table, Keep: t.OnDelete == Keep, LSN: w.t.Commit})
	if err != nil {
		return err
	}
	for i := range moved {
		m := &moved[i]
		if m.From.IsNull() && t.OnDelete != Keep {
			w.b.Counters.Held -= m.Rows
		}
		m.Rows += incomplete[m.From]
		delete(incomplete, m.From)
	}
	for tenant, n := range incomplete {
		moved = append(moved, sink.Moved{Table: t.Table, From: tenant, To: tenant, Rows: n})
	}
	if t.OnDelete != Keep {
		for _, st := range w.b.rows[it.source] {
			// At the end of this transaction there is no row that entries of before
			// could have waited for, though it may have been given a tenant.
			st.waiting = nil
			if st.now.place == inHeld {
				// An entry of this transaction that waits with the row would bring
				// it back.
				st.now.place = nowhere
				st.was = st.now
			}
		}
	}
	delete(w.b.rows, it.source)
	w.truncated = append(w.truncated, truncation{item: it, moved: moved})
	return nil
}

// truncateIncomplete ends the incomplete rows of a table before the others, and
// counts them by tenant.
func (w *work) truncateIncomplete(ctx context.Context, it *item) (counts map[cdc.Value]int64, err error) {
	if !w.b.mayBeHeld() {
		return nil, nil
	}
	t := it.source.Target
	counts = map[cdc.Value]int64{}
	q := &sink.HeldQuery{Table: t.Table, Reason: sink.HeldIncomplete, Limit: releasePage}
	for more := true; more; {
		var keys []sink.Key
		if keys, more, err = w.b.HeldKeys(ctx, q); err != nil {
			return nil, err
		}
		if err := w.b.load(ctx, &sink.Query{Rows: map[*sink.Table][]sink.Key{t.Table: keys}}); err != nil {
			return nil, err
		}
		for _, k := range keys {
			st := w.b.rows[it.source][k]
			if v := st.now.tenant(t.Table); v.Kind == cdc.Text {
				counts[v]++
			}
			if t.OnDelete == Keep {
				w.b.Counters.Dropped++
			}
			w.adopt(st, version{row: st.now.row})
			st.waiting = nil
		}
		if err := w.b.Flush(ctx); err != nil {
			return nil, err
		}
	}
	// None of them has to be read any more.
	w.b.cov.Skipped(w.t.XID, it.source, "", true)
	return counts, nil
}

// truncatePaths marks all path values of a source as those of rows that are gone.
func (w *work) truncatePaths(ctx context.Context, it *item) error {
	if err := w.b.Flush(ctx); err != nil {
		return err
	}
	node := it.source.Node
	if _, err := w.b.tx.Truncate(ctx, &sink.Truncate{Node: node, LSN: w.t.Commit}); err != nil {
		return err
	}
	for k, st := range w.b.paths {
		if k.node == node {
			st.now.Gone, st.cached = true, false
		}
	}
	w.b.e.Forget()
	return nil
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
