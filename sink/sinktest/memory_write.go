package sinktest

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

var errUnsent = errors.New("a value that was not sent can't be written")

// apply writes w in the order of its fields.
func (t *memoryTx) apply(w *sink.Writes) error {
	for i := range w.Paths {
		if err := t.path(&w.Paths[i]); err != nil {
			return err
		}
	}
	for _, r := range w.Unhold {
		t.data.held.remove(t.own(r.Table.FullName(), r.Key))
	}
	for _, sets := range [][]sink.RowSet{w.Delete, w.Rows} {
		for i := range sets {
			if err := t.set(&sets[i]); err != nil {
				return fmt.Errorf("table %s: %w", sets[i].Table.FullName(), err)
			}
		}
	}
	for _, r := range w.Mark {
		t.data.marks.put(t.own(r.Table.FullName(), r.Key), r.LSN)
	}
	for _, r := range w.Unmark {
		t.data.marks.remove(t.own(r.Table.FullName(), r.Key))
	}
	for _, h := range w.Hold {
		if len(h.Row) != len(h.Table.Columns) {
			return fmt.Errorf("table %s: a held row has %d values for %d columns", h.Table.FullName(), len(h.Row), len(h.Table.Columns))
		}
		if unsent(h.Row) {
			return errUnsent
		}
		h.Row, h.Waiting = slices.Clone(h.Row), slices.Clone(h.Waiting)
		t.data.held.put(t.own(h.Table.FullName(), h.Key), h)
	}
	if err := t.addEntries(w.Entries); err != nil {
		return err
	}
	if w.Anew {
		t.anew()
	}
	for _, c := range w.Copied {
		t.data.copies.put(t.own(c.Source, ""), cloneCopy(c))
	}
	return t.putRequests(w.Requests)
}

// anew forgets what is laid out under another mapping.
func (t *memoryTx) anew() {
	for k := range t.data.paths.all() {
		if k.bridge == t.s.name {
			t.data.paths.remove(k)
		}
	}
	for k, h := range t.data.held.all() {
		if table := t.table(k); table != nil {
			h.Row = make(cdc.Row, len(table.Columns))
			t.data.held.put(k, h)
		}
	}
}

func (t *memoryTx) path(p *sink.PathWrite) error {
	k := t.own(p.Node.Name, p.Key)
	if p.Forget {
		t.data.paths.remove(k)
		return nil
	}
	if len(p.Row.Values) != len(p.Node.Columns) {
		return fmt.Errorf("path values of %s: %d values for %d columns", p.Node.Name, len(p.Row.Values), len(p.Node.Columns))
	}
	if unsent(p.Row.Values) {
		return errUnsent
	}
	row := p.Row
	row.Values = slices.Clone(row.Values)
	t.data.paths.put(k, row)
	return nil
}

func unsent(row cdc.Row) bool {
	return slices.ContainsFunc(row, func(v cdc.Value) bool { return v.Kind == cdc.Unchanged })
}

func (t *memoryTx) set(set *sink.RowSet) error {
	var found int64
	for _, values := range set.Rows {
		if len(values) != len(set.Columns) {
			return fmt.Errorf("a row has %d values for %d columns", len(values), len(set.Columns))
		}
		if unsent(values) {
			return errUnsent
		}
		row := make(cdc.Row, len(set.Table.Columns))
		for i, c := range set.Columns {
			row[c] = values[i]
		}
		k := t.row(set.Table, set.Table.KeyOf(row))
		old, ok := t.data.rows.get(k)
		if ok {
			found++
		}
		switch set.Mode {
		case sink.Remove:
			t.data.rows.remove(k)
			continue
		case sink.Update:
			if !ok {
				continue
			}
		case sink.Insert:
			t.data.marks.remove(t.own(set.Table.FullName(), k.key))
		}
		now := maps.Clone(old)
		if now == nil {
			now = make(namedRow)
		}
		for i, c := range set.Columns {
			now[set.Table.Columns[c].Name] = values[i]
		}
		if err := t.check(set.Table, k, now); err != nil {
			return err
		}
		t.data.rows.put(k, now)
	}
	if want := int64(len(set.Rows)); set.Mode == sink.Update && found != want {
		return &sink.MissingError{Table: set.Table.FullName(), Want: want, Got: found}
	}
	return nil
}

// check refuses what a database would, as far as Memory knows types.
func (t *memoryTx) check(table *sink.Table, k id, row namedRow) error {
	refuse := func(code, constraint string) error {
		return &sink.RejectError{Table: table.FullName(), Code: code, Constraint: constraint}
	}
	for _, c := range table.Columns {
		v := row[c.Name]
		bits := map[string]int{`"pg_catalog"."int2"`: 16, `"pg_catalog"."int4"`: 32, `"pg_catalog"."int8"`: 64}[c.Type]
		switch {
		case v.IsNull() && c.NotNull:
			return refuse("23502", "")
		case !v.IsNull() && bits > 0 && !isWhole(v, bits):
			return refuse("22P02", "")
		}
	}
	for _, u := range t.s.m.unique {
		if u.table != table.FullName() || row[u.column].IsNull() {
			continue
		}
		for other, r := range t.data.rows.all() {
			if other.table == k.table && other.key != k.key && r[u.column] == row[u.column] {
				return refuse("23505", u.column)
			}
		}
	}
	if f := t.s.m.reject; f != nil {
		if code := f(table, row.project(table)); code != "" {
			return refuse(code, "")
		}
	}
	return nil
}

func (t *memoryTx) addEntries(entries []sink.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if t.s.schema == nil || t.s.schema.Entries == nil {
		return errors.New("Install has not told this sink of an audit table")
	}
	e := t.s.schema.Entries
	for _, entry := range entries {
		k := id{table: e.Schema + "." + e.Name, key: sink.Key(entry.ID)}
		if _, ok := t.data.entries.get(k); ok {
			return errors.New("an entry is there already")
		}
		entry.Time = entry.Time.UTC()
		t.data.entries.put(k, entry)
	}
	return nil
}
