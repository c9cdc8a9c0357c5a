package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// From copyRows new rows or copyBytes on, COPY is worth its round trips. It also
// streams, where arrays hold all values of a set twice more.
const (
	copyRows  = 200
	copyBytes = 256 << 10
)

// large reports whether rows are worth a COPY.
func (s *Sink) large(rows []cdc.Row) bool {
	if s.session != nil {
		return false // it has no COPY
	}
	if len(rows) >= copyRows {
		return true
	}
	n := 0
	for _, row := range rows {
		for i := range row {
			n += len(row[i].Text)
		}
	}
	return n >= copyBytes
}

// Apply queues w's statements, in the order of its fields. Large sets of new
// rows are written at once.
func (t *tx) Apply(ctx context.Context, w *sink.Writes) error {
	if err := t.usable(); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	t.s.held.written += int64(len(w.Hold))
	t.s.paths.written += int64(len(w.Paths))
	if t.touched != nil {
		t.touched.writes(w)
	}
	err := t.careful(ctx, func() error { return t.apply(ctx, w) })
	if err == nil && t.bytes >= maxPending {
		err = t.flush(ctx)
	}
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	return nil
}

func (t *tx) apply(ctx context.Context, w *sink.Writes) error {
	steps := []func(context.Context, *sink.Writes) error{
		t.applyPaths,
		func(_ context.Context, w *sink.Writes) error { t.removeRefs("held", w.Unhold); return nil },
		func(ctx context.Context, w *sink.Writes) error { return t.applySets(ctx, w.Delete) },
		func(ctx context.Context, w *sink.Writes) error { return t.applySets(ctx, w.Rows) },
		t.applyMarks,
		func(_ context.Context, w *sink.Writes) error { t.removeRefs("deleted", w.Unmark); return nil },
		t.applyHold,
		t.applyEntries,
		t.applyAnew,
		t.applyCopied,
		t.applyRequests,
	}
	for _, step := range steps {
		if err := step(ctx, w); err != nil {
			if t.failure == nil { // what can't even be sent
				err = t.fail(ctx, err)
			}
			return err
		}
	}
	return nil
}

// applySets writes row sets one after the other.
func (t *tx) applySets(ctx context.Context, sets []sink.RowSet) error {
	for i := range sets {
		set := &sets[i]
		if len(set.Rows) == 0 {
			continue
		}
		if err := checkSet(set); err != nil {
			return fmt.Errorf("table %s: %w", set.Table.FullName(), err)
		}
		var err error
		switch {
		case set.Mode == sink.Insert && set.New && t.s.session == nil && !t.opts.Careful:
			err = t.insertNew(ctx, set)
		case set.Mode == sink.Insert && t.s.large(set.Rows):
			err = t.copySet(ctx, set)
		case set.Mode == sink.Insert:
			err = t.upsert(set)
		case set.Mode == sink.Update:
			err = t.update(set)
		case set.Mode == sink.Remove:
			err = t.remove(set)
		default:
			err = fmt.Errorf("unknown mode %d", set.Mode)
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", set.Table.FullName(), err)
		}
	}
	return nil
}

// checkSet refuses sets that would be written wrongly.
func checkSet(set *sink.RowSet) error {
	n := len(set.Columns)
	for _, row := range set.Rows {
		if len(row) != n {
			return fmt.Errorf("a row has %d values for %d columns", len(row), n)
		}
	}
	if set.Mode == sink.Insert {
		return nil
	}
	key := set.Table.Key
	if n < len(key) || (set.Mode == sink.Remove && n > len(key)) {
		return fmt.Errorf("a set of mode %d has %d columns, the key %d", set.Mode, n, len(key))
	}
	for i, k := range key {
		if set.Columns[i] != k {
			return fmt.Errorf("a set of mode %d doesn't begin with the key columns", set.Mode)
		}
	}
	return nil
}

// setArrays are the values of a set, one array for each column.
func setArrays(set *sink.RowSet) ([][]byte, error) {
	args := make([][]byte, len(set.Columns))
	for i := range args {
		n := 2
		for _, row := range set.Rows {
			n += quotedSize(row[i].Text) + 2 // NULL is longer than nothing
		}
		a := newArray(n)
		for _, row := range set.Rows {
			if err := a.addValue(row[i]); err != nil {
				return nil, err
			}
		}
		args[i] = a.done()
	}
	return args, nil
}

// casts is "v.c1::type1, …". The types have no modifier, so nothing is cut; the
// assignment to the column applies its modifier, and refuses.
func casts(set *sink.RowSet) string {
	return list(len(set.Columns), ", ", func(i int) string {
		return "v.c" + strconv.Itoa(i+1) + "::" + set.Table.Columns[set.Columns[i]].Type
	})
}

func columnNames(set *sink.RowSet) string {
	return list(len(set.Columns), ", ", func(i int) string {
		return pg.Quote(set.Table.Columns[set.Columns[i]].Name)
	})
}

