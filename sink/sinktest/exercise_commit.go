package sinktest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

func (w *world) noCheckpoint() {
	s := w.target.Open("bridge")
	defer s.Close(w.ctx)
	_, err := s.Checkpoint(w.ctx)
	w.wantError("Checkpoint before Install", err, sink.ErrNoCheckpoint)
	s = w.open("bridge")
	_, err = s.Checkpoint(w.ctx)
	w.wantError("Checkpoint after Install", err, sink.ErrNoCheckpoint)
}

func (w *world) checkpointRoundTrip() {
	i := &instance{w: w, s: w.open("bridge")}
	c := i.acquire("one", false)
	if c.Epoch != 1 || c.LSN != 0 || c.Holder != "one" || c.LeaseLeft <= 0 {
		w.Fatalf("first Acquire = %+v", c)
	}
	origin := sink.Origin{Incarnation: "b1946ac9", SystemID: "7456789012345678901", Timeline: 3,
		Database: "chat", Slot: "walbridge", Fingerprint: "f1", Publication: "p1"}
	if err := i.s.Store(w.ctx, i.epoch, origin, 0); err != nil {
		w.Fatalf("Store: %v", err)
	}
	if err := i.s.Store(w.ctx, i.epoch, origin, 0x1_00000020); err != nil {
		w.Fatalf("Store: %v", err)
	}
	i.lsn = 0x1_00000020
	progress := sink.Progress{
		LSN:       0xFFFFFFFF_FFFFFFF0,
		Heartbeat: sink.Heartbeat{Token: "t'ok\\en", Commit: 0x2_00000010},
		Counters:  sink.Counters{Rows: 1 << 40, Entries: 2, Held: 3, Dropped: 4, AuditHead: 5, Chain: sink.Chain{From: 2, Head: 5, Link: sink.Link{0: 1, 31: 255}}},
		State:     "streaming",
	}
	tx := i.begin(sink.TxOptions{Lease: time.Hour})
	if err := tx.Commit(w.ctx, progress); err != nil {
		w.Fatalf("Commit: %v", err)
	}
	got, err := i.s.Checkpoint(w.ctx)
	if err != nil {
		w.Fatalf("Checkpoint: %v", err)
	}
	want := sink.Checkpoint{Name: "bridge", Epoch: 1, Holder: "one", Origin: origin, LSN: progress.LSN,
		Heartbeat: progress.Heartbeat, Counters: progress.Counters, State: "streaming", SchemaVersion: 1}
	if diff := gocmp.Diff(want, got, cmpopts.IgnoreFields(sink.Checkpoint{}, "LeaseLeft", "Age")); diff != "" {
		w.Fatalf("checkpoint (-want +got):\n%s", diff)
	}
	if got.LeaseLeft < 50*time.Minute {
		w.Fatalf("the commit left a lease of %s, want about an hour", got.LeaseLeft)
	}
	if got.Age < 0 || got.Age > time.Hour {
		w.Fatalf("the row is %s old just after the commit", got.Age)
	}
	if err := i.s.Renew(w.ctx, i.epoch, 3*time.Hour, "copying"); err != nil {
		w.Fatalf("Renew: %v", err)
	}
	if got, err = i.s.Checkpoint(w.ctx); err != nil || got.State != "copying" || got.LeaseLeft < 2*time.Hour {
		w.Fatalf("after Renew: %+v, %v", got, err)
	}
	// The heartbeat goes with the history that it came from.
	for _, tt := range []struct {
		incarnation string
		want        sink.Heartbeat
	}{{origin.Incarnation, progress.Heartbeat}, {"another", sink.Heartbeat{}}} {
		origin.Incarnation = tt.incarnation
		if err := i.s.Store(w.ctx, i.epoch, origin, progress.LSN); err != nil {
			w.Fatalf("Store: %v", err)
		}
		if got, err = i.s.Checkpoint(w.ctx); err != nil || got.Heartbeat != tt.want {
			w.Fatalf("after Store: %+v, %v, want the heartbeat %+v", got, err, tt.want)
		}
	}
}

