package mapping

import (
	"context"
	"fmt"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// pathChange is a source row whose path values the transaction touched, with the
// values from before it.
type pathChange struct {
	key     pathKey
	before  sink.PathRow
	had     bool
	ordinal uint32
	item    *item
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
