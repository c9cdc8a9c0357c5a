package sinktest

import (
	"cmp"
	"fmt"
	"slices"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

func path(node *sink.Node, key any, values ...any) sink.PathWrite {
	return sink.PathWrite{Node: node, Key: sink.Key(fmt.Sprint(key)), Row: sink.PathRow{Values: row(values...)}}
}

func (w *world) heldRoundTrip() {
	i := w.start()
	h := sink.HeldRow{Table: w.contacts, Key: "1", Row: row(1, nil, "a", nil), Reason: sink.HeldRejected, Code: "23505",
		Since: 0x1_00000001, Waiting: []string{`{"a":"b\\c"}`, "", "NULL"}}
	i.write(&sink.Writes{Hold: []sink.HeldRow{h, {Table: w.contacts, Key: "2", Row: row(2, nil, nil, nil), Reason: sink.HeldTenant}}})
	q := &sink.Query{Rows: map[*sink.Table][]sink.Key{w.contacts: {"1", "2", "3"}}}
	want := map[sink.Key]sink.Stored{
		"1": {Held: &h},
		"2": {Held: &sink.HeldRow{Table: w.contacts, Key: "2", Row: row(2, nil, nil, nil), Reason: sink.HeldTenant}},
	}
	if diff := gocmp.Diff(want, i.load(q).Rows[w.contacts], sameTable); diff != "" {
		w.Fatalf("held rows (-want +got):\n%s", diff)
	}
	h.Waiting, h.Row = append(h.Waiting, "more"), row(1, nil, "newer", nil)
	i.write(&sink.Writes{Hold: []sink.HeldRow{h}, Unhold: []sink.Ref{{Table: w.contacts, Key: "2"}}})
	delete(want, "2")
	if diff := gocmp.Diff(want, i.load(q).Rows[w.contacts], sameTable); diff != "" {
		w.Fatalf("held rows (-want +got):\n%s", diff)
	}
}

func (w *world) paths() {
	i := w.start()
	i.write(&sink.Writes{Paths: []sink.PathWrite{
		path(w.inbox, 1, 10), path(w.inbox, 2, nil), path(w.contact, 5, 20, "pic"),
		path(w.conversation, 100, 1, 5), path(w.conversation, 101, 99, nil), path(w.conversation, 102, 1, 5),
		{Node: w.contact, Key: "6", Row: sink.PathRow{Values: row(30, nil), Gone: true}},
	}})
	got := i.load(&sink.Query{Paths: map[*sink.Node][]sink.Key{
		w.conversation: {"100", "101", "7"}, w.inbox: {"2"}, w.contact: {"6"},
	}}).Paths
	want := map[*sink.Node]map[sink.Key]sink.PathRow{
		w.conversation: {"100": {Values: row(1, 5)}, "101": {Values: row(99, nil)}},
		w.inbox:        {"1": {Values: row(10)}, "2": {Values: row(nil)}},
		w.contact:      {"5": {Values: row(20, "pic")}, "6": {Values: row(30, nil), Gone: true}},
	}
	for _, node := range w.schema.Nodes {
		if diff := gocmp.Diff(want[node], got[node]); diff != "" {
			w.Fatalf("path values of %s (-want +got):\n%s", node.Name, diff)
		}
	}
	forget := path(w.inbox, 1)
	forget.Forget, forget.Row = true, sink.PathRow{}
	i.write(&sink.Writes{Paths: []sink.PathWrite{forget, path(w.inbox, 3, 11), path(w.contact, 5, 21, "")}})
	got = i.load(&sink.Query{Paths: map[*sink.Node][]sink.Key{w.conversation: {"100"}, w.inbox: {"3"}}}).Paths
	if _, ok := got[w.inbox]["1"]; ok || !slices.Equal(got[w.inbox]["3"].Values, row(11)) || !slices.Equal(got[w.contact]["5"].Values, row(21, "")) {
		w.Fatalf("after the change: %v", got)
	}
}

// holdMessage is a message whose tenant isn't known.
func (w *world) holdMessage(id, conversation int, since cdc.LSN, waiting ...string) sink.HeldRow {
	return sink.HeldRow{Table: w.messages, Key: sink.Key(fmt.Sprint(id)), Reason: sink.HeldTenant, Since: since, Waiting: waiting,
		Row: row(id, conversation, nil, nil, nil, fmt.Sprint("text ", id))}
}

func (w *world) waiting() {
	i := w.start()
	q := &sink.Query{Waiting: map[*sink.Node][]sink.Key{
		w.conversation: {"100", "101", "102", "103"}, w.inbox: {"1", "2", "9"}, w.contact: {"5", "6", "9"},
	}}
	if got := i.load(q).Waiting; len(got[w.conversation])+len(got[w.inbox])+len(got[w.contact]) != 0 {
		w.Fatalf("waiting = %v where nothing is held", got)
	}
	i.write(&sink.Writes{
		Paths: []sink.PathWrite{path(w.conversation, 100, 1, 5), path(w.conversation, 103, 2, 6)},
		Hold: []sink.HeldRow{
			w.holdMessage(1, 100, 1), // over 100 to inbox 1 and contact 5
			w.holdMessage(2, 101, 1), // 101 isn't known yet
			{Table: w.messages, Key: "3", Row: row(3, 103, 1, nil, nil, nil), Reason: sink.HeldRejected, Code: "23505"},
			{Table: w.conversations, Key: "7", Row: row(7, nil, 9, nil, "open"), Reason: sink.HeldTenant},
		},
	})
	got := i.load(q).Waiting
	want := map[*sink.Node]map[sink.Key]bool{
		w.conversation: {"100": true, "101": true}, w.inbox: {"1": true, "9": true}, w.contact: {"5": true},
	}
	for _, node := range w.schema.Nodes {
		if diff := gocmp.Diff(want[node], got[node]); diff != "" {
			w.Fatalf("waiting over %s (-want +got):\n%s", node.Name, diff)
		}
	}
}

// chat fills the target with two inboxes and their conversations and messages.
//
//	conversation 100: inbox 1 (tenant 1), contact 5 (tenant 3)
//	conversation 101: inbox 2 (no tenant), contact 5
//	conversation 102: no inbox, contact 6 (tenant 2)
func (w *world) chat() *instance {
	w.Helper()
	i := w.start()
	i.write(&sink.Writes{
		Paths: []sink.PathWrite{
			path(w.inbox, 1, 1), path(w.inbox, 2, nil), path(w.contact, 5, 3, "five"), path(w.contact, 6, 2, nil),
			path(w.conversation, 100, 1, 5), path(w.conversation, 101, 2, 5), path(w.conversation, 102, nil, 6),
		},
		Rows: append(
			set(sink.Insert, w.conversations, row(100, 1, 1, 5, "open"), row(101, 3, 2, 5, "open"), row(102, 2, nil, 6, "open")),
			set(sink.Insert, w.messages,
				row(1, 100, 1, 5, "five", "a"), row(2, 101, 3, 5, "five", "b"), row(3, 102, 2, 6, nil, "c"), row(4, 100, 1, 5, "five", "d"))...),
	})
	return i
}

// change sets path values and recomputes a table over them.
func (i *instance) change(p sink.PathWrite, table *sink.Table, want ...sink.Moved) {
	i.w.Helper()
	i.batch(func(tx sink.Tx) {
		apply(i.w, tx, &sink.Writes{Paths: []sink.PathWrite{p}})
		i.w.wantMoved(tx, &sink.Recompute{Table: table, Node: p.Node, Keys: []sink.Key{p.Key}, LSN: 77}, want...)
	})
}

func (w *world) wantMoved(tx sink.Tx, r *sink.Recompute, want ...sink.Moved) {
	w.Helper()
	got, err := tx.Recompute(w.ctx, r)
	if err != nil {
		w.Fatalf("Recompute: %v", err)
	}
	for k := range want {
		want[k].Table = r.Table
		if want[k].Key == "" {
			want[k].Key = r.Keys[0]
		}
	}
	order := func(a, b sink.Moved) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.From.Text, b.From.Text), cmp.Compare(a.To.Text, b.To.Text))
	}
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if diff := gocmp.Diff(want, got, sameTable); diff != "" {
		w.Fatalf("moved (-want +got):\n%s", diff)
	}
}

