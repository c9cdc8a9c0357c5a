package sinktest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// ExerciseReader is the conformance suite of sink.Reader. newTarget makes a
// target for each case, and open a reader of the bridge name there.
func ExerciseReader(t *testing.T, newTarget func(t *testing.T) (target Target, open func(name string, schema *sink.Schema) sink.Reader)) {
	cases := []struct {
		name string
		run  func(*readerWorld)
	}{
		{"the position is the checkpoint's, and says who is at work", (*readerWorld).position},
		{"a range is bounded by keys as they are ordered", (*readerWorld).ranges},
		{"kept rows are in no range", (*readerWorld).left},
		{"rows are hashed by what they hold", (*readerWorld).hashes},
		{"rows, marks, held rows and path values in one answer", (*readerWorld).load},
		{"keys are listed page by page", (*readerWorld).keys},
		{"a type says how it writes texts", (*readerWorld).written},
		{"entries are counted by their numbers", (*readerWorld).entryCounts},
		{"entries are read in the order of their numbers", (*readerWorld).numbered},
		{"a page of large entries is a short one", (*readerWorld).largeEntries},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			target, open := newTarget(t)
			w := &readerWorld{world: newWorld(t, target)}
			w.i = w.start()
			w.r = open("bridge", w.schema)
			t.Cleanup(func() { _ = w.r.Close(context.Background()) })
			c.run(w)
		})
	}
}

// readerWorld is a world with a bridge that writes and a reader beside it.
type readerWorld struct {
	*world
	i *instance
	r sink.Reader
}

func (w *readerWorld) hashesOf(r *sink.Range) []sink.RowHash {
	w.Helper()
	if r.Limit == 0 {
		r.Limit = 100
	}
	rows, err := w.r.Hashes(w.ctx, r)
	if err != nil {
		w.Fatalf("Hashes: %v", err)
	}
	return rows
}

func (w *readerWorld) wantKeys(r *sink.Range, want ...sink.Key) {
	w.Helper()
	var got []sink.Key
	for _, row := range w.hashesOf(r) {
		got = append(got, row.Key)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		w.Fatalf("keys of a range (-want +got):\n%s", diff)
	}
}

func (w *readerWorld) sums(r *sink.Range) map[string]sink.Sum {
	w.Helper()
	list, err := w.r.Sums(w.ctx, r)
	if err != nil {
		w.Fatalf("Sums: %v", err)
	}
	sums := map[string]sink.Sum{}
	for _, s := range list {
		sums[s.Tenant.Text] = s
	}
	return sums
}

func (w *readerWorld) position() {
	want := func(lsn cdc.LSN, atWork bool) {
		w.Helper()
		p, err := w.r.Position(w.ctx)
		if err != nil {
			w.Fatalf("Position: %v", err)
		}
		if p.LSN != lsn || p.AtWork != atWork {
			w.Fatalf("at %s, at work: %t; want %s, %t", p.LSN, p.AtWork, lsn, atWork)
		}
	}
	want(100, true)
	w.i.write(inserts(w.contacts, row(1, 1, "a", nil)))
	want(110, true)
	w.i.write(&sink.Writes{Copied: []sink.CopyProgress{{Source: "app.contact", Upto: `["1"]`, Done: true}}})
	if copies, err := w.r.Copies(w.ctx); err != nil || len(copies) != 1 || !copies[0].Done {
		w.Fatalf("Copies = %v, %v", copies, err)
	}
	if err := w.i.s.Release(w.ctx, w.i.epoch); err != nil {
		w.Fatal(err)
	}
	want(120, false)
}

