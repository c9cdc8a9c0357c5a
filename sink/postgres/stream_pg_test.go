package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/sink"
)

// entries are one set, each time another.
func (b *bridge) entries(n int) *sink.Writes {
	w := &sink.Writes{}
	for i := range 500 {
		w.Entries = append(w.Entries, sink.Entry{
			ID: fmt.Sprintf("00000000-0000-5000-8000-%06d%06d", n, i), Tenant: "1", Action: "contact.created", Details: "{}", Time: time.Unix(0, 0),
		})
	}
	return w
}

func (b *bridge) entryCount() string {
	b.Helper()
	return pgtest.QueryValue(b.T, b.admin, "SELECT count(*) FROM public.audit_logs")
}

// stuck is a batch whose entries wait for somebody who holds the audit table.
func (b *bridge) stuck(ctx context.Context) (tx sink.Tx, release func()) {
	b.Helper()
	lock := pgtest.Connect(b.T, b.admin)
	if _, err := lock.Exec(b.Context(), "BEGIN; LOCK TABLE public.audit_logs"); err != nil {
		b.Fatal(err)
	}
	tx = b.begin(sink.TxOptions{})
	if err := tx.Apply(ctx, b.entries(1)); err != nil {
		b.Fatalf("Apply: %v", err)
	}
	const waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bridge' AND datname = current_database() AND wait_event_type = 'Lock'"
	pgtest.Eventually(b.T, "the entries to wait", time.Minute, func() bool { return pgtest.QueryValue(b.T, b.admin, waiting) == "1" })
	return tx, func() {
		if _, err := lock.Exec(context.WithoutCancel(b.Context()), "ROLLBACK"); err != nil {
			b.Fatal(err)
		}
	}
}

// The session dies while entries are on their way: the batch fails, for what goes
// away by itself, and leaves nothing.
func TestSink_StreamOfEntriesLosesSession(t *testing.T) {
	t.Parallel()
	url, admin := newDB(t, newCluster(t))
	b := newBridge(t, url, admin)
	b.must(b.entries(0)) // what is asked once about a table has been asked
	tx, release := b.stuck(t.Context())
	pgtest.Exec(t, admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bridge' AND datname = current_database()")
	var err error
	for n := 2; err == nil && n < 100; n++ {
		err = tx.Apply(t.Context(), b.entries(n))
	}
	if fault.ClassOf(err) != fault.Retry {
		t.Fatalf("Apply on a dead session: %v (%s), want an error to retry", err, fault.ClassOf(err))
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatalf("Rollback: %v", err)
	}
	release()
	b.must(b.entries(1))
	if got := b.entryCount(); got != "1000" {
		t.Errorf("%s entries, want 1000", got)
	}
}

// A batch is given up while its entries wait: nobody waits for them any more, and
// the sink goes on.
func TestSink_StreamOfEntriesGivenUp(t *testing.T) {
	t.Parallel()
	url, admin := newDB(t, newCluster(t))
	b := newBridge(t, url, admin)
	b.must(b.entries(0))
	for _, cancelled := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		tx, release := b.stuck(ctx)
		if cancelled {
			cancel()
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Errorf("Rollback: %v", err)
		}
		cancel()
		release()
		if got := b.entryCount(); got != "500" {
			t.Errorf("%s entries, want 500", got)
		}
	}
	b.must(b.entries(1))
	if got := b.entryCount(); got != "1000" {
		t.Errorf("%s entries, want 1000", got)
	}
}

// Rows that are to be new come set by set. One that is there after all ends the
// batch with an error of its own, at the latest when something is read.
func TestSink_NewRows(t *testing.T) {
	t.Parallel()
	url, admin := newDB(t, newCluster(t))
	b := newBridge(t, url, admin)
	rows := func(from, n int) *sink.Writes {
		w := b.insert(upTo(from + n)[from:]...)
		w.Rows[0].New = true
		return w
	}
	tx := b.begin(sink.TxOptions{})
	for i := range 3 {
		if err := tx.Apply(t.Context(), rows(1000*i, 1000)); err != nil {
			t.Fatalf("Apply: %v", err)
		}
	}
	if err := tx.Commit(t.Context(), sink.Progress{LSN: b.lsn}); err != nil {
		t.Fatalf("Commit: %v", err)
	}
	if got := b.count(); got != "3000" {
		t.Fatalf("%s rows, want 3000", got)
	}
	tx = b.begin(sink.TxOptions{})
	err := tx.Apply(t.Context(), rows(2500, 1000))
	if err == nil {
		_, err = tx.Load(t.Context(), &sink.Query{Rows: map[*sink.Table][]sink.Key{b.contacts: {"1"}}})
	}
	if !errors.Is(err, sink.ErrExists) {
		t.Fatalf("rows that are there: %v, want ErrExists", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatalf("Rollback: %v", err)
	}
	b.must(rows(3000, 500))
	if got := b.count(); got != "3500" {
		t.Errorf("%s rows, want 3500", got)
	}
}

// So do path values.
func TestSink_NewPaths(t *testing.T) {
	t.Parallel()
	url, admin := newDB(t, newCluster(t))
	b := newBridge(t, url, admin)
	node := chatSchema().Nodes[2]
	paths := func(from, n int) *sink.Writes {
		w := &sink.Writes{}
		for i := range n {
			w.Paths = append(w.Paths, sink.PathWrite{Node: node, Key: sink.Key(fmt.Sprint(from + i)), New: true,
				Row: sink.PathRow{Values: cdc.Row{cdc.TextValue(`a "b" \, {}`), {}}, Gone: i == 1}})
		}
		return w
	}
	b.must(paths(0, 1000))
	tx := b.begin(sink.TxOptions{})
	got, err := tx.Load(t.Context(), &sink.Query{Paths: map[*sink.Node][]sink.Key{node: {"0", "1", "1000"}}})
	if err != nil {
		t.Fatal(err)
	}
	w := paths(0, 2)
	want := map[sink.Key]sink.PathRow{"0": w.Paths[0].Row, "1": w.Paths[1].Row}
	if diff := cmp.Diff(want, got.Paths[node]); diff != "" {
		t.Error(diff)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.try(paths(999, 300)); !errors.Is(err, sink.ErrExists) {
		t.Errorf("path values that are there: %v, want ErrExists", err)
	}
	b.must(paths(1000, 3)) // too few for a COPY
	if got := pgtest.QueryValue(t, admin, "SELECT count(*) FROM walbridge.path_values"); got != "1003" {
		t.Errorf("%s path values, want 1003", got)
	}
}
