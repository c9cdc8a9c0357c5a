package sinktest

import (
	"slices"
	"strings"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/sink"
)

// dependents are found in the table, among held rows and among path values, gone
// or not.
func (w *world) dependents() {
	i := w.start()
	i.write(&sink.Writes{
		Paths: []sink.PathWrite{
			{Node: w.conversation, Key: "100", Row: sink.PathRow{Values: row("5", "9")}},
			{Node: w.conversation, Key: "101", Row: sink.PathRow{Values: row("5", "9"), Gone: true}},
			{Node: w.conversation, Key: "102", Row: sink.PathRow{Values: row("5", "8")}},
		},
		Hold: []sink.HeldRow{w.holdMessage(10, 100, 50)},
	})
	i.write(inserts(w.messages, row(1, 100, 1, 5, "one", "a"), row(2, 102, 1, 5, "two", "b")))
	want := func(q sink.DependentQuery, keys ...sink.Key) {
		w.Helper()
		q.Limit = 10
		got := i.load(&sink.Query{Dependents: &q}).Dependents
		slices.Sort(got)
		if diff := gocmp.Diff(keys, got); diff != "" {
			w.Errorf("dependents (-want +got):\n%s", diff)
		}
		if q.Limit = 1; len(i.load(&sink.Query{Dependents: &q}).Dependents) > 1 {
			w.Error("more than the limit")
		}
	}
	column := slices.IndexFunc(w.messages.Columns, func(c sink.Column) bool { return c.Name == "conversation_id" })
	want(sink.DependentQuery{Table: w.messages, Column: column, Keys: []sink.Key{"100", "7"}}, "1", "10")
	want(sink.DependentQuery{Node: w.conversation, Column: 1, Keys: []sink.Key{"9"}}, "100", "101")
}

// eraseEntries takes the values of one row from the log, and nobody else's.
func (w *world) eraseEntries() {
	i := w.start()
	entry := func(n, details string) sink.Entry {
		return sink.Entry{ID: "00000000-0000-0000-0000-00000000000" + n, Tenant: "1", Action: "contact.updated", Details: details, Time: time.Unix(0, 0)}
	}
	i.write(&sink.Writes{Entries: []sink.Entry{
		entry("1", `{"by": "walbridge", "n": 1, "table": "people", "key": {"id": 49}, "op": "update", "changed": {"name": ["Zoe", "Ann"]}, "chain": {"link": "l", "salt": "NaCl", "values": "v"}}`),
		entry("2", `{"by": "walbridge", "n": 2, "table": "people", "key": {"id": 50}, "op": "update", "changed": {"name": ["Zoe", "Ann"]}}`),
		entry("3", `{"by": "walbridge", "n": 3, "table": "things", "key": {"id": 49}, "op": "update", "changed": {"name": ["Zoe", "Ann"]}}`),
		entry("4", `{"by": "somebody", "table": "people", "key": {"id": 49}, "changed": {"name": ["Zoe", "Ann"]}}`),
		entry("5", `{"by": "walbridge", "n": 5, "table": "people", "key": {"id": 49}, "op": "delete"}`),
	}})
	erase := func() (erased []sink.Erased) {
		w.Helper()
		i.batch(func(tx sink.Tx) {
			var err error
			if erased, err = tx.EraseEntries(w.ctx, &sink.Erase{Source: "people", Keys: []string{`{"id":49}`, `{"id":7}`}}); err != nil {
				w.Fatalf("EraseEntries: %v", err)
			}
		})
		return erased
	}
	if diff := gocmp.Diff([]sink.Erased{{Tenant: "1", Numbers: []int64{1, 5}}}, erase()); diff != "" {
		w.Errorf("erased (-want +got):\n%s", diff)
	}
	if got := erase(); len(got) != 0 {
		w.Errorf("erased once more: %v", got)
	}
	for _, e := range w.target.Entries(w.schema.Entries) {
		n := e.ID[len(e.ID)-1:]
		if has := strings.Contains(e.Details, "Zoe"); has != (n == "2" || n == "3" || n == "4") {
			w.Errorf("entry %s is %s", n, e.Details)
		}
		if n == "1" && (strings.Contains(e.Details, "NaCl") || !strings.Contains(e.Details, "link") || !strings.Contains(e.Details, "values")) {
			w.Errorf("entry %s has lost more or less than the salt: %s", n, e.Details)
		}
	}
}