func (w *readerWorld) ranges() {
	w.i.write(inserts(w.contacts, row(2, 1, "b", nil), row(10, 1, "j", nil), row(-1, 2, "z", nil)),
		inserts(w.pairs, row("b", 2, 1, "x"), row("é", 2, 1, "x"), row("B", 10, 1, "x"), row("B", 2, 1, "x")))
	w.wantKeys(&sink.Range{Table: w.contacts}, "-1", "2", "10")
	w.wantKeys(&sink.Range{Table: w.contacts, Limit: 2}, "-1", "2")
	w.wantKeys(&sink.Range{Table: w.contacts, After: []string{"2"}}, "10")
	w.wantKeys(&sink.Range{Table: w.contacts, After: []string{"-1"}, Upto: []string{"2"}}, "2")
	w.wantKeys(&sink.Range{Table: w.contacts, Tenant: new("1")}, "2", "10")
	w.wantKeys(&sink.Range{Table: w.contacts, Tenant: new("none")})
	key := func(a, b string) sink.Key { return sink.EncodeKey(a, b) }
	w.wantKeys(&sink.Range{Table: w.pairs}, key("2", "B"), key("2", "b"), key("2", "é"), key("10", "B"))
	w.wantKeys(&sink.Range{Table: w.pairs, After: []string{"2", "B"}, Upto: []string{"2", "é"}}, key("2", "b"), key("2", "é"))
	if s := w.sums(&sink.Range{Table: w.contacts}); len(s) != 2 || s["1"].Rows != 2 || s["2"].Rows != 1 {
		w.Fatalf("sums by tenant: %v", s)
	}
	if s := w.sums(&sink.Range{Table: w.contacts, After: []string{"2"}, Tenant: new("2")}); len(s) != 0 {
		w.Fatalf("sums of nothing: %v", s)
	}
}

func (w *readerWorld) left() {
	pair := sink.EncodeKey("2", `b"`)
	w.i.write(inserts(w.contacts, row(1, 1, "a", nil), row(2, 1, "b", nil)), inserts(w.pairs, row(`b"`, 2, 1, "x")),
		&sink.Writes{Mark: []sink.Ref{{Table: w.contacts, Key: "2", LSN: 5}, {Table: w.pairs, Key: pair, LSN: 5}}})
	w.wantKeys(&sink.Range{Table: w.contacts}, "1")
	w.wantKeys(&sink.Range{Table: w.pairs})
	if s := w.sums(&sink.Range{Table: w.contacts}); s["1"].Rows != 1 {
		w.Fatalf("a kept row is in the sums: %v", s)
	}
}

func (w *readerWorld) hashes() {
	all := []sink.Part{{Column: 0}, {Column: 1}, {Column: 2}, {Column: 3}}
	hash := func(key sink.Key, parts ...sink.Part) int64 {
		w.Helper()
		for _, row := range w.hashesOf(&sink.Range{Table: w.contacts, Parts: parts}) {
			if row.Key == key {
				return row.Hash
			}
		}
		w.Fatalf("no row %s", key)
		return 0
	}
	w.i.write(inserts(w.contacts, row(1, 1, "a", nil), row(2, 1, "a", nil), row(3, 1, "", nil), row(4, 1, nil, nil), row(5, 1, "b", 7), row(6, 1, "b", 8)))
	name, presence := sink.Part{Column: 2}, sink.Part{Column: 3, Presence: true}
	unless := sink.Part{Column: 3, Unless: 2, Values: []string{"it's", "b"}}
	switch {
	case hash("1", name) != hash("2", name):
		w.Fatal("equal parts hash differently")
	case hash("1", all...) == hash("2", all...):
		w.Fatal("different keys hash alike")
	case hash("3", name) == hash("4", name):
		w.Fatal("an empty text is hashed as null")
	case hash("5", presence) != hash("6", presence), hash("4", presence) == hash("5", presence):
		w.Fatal("more or less than the presence of a value is hashed")
	case hash("5", unless) != hash("4", unless), hash("5", sink.Part{Column: 3}) == hash("6", sink.Part{Column: 3}):
		w.Fatal("a part isn't left out where it should be, or is where it shouldn't")
	}
	before := w.sums(&sink.Range{Table: w.contacts, Parts: all})["1"]
	w.target.Put(w.tags, row(1, "x"))
	if w.sums(&sink.Range{Table: w.contacts, Parts: all})["1"] != before {
		w.Fatal("a sum changes by itself")
	}
	w.i.write(&sink.Writes{Rows: []sink.RowSet{{Table: w.contacts, Mode: sink.Update, Columns: []int{0, 2}, Rows: rows(row(6, "c"))}}})
	if after := w.sums(&sink.Range{Table: w.contacts, Parts: all})["1"]; after == before || after.Rows != before.Rows {
		w.Fatalf("a changed value doesn't show in the sum: %v", after)
	}
}

