package mapping

import (
	"context"
	"fmt"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// releasePage is how many held rows are released with one call; their entries
// pass through memory.
const releasePage = 2000

// moves are the rows that the path changes of a transaction took along, by the
// source row that they were reached over.
type moves struct {
	rows     map[pathKey][]sink.Moved
	released []sink.HeldRow
}

// move writes the transaction's rows and then brings the rows that depend on its
// path values in line, if there can be any. It reports whether it did.
func (w *work) move(ctx context.Context) (*moves, bool, error) {
	barrier := len(w.truncated) > 0
	if err := w.askWaiting(ctx); err != nil {
		return nil, false, err
	}
	var due []pathChange
	for i := range w.paths {
		if w.concerns(&w.paths[i]) {
			due = append(due, w.paths[i])
		}
	}
	if len(due) == 0 {
		return nil, barrier, nil
	}
	if err := w.b.Flush(ctx); err != nil {
		return nil, false, err
	}
	m := &moves{rows: map[pathKey][]sink.Moved{}}
	for _, s := range w.b.e.m.Sources {
		if s.Target == nil {
			continue
		}
		for node, keys := range w.reaching(due, s.Target.Table) {
			if err := w.recompute(ctx, m, s, node, keys); err != nil {
				return nil, false, fmt.Errorf("move rows of %s: %w", s.Target.Table.FullName(), err)
			}
		}
	}
	return m, true, nil
}

// askWaiting finds out which of the transaction's new rows held rows are reached
// over: all at once, because an import brings thousands.
func (w *work) askWaiting(ctx context.Context) error {
	if w.b.Counters.Held == 0 && !w.b.heldHere {
		return nil
	}
	keys := map[*sink.Node][]sink.Key{}
	for i := range w.paths {
		p := &w.paths[i]
		// What was asked before is out of date once the batch has held a row.
		if st := w.b.paths[p.key]; !p.had && st.present && (w.b.heldHere || !st.asked) {
			keys[p.key.node] = append(keys[p.key.node], p.key.key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	if w.b.heldHere { // the row has to be there to be found
		if err := w.b.Flush(ctx); err != nil {
			return err
		}
	}
	return w.b.load(ctx, &sink.Query{Waiting: keys})
}

// concerns reports whether rows may depend on the change: values that were there
// have changed, or a held row waits for them.
func (w *work) concerns(p *pathChange) bool {
	st := w.b.paths[p.key]
	switch {
	case !st.present:
		return false
	case !p.had:
		return st.waiting && (w.b.Counters.Held > 0 || w.b.heldHere)
	}
	for i := range st.now.Values {
		if st.now.Values[i] != p.before.Values[i] && len(w.b.e.passing[p.key.node][i]) > 0 {
			return true
		}
	}
	return false
}

// reaching returns the due keys that rows of t can be reached over, by node. A
// new row concerns every table that passes its node.
func (w *work) reaching(due []pathChange, t *sink.Table) map[*sink.Node][]sink.Key {
	keys := map[*sink.Node][]sink.Key{}
	for i := range due {
		p := &due[i]
		st := w.b.paths[p.key]
		for col, tables := range w.b.e.passing[p.key.node] {
			if p.had && st.now.Values[col] == p.before.Values[col] {
				continue
			}
			if contains(tables, t) {
				keys[p.key.node] = append(keys[p.key.node], p.key.key)
				break
			}
		}
	}
	return keys
}

func contains(tables []*sink.Table, t *sink.Table) bool {
	for _, x := range tables {
		if x == t {
			return true
		}
	}
	return false
}

func (w *work) recompute(ctx context.Context, m *moves, s *Source, node *sink.Node, keys []sink.Key) error {
	r := &sink.Recompute{Table: s.Target.Table, Node: node, Keys: keys, LSN: w.t.Commit}
	moved, err := w.b.tx.Recompute(ctx, r)
	if err != nil {
		return err
	}
	for _, mv := range moved {
		k := pathKey{node, mv.Key}
		m.rows[k] = append(m.rows[k], mv)
		if mv.To.IsNull() {
			w.b.Counters.Held += mv.Rows
		}
		w.b.Counters.Rows += mv.Rows
		w.b.Tally.moved(s, &mv)
	}
	// Whatever was read of this table before may have moved.
	delete(w.b.rows, s)
	if w.b.Counters.Held == 0 {
		return nil
	}
	for _, key := range keys {
		if err := w.release(ctx, m, s, node, key); err != nil {
			return err
		}
	}
	return nil
}

// release brings back the held rows that are reached over key, page by page.
func (w *work) release(ctx context.Context, m *moves, s *Source, node *sink.Node, key sink.Key) error {
	r := &sink.Recompute{Table: s.Target.Table, Node: node, Keys: []sink.Key{key}, LSN: w.t.Commit}
	counts := map[cdc.Value]int64{}
	for {
		rows, err := w.b.tx.ReleaseHeld(ctx, r, releasePage)
		if err != nil {
			return err
		}
		for i := range rows {
			counts[rows[i].Row[r.Table.Tenant]]++
			if len(rows[i].Waiting) > 0 {
				m.released = append(m.released, rows[i])
			}
		}
		w.b.Counters.Held -= int64(len(rows))
		w.b.Counters.Rows += int64(len(rows))
		if err := w.writeReleased(m); err != nil {
			return err
		}
		if len(rows) < releasePage {
			break
		}
		if err := w.b.Flush(ctx); err != nil { // the page's entries
			return err
		}
	}
	k := pathKey{node, key}
	for tenant, n := range counts {
		w.b.Tally.add(s, tenant, n)
		m.rows[k] = append(m.rows[k], sink.Moved{Table: r.Table, Key: key, To: tenant, Rows: n})
	}
	return nil
}