// chainHead: wherever a writer learns how far the entries are, it learns how far
// their chain is.
func (w *world) chainHead() {
	i := w.start()
	want := sink.Counters{AuditHead: 5, Chain: sink.Chain{From: 2, Head: 5, Link: sink.Link{0: 1, 31: 255}}}
	commit := func(lsn cdc.LSN) {
		w.Helper()
		tx := i.begin(sink.TxOptions{})
		if err := tx.Commit(w.ctx, sink.Progress{LSN: lsn, Counters: want}); err != nil {
			w.Fatalf("Commit: %v", err)
		}
		i.lsn = lsn
	}
	same := func(what string, got sink.Counters) {
		w.Helper()
		if got != want {
			w.Fatalf("%s says %+v, want %+v", what, got, want)
		}
	}
	commit(i.lsn) // beside the stream
	c, err := i.s.Checkpoint(w.ctx)
	if err != nil {
		w.Fatalf("Checkpoint: %v", err)
	}
	same("the checkpoint", c.Counters)
	want.AuditHead = 8 // while the chain is off
	commit(i.lsn + 10)
	i.lsn -= 10
	err = i.try(inserts(w.contacts, row(1, 1, "a", nil)))
	var stale *sink.StaleError
	if !errors.As(err, &stale) {
		w.Fatalf("a batch from an old checkpoint: %v, want *sink.StaleError", err)
	}
	same("a stale batch", stale.Got.Counters)
	same("the next holder", i.acquire("two", true).Counters)
}