func (w *readerWorld) load() {
	w.i.write(inserts(w.contacts, row(1, 1, "a", nil), row(2, 1, "b", nil)), &sink.Writes{
		Mark:  []sink.Ref{{Table: w.contacts, Key: "2", LSN: 5}},
		Hold:  []sink.HeldRow{{Table: w.contacts, Key: "3", Row: row(3, nil, "c", nil), Reason: sink.HeldTenant, Since: 7}},
		Paths: []sink.PathWrite{{Node: w.inbox, Key: "4", Row: sink.PathRow{Values: row(1)}}, {Node: w.conversation, Key: "5", Row: sink.PathRow{Values: row(4, nil)}}},
	})
	l, err := w.r.Load(w.ctx, &sink.Query{
		Rows:  map[*sink.Table][]sink.Key{w.contacts: {"1", "2", "3", "4"}},
		Paths: map[*sink.Node][]sink.Key{w.conversation: {"5"}},
	})
	if err != nil {
		w.Fatalf("Load: %v", err)
	}
	rows := l.Rows[w.contacts]
	if len(rows) != 3 || rows["1"].Row == nil || !rows["2"].Deleted || rows["3"].Held == nil || rows["3"].Held.Reason != sink.HeldTenant {
		w.Fatalf("rows: %v", rows)
	}
	if l.Paths[w.inbox]["4"].Values[0] != cdc.TextValue("1") {
		w.Fatalf("path values: %v", l.Paths)
	}
}

func (w *readerWorld) keys() {
	w.i.write(inserts(w.contacts, row(9, 1, "a", nil), row(10, 1, "b", nil)), &sink.Writes{
		Mark: []sink.Ref{{Table: w.contacts, Key: "9", LSN: 5}, {Table: w.contacts, Key: "10", LSN: 5}},
		Hold: []sink.HeldRow{{Table: w.contacts, Key: "3", Row: row(3, nil, "c", nil), Reason: sink.HeldTenant, Since: 7}},
		Paths: []sink.PathWrite{{Node: w.inbox, Key: "4", Row: sink.PathRow{Values: row(1)}},
			{Node: w.inbox, Key: "5", Row: sink.PathRow{Values: row(1), Gone: true}}},
	})
	want := func(l sink.Listing, want ...sink.Key) {
		w.Helper()
		if l.Limit == 0 {
			l.Limit = 10
		}
		got, err := w.r.Keys(w.ctx, &l)
		if err != nil {
			w.Fatalf("Keys: %v", err)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			w.Fatalf("a page of keys (-want +got):\n%s", diff)
		}
	}
	want(sink.Listing{Of: sink.ListMarks, Table: w.contacts}, "10", "9")
	want(sink.Listing{Of: sink.ListMarks, Table: w.contacts, Limit: 1}, "10")
	want(sink.Listing{Of: sink.ListMarks, Table: w.contacts, After: new(sink.Key("10"))}, "9")
	want(sink.Listing{Of: sink.ListMarks, Table: w.pairs})
	want(sink.Listing{Of: sink.ListHeld, Table: w.contacts}, "3")
	want(sink.Listing{Of: sink.ListPaths, Node: w.inbox}, "4")
}

func (w *readerWorld) written() {
	got, err := w.r.Written(w.ctx, int8Type, []string{"007", "1"})
	if diff := gocmp.Diff([]string{"7", "1"}, got); err != nil || diff != "" {
		w.Fatalf("Written: %v (-want +got):\n%s", err, diff)
	}
	if got, err := w.r.Written(w.ctx, int8Type, []string{"1", "x"}); err != nil || got != nil {
		w.Fatalf("Written of what is no number = %v, %v", got, err)
	}
	if _, err := w.r.Position(w.ctx); err != nil {
		w.Fatalf("after a refusal: %v", err)
	}
}

