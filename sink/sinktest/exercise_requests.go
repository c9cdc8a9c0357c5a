package sinktest

import (
	"errors"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/walbridge/walbridge/sink"
)

func (w *world) wantRequests(s sink.Sink, want ...sink.Request) {
	w.Helper()
	got, err := s.Requests(w.ctx)
	if err != nil {
		w.Fatalf("Requests: %v", err)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		w.Fatalf("open requests (-want +got):\n%s", diff)
	}
}

func (i *instance) report(r sink.Request) {
	i.w.Helper()
	if err := i.s.Report(i.w.ctx, i.epoch, r); err != nil {
		i.w.Fatalf("Report: %v", err)
	}
}

func (w *world) requests() {
	i := w.start()
	w.wantRequests(i.s)
	one := sink.Request{Kind: "held.retry", Args: `{"keys": ["it's \"1\""]}`, State: sink.RequestNew}
	two := sink.Request{Kind: "resync", Args: `{}`, State: sink.RequestNew}
	one.ID = w.target.Ask("bridge", one.Kind, one.Args)
	w.target.Ask("it's another", "forget", `{}`)
	two.ID = w.target.Ask("bridge", two.Kind, two.Args)
	w.wantRequests(i.s, one, two)

	one.State, one.Progress = sink.RequestRunning, `{"after": "7"}`
	i.report(one)
	w.wantRequests(i.s, one, two)
	// Kind and Args belong to whoever has asked.
	changed := one
	changed.Kind, changed.Args = "x", `{"x": 1}`
	i.report(changed)
	w.wantRequests(i.s, one, two)

	one.State, one.Error = sink.RequestFailed, "table public.contacts refuses a row: SQLSTATE 23505"
	i.report(one)
	w.wantRequests(i.s, two)
	if diff := gocmp.Diff(one, w.target.Request(one.ID)); diff != "" {
		w.Fatalf("a failed request (-want +got):\n%s", diff)
	}
	w.wantError("Report of a request that has ended", i.s.Report(w.ctx, i.epoch, one), sink.ErrNoRequest)
	w.wantError("Report of a request that never was", i.s.Report(w.ctx, i.epoch, sink.Request{ID: 1 << 40}), sink.ErrNoRequest)
}

func (w *world) requestDone() {
	i := w.start()
	r := sink.Request{Kind: "held.retry", Args: `{}`, State: sink.RequestNew}
	r.ID = w.target.Ask("bridge", r.Kind, r.Args)
	done := r
	done.State, done.Progress = sink.RequestDone, "all"
	writes := inserts(w.contacts, row(1, 1, "a", nil))
	writes.Requests = []sink.Request{done}

	tx := i.begin(sink.TxOptions{})
	apply(w, tx, writes)
	load(w, tx, &sink.Query{Rows: map[*sink.Table][]sink.Key{w.contacts: {"1"}}})
	_ = tx.Rollback(w.ctx)
	w.wantRequests(i.s, r)
	w.wantRows(w.contacts)

	// Work beside the stream commits where it began.
	tx = i.begin(sink.TxOptions{})
	apply(w, tx, writes)
	if err := tx.Commit(w.ctx, sink.Progress{LSN: i.lsn}); err != nil {
		w.Fatalf("Commit: %v", err)
	}
	w.wantRequests(i.s)
	w.wantRows(w.contacts, row(1, 1, "a", nil))
	if diff := gocmp.Diff(done, w.target.Request(r.ID)); diff != "" {
		w.Fatalf("a request that is done (-want +got):\n%s", diff)
	}

	// It can't be done a second time, and nothing of the try stays.
	writes = inserts(w.contacts, row(2, 1, "b", nil))
	writes.Requests = []sink.Request{done}
	err := i.try(writes)
	var missing *sink.MissingError
	if !errors.As(err, &missing) {
		w.Fatalf("a request that is done twice: %v, want *sink.MissingError", err)
	}
	w.wantRows(w.contacts, row(1, 1, "a", nil))
	w.wantCheckpoint(i.s, i.lsn)
}

func (w *world) requestFenced() {
	old := w.start()
	r := sink.Request{Kind: "held.drop", Args: `{}`, State: sink.RequestNew}
	r.ID = w.target.Ask("bridge", r.Kind, r.Args)
	next := &instance{w: w, s: w.open("bridge")}
	next.acquire("two", true)

	done := r
	done.State = sink.RequestDone
	w.wantError("Report under an old epoch", old.s.Report(w.ctx, old.epoch, done), sink.ErrFenced)
	w.wantError("a batch under an old epoch", old.try(&sink.Writes{Requests: []sink.Request{done}}), sink.ErrFenced)
	w.wantRequests(next.s, r)

	other := &instance{w: w, s: w.open("it's another")}
	other.acquire("x", false)
	w.wantError("Report of another bridge's request", other.s.Report(w.ctx, other.epoch, done), sink.ErrNoRequest)
	next.report(done)
	w.wantRequests(next.s)
}