func moved(from, to any, n int64) sink.Moved {
	v := row(from, to)
	return sink.Moved{From: v[0], To: v[1], Rows: n}
}

func (w *world) recompute() {
	i := w.chat()
	// Tenant 1 becomes 2.
	i.change(path(w.inbox, 1, 2), w.messages, moved(1, 2, 2))
	i.change(path(w.inbox, 1, 2), w.messages) // nothing is left to do
	i.change(path(w.inbox, 1, 2), w.conversations, moved(1, 2, 1))
	w.wantRows(w.messages, row(1, 100, 2, 5, "five", "a"), row(2, 101, 3, 5, "five", "b"), row(3, 102, 2, 6, nil, "c"), row(4, 100, 2, 5, "five", "d"))
	w.wantRows(w.conversations, row(100, 2, 1, 5, "open"), row(101, 3, 2, 5, "open"), row(102, 2, nil, 6, "open"))

	// The first alternative of a path appears, and goes again.
	i.change(path(w.inbox, 2, 8), w.conversations, moved(3, 8, 1))
	i.change(path(w.inbox, 2, nil), w.conversations, moved(8, 3, 1))
	// A step in the middle: the conversation goes to another inbox and contact.
	i.change(path(w.conversation, 102, 1, 5), w.messages, moved(2, 2, 1))
	w.wantRows(w.messages, row(1, 100, 2, 5, "five", "a"), row(2, 101, 3, 5, "five", "b"), row(3, 102, 2, 5, "five", "c"), row(4, 100, 2, 5, "five", "d"))
	// A derived column that isn't the tenant.
	i.change(path(w.contact, 5, 3, nil), w.messages, moved(2, 2, 3), moved(3, 3, 1))

	// Several keys at once, one of them without rows; a table that doesn't pass.
	i.batch(func(tx sink.Tx) {
		apply(w, tx, &sink.Writes{Paths: []sink.PathWrite{path(w.inbox, 1, 4), path(w.inbox, 2, 4)}})
		one, two := moved(2, 4, 3), moved(3, 4, 1)
		one.Key, two.Key = "1", "2"
		w.wantMoved(tx, &sink.Recompute{Table: w.messages, Node: w.inbox, Keys: []sink.Key{"1", "2", "3", "1"}}, one, two)
		w.wantMoved(tx, &sink.Recompute{Table: w.contacts, Node: w.inbox, Keys: []sink.Key{"1"}})
		w.wantMoved(tx, &sink.Recompute{Table: w.messages, Node: w.inbox})
	})
	w.wantRows(w.messages, row(1, 100, 4, 5, nil, "a"), row(2, 101, 4, 5, nil, "b"), row(3, 102, 4, 5, nil, "c"), row(4, 100, 4, 5, nil, "d"))
}