func (w *world) lease() {
	one := &instance{w: w, s: w.open("bridge")}
	one.acquire("one", false)
	two := &instance{w: w, s: w.open("bridge")}

	c, err := two.s.Acquire(w.ctx, "two", time.Minute, false)
	w.wantError("Acquire under another's lease", err, sink.ErrStandby)
	if c.Epoch != 1 || c.Holder != "one" || c.LeaseLeft <= 0 {
		w.Fatalf("the standby sees %+v", c)
	}
	// Its own lease is no obstacle to a holder that comes back.
	if c := one.acquire("one", false); c.Epoch != 2 {
		w.Fatalf("epoch %d after acquiring again, want 2", c.Epoch)
	}
	if err := one.s.Release(w.ctx, one.epoch); err != nil {
		w.Fatalf("Release: %v", err)
	}
	if c, err := two.s.Checkpoint(w.ctx); err != nil || c.LeaseLeft > 0 || c.Holder != "" {
		w.Fatalf("after Release: %+v, %v", c, err)
	}
	if c := two.acquire("two", false); c.Epoch != 3 || c.Holder != "two" {
		w.Fatalf("after Release Acquire = %+v", c)
	}
	if c := one.acquire("one", true); c.Epoch != 4 {
		w.Fatalf("epoch %d after a forced Acquire, want 4", c.Epoch)
	}
	// A lease that is as good as over ends by itself.
	if err := one.s.Renew(w.ctx, one.epoch, time.Microsecond, ""); err != nil {
		w.Fatalf("Renew: %v", err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		if _, err = two.s.Acquire(w.ctx, "two", time.Minute, false); !errors.Is(err, sink.ErrStandby) || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		w.Fatalf("Acquire after the lease: %v", err)
	}
	w.wantError("Renew under an old epoch", one.s.Renew(w.ctx, one.epoch, time.Minute, ""), sink.ErrFenced)
	w.wantError("Store under an old epoch", one.s.Store(w.ctx, one.epoch, sink.Origin{}, 0), sink.ErrFenced)
	w.wantError("Release under an old epoch", one.s.Release(w.ctx, one.epoch), sink.ErrFenced)
}

func (w *world) atOnce() {
	i := w.start()
	tx := i.begin(sink.TxOptions{})
	many := make([]any, 1000)
	for n := range many {
		apply(w, tx, inserts(w.contacts, row(n, 1, "a", nil)))
	}
	// A Load makes the sink send what it has deferred.
	load(w, tx, &sink.Query{Rows: map[*sink.Table][]sink.Key{w.contacts: {"1"}}})
	w.wantRows(w.contacts)
	if err := tx.Commit(w.ctx, sink.Progress{LSN: 110}); err != nil {
		w.Fatalf("Commit: %v", err)
	}
	if got := len(w.target.Rows(w.contacts)); got != len(many) {
		w.Fatalf("%d rows after the commit, want %d", got, len(many))
	}
	w.wantCheckpoint(i.s, 110)
}

func apply(w *world, tx sink.Tx, ws *sink.Writes) {
	w.Helper()
	if err := tx.Apply(w.ctx, ws); err != nil {
		w.Fatalf("Apply: %v", err)
	}
}

func load(w *world, tx sink.Tx, q *sink.Query) *sink.Loaded {
	w.Helper()
	l, err := tx.Load(w.ctx, q)
	if err != nil {
		w.Fatalf("Load: %v", err)
	}
	return l
}

func (w *world) rollback() {
	i := w.start()
	tx := i.begin(sink.TxOptions{})
	apply(w, tx, inserts(w.contacts, row(1, 1, "a", nil)))
	load(w, tx, &sink.Query{Rows: map[*sink.Table][]sink.Key{w.contacts: {"1"}}})
	for range 2 {
		if err := tx.Rollback(w.ctx); err != nil {
			w.Fatalf("Rollback: %v", err)
		}
	}
	if err := tx.Apply(w.ctx, inserts(w.contacts, row(1, 1, "a", nil))); err == nil {
		w.Fatal("Apply after Rollback returned no error")
	}
	w.wantRows(w.contacts)
	w.wantCheckpoint(i.s, 100)
	i.write(inserts(w.contacts, row(2, 1, "b", nil)))
	w.wantRows(w.contacts, row(2, 1, "b", nil))
}

func (w *world) replay() {
	i := w.start()
	i.write(inserts(w.contacts, row(1, 1, "a", nil)))
	i.lsn = 100
	err := i.try(&sink.Writes{Rows: set(sink.Insert, w.contacts, row(1, 1, "again", nil))})
	var stale *sink.StaleError
	if !errors.As(err, &stale) {
		w.Fatalf("a replayed batch: %v, want *sink.StaleError", err)
	}
	if stale.Want != 100 || stale.Got.LSN != 110 || stale.Got.Epoch != i.epoch {
		w.Fatalf("StaleError = %+v", stale)
	}
	w.wantRows(w.contacts, row(1, 1, "a", nil))
	i.lsn = 110
	i.write(inserts(w.contacts, row(2, 1, "b", nil)))
}

// forgetful is a batch whose commits take effect and whose replies are lost.
type forgetful struct{ sink.Tx }

func (f forgetful) Commit(ctx context.Context, p sink.Progress) error {
	if err := f.Tx.Commit(ctx, p); err != nil {
		return err
	}
	return &sink.UnknownError{Err: errors.New("the reply was lost")}
}

func (w *world) lostReply() {
	i := w.start()
	tx := forgetful{i.begin(sink.TxOptions{})}
	apply(w, tx, inserts(w.contacts, row(1, 1, "a", nil)))
	err := tx.Commit(w.ctx, sink.Progress{LSN: 110})
	var unknown *sink.UnknownError
	if !errors.As(err, &unknown) {
		w.Fatalf("Commit = %v, want *sink.UnknownError", err)
	}
	if err := tx.Rollback(w.ctx); err != nil {
		w.Fatalf("Rollback: %v", err)
	}
	w.wantCheckpoint(i.s, 110)
	w.wantRows(w.contacts, row(1, 1, "a", nil))
}

func (w *world) fenced() {
	old := w.start()
	old.write(inserts(w.contacts, row(1, 1, "a", nil)))
	next := &instance{w: w, s: w.open("bridge")}
	next.acquire("two", true)

	for name, write := range map[string]*sink.Writes{
		"small": inserts(w.contacts, row(2, 1, "zombie", nil)),
		"large": inserts(w.contacts, numbered(1000, func(n int) []any { return []any{n, 1, "zombie", nil} })...),
	} {
		old.lsn = next.lsn
		w.wantError("a "+name+" batch under an old epoch", old.try(write), sink.ErrFenced)
	}
	tx, err := old.s.Begin(w.ctx, old.epoch, old.lsn, sink.TxOptions{})
	if err == nil {
		_, err = tx.Load(w.ctx, &sink.Query{Rows: map[*sink.Table][]sink.Key{w.contacts: {"1"}}})
		_ = tx.Rollback(w.ctx)
	}
	w.wantError("Load under an old epoch", err, sink.ErrFenced)
	w.wantRows(w.contacts, row(1, 1, "a", nil))

	next.write(inserts(w.contacts, row(3, 1, "c", nil)))
	w.wantRows(w.contacts, row(1, 1, "a", nil), row(3, 1, "c", nil))
}

func (w *world) neighbours() {
	i := w.start()
	other := &instance{w: w, s: w.open("it's another")}
	other.acquire("x", false)
	path := func(tenant any) *sink.Writes {
		return &sink.Writes{
			Paths:  []sink.PathWrite{{Node: w.inbox, Key: "1", Row: sink.PathRow{Values: row(tenant)}}},
			Mark:   []sink.Ref{{Table: w.contacts, Key: "7", LSN: 5}},
			Hold:   []sink.HeldRow{{Table: w.contacts, Key: "8", Row: row(8, nil, "x", nil), Reason: sink.HeldTenant}},
			Copied: []sink.CopyProgress{{Source: "app.inbox", Upto: `["1"]`}},
		}
	}
	i.write(path(1))
	q := &sink.Query{
		Rows:  map[*sink.Table][]sink.Key{w.contacts: {"7", "8"}},
		Paths: map[*sink.Node][]sink.Key{w.inbox: {"1"}},
	}
	if l := other.load(q); len(l.Rows[w.contacts]) != 0 || len(l.Paths[w.inbox]) != 0 {
		w.Fatalf("the other bridge sees %+v", l)
	}
	if copies, err := other.s.Copies(w.ctx); err != nil || len(copies) != 0 {
		w.Fatalf("the other bridge has copies %v, %v", copies, err)
	}
	other.write(path(2))
	if got := i.load(q).Paths[w.inbox]["1"].Values; !slices.Equal(got, row(1)) {
		w.Fatalf("path values = %v after the other bridge wrote, want 1", got)
	}
	w.wantCheckpoint(i.s, 110)
	w.wantCheckpoint(other.s, 10)
}

func (w *world) backwards() {
	i := w.start()
	tx := i.begin(sink.TxOptions{})
	if err := tx.Commit(w.ctx, sink.Progress{LSN: 99}); err == nil {
		w.Fatal("Commit at an earlier LSN returned no error")
	}
	_ = tx.Rollback(w.ctx)
	w.wantCheckpoint(i.s, 100)
	// Work beside the stream commits where it began.
	tx = i.begin(sink.TxOptions{})
	if err := tx.Commit(w.ctx, sink.Progress{LSN: 100}); err != nil {
		w.Fatalf("Commit at the same LSN: %v", err)
	}
}

func (w *world) copies() {
	i := w.start()
	want := []sink.CopyProgress{
		{Source: "app.contact", Upto: `["9"]`, Pending: []sink.Key{"3", `["a","b\"c"]`, "", "NULL"}, Rows: 12,
			Tenants: map[string]int64{"1": 7, "2": 5}},
		{Source: "app.inbox", Done: true, Tenants: map[string]int64{}},
	}
	i.write(&sink.Writes{Copied: []sink.CopyProgress{{Source: "app.contact", Upto: `["1"]`, Rows: 1}}})
	i.write(&sink.Writes{Copied: want})
	got, err := i.s.Copies(w.ctx)
	if err != nil {
		w.Fatalf("Copies: %v", err)
	}
	slices.SortFunc(got, func(a, b sink.CopyProgress) int { return cmp.Compare(a.Source, b.Source) })
	if diff := gocmp.Diff(want, got); diff != "" {
		w.Fatalf("copies (-want +got):\n%s", diff)
	}
}