func (w *world) heldPages() {
	i := w.start()
	hold := func(table *sink.Table, key sink.Key, r []any, reason sink.HeldReason) sink.HeldRow {
		return sink.HeldRow{Table: table, Key: key, Row: row(r...), Reason: reason}
	}
	i.write(&sink.Writes{Hold: []sink.HeldRow{
		hold(w.contacts, "9", []any{9, 1, "a", nil}, sink.HeldRejected),
		hold(w.contacts, "10", []any{10, nil, "b", nil}, sink.HeldTenant),
		hold(w.contacts, "2", []any{2, 1, "c", nil}, sink.HeldRejected),
		hold(w.contacts, "11", []any{11, 1, "d", nil}, sink.HeldRejected),
		hold(w.tags, sink.EncodeKey("1", `a"b`), []any{1, `a"b`}, sink.HeldRejected),
		hold(w.tags, sink.EncodeKey("1", ""), []any{1, ""}, sink.HeldRejected),
	}})
	other := &instance{w: w, s: w.open("it's another")}
	other.acquire("x", false)
	other.write(&sink.Writes{Hold: []sink.HeldRow{hold(w.contacts, "1", []any{1, 1, "x", nil}, sink.HeldRejected)}})

	want := func(q sink.HeldQuery, more bool, keys ...sink.Key) {
		w.Helper()
		l := i.load(&sink.Query{Held: &q})
		if diff := gocmp.Diff(keys, l.Held); diff != "" || l.MoreHeld != more {
			w.Fatalf("a page of held rows (more %t, want %t; -want +got):\n%s", l.MoreHeld, more, diff)
		}
	}
	after := func(k sink.Key) *sink.Key { return &k }
	want(sink.HeldQuery{Table: w.contacts, Limit: 10}, false, "10", "11", "2", "9")
	want(sink.HeldQuery{Table: w.contacts, Limit: 2}, true, "10", "11")
	want(sink.HeldQuery{Table: w.contacts, Limit: 2, After: after("11")}, false, "2", "9")
	want(sink.HeldQuery{Table: w.contacts, Limit: 2, After: after("9")}, false)
	want(sink.HeldQuery{Table: w.contacts, Limit: 9, After: after("")}, false, "10", "11", "2", "9")
	want(sink.HeldQuery{Table: w.contacts, Limit: 9, Reason: sink.HeldTenant}, false, "10")
	want(sink.HeldQuery{Table: w.contacts, Limit: 1, Reason: sink.HeldRejected, Keys: []sink.Key{"9", "10", "2", "none"}}, true, "2")
	want(sink.HeldQuery{Table: w.tags, Limit: 9, Keys: []sink.Key{sink.EncodeKey("1", `a"b`)}}, false, sink.EncodeKey("1", `a"b`))
	want(sink.HeldQuery{Table: w.messages, Limit: 9}, false)

	// A batch sees what it has done itself.
	tx := i.begin(sink.TxOptions{})
	defer tx.Rollback(w.ctx)
	apply(w, tx, &sink.Writes{Unhold: []sink.Ref{{Table: w.contacts, Key: "10"}}})
	if got := load(w, tx, &sink.Query{Held: &sink.HeldQuery{Table: w.contacts, Limit: 1}}).Held; len(got) != 1 || got[0] != "11" {
		w.Fatalf("after a row was released: %v", got)
	}
}

func (w *world) heldCounts() {
	i := w.start()
	want := func(want ...sink.HeldCount) {
		w.Helper()
		got, err := i.s.Held(w.ctx)
		if err != nil {
			w.Fatalf("Held: %v", err)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			w.Fatalf("held rows by table and reason (-want +got):\n%s", diff)
		}
	}
	want()
	i.write(&sink.Writes{Hold: []sink.HeldRow{
		{Table: w.tags, Key: sink.EncodeKey("1", "a"), Row: row(1, "a"), Reason: sink.HeldTenant},
		{Table: w.contacts, Key: "1", Row: row(1, 1, "a", nil), Reason: sink.HeldRejected},
		{Table: w.contacts, Key: "2", Row: row(2, nil, "b", nil), Reason: sink.HeldTenant},
		{Table: w.contacts, Key: "3", Row: row(3, 1, "c", nil), Reason: sink.HeldRejected},
	}})
	other := &instance{w: w, s: w.open("it's another")}
	other.acquire("x", false)
	other.write(&sink.Writes{Hold: []sink.HeldRow{{Table: w.contacts, Key: "1", Row: row(1, 1, "a", nil), Reason: sink.HeldRejected}}})
	want(sink.HeldCount{Table: w.contacts.FullName(), Reason: sink.HeldRejected, Rows: 2},
		sink.HeldCount{Table: w.contacts.FullName(), Reason: sink.HeldTenant, Rows: 1},
		sink.HeldCount{Table: w.tags.FullName(), Reason: sink.HeldTenant, Rows: 1})
	i.write(&sink.Writes{Unhold: []sink.Ref{{Table: w.contacts, Key: "1"}, {Table: w.contacts, Key: "3"}, {Table: w.tags, Key: sink.EncodeKey("1", "a")}}})
	want(sink.HeldCount{Table: w.contacts.FullName(), Reason: sink.HeldTenant, Rows: 1})
}
