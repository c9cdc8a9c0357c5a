package mapping

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/sink"
)

// walk follows the chain through entries that are in the order of their numbers,
// and fails where it breaks. It returns where it has come to, which entries are
// not linked, and which of those that are forgotten no entry accounts for.
func walk(t *testing.T, entries []sink.Entry) (at sink.Chain, loose, blank []int64) {
	t.Helper()
	var r LinkReader
	emptied := map[int64]bool{}
	for i := range entries {
		l, err := r.Read(&entries[i])
		switch {
		case err != nil:
			t.Fatalf("entry %d, %s: %v", i+1, entries[i].Details, err)
		case !l.Linked:
			loose = append(loose, l.N)
			continue
		case !l.Follows(&at):
			t.Fatalf("entry %d doesn't follow entry %d: %s", l.N, at.Head, entries[i].Details)
		case at.From == 0:
			at.From = l.N
		}
		at.Head, at.Link = l.N, l.Link
		for _, n := range l.Emptied {
			emptied[n] = true
		}
	}
	for i := range entries {
		if l, _ := r.Read(&entries[i]); l.Forgotten && !emptied[l.N] {
			blank = append(blank, l.N)
		}
	}
	return at, loose, blank
}

// Entries are linked however they come about: in batches, after a batch that was
// given up, late because their row was held; and over entries that were made while
// the chain was off.
func TestChain(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	chain := func(on bool) {
		n.engine.m.Audit.Chain = on
	}
	n.stream(n.change(cdc.Insert, n.inbox, 1, 10), n.change(cdc.Insert, n.inbox, 2, nil))
	n.stream(n.change(cdc.Insert, n.note, 1, 1, "before"))
	chain(true)
	n.stream(n.change(cdc.Insert, n.note, 2, 1, "ação"), n.change(cdc.Insert, n.note, 3, 2, "orphan"), n.change(cdc.Update, n.note, 1, 1, `a "b" \ ç`))
	n.stream(n.change(cdc.Update, n.note, 3, 2, "orphan still"))
	head := n.cp.Counters.Chain
	gone := errors.New("the reply was lost")
	if err := n.batch(false, n.cp.LSN+16, func(b *Batch) error {
		c := n.change(cdc.Update, n.note, 1, 1, "lost")
		err := b.Transactions(n.Context(), []*cdc.Transaction{{XID: 7, Commit: n.cp.LSN + 8, End: n.cp.LSN + 16, Changes: []cdc.Change{c}, First: true, Last: true}})
		if b.Counters.Chain == head {
			t.Error("the batch has linked nothing")
		}
		return errors.Join(err, gone)
	}); !errors.Is(err, gone) || n.cp.Counters.Chain != head {
		t.Fatalf("%v, %+v", err, n.cp.Counters)
	}
	n.stream(n.change(cdc.Update, n.inbox, 2, 20)) // releases note 3 with its entries
	chain(false)
	n.stream(n.change(cdc.Update, n.note, 1, 1, "unlinked"), n.change(cdc.Update, n.note, 2, 1, "unlinked"))
	chain(true)
	n.stream(n.change(cdc.Delete, n.note, 2), n.change(cdc.Update, n.inbox, 1, 30))

	entries := n.wantEntries("10 note.created 1 insert", "10 note.created 2 insert", "10 note.updated 1 update",
		"20 note.created 3 insert", "20 note.updated 3 update", "20 inbox.moved 2 move",
		"10 note.updated 1 update", "10 note.updated 2 update", "10 note.deleted 2 delete", "10 inbox.moved 1 move", "30 inbox.moved 1 move")
	at, loose, _ := walk(t, entries)
	if diff := cmp.Diff([]int64{1, 7, 8}, loose); diff != "" {
		t.Errorf("not linked (-want +got):\n%s", diff)
	}
	if at != n.cp.Counters.Chain || at.From != 2 || at.Head != 11 {
		t.Errorf("the walk came to %+v, the checkpoint has %+v", at, n.cp.Counters.Chain)
	}
}

