package sinktest

import (
	"slices"
	"strconv"
	"strings"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// nasty are texts that some encoding on the way might take for something else.
var nasty = []string{
	"", " ", "  two ", "NULL", "null", `\N`, `\.`, `\`, `\\`, `\n`, `"`, `""`, `'`, `''`, "{", "}", "{}", "{NULL}", ",", ", ",
	"a\tb", "a\nb", "a\r\nb", "\n", "\t", "\v\f\b", "\x01", "\x7f", "%s", "$1", "ação", "日本", "👩‍👩‍👧", "\u2028", "\ufeff",
	`{"a": "b\\c", "d": [1, null]}`, strings.Repeat(`\"`, 40_000), strings.Repeat("x", 100_000), "\\\n", "\\x41", "E'\\n'", "--", "/*",
}

func (w *world) texts() {
	i := w.start()
	var all []cdc.Row
	for n, s := range nasty {
		all = append(all, cdc.Row{cdc.TextValue(strconv.Itoa(n)), cdc.TextValue("1"), cdc.TextValue(s), {}})
	}
	all = append(all, row(1000, 1, nil, nil))
	check := func(how string) {
		w.Helper()
		w.wantRows(w.contacts, all...)
		var keys []sink.Key
		for _, r := range all {
			keys = append(keys, w.contacts.KeyOf(r))
		}
		got := i.load(&sink.Query{Rows: map[*sink.Table][]sink.Key{w.contacts: keys}}).Rows[w.contacts]
		for _, r := range all {
			if st := got[w.contacts.KeyOf(r)]; !slices.Equal(st.Row, r) {
				w.Fatalf("%s: loaded %q for %q", how, st.Row, r)
			}
		}
	}
	i.write(inserts(w.contacts, all...))
	check("insert")

	for n, s := range nasty { // the other way round
		all[n][2] = cdc.TextValue(nasty[len(nasty)-1-n])
		_ = s
	}
	var updates []cdc.Row
	for _, r := range all {
		updates = append(updates, cdc.Row{r[0], r[2]})
	}
	i.write(update(w.contacts, []int{2}, updates...))
	check("update")

	i.write(&sink.Writes{Delete: set(sink.Remove, w.contacts, numbered(1001, func(n int) []any { return []any{n} })...)})
	all = append(all, numbered(500, func(n int) []any { return []any{n + 2000, 1, n, n} })...)
	i.write(inserts(w.contacts, all...))
	check("large insert")

	// As a key, as a path value, in a held row.
	for _, s := range nasty[:len(nasty)-9] {
		key := sink.Key(s)
		held := sink.HeldRow{Table: w.tags, Key: sink.EncodeKey("1", s), Row: cdc.Row{{}, cdc.TextValue(s)}, Reason: sink.HeldTenant, Waiting: []string{s, "", s}}
		i.write(&sink.Writes{
			Paths: []sink.PathWrite{{Node: w.contact, Key: key, Row: sink.PathRow{Values: cdc.Row{{}, cdc.TextValue(s)}}}},
			Hold:  []sink.HeldRow{held},
		})
		l := i.load(&sink.Query{
			Rows:  map[*sink.Table][]sink.Key{w.tags: {held.Key}},
			Paths: map[*sink.Node][]sink.Key{w.contact: {key}},
		})
		if got := l.Paths[w.contact][key].Values; !slices.Equal(got, cdc.Row{{}, cdc.TextValue(s)}) {
			w.Fatalf("path values of %q = %q", s, got)
		}
		if diff := gocmp.Diff(&held, l.Rows[w.tags][held.Key].Held, sameTable); diff != "" {
			w.Fatalf("held row of %q (-want +got):\n%s", s, diff)
		}
	}
}

// sameTable compares tables by pointer.
var sameTable = gocmp.Comparer(func(a, b *sink.Table) bool { return a == b })
