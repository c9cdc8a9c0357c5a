package sinktest

import (
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// allKeys reads the pages of a query and returns how many there were.
func (i *instance) allKeys(q sink.KeyQuery) (keys map[sink.Key]bool, pages int) {
	i.w.Helper()
	keys = map[sink.Key]bool{}
	for {
		l := i.load(&sink.Query{Keys: &q})
		pages++
		for _, k := range l.Keys {
			if keys[k] {
				i.w.Fatalf("key %s comes twice", k)
			}
			keys[k] = true
		}
		if !l.MoreKeys {
			return keys, pages
		}
		q.After = &l.Keys[len(l.Keys)-1]
	}
}

func (w *world) keys() {
	i := w.start()
	i.write(inserts(w.contacts, row(9, 1, "a", nil), row(10, 2, "b", nil), row(-3, 1, "c", nil), row(2, 1, "d", nil), row(11, 2, "e", nil)))
	i.write(inserts(w.tags, row(1, `a"b`), row(1, ""), row(2, "x")))
	i.write(&sink.Writes{Paths: []sink.PathWrite{
		{Node: w.contact, Key: "9", Row: sink.PathRow{Values: row("1", "a")}},
		{Node: w.contact, Key: "10", Row: sink.PathRow{Values: row("2", "b"), Gone: true}},
		{Node: w.contact, Key: "2", Row: sink.PathRow{Values: row("1", "d")}},
	}})
	want := func(q sink.KeyQuery, pages int, keys ...sink.Key) {
		w.Helper()
		set := map[sink.Key]bool{}
		for _, k := range keys {
			set[k] = true
		}
		got, n := i.allKeys(q)
		if diff := gocmp.Diff(set, got); diff != "" || n != pages {
			w.Fatalf("%d pages of keys, want %d (-want +got):\n%s", n, pages, diff)
		}
	}
	one := "1"
	want(sink.KeyQuery{Table: w.contacts, Limit: 2}, 3, "9", "10", "-3", "2", "11")
	want(sink.KeyQuery{Table: w.contacts, Limit: 5}, 1, "9", "10", "-3", "2", "11")
	want(sink.KeyQuery{Table: w.contacts, Limit: 2, Tenant: &one}, 2, "9", "-3", "2")
	want(sink.KeyQuery{Table: w.tags, Limit: 1}, 3, sink.EncodeKey("1", `a"b`), sink.EncodeKey("1", ""), sink.EncodeKey("2", "x"))
	want(sink.KeyQuery{Table: w.messages, Limit: 9}, 1)
	want(sink.KeyQuery{Node: w.contact, Limit: 1}, 2, "9", "2")
}

// anew is a mapping that has changed: its path values are none, and a held row
// waits with its entries until it is read again.
func (w *world) anew() {
	i := w.start()
	i.write(&sink.Writes{
		Paths: []sink.PathWrite{{Node: w.contact, Key: "9", Row: sink.PathRow{Values: row("1", "a")}}},
		Hold:  []sink.HeldRow{{Table: w.contacts, Key: "7", Row: row(7, nil, "x", nil), Reason: sink.HeldTenant, Waiting: []string{"first", "second"}}},
	})
	other := &instance{w: w, s: w.open("it's another")}
	other.acquire("x", false)
	other.write(&sink.Writes{Paths: []sink.PathWrite{{Node: w.contact, Key: "9", Row: sink.PathRow{Values: row("1", "a")}}}})
	i.write(&sink.Writes{Anew: true})
	q := &sink.Query{Paths: map[*sink.Node][]sink.Key{w.contact: {"9"}}, Rows: map[*sink.Table][]sink.Key{w.contacts: {"7"}}}
	got := i.load(q)
	if len(got.Paths[w.contact]) != 0 {
		w.Errorf("path values are left: %v", got.Paths)
	}
	held := got.Rows[w.contacts]["7"].Held
	if held == nil {
		w.Fatal("the held row is gone")
	}
	if diff := gocmp.Diff(make(cdc.Row, len(w.contacts.Columns)), held.Row); diff != "" {
		w.Errorf("the held row's values (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff([]string{"first", "second"}, held.Waiting); diff != "" {
		w.Errorf("the entries that wait (-want +got):\n%s", diff)
	}
	if len(other.load(q).Paths[w.contact]) != 1 {
		w.Error("another bridge's path values are gone")
	}
}
