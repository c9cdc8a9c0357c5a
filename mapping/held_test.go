package mapping

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/sinktest"
)

// notebook is a bridge over a target in memory. Its notes have the tenant of
// their inbox.
type notebook struct {
	*testing.T
	memory       *sinktest.Memory
	sink         sink.Sink
	engine       *Engine
	inbox, note  *Source
	notes        *sink.Table
	relations    map[*Source]*cdc.Relation
	cov          Coverage // nil for everything
	cp           sink.Checkpoint
	ordinal, xid uint32
}

const incarnation = "5b2f2c0e-6f2a-4d58-9b0a-3d7d8a0c9d11"

func newNotebook(t *testing.T) *notebook {
	const int8Type, textType = `"pg_catalog"."int8"`, `"pg_catalog"."text"`
	node := &sink.Node{Name: "app.inbox", Columns: []string{"tenant"}, Next: []*sink.Node{nil}}
	notes := &sink.Table{Schema: "public", Name: "notes", Key: []int{0}, Tenant: 2,
		Columns: []sink.Column{{Name: "id", Type: int8Type}, {Name: "inbox_id", Type: int8Type}, {Name: "provedor_id", Type: int8Type}, {Name: "body", Type: textType}},
		Derived: []sink.Derived{{Column: 2, From: []sink.Lookup{{Column: 1, Steps: []sink.Step{{Node: node, Column: 0}}}}}},
		Indexes: [][]int{{1}}}
	input := func(name string, carrier int) Input { return Input{Name: name, Carrier: carrier} }
	key := []KeyColumn{{Name: "id", Integer: true}}
	n := &notebook{
		T: t, memory: sinktest.NewMemory(), notes: notes,
		inbox: &Source{Schema: "app", Name: "inbox", Key: key, Inputs: []Input{input("id", -1), input("tenant", -1)}, Node: node, NodeInputs: []int{1}},
		note: &Source{Schema: "app", Name: "note", Key: key, Inputs: []Input{input("id", 0), input("inbox_id", 1), input("body", 3)},
			Target: &Target{Table: notes, Columns: []Column{{Own: []int{0}}, {Own: []int{1}}, {Derived: true}, {Own: []int{2}}},
				OnDelete: Keep, WithoutTenant: Hold, Audit: &TableAudit{Entity: "note", User: -1}}},
	}
	m := &Mapping{
		Schema: &sink.Schema{Fingerprint: "f", Tables: []*sink.Table{notes}, Nodes: []*sink.Node{node},
			Entries: &sink.EntryTable{Schema: "public", Name: "audit_logs", ID: "id", Tenant: "t", User: "u", Action: "a", Details: "d", Time: "at"}},
		Sources: []*Source{n.inbox, n.note}, Audit: &Audit{MaxValue: 100},
	}
	n.relations = map[*Source]*cdc.Relation{}
	for i, s := range m.Sources {
		r := &cdc.Relation{OID: uint32(i + 1), Schema: s.Schema, Name: s.Name}
		for j, in := range s.Inputs {
			r.Columns = append(r.Columns, cdc.Column{Name: in.Name, Key: j == 0})
		}
		n.relations[s] = r
	}
	var err error
	if n.engine, err = NewEngine(m, Options{}); err != nil {
		t.Fatal(err)
	}
	n.sink = n.memory.Open("b")
	if _, err := n.sink.Install(t.Context(), m.Schema, false); err != nil {
		t.Fatal(err)
	}
	if n.cp, err = n.sink.Acquire(t.Context(), "me", time.Hour, false); err != nil {
		t.Fatal(err)
	}
	return n
}

// change is a row change of the source; nil is null.
func (n *notebook) change(op cdc.Op, s *Source, values ...any) cdc.Change {
	n.ordinal++
	c := cdc.Change{Op: op, Ordinal: n.ordinal, Relation: n.relations[s]}
	row := make(cdc.Row, len(s.Inputs))
	for i, v := range values {
		switch v := v.(type) {
		case nil:
		case cdc.Value:
			row[i] = v
		default:
			row[i] = cdc.TextValue(fmt.Sprint(v))
		}
	}
	if op == cdc.Delete {
		c.Old = row
	} else {
		c.New = row
	}
	return c
}