func (w *readerWorld) entryCounts() {
	entry := func(n, seq string) sink.Entry {
		return sink.Entry{ID: "00000000-0000-4000-8000-0000000000" + n + seq, Tenant: "1", Action: "contact.created",
			Details: `{"by": "walbridge", "n": ` + n + `, "lsn": "0/1", "seq": ` + seq + `}`}
	}
	tx := w.i.begin(sink.TxOptions{})
	apply(w.world, tx, &sink.Writes{Entries: []sink.Entry{entry("1", "1"), entry("2", "2"), entry("4", "2"), entry("6", "4")}})
	if err := tx.Commit(w.ctx, sink.Progress{LSN: w.i.lsn, Counters: sink.Counters{AuditHead: 5}}); err != nil {
		w.Fatalf("Commit: %v", err)
	}
	got, err := w.r.Entries(w.ctx, 1)
	want := sink.EntryCounts{Head: 5, Rows: 4, Lost: 2, FirstLost: 3, Beyond: 1, Repeated: 1}
	if diff := gocmp.Diff(want, got); err != nil || diff != "" {
		w.Fatalf("Entries: %v (-want +got):\n%s", err, diff)
	}
	got, err = w.r.Entries(w.ctx, 3)
	want = sink.EntryCounts{Head: 5, Rows: 2, Removed: 2, Lost: 2, FirstLost: 3, Beyond: 1}
	if diff := gocmp.Diff(want, got); err != nil || diff != "" {
		w.Fatalf("Entries from 3 on: %v (-want +got):\n%s", err, diff)
	}
}

// numbered reads across pages, over numbers that nobody has and past entries of
// others.
func (w *readerWorld) numbered() {
	at := time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)
	entry := func(n int64) sink.Entry {
		return sink.Entry{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n), Tenant: "1", User: cdc.TextValue("7"), Action: `a "b", (c)\ ç`,
			Details: fmt.Sprintf(`{"n": %d, "by": "walbridge", "op": "update", "changed": {"a": ["\"\\,()", null]}}`, n), Time: at}
	}
	want := []sink.Entry{entry(2), entry(10), entry(1500), entry(1501), entry(4000)}
	want[1].User = cdc.Value{}
	foreign := entry(3)
	foreign.Details = `{"by": "somebody", "n": 3}`
	w.i.write(&sink.Writes{Entries: []sink.Entry{want[3], want[0], foreign, want[4], want[1], want[2]}})
	read := func(after, upto int64) (all []sink.Entry) {
		w.Helper()
		for after < upto {
			page, next, err := w.r.Numbered(w.ctx, after, upto)
			if err != nil || next <= after || next > upto {
				w.Fatalf("Numbered(%d, %d) came to %d, %v", after, upto, next, err)
			}
			all, after = append(all, page...), next
		}
		return all
	}
	if diff := gocmp.Diff(want, read(0, 9000)); diff != "" {
		w.Fatalf("entries (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(want[1:4], read(2, 3999)); diff != "" {
		w.Fatalf("entries from 3 to 3999 (-want +got):\n%s", diff)
	}
}

func (w *readerWorld) largeEntries() {
	var entries []sink.Entry
	for n := range 12 {
		entries = append(entries, sink.Entry{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n), Tenant: "1", Action: "contact.updated",
			Details: fmt.Sprintf(`{"by": "walbridge", "n": %d, "text": "%s"}`, n+1, strings.Repeat("x", 1<<20))})
	}
	w.i.write(&sink.Writes{Entries: entries})
	pages, after := 0, int64(0)
	for left := len(entries); left > 0; pages++ {
		page, next, err := w.r.Numbered(w.ctx, after, 12)
		if err != nil || len(page) == 0 || int64(len(page)) != next-after {
			w.Fatalf("a page of %d entries behind %d came to %d, %v", len(page), after, next, err)
		}
		left, after = left-len(page), next
	}
	if pages < 3 {
		w.Fatalf("12 MB came in %d pages", pages)
	}
}
