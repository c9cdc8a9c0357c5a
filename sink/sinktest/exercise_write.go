package sinktest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// numbered makes n rows.
func numbered(n int, f func(i int) []any) []cdc.Row {
	all := make([]cdc.Row, n)
	for i := range all {
		all[i] = row(f(i)...)
	}
	return all
}

// update sets the given columns, after the key's.
func update(table *sink.Table, columns []int, r ...cdc.Row) *sink.Writes {
	return &sink.Writes{Rows: []sink.RowSet{{Table: table, Mode: sink.Update, Columns: append(slices.Clone(table.Key), columns...), Rows: r}}}
}

func (w *world) wantReject(err error, code string) {
	w.Helper()
	var reject *sink.RejectError
	if !errors.As(err, &reject) {
		w.Fatalf("error = %v, want *sink.RejectError", err)
	}
	if reject.Code != code || reject.Table != w.contacts.FullName() {
		w.Fatalf("RejectError = %+v, want %s of %s", reject, code, w.contacts.FullName())
	}
	if strings.Contains(err.Error(), "secret") {
		w.Fatalf("the error holds a value: %v", err)
	}
}

func (w *world) reject() {
	i := w.start()
	good := row(1, 1, "a", nil)
	for name, refused := range map[string]struct {
		row  cdc.Row
		code string
	}{
		"null":    {row(2, nil, "secret", nil), "23502"},
		"type":    {row(2, 1, "secret", "secret number"), "22P02"},
		"integer": {row(2, 1, "secret", "12secret"), "22P02"},
	} {
		w.wantReject(i.try(inserts(w.contacts, good, refused.row)), refused.code)
		w.wantReject(i.try(inserts(w.contacts, append(numbered(500, func(n int) []any { return []any{n + 10, 1, "b", nil} }), refused.row)...)), refused.code)
		if got := w.target.Rows(w.contacts); len(got) != 0 {
			w.Fatalf("%s: %d rows stayed of a refused batch", name, len(got))
		}
		w.wantCheckpoint(i.s, 100)
	}
	i.write(inserts(w.contacts, good))
	w.wantReject(i.try(update(w.contacts, []int{1}, row(1, nil))), "23502")
	w.wantRows(w.contacts, good)
}

func (w *world) careful() {
	i := w.start()
	i.write(inserts(w.contacts, row(1, 1, "a", nil)))
	tx := i.begin(sink.TxOptions{Careful: true})
	apply(w, tx, inserts(w.contacts, row(2, 1, "b", nil)))
	// What stands beside the refused row goes with it, and nothing before it.
	mixed := inserts(w.contacts, row(3, 1, "c", nil), row(4, nil, "secret", nil))
	mixed.Paths = []sink.PathWrite{{Node: w.inbox, Key: "1", Row: sink.PathRow{Values: row(1)}}}
	w.wantReject(tx.Apply(w.ctx, mixed), "23502")
	w.wantReject(tx.Apply(w.ctx, inserts(w.contacts, append(numbered(300, func(n int) []any { return []any{n + 10, 1, "b", nil} }),
		row(5, 1, "x", "secret"))...)), "22P02")
	w.wantReject(tx.Apply(w.ctx, update(w.contacts, []int{1}, row(1, nil))), "23502")
	apply(w, tx, inserts(w.contacts, row(6, 1, "d", nil)))
	apply(w, tx, update(w.contacts, []int{2}, row(1, "A")))
	l := load(w, tx, &sink.Query{Paths: map[*sink.Node][]sink.Key{w.inbox: {"1"}}})
	if len(l.Paths[w.inbox]) != 0 {
		w.Fatal("a path value of a refused Apply stayed")
	}
	if err := tx.Commit(w.ctx, sink.Progress{LSN: 120}); err != nil {
		w.Fatalf("Commit: %v", err)
	}
	w.wantRows(w.contacts, row(1, 1, "A", nil), row(2, 1, "b", nil), row(6, 1, "d", nil))
	w.wantCheckpoint(i.s, 120)
}

