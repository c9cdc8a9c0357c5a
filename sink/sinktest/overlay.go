package sinktest

import (
	"iter"
	"maps"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// layer is one map as a batch sees it: what is committed, under what the batch
// has changed. A nil pointer is a removed row.
type layer[V any] struct {
	base    map[id]V
	changed map[id]*V
}

func newLayer[V any](base map[id]V) *layer[V] {
	return &layer[V]{base: base, changed: make(map[id]*V)}
}

func (l *layer[V]) get(k id) (V, bool) {
	if v, ok := l.changed[k]; ok {
		if v == nil {
			var zero V
			return zero, false
		}
		return *v, true
	}
	v, ok := l.base[k]
	return v, ok
}

func (l *layer[V]) put(k id, v V) { l.changed[k] = &v }

func (l *layer[V]) remove(k id) { l.changed[k] = nil }

// all yields the rows in no order. The layer may be changed meanwhile; what is
// yielded then is undefined only for the rows that were changed.
func (l *layer[V]) all() iter.Seq2[id, V] {
	seen := maps.Clone(l.changed)
	return func(yield func(id, V) bool) {
		for k, v := range seen {
			if v != nil && !yield(k, *v) {
				return
			}
		}
		for k, v := range l.base {
			if _, ok := seen[k]; !ok && !yield(k, v) {
				return
			}
		}
	}
}

func (l *layer[V]) commit() {
	for k, v := range l.changed {
		if v == nil {
			delete(l.base, k)
		} else {
			l.base[k] = *v
		}
	}
}

// clone keeps the changes as they are, for a savepoint.
func (l *layer[V]) clone() *layer[V] {
	return &layer[V]{base: l.base, changed: maps.Clone(l.changed)}
}

// overlay is the data as a batch sees it.
type overlay struct {
	rows     *layer[namedRow]
	held     *layer[sink.HeldRow]
	paths    *layer[sink.PathRow]
	marks    *layer[cdc.LSN]
	copies   *layer[sink.CopyProgress]
	entries  *layer[sink.Entry]
	requests *layer[sink.Request]
}

func newOverlay(d *data) *overlay {
	return &overlay{
		rows: newLayer(d.rows), held: newLayer(d.held), paths: newLayer(d.paths),
		marks: newLayer(d.marks), copies: newLayer(d.copies), entries: newLayer(d.entries),
		requests: newLayer(d.requests),
	}
}

func (o *overlay) clone() *overlay {
	return &overlay{
		rows: o.rows.clone(), held: o.held.clone(), paths: o.paths.clone(),
		marks: o.marks.clone(), copies: o.copies.clone(), entries: o.entries.clone(),
		requests: o.requests.clone(),
	}
}

func (o *overlay) commit() {
	o.rows.commit()
	o.held.commit()
	o.paths.commit()
	o.marks.commit()
	o.copies.commit()
	o.entries.commit()
	o.requests.commit()
}