// batch does f in one target transaction that ends at lsn.
func (n *notebook) batch(careful bool, lsn cdc.LSN, f func(*Batch) error) error {
	tx, err := n.sink.Begin(n.Context(), n.cp.Epoch, n.cp.LSN, sink.TxOptions{Careful: careful})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(n.Context()) }()
	b := n.engine.Begin(tx, BatchOptions{Coverage: n.cov, Incarnation: incarnation, Counters: n.cp.Counters, Careful: careful})
	if err := f(b); err != nil {
		return err
	}
	if err := b.Flush(n.Context()); err != nil {
		return err
	}
	if err := tx.Commit(n.Context(), sink.Progress{LSN: lsn, Counters: b.Counters}); err != nil {
		return err
	}
	b.Committed()
	n.cp.LSN, n.cp.Counters = lsn, b.Counters
	return nil
}

// stream applies one source transaction row by row, as the bridge does when the
// target has refused one.
func (n *notebook) stream(changes ...cdc.Change) {
	n.Helper()
	n.streamAll(changes)
}

// streamAll applies several source transactions in one batch.
func (n *notebook) streamAll(transactions ...[]cdc.Change) {
	n.Helper()
	var all []*cdc.Transaction
	end := n.cp.LSN
	for _, changes := range transactions {
		n.xid++
		all = append(all, &cdc.Transaction{XID: n.xid, Commit: end + 8, End: end + 16, Time: time.Unix(int64(n.xid), 0), Changes: changes, First: true, Last: true})
		end += 16
	}
	if err := n.batch(true, end, func(b *Batch) error { return b.Transactions(n.Context(), all) }); err != nil {
		n.Fatal(err)
	}
}

// held works on all held rows, as the request with the id says.
func (n *notebook) held(careful, drop bool, request int64) (counts *HeldCounts, err error) {
	err = n.batch(careful, n.cp.LSN, func(b *Batch) error {
		keys, more, err := b.HeldKeys(n.Context(), &sink.HeldQuery{Table: n.notes, Limit: 100})
		if err != nil || more {
			return fmt.Errorf("more: %t, %w", more, err)
		}
		p := &HeldPage{Source: n.note, Keys: keys, Request: request, LSN: n.cp.LSN, Time: time.Unix(99, 0)}
		if drop {
			counts, err = b.DropHeld(n.Context(), p)
		} else {
			counts, err = b.RetryHeld(n.Context(), p)
		}
		return err
	})
	return counts, err
}

func (n *notebook) refuse(codes map[string]string) {
	n.memory.RejectIf(func(t *sink.Table, row cdc.Row) string { return codes[row[3].Text] })
}

// wantRows compares the notes as "id/inbox/tenant/body".
func (n *notebook) wantRows(want ...string) {
	n.Helper()
	var got []string
	for _, r := range n.memory.Rows(n.notes) {
		got = append(got, strings.Join(texts(r), "/"))
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		n.Errorf("rows (-want +got):\n%s", diff)
	}
}

// wantEntries compares the log in its order as "tenant action key op", and n
// with 1, 2, 3 …
func (n *notebook) wantEntries(want ...string) []sink.Entry {
	n.Helper()
	type details struct {
		N     int
		Op    string
		Table string
		Key   struct{ ID int }
	}
	entries := n.memory.Entries(&sink.EntryTable{Schema: "public", Name: "audit_logs"})
	parsed := map[string]details{}
	for _, e := range entries {
		var d details
		if err := json.Unmarshal([]byte(e.Details), &d); err != nil {
			n.Fatalf("details %s: %v", e.Details, err)
		}
		parsed[e.ID] = d
	}
	slices.SortFunc(entries, func(a, b sink.Entry) int { return parsed[a.ID].N - parsed[b.ID].N })
	var got []string
	for i, e := range entries {
		d := parsed[e.ID]
		if d.N != i+1 {
			n.Errorf("entry %d has n = %d", i+1, d.N)
		}
		got = append(got, fmt.Sprintf("%s %s %d %s", e.Tenant, e.Action, d.Key.ID, d.Op))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		n.Errorf("entries (-want +got):\n%s", diff)
	}
	if c := n.cp.Counters; c.AuditHead != int64(len(want)) || c.Entries != c.AuditHead {
		n.Errorf("counters %+v after %d entries", c, len(want))
	}
	return entries
}