// upsertSQL inserts rows or overwrites their columns. Rows that are right already
// are not written: a trigger would fire, and Realtime would report a change.
func upsertSQL(set *sink.RowSet, values, from string) string {
	t := set.Table
	isKey := make(map[int]bool)
	for _, k := range t.Key {
		isKey[k] = true
	}
	var assign, old, excluded []string
	for _, c := range set.Columns {
		if !isKey[c] {
			name := pg.Quote(t.Columns[c].Name)
			assign = append(assign, name+" = excluded."+name)
			old = append(old, "t."+name)
			excluded = append(excluded, "excluded."+name)
		}
	}
	sql := fmt.Sprintf("INSERT INTO %s AS t (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s ON CONFLICT (%s) DO ",
		tableName(t), columnNames(set), values, from,
		list(len(t.Key), ", ", func(i int) string { return pg.Quote(t.Columns[t.Key[i]].Name) }))
	if len(assign) == 0 {
		return sql + "NOTHING"
	}
	return sql + "UPDATE SET " + strings.Join(assign, ", ") + " WHERE " + differ(old, excluded)
}

// upsert writes new rows without COPY and removes their deletion marks.
func (t *tx) upsert(set *sink.RowSet) error {
	args, err := setArrays(set)
	if err != nil {
		return err
	}
	n := len(set.Columns)
	o := op{
		sql:   upsertSQL(set, casts(set), fmt.Sprintf("unnest(%s) AS v(%s)", params(1, n), aliases("c", n))),
		args:  args,
		table: set.Table.FullName(),
	}
	if t.s.session != nil && n > len(set.Table.Key) && !whole(set) {
		o = upsertAny(set, args)
	}
	t.add(o)
	if !t.s.unmarked[set.Table] {
		t.unmark(set)
	}
	return nil
}

// keyPositions are where in set's rows the key columns are.
func keyPositions(set *sink.RowSet) []int {
	at := make([]int, len(set.Table.Key))
	for i, k := range set.Table.Key {
		for j, c := range set.Columns {
			if c == k {
				at[i] = j
			}
		}
	}
	return at
}

// unmark removes the deletion marks of a set's rows, and finds out whether the
// table has any: without one, the question need not be asked again until this
// bridge sets one.
func (t *tx) unmark(set *sink.RowSet) {
	at := keyPositions(set)
	keys := newArray(16 * len(set.Rows))
	parts := make([]string, len(at))
	for _, row := range set.Rows {
		for i, j := range at {
			parts[i] = row[j].Text
		}
		keys.add(string(sink.EncodeKey(parts...)))
	}
	table := set.Table
	o := op{
		sql: `WITH gone AS (DELETE FROM walbridge.deleted AS x USING unnest((SELECT $3::text[])) AS q(k)
				WHERE x.bridge = $1 AND x."table" = $2 AND x.key = q.k)
			SELECT EXISTS (SELECT FROM walbridge.deleted AS x WHERE x.bridge = $1 AND x."table" = $2)`,
		args: [][]byte{arg(t.s.name), arg(table.FullName()), keys.done()},
	}
	if t.s.session == nil { // which would have to ask for the answer
		o.read = one(func(v [][]byte) error {
			t.s.unmarked[table] = string(v[0]) == "f"
			return nil
		})
	}
	t.add(o)
}

// update writes rows that are there. The count is asserted inside the pipeline,
// because COMMIT may be part of it.
func (t *tx) update(set *sink.RowSet) error {
	if t.s.session != nil && len(set.Columns) > len(set.Table.Key) {
		return t.updateAny(set)
	}
	args, err := setArrays(set)
	if err != nil {
		return err
	}
	table, n, keys := set.Table, len(set.Columns), len(set.Table.Key)
	from := fmt.Sprintf("unnest(%s) AS v(%s)", params(1, n), aliases("c", n))
	on := onKey(table, "v.c")
	counted := fmt.Sprintf("SELECT 1 FROM %s AS t JOIN %s ON %s", tableName(table), from, on)
	if n > keys {
		assign := list(n-keys, ", ", func(i int) string {
			c := table.Columns[set.Columns[keys+i]]
			return fmt.Sprintf("%s = v.c%d::%s", pg.Quote(c.Name), keys+i+1, c.Type)
		})
		counted = fmt.Sprintf("UPDATE %s AS t SET %s FROM %s WHERE %s RETURNING 1", tableName(table), assign, from, on)
	}
	want := int64(len(set.Rows))
	t.add(op{
		sql:   fmt.Sprintf("WITH u AS (%s) SELECT walbridge.expect_rows($%d::int8, (SELECT count(*) FROM u))", counted, n+1),
		args:  append(args, argInt(want)),
		table: table.FullName(),
		want:  want,
	})
	return nil
}

// remove deletes rows; it may find fewer than it was given.
func (t *tx) remove(set *sink.RowSet) error {
	args, err := setArrays(set)
	if err != nil {
		return err
	}
	n := len(set.Columns)
	t.add(op{
		sql: fmt.Sprintf("DELETE FROM %s AS t USING unnest(%s) AS v(%s) WHERE %s",
			tableName(set.Table), params(1, n), aliases("c", n), onKey(set.Table, "v.c")),
		args:  args,
		table: set.Table.FullName(),
	})
	return nil
}