func (w *world) insertOver() {
	i := w.start()
	w.target.Put(w.contacts, row(1, 9, "foreign", 40))
	i.write(&sink.Writes{Rows: []sink.RowSet{{Table: w.contacts, Mode: sink.Insert, Columns: []int{2, 0, 1}, Rows: rows(row("a", 1, 1))}}})
	w.wantRows(w.contacts, row(1, 1, "a", 40)) // age was not given
	many := numbered(600, func(n int) []any { return []any{n, 2, fmt.Sprint("name ", n), n} })
	i.write(inserts(w.contacts, many...))
	w.wantRows(w.contacts, many...)
	i.write(inserts(w.contacts, many...))
	w.wantRows(w.contacts, many...)
}

func (w *world) insertOverKept() {
	i := w.start()
	for _, n := range []int{1, 500} {
		all := numbered(n, func(n int) []any { return []any{n, 1, "a", nil} })
		i.write(inserts(w.contacts, all...))
		i.write(&sink.Writes{Mark: []sink.Ref{{Table: w.contacts, Key: "0", LSN: 7}, {Table: w.contacts, Key: "none", LSN: 7}}})
		q := &sink.Query{Rows: map[*sink.Table][]sink.Key{w.contacts: {"0", "1000"}}}
		if got := i.load(q).Rows[w.contacts]["0"]; !got.Deleted || got.Row == nil {
			w.Fatalf("a kept row is loaded as %+v", got)
		}
		// What a batch has seen of the marks counts for nothing if it fails.
		tx := i.begin(sink.TxOptions{})
		apply(w, tx, &sink.Writes{Unmark: []sink.Ref{{Table: w.contacts, Key: "0"}, {Table: w.contacts, Key: "none"}}})
		apply(w, tx, inserts(w.contacts, row(1000, 1, "b", nil)))
		load(w, tx, q)
		_ = tx.Rollback(w.ctx)
		all[0] = row(0, 1, "lives again", nil)
		i.write(inserts(w.contacts, all...))
		got := i.load(q).Rows[w.contacts]
		if got["0"].Deleted || !slices.Equal(got["0"].Row, all[0]) || len(got) != 1 {
			w.Fatalf("after the insert (%d rows): %+v", n, got)
		}
	}
	i.write(&sink.Writes{Mark: []sink.Ref{{Table: w.contacts, Key: "0", LSN: 8}}})
	i.write(&sink.Writes{Unmark: []sink.Ref{{Table: w.contacts, Key: "0"}, {Table: w.contacts, Key: "none"}}})
	q := &sink.Query{Rows: map[*sink.Table][]sink.Key{w.contacts: {"0", "none"}}}
	if w.contacts.Columns[0].Type == int8Type {
		q.Rows[w.contacts] = q.Rows[w.contacts][:1]
	}
	if got := i.load(q).Rows[w.contacts]; got["0"].Deleted {
		w.Fatalf("after Unmark: %+v", got)
	}
}

func (w *world) updateMissing() {
	i := w.start()
	i.write(inserts(w.contacts, row(1, 1, "a", nil), row(2, 1, "b", nil)))
	w.target.Remove(w.contacts, "2")
	err := i.try(update(w.contacts, []int{2}, row(1, "A"), row(2, "B")))
	var missing *sink.MissingError
	if !errors.As(err, &missing) {
		w.Fatalf("error = %v, want *sink.MissingError", err)
	}
	if want := (sink.MissingError{Table: "public.contacts", Want: 2, Got: 1}); *missing != want {
		w.Fatalf("MissingError = %+v, want %+v", *missing, want)
	}
	w.wantRows(w.contacts, row(1, 1, "a", nil))
	w.wantCheckpoint(i.s, 110)
	// Removing what isn't there is no error.
	i.write(&sink.Writes{Delete: set(sink.Remove, w.contacts, row(1), row(2), row(3))})
	w.wantRows(w.contacts)
}

func (w *world) passedOn() {
	i := w.start()
	w.target.Unique(w.contacts, "name")
	i.write(inserts(w.contacts, row(1, 1, "u", nil)))
	i.write(&sink.Writes{
		Rows:   set(sink.Insert, w.contacts, row(2, 1, "u", nil)),
		Delete: set(sink.Remove, w.contacts, row(1)),
	})
	w.wantRows(w.contacts, row(2, 1, "u", nil))
	w.wantReject(i.try(inserts(w.contacts, row(3, 1, "u", nil))), "23505")
	w.wantReject(i.try(inserts(w.contacts, append(numbered(400, func(n int) []any { return []any{n + 10, 1, n, nil} }), row(3, 1, "u", nil))...)), "23505")
	w.wantRows(w.contacts, row(2, 1, "u", nil))
}

