package mapping

import (
	"context"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// prefetch asks the target, in one round trip, for what txs are going to need:
// the rows that they update or delete, and the path values that are neither in
// this batch nor in the cache. It may ask for too much or too little; what is
// missing is asked for when it is needed.
func (b *Batch) prefetch(ctx context.Context, works []work) error {
	n := newNeeds(b)
	for i := range works {
		for j := range works[i].items {
			if err := n.item(&works[i].items[j]); err != nil {
				return err
			}
		}
	}
	return b.load(ctx, n.query())
}

type needs struct {
	b       *Batch
	rows    map[*Source]map[sink.Key]bool
	paths   map[pathKey]bool
	waiting map[pathKey]bool
}

func newNeeds(b *Batch) *needs {
	return &needs{b: b, rows: map[*Source]map[sink.Key]bool{}, paths: map[pathKey]bool{}, waiting: map[pathKey]bool{}}
}

func (n *needs) item(it *item) error {
	c, s, in := it.c, it.source, it.in
	if c.Op == cdc.Truncate {
		return nil
	}
	if s.Node != nil {
		k := pathKey{s.Node, it.key}
		n.path(k)
		if n.b.Counters.Held > 0 && c.Op != cdc.Delete {
			n.waiting[k] = true
		}
		n.next(s, in)
	}
	if s.Target == nil {
		return nil
	}
	if c.Op != cdc.Insert || n.b.mayBeHeld() {
		if err := n.row(s, in); err != nil {
			return err
		}
		if it.old != nil {
			if err := n.row(s, it.old); err != nil {
				return err
			}
		}
	}
	if c.Op != cdc.Delete {
		n.derived(s.Target, in)
	}
	return nil
}

func (n *needs) row(s *Source, in cdc.Row) error {
	key, err := s.Target.targetKey(in)
	if err != nil {
		return err
	}
	if n.b.rows[s][key] != nil {
		return nil
	}
	m := n.rows[s]
	if m == nil {
		m = map[sink.Key]bool{}
		n.rows[s] = m
	}
	m[key] = true
	return nil
}

// derived notes the first unknown key of every path of the row; the sink
// follows it to the end.
func (n *needs) derived(t *Target, in cdc.Row) {
	for i := range t.Table.Derived {
		for j := range t.Table.Derived[i].From {
			l := &t.Table.Derived[i].From[j]
			col := &t.Columns[l.Column]
			if len(l.Steps) == 0 || len(col.Own) == 0 {
				continue
			}
			n.follow(l, in[col.Own[0]])
		}
	}
}

// follow notes the first unknown key of a path that begins at v.
func (n *needs) follow(l *sink.Lookup, v cdc.Value) {
	for _, step := range l.Steps {
		if v.Kind != cdc.Text {
			return
		}
		k := pathKey{step.Node, sink.Key(v.Text)}
		p, present, ok := n.b.known(k)
		if !ok {
			n.paths[k] = true
			return
		}
		if !present {
			return
		}
		v = p.Values[step.Column]
	}
}

// next notes what a row of a node refers to.
func (n *needs) next(s *Source, in cdc.Row) {
	for i, next := range s.Node.Next {
		if v := in[s.NodeInputs[i]]; next != nil && v.Kind == cdc.Text {
			n.path(pathKey{next, sink.Key(v.Text)})
		}
	}
}

func (n *needs) path(k pathKey) {
	if _, _, ok := n.b.known(k); !ok {
		n.paths[k] = true
	}
}

func (n *needs) query() *sink.Query {
	q := &sink.Query{}
	for s, keys := range n.rows {
		if q.Rows == nil {
			q.Rows = map[*sink.Table][]sink.Key{}
		}
		for k := range keys {
			q.Rows[s.Target.Table] = append(q.Rows[s.Target.Table], k)
		}
	}
	q.Paths = byNode(n.paths)
	q.Waiting = byNode(n.waiting)
	return q
}

func byNode(keys map[pathKey]bool) map[*sink.Node][]sink.Key {
	if len(keys) == 0 {
		return nil
	}
	m := map[*sink.Node][]sink.Key{}
	for k := range keys {
		m[k.node] = append(m[k.node], k.key)
	}
	return m
}

// oldInputs are the inputs of an update's old tuple, or nil when it says nothing
// about the primary key: an old tuple under an identity that doesn't cover it
// carries NULLs there, which mean "not sent".
func (b *binding) oldInputs(batch *Batch, c *cdc.Change) cdc.Row {
	if c.Old == nil {
		return nil
	}
	if !c.OldFull {
		for i := range b.source.Key {
			if !c.Relation.Columns[b.at[i]].Key {
				return nil
			}
		}
	}
	return b.inputs(batch, c.Old)
}