// What is forgotten leaves its link right, nothing from which it could be guessed,
// and an entry that says so.
func TestChain_Forget(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.engine.m.Audit.Chain = true
	n.stream(n.change(cdc.Insert, n.inbox, 1, 10))
	n.stream(n.change(cdc.Insert, n.note, 1, 1, "x"), n.change(cdc.Insert, n.note, 2, 1, "y"))
	n.stream(n.change(cdc.Update, n.note, 1, 1, "MARKER"), n.change(cdc.Update, n.note, 2, 1, "z"))
	forget := func(b *Batch) error {
		_, _, err := b.Forget(n.Context(), &ForgetPage{Source: n.note, Keys: []sink.Key{"1"}, EvenIfPresent: true, LSN: n.cp.LSN, Request: 5, Time: time.Unix(77, 0)})
		return err
	}
	if err := n.batch(false, n.cp.LSN, forget); err != nil {
		t.Fatal(err)
	}
	entries := n.wantEntries("10 note.created 1 insert", "10 note.created 2 insert", "10 note.updated 1 update", "10 note.updated 2 update", "10 audit.emptied 0 forget")
	at, _, blank := walk(t, entries)
	if at != n.cp.Counters.Chain || len(blank) > 0 {
		t.Errorf("at %+v, blank %v", at, blank)
	}
	for _, e := range entries {
		if strings.Contains(e.Details, "MARKER") || strings.Contains(e.Details, "forgotten") && strings.Contains(e.Details, "salt") {
			t.Errorf("left of what was forgotten: %s", e.Details)
		}
	}
	if !strings.Contains(entries[4].Details, `"op":"forget","lsn":"0/30","request":5,"emptied":[1,3]`) {
		t.Errorf("what was emptied: %s", entries[4].Details)
	}
	// Whoever blanks another entry in the same way is not accounted for.
	entries[3].Details = blanked(t, entries[3].Details)
	if _, _, blank := walk(t, entries); len(blank) != 1 || blank[0] != 4 {
		t.Errorf("blank entries: %v", blank)
	}
	// The same again finds nothing, and says nothing. What is new is accounted for
	// although the chain is off by then.
	if err := n.batch(false, n.cp.LSN, forget); err != nil {
		t.Fatal(err)
	}
	n.stream(n.change(cdc.Insert, n.note, 1, 1, "again"), n.change(cdc.Update, n.note, 1, 1, "and again"))
	n.engine.m.Audit.Chain = false
	n.stream(n.change(cdc.Update, n.note, 2, 1, "not linked"))
	if err := n.batch(false, n.cp.LSN, forget); err != nil {
		t.Fatal(err)
	}
	entries = n.wantEntries("10 note.created 1 insert", "10 note.created 2 insert", "10 note.updated 1 update", "10 note.updated 2 update", "10 audit.emptied 0 forget",
		"10 note.created 1 insert", "10 note.updated 1 update", "10 note.updated 2 update", "10 audit.emptied 0 forget")
	if at, loose, blank := walk(t, entries); at != n.cp.Counters.Chain || at.Head != 9 || len(loose) != 1 || len(blank) > 0 {
		t.Errorf("at %+v, not linked %v, blank %v", at, loose, blank)
	}
}