func (n *notebook) wantHeld(want int64) {
	n.Helper()
	if n.cp.Counters.Held != want {
		n.Errorf("%d held rows are counted, want %d", n.cp.Counters.Held, want)
	}
}

// stored is what the target has for a note.
func (n *notebook) stored(key sink.Key) (st sink.Stored) {
	n.Helper()
	err := n.batch(false, n.cp.LSN, func(b *Batch) error {
		got, err := b.tx.Load(n.Context(), &sink.Query{Rows: map[*sink.Table][]sink.Key{n.notes: {key}}})
		if err == nil {
			st = got.Rows[n.notes][key]
		}
		return err
	})
	if err != nil {
		n.Fatal(err)
	}
	return st
}

// fill holds a note that is refused, one that is refused for another reason and
// deleted since, and one without a tenant.
func (n *notebook) fill() {
	n.Helper()
	n.refuse(map[string]string{"bad": "23514", "worse": "22001"})
	n.stream(n.change(cdc.Insert, n.inbox, 1, 10), n.change(cdc.Insert, n.inbox, 2, nil))
	n.stream(n.change(cdc.Insert, n.note, 1, 1, "good"), n.change(cdc.Insert, n.note, 2, 1, "bad"), n.change(cdc.Insert, n.note, 3, 1, "worse"))
	n.stream(n.change(cdc.Insert, n.note, 4, 2, "orphan"), n.change(cdc.Update, n.note, 4, 2, "orphan still"))
	n.stream(n.change(cdc.Delete, n.note, 3))
	n.wantRows("1/1/10/good")
	n.wantEntries("10 note.created 1 insert")
	n.wantHeld(3)
}

// The entries of a refused row are kept, also when more follows in its batch.
func TestHeld_EntriesWait(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.refuse(map[string]string{"bad": "23514"})
	n.stream(n.change(cdc.Insert, n.inbox, 1, 10))
	n.streamAll(
		[]cdc.Change{n.change(cdc.Insert, n.note, 1, 1, "bad"), n.change(cdc.Insert, n.note, 2, 1, "bad")},
		[]cdc.Change{n.change(cdc.Insert, n.note, 3, 1, "good")},
		[]cdc.Change{n.change(cdc.Update, n.note, 2, 1, "good")},
	)
	n.wantRows("2/1/10/good", "3/1/10/good")
	n.wantHeld(1)
	if h := n.stored("1").Held; h == nil || len(h.Waiting) != 1 {
		t.Errorf("the refused note is held as %+v", h)
	}
	n.wantEntries("10 note.created 3 insert", "10 note.created 2 insert", "10 note.updated 2 update")
}