func (w *world) recomputeTwoWays() {
	// A table that passes the contact over two columns of its own.
	calls := &sink.Table{Schema: "public", Name: "calls", Key: []int{0}, Tenant: 1,
		Columns: []sink.Column{{Name: "id", Type: int8Type}, {Name: "provedor_id", Type: int8Type, NotNull: true},
			{Name: "from_id", Type: int8Type}, {Name: "to_id", Type: int8Type}},
		Derived: []sink.Derived{{Column: 1, From: []sink.Lookup{
			{Column: 2, Steps: []sink.Step{{Node: w.contact, Column: 0}}},
			{Column: 3, Steps: []sink.Step{{Node: w.contact, Column: 0}}},
		}}},
		Indexes: [][]int{{2}, {3}}}
	w.schema.Tables = append(w.schema.Tables, calls)
	i := w.start()
	i.write(&sink.Writes{
		Paths: []sink.PathWrite{path(w.contact, 1, 1, nil), path(w.contact, 2, 2, nil)},
		Rows:  set(sink.Insert, calls, row(1, 1, 1, 1), row(2, 1, 1, 2), row(3, 2, nil, 2), row(4, 2, 2, 1)),
	})
	i.change(path(w.contact, 1, nil, nil), calls, moved(1, 2, 1), moved(1, nil, 1))
	w.wantRows(calls, row(2, 2, 1, 2), row(3, 2, nil, 2), row(4, 2, 2, 1))
	i.batch(func(tx sink.Tx) {
		apply(w, tx, &sink.Writes{Paths: []sink.PathWrite{path(w.contact, 1, 5, nil)}})
		r := &sink.Recompute{Table: calls, Node: w.contact, Keys: []sink.Key{"1"}}
		w.wantMoved(tx, r, moved(2, 5, 1))
		got, err := tx.ReleaseHeld(w.ctx, r, 10)
		if err != nil || len(got) != 1 || !slices.Equal(got[0].Row, row(1, 5, 1, 1)) {
			w.Fatalf("ReleaseHeld = %v, %v", got, err)
		}
	})
	w.wantRows(calls, row(1, 5, 1, 1), row(2, 5, 1, 2), row(3, 2, nil, 2), row(4, 2, 2, 1))
}