// blanked takes the values out of details as forget does.
func blanked(t *testing.T, details string) string {
	t.Helper()
	var d map[string]any
	if err := json.Unmarshal([]byte(details), &d); err != nil {
		t.Fatal(err)
	}
	delete(d, "changed")
	delete(d["chain"].(map[string]any), "salt")
	d["forgotten"] = true
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// chained is a batch with a chain, which counts on from n and uses salts of 0.
func chained(n int64) *Batch {
	m := &Mapping{Schema: &sink.Schema{}, Audit: &Audit{Chain: true}}
	b := (&Engine{m: m}).Begin(nil, BatchOptions{Incarnation: incarnation, Counters: sink.Counters{AuditHead: n}})
	b.scratch.chain.salts = make([]byte, saltSize)
	return b
}

const sampleRest = `"table":"contact","key":{"id":49},"op":"update","lsn":"0/16B3748","xid":742,"seq":3,"changed":{"name":["Zoe",null],"id":["a","b"]}`

// The form of what is hashed is pinned: logs of before must stay right.
func TestChain_Form(t *testing.T) {
	t.Parallel()
	b := chained(41)
	user := "007"
	b.emit(&draft{Commit: 23, Seq: 3, Action: "contact.updated", User: &user, Time: time.UnixMicro(1709251199123456), Rest: rest(sampleRest)}, "7")
	got := b.entries[0].Details
	want := `{"by":"walbridge","n":42,` + sampleRest + `,"chain":{"salt":"AAAAAAAAAAAAAAAAAAAAAA","values":"RLAp8GucIweObFgNyu3OW1bjBdnt1fqKFsuFdWuoTWE","link":"4mOGBkiU07csKXYl3_hK0JtbNJBk3C7GJ87gAWl34Ug"}}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("details (-want +got):\n%s", diff)
	}
	// As a jsonb and a bigint give it back.
	e := b.entries[0]
	e.User = cdc.TextValue("7")
	e.Time = e.Time.In(time.FixedZone("", 3600))
	e.Details = strings.Replace(e.Details, `"by":"walbridge","n":42,`, `"n": 42, "by": "walbridge", `, 1)
	var r LinkReader
	l, err := r.Read(&e)
	if err != nil || !l.Follows(&sink.Chain{}) || l.N != 42 || l.Link != b.Counters.Chain.Link {
		t.Fatalf("%+v, %v", l, err)
	}
}

// Whatever is altered in an entry breaks its link.
func TestChain_Altered(t *testing.T) {
	t.Parallel()
	b := chained(0)
	user := "5"
	b.emit(&draft{Commit: 23, Seq: 3, Action: "contact.updated", User: &user, Time: time.UnixMicro(1), Rest: rest(sampleRest)}, "7")
	b.emit(&draft{Commit: 23, Seq: 4, Action: "contact.created", Time: time.UnixMicro(1), Rest: rest(`"op":"insert"`)}, "7")
	first, second := b.entries[0], b.entries[1]
	edit := func(e sink.Entry, old, now string) sink.Entry {
		if !strings.Contains(e.Details, old) {
			t.Fatalf("no %s in %s", old, e.Details)
		}
		e.Details = strings.Replace(e.Details, old, now, 1)
		return e
	}
	with := func(e sink.Entry, f func(e *sink.Entry)) sink.Entry {
		f(&e)
		return e
	}
	altered := map[string]sink.Entry{
		"id":         with(first, func(e *sink.Entry) { e.ID = second.ID }),
		"tenant":     with(first, func(e *sink.Entry) { e.Tenant = "8" }),
		"user":       with(first, func(e *sink.Entry) { e.User = cdc.TextValue("6") }),
		"no user":    with(first, func(e *sink.Entry) { e.User = cdc.Value{} }),
		"action":     with(first, func(e *sink.Entry) { e.Action = "contact.deleted" }),
		"time":       with(first, func(e *sink.Entry) { e.Time = e.Time.Add(time.Microsecond) }),
		"number":     edit(first, `"n":1`, `"n":2`),
		"key":        edit(first, `"id":49`, `"id":50`),
		"operation":  edit(first, `"update"`, `"insert"`),
		"value":      edit(first, "Zoe", "Ann"),
		"null":       edit(first, "null", `"null"`),
		"column":     edit(first, `"name"`, `"mail"`),
		"no values":  edit(first, `,"changed":{"name":["Zoe",null],"id":["a","b"]}`, ""),
		"salt":       edit(first, `"salt":"`, `"salt":"A`),
		"commitment": edit(first, `"values":"`, `"values":"A`),
		"link":       edit(first, `"link":"`, `"link":"A`),
		"member":     edit(first, `"seq":3`, `"seq":3,"more":1`),
		"more chain": edit(first, `"salt"`, `"more":1,"salt"`),
		"new values": edit(second, `"op"`, `"changed":{},"op"`),
		"forgotten":  edit(first, `"seq":3`, `"seq":3,"forgotten":true`),
		"blank":      with(first, func(e *sink.Entry) { e.Details = strings.Replace(blanked(t, e.Details), "true", "1", 1) }),
		"no object":  with(first, func(e *sink.Entry) { e.Details = "[]" }),
		"twice":      edit(first, `"seq":3`, `"seq":3,"seq":3`),
		"moved":      second,
	}
	var r LinkReader
	for name, e := range altered {
		if l, err := r.Read(&e); err == nil && l.Follows(&sink.Chain{}) {
			t.Errorf("%s: the altered entry follows", name)
		}
	}
	for _, e := range []sink.Entry{first, with(first, func(e *sink.Entry) { e.Details = blanked(t, e.Details) })} {
		if l, err := r.Read(&e); err != nil || !l.Follows(&sink.Chain{}) {
			t.Errorf("the entry itself doesn't follow: %v", err)
		}
	}
}

func BenchmarkEntry(b *testing.B) {
	for _, chain := range []bool{false, true} {
		b.Run(map[bool]string{false: "plain", true: "linked"}[chain], func(b *testing.B) {
			batch := chained(1_000_000)
			batch.e.m.Audit.Chain = chain
			d := &draft{Commit: 23, Seq: 3, Action: "contact.updated", Time: time.UnixMicro(1), Rest: rest(sampleRest)}
			b.ReportAllocs()
			for b.Loop() {
				batch.emit(d, "7")
				batch.entries = batch.entries[:0]
			}
		})
	}
}

func BenchmarkLinkReader(b *testing.B) {
	batch := chained(1_000_000)
	batch.emit(&draft{Commit: 23, Seq: 3, Action: "contact.updated", Time: time.UnixMicro(1), Rest: rest(sampleRest)}, "7")
	var r LinkReader
	b.ReportAllocs()
	for b.Loop() {
		if l, err := r.Read(&batch.entries[0]); err != nil || !l.Follows(&sink.Chain{}) {
			b.Fatal(err)
		}
	}
}

// Entries are linked only where the target gives back what was written.
func TestCompile_Chain(t *testing.T) {
	c := cluster(t)
	source := pgtest.CreateDB(t, c, "chain_source")
	pgtest.Exec(t, source, `CREATE TABLE note (id bigint PRIMARY KEY, tenant bigint)`)
	target := pgtest.CreateDB(t, c, "chain_target")
	pgtest.Exec(t, target, `CREATE TABLE good (id text PRIMARY KEY, provedor_id uuid, user_id varchar(20), action text, details jsonb, timestamp timestamptz(6));
		CREATE TABLE bad (id uuid PRIMARY KEY, provedor_id numeric, user_id char(9), action text, details json, timestamp timestamptz(3))`)
	src, dst := connect(t, c, "chain_source"), connect(t, c, "chain_target")
	compile := func(table string, chain bool) (*Mapping, error) {
		f := mustParse(t, "chain.yaml", []byte("tables:\n  notes: {from: note, tenant: [tenant], columns: [id], audit: {entity: note}}\naudit_log: {table: "+table+"}\n"))
		return Compile(f, mustReadCatalog(t, src, f.SourceTables()), mustReadCatalog(t, dst, f.TargetTables()), CompileOptions{Audit: Audit{Chain: chain}})
	}
	off, err := compile("bad", false)
	if err != nil || off.Schema.Entries.Chained {
		t.Fatalf("without a chain: %v", err)
	}
	on, err := compile("good", true)
	if err != nil || !on.Schema.Entries.Chained || on.Schema.Fingerprint != off.Schema.Fingerprint {
		t.Fatalf("with a chain: %v", err)
	}
	_, err = compile("bad", true)
	for _, column := range []string{"provedor_id", "user_id", "details", "timestamp"} {
		if err == nil || !strings.Contains(err.Error(), `column "`+column+`" of audit table public.bad is `) {
			t.Errorf("nothing is said about %s: %v", column, err)
		}
	}
}
