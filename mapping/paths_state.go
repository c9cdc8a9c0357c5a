package mapping

import (
	"context"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// pathState is what a batch knows of one source row's path values: an overlay
// over the engine's cache and the target.
type pathState struct {
	now     sink.PathRow
	present bool
	// dirty: not written to the target yet. forget: to be removed there.
	dirty, forget bool
	// cached: as the engine's cache has it.
	cached bool
	// waiting: a held row is reached over this key; asked: the target has been
	// asked about that.
	waiting, asked bool
}

// learnPath records what the target says, unless the batch knows better.
func (b *Batch) learnPath(k pathKey, p sink.PathRow, present bool) {
	if b.paths[k] == nil {
		b.paths[k] = &pathState{now: p, present: present}
	}
}

// known returns the path values of k if the batch or the cache has them. What the
// cache has joins the batch, because it is asked for again and again.
func (b *Batch) known(k pathKey) (p sink.PathRow, present, ok bool) {
	if st := b.paths[k]; st != nil {
		return st.now, st.present, true
	}
	if p, ok = b.e.cache.Get(k); ok {
		b.paths[k] = &pathState{now: p, present: true, cached: true}
	}
	return p, ok, ok
}

// distrust has the path values of k read from the target again: what a comparison
// mends there, somebody has done behind the cache's back.
func (b *Batch) distrust(k pathKey) {
	if st := b.paths[k]; st != nil && st.cached {
		delete(b.paths, k)
	}
	b.e.cache.Remove(k)
}

// path returns the path values of k, from the target if need be.
func (b *Batch) path(ctx context.Context, k pathKey) (sink.PathRow, bool, error) {
	if p, present, ok := b.known(k); ok {
		return p, present, nil
	}
	q := &sink.Query{Paths: map[*sink.Node][]sink.Key{k.node: {k.key}}}
	if err := b.load(ctx, q); err != nil {
		return sink.PathRow{}, false, err
	}
	st := b.paths[k]
	return st.now, st.present, nil
}

// state returns k's overlay entry, made from the cache or the target.
func (b *Batch) state(ctx context.Context, k pathKey) (*pathState, error) {
	if _, _, err := b.path(ctx, k); err != nil {
		return nil, err
	}
	return b.paths[k], nil
}

func (b *Batch) setPath(k pathKey, st *pathState, p sink.PathRow) {
	st.now, st.present, st.forget = p, true, false
	b.soil(k, st)
}

func (b *Batch) soil(k pathKey, st *pathState) {
	st.cached = false
	if !st.dirty {
		st.dirty = true
		b.dirty = append(b.dirty, k)
	}
}

// referred returns the path values of a row that another refers to. One that
// isn't there is remembered as one that is gone and of which nothing was known:
// its coming is a change of values then, like any other, and the rows that had to
// do without it are brought in line.
func (b *Batch) referred(ctx context.Context, k pathKey) (sink.PathRow, error) {
	p, present, err := b.path(ctx, k)
	if err != nil || present {
		return p, err
	}
	p = sink.PathRow{Values: make(cdc.Row, len(k.node.Columns)), Gone: true}
	b.setPath(k, b.paths[k], p)
	return p, nil
}

// lookup follows l from v, which a row begins with, to its end.
func (b *Batch) lookup(ctx context.Context, l *sink.Lookup, v cdc.Value) (cdc.Value, error) {
	for _, step := range l.Steps {
		if v.Kind != cdc.Text {
			return cdc.Value{}, nil
		}
		p, err := b.referred(ctx, pathKey{step.Node, sink.Key(v.Text)})
		if err != nil {
			return cdc.Value{}, err
		}
		v = p.Values[step.Column]
	}
	return v, nil
}

// near is lookup for paths of which everything is at hand, false for others.
func (b *Batch) near(l *sink.Lookup, v cdc.Value) (end cdc.Value, ok bool) {
	for _, step := range l.Steps {
		if v.Kind != cdc.Text {
			return cdc.Value{}, true
		}
		k := pathKey{step.Node, sink.Key(v.Text)}
		switch st := b.paths[k]; {
		case st == nil:
			if v, ok = b.e.cache.Value(k, step.Column); !ok {
				return v, false
			}
		case st.present:
			v = st.now.Values[step.Column]
		default:
			return v, false
		}
	}
	return v, true
}

// derive fills the columns of row that are reached over paths. It follows those,
// too, whose value doesn't count yet, so that what they miss is remembered.
func (b *Batch) derive(ctx context.Context, t *sink.Table, row cdc.Row) error {
	for i := range t.Derived {
		d := &t.Derived[i]
		var first cdc.Value
		for j := range d.From {
			v, err := b.lookup(ctx, &d.From[j], row[d.From[j].Column])
			if err != nil {
				return err
			}
			if first.Kind == cdc.Null {
				first = v
			}
		}
		row[d.Column] = first
	}
	return nil
}