func (w *world) recomputeBesideHeld() {
	// A table whose paths begin at one column, and one that has two.
	for _, table := range []*sink.Table{w.messages, w.conversations} {
		i := w.chat()
		held := w.holdMessage(9, 101, 60, "e1")
		foreign := row(9, 100, 1, 5, "five", "another writer's")
		if table == w.conversations {
			held = sink.HeldRow{Table: table, Key: "9", Reason: sink.HeldTenant, Since: 60, Row: row(9, nil, 2, nil, "closed"), Waiting: []string{"e1"}}
			foreign = row(9, 1, 1, nil, "open")
		}
		i.write(&sink.Writes{Hold: []sink.HeldRow{held}}, inserts(table, foreign))
		i.change(path(w.contact, 5, nil, "five"), table, moved(3, nil, 1))
		n := int64(2) // of the bridge's own
		if table == w.conversations {
			n = 1
		}
		i.change(path(w.inbox, 1, nil), table, moved(1, nil, n))
		got := i.load(&sink.Query{Rows: map[*sink.Table][]sink.Key{table: {"9"}}}).Rows[table]["9"]
		if table == w.messages {
			held.Row = row(9, 101, nil, 5, "five", "text 9") // kept up to date
		}
		if diff := gocmp.Diff(sink.Stored{Held: &held}, got, sameTable); diff != "" {
			w.Fatalf("the held row of %s (-want +got):\n%s", table.Name, diff)
		}
	}
}

func (w *world) recomputeOwnTenant() {
	// A table with a tenant of its own, and a column that comes over a path.
	ratings := &sink.Table{Schema: "public", Name: "ratings", Key: []int{0}, Tenant: 1,
		Columns: []sink.Column{{Name: "id", Type: int8Type}, {Name: "provedor_id", Type: int8Type, NotNull: true},
			{Name: "contact_id", Type: int8Type}, {Name: "avatar", Type: textType}},
		Derived: []sink.Derived{{Column: 3, From: []sink.Lookup{{Column: 2, Steps: []sink.Step{{Node: w.contact, Column: 1}}}}}},
		Indexes: [][]int{{2}}}
	w.schema.Tables = append(w.schema.Tables, ratings)
	i := w.start()
	i.write(&sink.Writes{
		Paths: []sink.PathWrite{path(w.contact, 1, 1, "old")},
		Rows:  set(sink.Insert, ratings, row(1, 7, 1, "old"), row(2, 8, 1, "old"), row(3, 8, 1, "old"), row(4, 8, 2, nil)),
	})
	i.change(path(w.contact, 1, nil, "new"), ratings, moved(7, 7, 1), moved(8, 8, 2))
	i.change(path(w.contact, 1, nil, nil), ratings, moved(7, 7, 1), moved(8, 8, 2))
	w.wantRows(ratings, row(1, 7, 1, nil), row(2, 8, 1, nil), row(3, 8, 1, nil), row(4, 8, 2, nil))
	i.batch(func(tx sink.Tx) {
		got, err := tx.ReleaseHeld(w.ctx, &sink.Recompute{Table: ratings, Node: w.contact, Keys: []sink.Key{"1"}}, 10)
		if err != nil || len(got) != 0 {
			w.Fatalf("ReleaseHeld = %v, %v", got, err)
		}
	})
}

