package mapping

import (
	"context"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// newPaths writes the path values of a piece's rows, which are new as the rows are.
type newPaths struct {
	w    *work
	p    *Piece
	node *sink.Node
	// waiting are keys that held rows are reached over.
	waiting map[sink.Key]bool
	// parents are the keys that the rows refer to, each once.
	parents map[pathKey]bool
	order   []pathKey
	// known are rows that the batch or a held row knows of.
	known []item
	ahead []sink.PathWrite
}

// piecePaths brings the path values of the piece's rows to the target, if paths
// pass them.
func (w *work) piecePaths(ctx context.Context, p *Piece) error {
	if p.Source.Node == nil || len(p.Rows) == 0 {
		return nil
	}
	n := &newPaths{w: w, p: p, node: p.Source.Node, parents: map[pathKey]bool{}}
	if err := n.ask(ctx); err != nil {
		return err
	}
	insert := &cdc.Change{Op: cdc.Insert}
	for _, row := range p.Rows {
		in, key := p.Source.inputsOf(row), p.Source.KeyOf(row)
		n.refer(in)
		if w.b.careful || n.waiting[key] || len(w.b.paths) > 0 && w.b.paths[pathKey{n.node, key}] != nil {
			n.known = append(n.known, item{c: insert, source: p.Source, in: in, key: key})
			continue
		}
		vals := w.b.newRow(len(p.Source.NodeInputs))
		for i, at := range p.Source.NodeInputs {
			vals[i] = in[at]
		}
		n.ahead = append(n.ahead, sink.PathWrite{Node: n.node, Key: key, Row: sink.PathRow{Values: vals}, New: true})
	}
	if err := n.look(ctx); err != nil {
		return err
	}
	for len(n.ahead) > 0 {
		part := n.ahead[:min(len(n.ahead), rowsAhead)]
		if err := w.b.tx.Apply(ctx, &sink.Writes{Paths: part}); err != nil {
			return err
		}
		w.b.newPaths = append(w.b.newPaths, part...)
		n.ahead = n.ahead[len(part):]
	}
	w.items = n.known
	return w.walkPaths(ctx)
}

// ask finds out which of the rows held rows wait for.
func (n *newPaths) ask(ctx context.Context) error {
	b, s := n.w.b, n.p.Source
	if !b.mayBeHeld() || b.careful {
		return nil
	}
	if b.heldHere { // the row has to be there to be found
		if err := b.Flush(ctx); err != nil {
			return err
		}
	}
	keys := make([]sink.Key, len(n.p.Rows))
	for i, row := range n.p.Rows {
		keys[i] = s.KeyOf(row)
	}
	got, err := b.tx.Load(ctx, &sink.Query{Waiting: map[*sink.Node][]sink.Key{n.node: keys}})
	if err != nil {
		return err
	}
	n.waiting = got.Waiting[n.node]
	return nil
}

// refer notes what a row refers to.
func (n *newPaths) refer(in cdc.Row) {
	for i, next := range n.node.Next {
		v := in[n.p.Source.NodeInputs[i]]
		if next == nil || v.Kind != cdc.Text {
			continue
		}
		if k := (pathKey{next, sink.Key(v.Text)}); !n.parents[k] {
			n.parents[k] = true
			n.order = append(n.order, k)
		}
	}
}

// look asks the target, in one round trip, for what has to be looked at, and
// remembers the parents that aren't there.
func (n *newPaths) look(ctx context.Context) error {
	b := n.w.b
	needs := newNeeds(b)
	for _, k := range n.order {
		needs.path(k)
	}
	for i := range n.known {
		k := pathKey{n.node, n.known[i].key}
		needs.path(k)
		if b.Counters.Held > 0 {
			needs.waiting[k] = true
		}
	}
	if err := b.load(ctx, needs.query()); err != nil {
		return err
	}
	for _, k := range n.order {
		if _, err := b.referred(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// inputsOf are the inputs among the columns that PieceSQL reads.
func (s *Source) inputsOf(row cdc.Row) cdc.Row {
	n := len(s.Inputs)
	return row[:n:n]
}
