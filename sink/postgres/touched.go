package postgres

import (
	"hash/maphash"

	"github.com/walbridge/walbridge/sink"
)

// touched knows what a batch has written. Over a session, a question about
// anything else needs no transaction in which the batch's writes are repeated. A
// key is remembered by a hash: two that share one cost a needless repetition.
type touched struct {
	seed maphash.Seed
	keys map[uint64]struct{}
	held bool
	// all: the batch has written what can't be told by keys.
	all bool
}

// maxTouched bounds the memory, which is about 20 bytes a key.
const maxTouched = 2_000_000

func newTouched() *touched {
	return &touched{seed: maphash.MakeSeed(), keys: make(map[uint64]struct{})}
}

func (t *touched) hash(name string, key sink.Key) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	_, _ = h.WriteString(name)
	_ = h.WriteByte(0)
	_, _ = h.WriteString(string(key))
	return h.Sum64()
}

func (t *touched) note(name string, key sink.Key) {
	if t.all {
		return
	}
	if len(t.keys) == maxTouched {
		t.all, t.keys = true, nil
		return
	}
	t.keys[t.hash(name, key)] = struct{}{}
}

func (t *touched) has(name string, key sink.Key) bool {
	_, ok := t.keys[t.hash(name, key)]
	return ok
}

// A source table and a target table may have one name; that, too, costs a
// repetition at most.
func (t *touched) writes(w *sink.Writes) {
	for i := range w.Paths {
		t.note(w.Paths[i].Node.Name, w.Paths[i].Key)
	}
	for _, sets := range [][]sink.RowSet{w.Delete, w.Rows} {
		for i := range sets {
			t.rows(&sets[i])
		}
	}
	for _, refs := range [][]sink.Ref{w.Unhold, w.Mark, w.Unmark} {
		for _, r := range refs {
			t.note(r.Table.FullName(), r.Key)
		}
	}
	for i := range w.Hold {
		t.note(w.Hold[i].Table.FullName(), w.Hold[i].Key)
	}
	t.all = t.all || w.Anew
	t.held = t.held || len(w.Hold) > 0 || len(w.Unhold) > 0
}

func (t *touched) rows(set *sink.RowSet) {
	name := set.Table.FullName()
	at := keyPositions(set)
	parts := make([]string, len(at))
	for _, row := range set.Rows {
		for i, j := range at {
			parts[i] = row[j].Text
		}
		t.note(name, sink.EncodeKey(parts...))
	}
}

// spares reports that the batch has written nothing that the answer to q depends
// on, but for what is found along paths, see sparesPaths.
func (t *touched) spares(schema *sink.Schema, q *sink.Query) bool {
	if len(t.keys) == 0 && !t.held && !t.all {
		return true
	}
	// Who waits follows from held rows and from paths to them.
	if t.all || q.Keys != nil || t.held && (q.Held != nil || len(q.Waiting) > 0) || len(q.Waiting) > 0 && t.passes(schema) {
		return false
	}
	for table, keys := range q.Rows {
		for _, k := range keys {
			if t.has(table.FullName(), k) {
				return false
			}
		}
	}
	for node, keys := range q.Paths {
		for _, k := range keys {
			if t.has(node.Name, k) {
				return false
			}
		}
	}
	return true
}

// passes reports whether any path has more than one step: held rows are then
// reached over path values that the batch may have written.
func (t *touched) passes(schema *sink.Schema) bool {
	if schema == nil {
		return true
	}
	for _, table := range schema.Tables {
		for _, d := range table.Derived {
			for _, l := range d.From {
				if len(l.Steps) > 1 {
					return true
				}
			}
		}
	}
	return false
}

// sparesPaths reports that the path values in l, and those that are missing behind
// them, are none that the batch has written.
func (t *touched) sparesPaths(q *sink.Query, l *sink.Loaded) bool {
	if len(q.Paths) == 0 || len(t.keys) == 0 {
		return true
	}
	for node, rows := range l.Paths {
		for _, p := range rows {
			for i, next := range node.Next {
				if next != nil && i < len(p.Values) && !p.Values[i].IsNull() && t.has(next.Name, sink.Key(p.Values[i].Text)) {
					return false
				}
			}
		}
	}
	return true
}