func (w *world) releaseHeld() {
	i := w.chat()
	i.write(&sink.Writes{Mark: []sink.Ref{{Table: w.messages, Key: "4", LSN: 9}}})
	// Inbox and contact lose their tenant: the rows leave.
	i.change(path(w.contact, 5, nil, "five"), w.messages, moved(3, nil, 1))
	i.change(path(w.inbox, 1, nil), w.messages, moved(1, nil, 2))
	w.wantRows(w.messages, row(3, 102, 2, 6, nil, "c"))
	q := &sink.Query{Rows: map[*sink.Table][]sink.Key{w.messages: {"1", "4"}}}
	want := map[sink.Key]sink.Stored{
		"1": {Held: &sink.HeldRow{Table: w.messages, Key: "1", Row: row(1, 100, nil, 5, "five", "a"), Reason: sink.HeldTenant, Since: 77}},
		"4": {Deleted: true, DeletedAt: 9, Held: &sink.HeldRow{Table: w.messages, Key: "4", Row: row(4, 100, nil, 5, "five", "d"), Reason: sink.HeldTenant, Since: 77}},
	}
	if diff := gocmp.Diff(want, i.load(q).Rows[w.messages], sameTable); diff != "" {
		w.Fatalf("held rows (-want +got):\n%s", diff)
	}
	// More come; one waits for a conversation that nobody has seen.
	i.write(&sink.Writes{Hold: []sink.HeldRow{
		w.holdMessage(10, 100, 50, "e1", "e2"), w.holdMessage(11, 101, 60), w.holdMessage(12, 999, 10), w.holdMessage(13, 100, 200),
	}})
	release := func(node *sink.Node, key sink.Key, limit int, ids ...sink.Key) []sink.HeldRow {
		w.Helper()
		var got []sink.HeldRow
		i.batch(func(tx sink.Tx) {
			var err error
			if got, err = tx.ReleaseHeld(w.ctx, &sink.Recompute{Table: w.messages, Node: node, Keys: []sink.Key{key}}, limit); err != nil {
				w.Fatalf("ReleaseHeld: %v", err)
			}
		})
		var keys []sink.Key
		for _, h := range got {
			keys = append(keys, h.Key)
		}
		if !slices.Equal(keys, ids) {
			w.Fatalf("released %v, want %v", keys, ids)
		}
		return got
	}
	release(w.inbox, "1", 10) // still without a tenant
	i.write(&sink.Writes{Paths: []sink.PathWrite{path(w.inbox, 1, 6)}})
	got := release(w.inbox, "1", 3, "10", "1", "4") // oldest first, page by page
	first := sink.HeldRow{Table: w.messages, Key: "10", Row: row(10, 100, 6, 5, "five", "text 10"), Reason: sink.HeldTenant, Since: 50, Waiting: []string{"e1", "e2"}}
	if diff := gocmp.Diff(first, got[0], sameTable); diff != "" {
		w.Fatalf("released row (-want +got):\n%s", diff)
	}
	release(w.inbox, "1", 3, "13")
	release(w.inbox, "1", 3)
	w.wantRows(w.messages, row(3, 102, 2, 6, nil, "c"), row(1, 100, 6, 5, "five", "a"), row(4, 100, 6, 5, "five", "d"),
		row(10, 100, 6, 5, "five", "text 10"), row(13, 100, 6, 5, "five", "text 13"))
	stored := i.load(&sink.Query{Rows: map[*sink.Table][]sink.Key{w.messages: {"1", "4", "11"}}}).Rows[w.messages]
	if stored["1"].Held != nil || !stored["4"].Deleted || stored["11"].Held == nil {
		w.Fatalf("after the release: %+v", stored)
	}
	// The second alternative, at the end of the path; then a new conversation.
	i.write(&sink.Writes{Paths: []sink.PathWrite{path(w.contact, 5, 9, "new"), path(w.conversation, 999, nil, 5)}})
	release(w.contact, "5", 10, "12", "11", "2") // 2 became held at 77
}

func (w *world) truncate() {
	i := w.chat()
	i.write(&sink.Writes{
		Mark: []sink.Ref{{Table: w.messages, Key: "1", LSN: 9}},
		Hold: []sink.HeldRow{w.holdMessage(10, 999, 50)},
	})
	counts := func(r *sink.Truncate) map[string]int64 {
		w.Helper()
		all := make(map[string]int64)
		i.batch(func(tx sink.Tx) {
			got, err := tx.Truncate(w.ctx, r)
			if err != nil {
				w.Fatalf("Truncate: %v", err)
			}
			for _, m := range got {
				if m.From != m.To || m.Table != r.Table {
					w.Fatalf("Truncate returned %+v", m)
				}
				all[m.From.Text] = m.Rows
			}
		})
		return all
	}
	if diff := gocmp.Diff(map[string]int64{"1": 1, "3": 1, "2": 1, "": 1}, counts(&sink.Truncate{Table: w.messages, Keep: true, LSN: 88})); diff != "" {
		w.Fatalf("kept rows by tenant (-want +got):\n%s", diff)
	}
	q := &sink.Query{Rows: map[*sink.Table][]sink.Key{w.messages: {"1", "2", "3", "4", "10"}}}
	for k, st := range i.load(q).Rows[w.messages] {
		if !st.Deleted || k == "10" && st.Held == nil || k != "10" && st.Row == nil {
			w.Fatalf("after Truncate with Keep row %s is %+v", k, st)
		}
	}
	i.write(inserts(w.messages, row(1, 100, 1, 5, "five", "back")))
	if got := i.load(q).Rows[w.messages]["1"]; got.Deleted {
		w.Fatal("the mark of a truncate stayed after an insert")
	}
	if diff := gocmp.Diff(map[string]int64{"1": 2, "3": 1, "2": 1, "": 1}, counts(&sink.Truncate{Table: w.messages})); diff != "" {
		w.Fatalf("removed rows by tenant (-want +got):\n%s", diff)
	}
	if got := i.load(q).Rows[w.messages]; len(got) != 0 {
		w.Fatalf("after Truncate: %+v", got)
	}
	w.wantRows(w.messages)
	if len(w.target.Rows(w.conversations)) != 3 {
		w.Fatal("Truncate touched another table")
	}
	i.write(inserts(w.messages, row(1, 100, 1, 5, "five", "back")))
}
