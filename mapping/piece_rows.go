package mapping

import (
	"context"
	"errors"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// rowsAhead is how many rows of a piece are handed to the sink at once, so that
// the target can work on them while the next ones are made.
const rowsAhead = 1000

// newRows writes rows of a piece that the target doesn't have. A copy has millions
// of them, so they pass without a state of their own, and their paths are
// followed once for all that begin at the same key.
type newRows struct {
	w *work
	p *Piece
	t *Target
	// starts are the columns that paths begin at, derived what is at their ends for
	// each of Table.Derived.
	starts  []*pathStart
	derived [][]pathEnd
	// known are target keys of rows that the batch or the held rows know of.
	known map[sink.Key]bool
	// far are rows whose paths have to be asked for, as needs says. ahead go to the
	// sink next, and rest behind all others.
	far   []cdc.Row
	needs *needs
	ahead []cdc.Row
	rest  []restRow
	// tenants counts the rows that have been handed on.
	tenants map[string]int64
}

// restRow is a row that is no news, that may be refused, or that has no tenant, and
// what it is made from.
type restRow struct{ from, row cdc.Row }

// pathStart is a target column that paths begin at.
type pathStart struct {
	column  int
	lookups []*sink.Lookup
	// ends has, for every text that the column takes, the ends of lookups; nil for
	// those in far, that have to be asked for.
	ends map[string]cdc.Row
	far  []cdc.Value
}

// pathEnd is one of a start's ends or, without a start, the column itself.
type pathEnd struct {
	start *pathStart
	at    int
}

func (w *work) newRows(ctx context.Context, p *Piece) error {
	n := &newRows{w: w, p: p, t: p.Source.Target, needs: newNeeds(w.b), tenants: map[string]int64{}}
	n.plan()
	if err := n.find(ctx); err != nil {
		return err
	}
	if !w.b.careful { // what waits would break the rows' stream later
		if err := w.b.Flush(ctx); err != nil {
			return err
		}
	}
	for _, from := range p.Rows {
		near, err := n.reach(from)
		if err != nil {
			return err
		}
		if !near {
			n.far = append(n.far, from)
		} else if err := n.take(ctx, from); err != nil {
			return err
		}
	}
	if err := n.takeFar(ctx); err != nil {
		return err
	}
	if err := n.hand(ctx, 1); err != nil {
		return err
	}
	if err := n.takeRest(ctx); err != nil {
		return err
	}
	for tenant, rows := range n.tenants {
		p.count(tenant, rows)
		w.b.Counters.Rows += rows
		w.b.Tally.add(p.Source, cdc.TextValue(tenant), rows)
	}
	return nil
}

// take makes a row and sends it on its way.
func (n *newRows) take(ctx context.Context, from cdc.Row) error {
	row, err := n.build(from)
	if err != nil {
		return err
	}
	tenant := row[n.t.Table.Tenant]
	if n.w.b.careful || tenant.Kind != cdc.Text || n.known != nil && n.known[n.t.Table.KeyOf(row)] {
		n.rest = append(n.rest, restRow{from, row})
		return nil
	}
	n.tenants[tenant.Text]++
	n.ahead = append(n.ahead, row)
	return n.hand(ctx, rowsAhead)
}

// plan sorts the table's lookups by where they begin.
func (n *newRows) plan() {
	byColumn := map[int]*pathStart{}
	for i := range n.t.Table.Derived {
		var ends []pathEnd
		for j := range n.t.Table.Derived[i].From {
			l := &n.t.Table.Derived[i].From[j]
			if len(l.Steps) == 0 {
				ends = append(ends, pathEnd{at: l.Column})
				continue
			}
			s := byColumn[l.Column]
			if s == nil {
				s = &pathStart{column: l.Column, ends: map[string]cdc.Row{}}
				byColumn[l.Column] = s
				n.starts = append(n.starts, s)
			}
			ends = append(ends, pathEnd{start: s, at: len(s.lookups)})
			s.lookups = append(s.lookups, l)
		}
		n.derived = append(n.derived, ends)
	}
}

// reach finds the ends of a row's paths. It is false where the target has to be
// asked for something on the way, which it then is for all such rows at once.
func (n *newRows) reach(from cdc.Row) (near bool, err error) {
	near = true
	for _, s := range n.starts {
		v, err := n.t.Columns[s.column].own(n.p.Source.inputsOf(from))
		if err != nil {
			return false, err
		}
		if v.Kind != cdc.Text {
			continue
		}
		ends, met := s.ends[v.Text]
		if !met {
			if ends = n.ends(s, v); ends == nil {
				s.far = append(s.far, v)
			}
			s.ends[v.Text] = ends
		}
		near = near && ends != nil
	}
	return near, nil
}

// ends are those of the paths from v, nil if they aren't all at hand.
func (n *newRows) ends(s *pathStart, v cdc.Value) cdc.Row {
	ends := n.w.b.newRow(len(s.lookups))
	near := true
	for i, l := range s.lookups {
		var ok bool
		if ends[i], ok = n.w.b.near(l, v); !ok {
			near = false
			n.needs.follow(l, v)
		}
	}
	if !near {
		return nil
	}
	return ends
}

// takeFar takes the rows for which the target had to be asked.
func (n *newRows) takeFar(ctx context.Context) error {
	if len(n.far) == 0 {
		return nil
	}
	b := n.w.b
	if err := b.load(ctx, n.needs.query()); err != nil {
		return err
	}
	for _, s := range n.starts {
		for _, v := range s.far {
			ends := b.newRow(len(s.lookups))
			for i, l := range s.lookups {
				var err error
				if ends[i], err = b.lookup(ctx, l, v); err != nil {
					return err
				}
			}
			s.ends[v.Text] = ends
		}
	}
	for _, from := range n.far {
		if err := n.take(ctx, from); err != nil {
			return err
		}
	}
	return nil
}

// find finds the rows of the piece that are no news: the stream has left them
// held, or this batch has met them.
func (n *newRows) find(ctx context.Context) error {
	b, s := n.w.b, n.p.Source
	if b.careful || len(n.p.Rows) == 0 || !b.mayBeHeld() && len(b.rows[s]) == 0 {
		return nil
	}
	keys := make([]sink.Key, len(n.p.Rows))
	n.known = map[sink.Key]bool{}
	for i, from := range n.p.Rows {
		var err error
		if keys[i], err = n.t.targetKey(s.inputsOf(from)); err != nil {
			return err
		}
		if b.rows[s][keys[i]] != nil {
			n.known[keys[i]] = true
		}
	}
	if !b.mayBeHeld() {
		return nil
	}
	q := &sink.HeldQuery{Table: n.t.Table, Keys: keys, Limit: releasePage}
	for more := true; more; {
		var page []sink.Key
		var err error
		if page, more, err = b.HeldKeys(ctx, q); err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		for _, k := range page {
			n.known[k] = true
		}
		q.After = &page[len(page)-1]
	}
	return nil
}

// build makes the target row of one that PieceSQL has read. An observed column
// takes its initial value.
func (n *newRows) build(from cdc.Row) (cdc.Row, error) {
	in := n.p.Source.inputsOf(from)
	initial := from[len(in):]
	row := n.w.b.newRow(len(n.t.Columns))
	for i := range n.t.Columns {
		switch c := &n.t.Columns[i]; {
		case c.Derived:
		case c.Observed != nil:
			row[i], initial = initial[0], initial[1:]
		case c.Convert == nil && c.Const == nil && len(c.Own) == 1:
			row[i] = in[c.Own[0]]
		default:
			v, err := c.own(in)
			if err != nil {
				return nil, err
			}
			row[i] = v
		}
	}
	for i, ends := range n.derived {
		var first cdc.Value
		for _, e := range ends {
			if first = e.of(row); first.Kind != cdc.Null {
				break
			}
		}
		row[n.t.Table.Derived[i].Column] = first
	}
	return row, nil
}

func (e *pathEnd) of(row cdc.Row) cdc.Value {
	if e.start == nil {
		return row[e.at]
	}
	v := row[e.start.column]
	if v.Kind != cdc.Text {
		return cdc.Value{}
	}
	return e.start.ends[v.Text][e.at]
}

// hand hands the rows that are ready to the sink when there are enough of them.
func (n *newRows) hand(ctx context.Context, enough int) error {
	if len(n.ahead) < enough {
		return nil
	}
	rows := n.ahead
	n.ahead = make([]cdc.Row, 0, rowsAhead)
	t := n.t.Table
	return n.w.b.tx.Apply(ctx, &sink.Writes{Rows: []sink.RowSet{
		{Table: t, Mode: sink.Insert, New: true, Columns: allColumns(t), Rows: rows}}})
}

// takeRest takes over the rows that aren't like the others.
func (n *newRows) takeRest(ctx context.Context) error {
	b := n.w.b
	if b.mayBeHeld() && len(n.rest) > 0 {
		var keys []sink.Key
		for i := range n.rest {
			if key := n.t.Table.KeyOf(n.rest[i].row); b.rows[n.p.Source][key] == nil {
				keys = append(keys, key)
			}
		}
		if err := b.load(ctx, &sink.Query{Rows: map[*sink.Table][]sink.Key{n.t.Table: keys}}); err != nil {
			return err
		}
	}
	for _, r := range n.rest {
		if err := n.apart(r.from, r.row); err != nil {
			return err
		}
	}
	return nil
}

func (n *newRows) apart(from, row cdc.Row) error {
	w, p, t := n.w, n.p, n.t
	st := w.b.fresh(p.Source, t.Table.KeyOf(row))
	if missing(row) {
		return errors.New("a row that was read from the source lacks a value")
	}
	if st.now.incomplete() {
		for i := range t.Columns {
			if t.Columns[i].Observed != nil {
				row[i] = st.now.row[i] // the stream has seen what happened
			}
		}
	}
	next := version{row: row}
	if t.settle(&next) {
		w.b.Counters.Dropped++
		if st.now.place != inHeld {
			return nil
		}
	}
	if next.place == inTable {
		p.count(row[t.Table.Tenant].Text, 1)
	}
	if len(st.waiting) > 0 {
		w.released = append(w.released, st)
	}
	if w.b.careful {
		it := &item{c: &cdc.Change{Op: cdc.Insert}, source: p.Source, in: p.Source.inputsOf(from), key: p.Source.KeyOf(from)}
		w.advance(step{item: it, st: st, op: cdc.Insert, prev: st.now, next: next, quiet: true})
		return nil
	}
	w.adopt(st, next) // a row that was there makes no entry
	return nil
}
