package mapping

import (
	"context"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

type truncation struct {
	item  *item
	moved []sink.Moved
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