func TestRetryHeld(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.fill()
	mark := n.stored("3").DeletedAt
	if mark == 0 {
		t.Fatal("the deleted note has no mark")
	}

	// In an ordinary batch a refused row fails the whole of it.
	if _, err := n.held(false, false, 1); err == nil {
		t.Fatal("a refused row passed")
	}
	n.wantHeld(3)
	// In a careful one it stays held, with the code that it is refused with now.
	n.refuse(map[string]string{"bad": "23505"})
	got, err := n.held(true, false, 1)
	if diff := cmp.Diff(&HeldCounts{Released: 1, Waiting: 1, Refused: map[string]int64{"23505": 1}}, got); err != nil || diff != "" {
		t.Fatalf("retry: %v\n%s", err, diff)
	}
	n.wantRows("1/1/10/good", "3/1/10/worse")
	n.wantHeld(2)
	if h := n.stored("2").Held; h == nil || h.Code != "23505" || len(h.Waiting) != 1 || h.Since == 0 {
		t.Errorf("the refused note is held as %+v", h)
	}
	if st := n.stored("3"); !st.Deleted || st.DeletedAt != mark {
		t.Errorf("the released note's mark is %t at %s, want %s", st.Deleted, st.DeletedAt, mark)
	}
	log := []string{"10 note.created 1 insert", "10 note.created 3 insert", "10 note.deleted 3 delete"}
	n.wantEntries(log...)

	// The inbox moves: a refused note isn't carried along, and learns its tenant
	// when it is tried again.
	n.stream(n.change(cdc.Update, n.inbox, 1, 20))
	log = append(log, "10 inbox.moved 1 move", "20 inbox.moved 1 move")
	n.refuse(nil)
	got, err = n.held(false, false, 2)
	if diff := cmp.Diff(&HeldCounts{Released: 1, Waiting: 1, Refused: map[string]int64{}}, got); err != nil || diff != "" {
		t.Fatalf("retry: %v\n%s", err, diff)
	}
	n.wantRows("1/1/20/good", "2/1/20/bad", "3/1/20/worse")
	n.wantHeld(1)
	n.wantEntries(append(log, "20 note.created 2 insert")...)

	// What has no tenant any more waits for one, under that reason.
	n.refuse(map[string]string{"late": "23514"})
	n.stream(n.change(cdc.Insert, n.note, 5, 1, "late"))
	n.stream(n.change(cdc.Update, n.inbox, 1, nil))
	n.refuse(nil)
	if _, err := n.held(false, false, 3); err != nil {
		t.Fatal(err)
	}
	if h := n.stored("5").Held; h == nil || h.Reason != sink.HeldTenant || h.Code != "" || len(h.Waiting) != 1 {
		t.Errorf("the note without a tenant is held as %+v", h)
	}
	n.wantRows()
	n.stream(n.change(cdc.Update, n.inbox, 1, 30))
	n.wantRows("1/1/30/good", "2/1/30/bad", "3/1/30/worse", "5/1/30/late")
	n.wantHeld(1)
}

func TestDropHeld(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.fill()
	log := []string{"10 note.created 1 insert", "10 note.created 2 insert", "10 note.dropped 2 skip",
		"10 note.created 3 insert", "10 note.deleted 3 delete", "10 note.dropped 3 skip"}
	got, err := n.held(false, true, 7)
	if diff := cmp.Diff(&HeldCounts{Dropped: 3, Refused: map[string]int64{}}, got); err != nil || diff != "" {
		t.Fatalf("drop: %v\n%s", err, diff)
	}
	n.wantRows("1/1/10/good")
	n.wantHeld(0)
	entries := n.wantEntries(log...)
	if n.cp.Counters.Dropped != 2 {
		t.Errorf("%d dropped, want the two entries of the note without a tenant", n.cp.Counters.Dropped)
	}
	want := `{"by":"walbridge","n":3,"table":"app.note","key":{"id":2},"op":"skip","lsn":"` + n.cp.LSN.String() + `","request":7,"reason":"rejected","code":"23514"}`
	if entries[2].Details != want || !entries[2].Time.Equal(time.Unix(99, 0)) {
		t.Errorf("details %s at %s, want %s", entries[2].Details, entries[2].Time, want)
	}
	if st := n.stored("3"); st.Deleted || st.Held != nil {
		t.Errorf("of the deleted note %+v stayed", st)
	}

	// Another target, another run of the same request: the same ids. Another
	// request: other ones.
	again, other := newNotebook(t), newNotebook(t)
	for request, m := range map[int64]*notebook{7: again, 8: other} {
		m.fill()
		if _, err := m.held(true, true, request); err != nil {
			t.Fatal(err)
		}
		for i, e := range m.wantEntries(log...) {
			same := request == 7 || e.Action != "note.dropped"
			if (e.ID == entries[i].ID) != same {
				t.Errorf("request %d: entry %d (%s) has the id %s, the first run %s", request, i+1, e.Action, e.ID, entries[i].ID)
			}
		}
	}
}

// A row that somebody else has put beside a held one is his.
func TestHeld_ForeignRow(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.fill()
	foreign := cdc.Row{cdc.TextValue("2"), cdc.TextValue("9"), cdc.TextValue("99"), cdc.TextValue("foreign")}
	n.memory.Put(n.notes, foreign)
	n.refuse(map[string]string{"bad": "23505", "worse": "23505"})
	if _, err := n.held(true, false, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := n.held(false, true, 2); err != nil {
		t.Fatal(err)
	}
	n.wantRows("1/1/10/good", "2/9/99/foreign")
	n.wantHeld(0)
}