func (w *world) compositeKey() {
	i := w.start()
	// Texts that would run into each other under any separator.
	all := []cdc.Row{row("x,1", 1, 1, "a"), row("x", 11, 1, "b"), row(`"`, 2, 1, "c"), row(`\`, 2, 1, "d"),
		row("", 2, 1, "e"), row("<&>\u2028\t\x01", 2, 1, "f"), row("ação", 2, 1, "g")}
	i.write(inserts(w.pairs, all...))
	w.wantRows(w.pairs, all...)
	var keys []sink.Key
	for _, r := range all {
		keys = append(keys, w.pairs.KeyOf(r))
	}
	got := i.load(&sink.Query{Rows: map[*sink.Table][]sink.Key{w.pairs: append(keys, sink.EncodeKey("99", "x"))}}).Rows[w.pairs]
	if len(got) != len(all) {
		w.Fatalf("loaded %d rows, want %d", len(got), len(all))
	}
	for n, r := range all {
		if !slices.Equal(got[keys[n]].Row, r) {
			w.Fatalf("loaded %v for %v", got[keys[n]].Row, r)
		}
		all[n] = row(r[0].Text, r[1].Text, 1, "new "+r[3].Text)
	}
	updates := make([]cdc.Row, len(all))
	for n, r := range all {
		updates[n] = cdc.Row{r[1], r[0], r[3]}
	}
	i.write(update(w.pairs, []int{3}, updates...))
	w.wantRows(w.pairs, all...)
	i.write(inserts(w.pairs, all...))
	i.write(&sink.Writes{Mark: []sink.Ref{{Table: w.pairs, Key: keys[5], LSN: 1}}})
	i.write(inserts(w.pairs, all[5]))
	if got := i.load(&sink.Query{Rows: map[*sink.Table][]sink.Key{w.pairs: keys}}).Rows[w.pairs][keys[5]]; got.Deleted {
		w.Fatal("the mark of a composite key stayed after an insert")
	}
	// A sink that names rows by itself names them the same way.
	i.batch(func(tx sink.Tx) {
		if _, err := tx.Truncate(w.ctx, &sink.Truncate{Table: w.pairs, Keep: true, LSN: 1}); err != nil {
			w.Fatalf("Truncate: %v", err)
		}
	})
	for k, st := range i.load(&sink.Query{Rows: map[*sink.Table][]sink.Key{w.pairs: keys}}).Rows[w.pairs] {
		if !st.Deleted || st.Row == nil {
			w.Fatalf("row %s is not marked by its key", k)
		}
	}
	i.write(&sink.Writes{Delete: set(sink.Remove, w.pairs, row(1, "x,1"), row(2, `\`))})
	w.wantRows(w.pairs, append(all[1:3:3], all[4:]...)...)
}

func (w *world) keyOnly() {
	i := w.start()
	i.write(inserts(w.tags, row(1, "a"), row(1, "b")))
	i.write(inserts(w.tags, row(1, "a"), row(2, "a")))
	w.wantRows(w.tags, row(1, "a"), row(1, "b"), row(2, "a"))
	many := numbered(300, func(n int) []any { return []any{1, n} })
	i.write(inserts(w.tags, many...))
	i.write(inserts(w.tags, many...))
	w.wantRows(w.tags, append(many, row(1, "a"), row(1, "b"), row(2, "a"))...)
	i.write(update(w.tags, nil, row(1, "a")))
	var missing *sink.MissingError
	if err := i.try(update(w.tags, nil, row(7, "a"))); !errors.As(err, &missing) {
		w.Fatalf("update of a missing key: %v", err)
	}
}

func (w *world) quotedNames() {
	i := w.start()
	i.write(inserts(w.quoted, row(1, 1, "a", "b", "c", "d", "e")))
	i.write(inserts(w.quoted, row(1, 1, "a2", "b", "c", "d", "e"), row(2, 1, nil, nil, nil, nil, nil)))
	i.write(update(w.quoted, []int{2, 3, 4, 5, 6}, row(2, "v", "w", "x", "y", "z")))
	w.wantRows(w.quoted, row(1, 1, "a2", "b", "c", "d", "e"), row(2, 1, "v", "w", "x", "y", "z"))
	got := i.load(&sink.Query{Rows: map[*sink.Table][]sink.Key{w.quoted: {"2"}}}).Rows[w.quoted]["2"].Row
	if !slices.Equal(got, row(2, 1, "v", "w", "x", "y", "z")) {
		w.Fatalf("loaded %v", got)
	}
	many := numbered(300, func(n int) []any { return []any{n, 1, n, n, n, n, n} })
	i.write(&sink.Writes{Delete: set(sink.Remove, w.quoted, row(1), row(2))}, inserts(w.quoted, many...))
	w.wantRows(w.quoted, many...)
}

func (w *world) largeSets() {
	i := w.start()
	const n = 5000
	wide := func(v string) []cdc.Row {
		return numbered(n, func(k int) []any {
			var age any
			if k%3 == 0 {
				age = k
			}
			return []any{k, k % 7, strings.Repeat(v, k%50), age}
		})
	}
	all := wide(`a\"`)
	i.write(inserts(w.contacts, all...))
	w.wantRows(w.contacts, all...)
	all = wide("b\t\n")
	var updates []cdc.Row
	for _, r := range all {
		updates = append(updates, cdc.Row{r[0], r[2], r[3]})
	}
	i.write(update(w.contacts, []int{2, 3}, updates...))
	w.wantRows(w.contacts, all...)
	i.write(&sink.Writes{Delete: set(sink.Remove, w.contacts, numbered(n-1, func(k int) []any { return []any{k} })...)})
	w.wantRows(w.contacts, all[n-1])
}

func (w *world) entries() {
	i := w.start()
	at := time.Date(2026, 3, 4, 5, 6, 7, 123456000, time.UTC)
	entry := func(n int) sink.Entry {
		return sink.Entry{ID: fmt.Sprintf("00000000-0000-5000-8000-%012d", n), Tenant: "1", User: cdc.TextValue("42"),
			Action: "contact.created", Details: fmt.Sprintf(`{"n": %d, "text": "a\\b\"c'"}`, n), Time: at}
	}
	var want []sink.Entry
	for n := range 500 {
		e := entry(n)
		if n%2 == 0 {
			e.User = cdc.Value{}
			e.Time = at.In(time.FixedZone("", -3*3600)).Add(time.Duration(n) * time.Hour)
		}
		want = append(want, e)
	}
	i.write(&sink.Writes{Entries: want[:3]})
	i.write(&sink.Writes{Entries: want[3:]})
	check := func() {
		w.Helper()
		got := w.target.Entries(w.schema.Entries)
		slices.SortFunc(got, func(a, b sink.Entry) int { return cmp.Compare(a.ID, b.ID) })
		if diff := gocmp.Diff(want, got, gocmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
			w.Fatalf("entries (-want +got):\n%s", diff)
		}
	}
	check()
	var more []sink.Entry
	for n := range 300 {
		more = append(more, entry(1000+n))
	}
	for _, twice := range [][]sink.Entry{{entry(1000), entry(7)}, append(more, entry(7))} {
		err := i.try(&sink.Writes{Entries: twice, Rows: set(sink.Insert, w.contacts, row(1, 1, "a", nil))})
		var reject *sink.RejectError
		if err == nil || errors.As(err, &reject) {
			w.Fatalf("a duplicate entry: %v, want an error that is no refusal", err)
		}
	}
	check()
	w.wantRows(w.contacts)
}

// entriesInSets writes entries a set at a time, as a large batch does while it is
// still being worked out.
func (w *world) entriesInSets() {
	i := w.start()
	const sets, each = 8, 400
	entry := func(n int) sink.Entry {
		return sink.Entry{ID: fmt.Sprintf("00000000-0000-5000-8000-%012d", n), Tenant: "1", Action: "contact.created", Details: "{}", Time: time.Unix(0, 0)}
	}
	set := func(n int) *sink.Writes {
		ws := &sink.Writes{}
		for k := range each {
			ws.Entries = append(ws.Entries, entry(n*each+k))
		}
		return ws
	}
	count := func(want int) {
		w.Helper()
		if got := len(w.target.Entries(w.schema.Entries)); got != want {
			w.Fatalf("%d entries, want %d", got, want)
		}
	}
	// A batch that is given up in the middle leaves none of them.
	tx := i.begin(sink.TxOptions{})
	apply(w, tx, set(0))
	apply(w, tx, set(1))
	if err := tx.Rollback(w.ctx); err != nil {
		w.Fatalf("Rollback: %v", err)
	}
	count(0)
	// The last one is a duplicate of the first; the sink may say so late.
	tx = i.begin(sink.TxOptions{})
	err := tx.Apply(w.ctx, set(0))
	for n := 1; err == nil && n < sets; n++ {
		err = tx.Apply(w.ctx, set(n%(sets-1)))
	}
	if err == nil {
		err = tx.Commit(w.ctx, sink.Progress{LSN: i.lsn + 10})
	}
	var reject *sink.RejectError
	if err == nil || errors.As(err, &reject) {
		w.Fatalf("a duplicate entry: %v, want an error that is no refusal", err)
	}
	if err := tx.Rollback(w.ctx); err != nil {
		w.Fatalf("Rollback: %v", err)
	}
	count(0)
	// What is read and written between sets finds its place.
	i.batch(func(tx sink.Tx) {
		for n := range sets {
			apply(w, tx, set(n))
			if n%3 == 1 {
				apply(w, tx, inserts(w.contacts, row(n, 1, "a", nil)))
				q := &sink.Query{Rows: map[*sink.Table][]sink.Key{w.contacts: {sink.Key(fmt.Sprint(n))}}}
				if len(load(w, tx, q).Rows[w.contacts]) != 1 {
					w.Fatalf("row %d, written between two sets of entries, is not there", n)
				}
			}
		}
	})
	count(sets * each)
	w.wantRows(w.contacts, row(1, 1, "a", nil), row(4, 1, "a", nil), row(7, 1, "a", nil))
}

func (w *world) unsent() {
	i := w.start()
	bad := cdc.Row{cdc.TextValue("1"), cdc.TextValue("1"), {Kind: cdc.Unchanged}, {}}
	for _, ws := range []*sink.Writes{
		inserts(w.contacts, bad),
		inserts(w.contacts, append(numbered(500, func(n int) []any { return []any{n + 10, 1, "b", nil} }), bad)...),
		update(w.contacts, []int{1, 2, 3}, bad),
		{Hold: []sink.HeldRow{{Table: w.contacts, Key: "1", Row: bad, Reason: sink.HeldTenant}}},
		{Paths: []sink.PathWrite{{Node: w.inbox, Key: "1", Row: sink.PathRow{Values: bad[2:3]}}}},
	} {
		err := i.try(ws)
		var reject *sink.RejectError
		if err == nil || errors.As(err, &reject) {
			w.Fatalf("writing a value that was not sent: %v, want an error that is no refusal", err)
		}
		w.wantRows(w.contacts)
	}
}

func (w *world) loadOwnWrites() {
	i := w.start()
	i.write(inserts(w.contacts, row(1, 1, "a", nil), row(2, 1, "b", nil), row(3, 1, "c", nil)))
	tx := i.begin(sink.TxOptions{})
	defer tx.Rollback(w.ctx)
	q := &sink.Query{Rows: map[*sink.Table][]sink.Key{w.contacts: {"1", "2", "3", "4"}}}
	load(w, tx, q)
	apply(w, tx, update(w.contacts, []int{2}, row(1, "A")))
	apply(w, tx, &sink.Writes{
		Delete: set(sink.Remove, w.contacts, row(2)),
		Rows:   set(sink.Insert, w.contacts, row(4, 1, "d", 1)),
		Mark:   []sink.Ref{{Table: w.contacts, Key: "3", LSN: 1}},
	})
	want := map[sink.Key]sink.Stored{
		"1": {Row: row(1, 1, "A", nil)}, "3": {Row: row(3, 1, "c", nil), Deleted: true, DeletedAt: 1}, "4": {Row: row(4, 1, "d", 1)},
	}
	if diff := gocmp.Diff(want, load(w, tx, q).Rows[w.contacts]); diff != "" {
		w.Fatalf("loaded (-want +got):\n%s", diff)
	}
}
