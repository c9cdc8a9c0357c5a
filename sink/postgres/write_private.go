package postgres

import (
	"context"
	"fmt"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// pathsTable is the table of path values as row sets are written to it.
var pathsTable = &sink.Table{Schema: "walbridge", Name: "path_values", Columns: []sink.Column{
	{Name: "bridge", Type: typeText}, {Name: "source", Type: typeText}, {Name: "key", Type: typeText},
	{Name: "vals", Type: builtin("_text")}, {Name: "gone", Type: builtin("bool")}}}

// newPaths writes path values that are believed to be new, see insertNew. It is
// false for those that go another way.
func (t *tx) newPaths(ctx context.Context, writes []sink.PathWrite) (done bool, err error) {
	open := t.stream != nil && t.stream.table == pathsTable
	if t.s.session != nil || t.opts.Careful || !open && len(writes) < copyRows {
		return false, nil
	}
	set := &sink.RowSet{Table: pathsTable, Columns: []int{0, 1, 2, 3, 4}, Rows: make([]cdc.Row, len(writes))}
	values := make(cdc.Row, 5*len(writes))
	ends := make([]int, len(writes))
	var all []byte
	for i := range writes {
		w := &writes[i]
		if !w.New || w.Forget || len(w.Row.Values) != len(w.Node.Columns) {
			return false, nil
		}
		vals := &array{b: append(all, '{')}
		for _, v := range w.Row.Values {
			if err := vals.addValue(v); err != nil {
				return false, fmt.Errorf("path values of %s: %w", w.Node.Name, err)
			}
		}
		all = vals.done()
		ends[i] = len(all)
	}
	text, at := string(all), 0
	for i := range writes {
		w := &writes[i]
		row := values[5*i : 5*i+5 : 5*i+5]
		row[0], row[1], row[2] = cdc.TextValue(t.s.name), cdc.TextValue(w.Node.Name), cdc.TextValue(string(w.Key))
		row[3], row[4] = cdc.TextValue(text[at:ends[i]]), cdc.TextValue("f")
		if w.Row.Gone {
			row[4].Text = "t"
		}
		set.Rows[i], at = row, ends[i]
	}
	return true, t.streamSet(ctx, set)
}

// applyPaths writes path values, node by node.
func (t *tx) applyPaths(ctx context.Context, w *sink.Writes) error {
	if done, err := t.newPaths(ctx, w.Paths); done || err != nil {
		return err
	}
	var order []*sink.Node
	byNode := make(map[*sink.Node][]*sink.PathWrite)
	for i := range w.Paths {
		p := &w.Paths[i]
		if byNode[p.Node] == nil {
			order = append(order, p.Node)
		}
		byNode[p.Node] = append(byNode[p.Node], p)
	}
	for _, node := range order {
		if err := t.nodePaths(node, byNode[node]); err != nil {
			return fmt.Errorf("path values of %s: %w", node.Name, err)
		}
	}
	return nil
}

func (t *tx) nodePaths(node *sink.Node, writes []*sink.PathWrite) error {
	n := len(node.Columns)
	forget, keys, gone := newArray(0), newArray(16*len(writes)), newArray(2*len(writes)+2)
	vals := make([]*array, n)
	for i := range vals {
		vals[i] = newArray(16 * len(writes))
	}
	forgets := 0
	for _, w := range writes {
		if w.Forget {
			forget.add(string(w.Key))
			forgets++
			continue
		}
		if len(w.Row.Values) != n {
			return fmt.Errorf("a row has %d values for %d columns", len(w.Row.Values), n)
		}
		keys.add(string(w.Key))
		gone.addBool(w.Row.Gone)
		for i, v := range w.Row.Values {
			if err := vals[i].addValue(v); err != nil {
				return err
			}
		}
	}
	head := [][]byte{arg(t.s.name), arg(node.Name)}
	if forgets > 0 {
		t.add(op{
			sql: `DELETE FROM walbridge.path_values AS x USING unnest((SELECT $3::text[])) AS q(k)
				WHERE x.bridge = $1 AND x.source = $2 AND x.key = q.k`,
			args: append(head[:2:2], forget.done()),
		})
	}
	if forgets == len(writes) {
		return nil
	}
	args := append(head[:2:2], keys.done(), gone.done())
	values := "'{}'::text[]"
	if n > 0 {
		values = "ARRAY[" + aliases("v.c", n) + "]"
	}
	from := "unnest($3::text[], $4::bool[]) AS v(k, gone)"
	if n > 0 {
		from = fmt.Sprintf("unnest($3::text[], $4::bool[], %s) AS v(k, gone, %s)", params(5, n), aliases("c", n))
	}
	for _, a := range vals {
		args = append(args, a.done())
	}
	t.add(op{
		sql: fmt.Sprintf(`INSERT INTO walbridge.path_values AS x (bridge, source, key, vals, gone)
			SELECT $1, $2, v.k, %s, v.gone FROM %s
			ON CONFLICT (bridge, source, key) DO UPDATE SET vals = excluded.vals, gone = excluded.gone
			WHERE (x.vals, x.gone) IS DISTINCT FROM (excluded.vals, excluded.gone)`, values, from),
		args: args,
	})
	return nil
}

// refs are the arguments for rows of several tables: names and keys.
func (t *tx) refs(refs []sink.Ref) [][]byte {
	names, keys := newArray(32*len(refs)), newArray(16*len(refs))
	for _, r := range refs {
		names.add(r.Table.FullName())
		keys.add(string(r.Key))
	}
	return [][]byte{arg(t.s.name), names.done(), keys.done()}
}

// removeRefs removes rows from a private table.
func (t *tx) removeRefs(table string, refs []sink.Ref) {
	if len(refs) == 0 {
		return
	}
	t.add(op{
		sql: `DELETE FROM walbridge.` + table + ` AS x USING ` + keyed + `
			WHERE x.bridge = $1 AND x."table" = q.n AND x.key = q.k`,
		args: t.refs(refs),
	})
}

func (t *tx) applyMarks(_ context.Context, w *sink.Writes) error {
	if len(w.Mark) == 0 {
		return nil
	}
	lsns := newArray(16 * len(w.Mark))
	for _, r := range w.Mark {
		lsns.add(r.LSN.String())
	}
	marked := func() {
		for _, r := range w.Mark {
			delete(t.s.unmarked, r.Table)
		}
	}
	marked()
	o := op{
		sql: `INSERT INTO walbridge.deleted AS x (bridge, "table", key, lsn)
			SELECT $1, q.n, q.k, q.l FROM unnest($2::text[], $3::text[], $4::pg_lsn[]) AS q(n, k, l)
			ON CONFLICT (bridge, "table", key) DO UPDATE SET lsn = excluded.lsn, at = now()`,
		args: append(t.refs(w.Mark), lsns.done()),
	}
	if t.s.session == nil {
		// Once more when it has been executed: a statement before it in the same
		// pipeline finds out that there are no marks yet.
		o.read = func(Result) error { marked(); return nil }
	}
	t.add(o)
	return nil
}

// applyHold puts rows into walbridge.held. A row's values are an array, and
// arrays of arrays must be rectangular, so they travel as texts.
func (t *tx) applyHold(_ context.Context, w *sink.Writes) error {
	if len(w.Hold) == 0 {
		return nil
	}
	var columns [7]*array
	for i := range columns {
		columns[i] = newArray(32 * len(w.Hold))
	}
	for i := range w.Hold {
		h := &w.Hold[i]
		if len(h.Row) != len(h.Table.Columns) {
			return fmt.Errorf("table %s: a held row has %d values for %d columns", h.Table.FullName(), len(h.Row), len(h.Table.Columns))
		}
		vals, err := rowArray(h.Row)
		if err != nil {
			return fmt.Errorf("table %s: %w", h.Table.FullName(), err)
		}
		for j, s := range []string{h.Table.FullName(), string(h.Key), string(vals), string(h.Reason), h.Code,
			h.Since.String(), string(textArray(h.Waiting))} {
			columns[j].add(s)
		}
	}
	args := [][]byte{arg(t.s.name)}
	for _, c := range columns {
		args = append(args, c.done())
	}
	t.add(op{
		sql: `INSERT INTO walbridge.held AS x (bridge, "table", key, vals, reason, code, since, waiting)
			SELECT $1, v.c1, v.c2, v.c3::text[], v.c4, v.c5, v.c6::pg_lsn, v.c7::text[]
			FROM unnest(` + params(2, 7) + `) AS v(` + aliases("c", 7) + `)
			ON CONFLICT (bridge, "table", key) DO UPDATE SET vals = excluded.vals, reason = excluded.reason,
				code = excluded.code, since = excluded.since, waiting = excluded.waiting`,
		args: args,
	})
	return nil
}
