package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/sink"
)

// bridge is a sink that holds the lease, over one table of contacts.
type bridge struct {
	*testing.T
	s        sink.Sink
	admin    string
	epoch    int64
	lsn      cdc.LSN
	contacts *sink.Table
}

func newBridge(t *testing.T, url, admin string) *bridge {
	t.Helper()
	b := &bridge{T: t, admin: admin, s: open(t, url, "bridge")}
	b.contacts = &sink.Table{Schema: "public", Name: "contacts", Key: []int{0}, Tenant: 1,
		Columns: []sink.Column{col("id", "int8"), {Name: "provedor_id", Type: typ("int8"), NotNull: true}, col("name", "text")}}
	schema := chatSchema()
	schema.Tables = []*sink.Table{b.contacts}
	install(t, b.s, schema, false)
	b.acquire()
	return b
}

func (b *bridge) acquire() {
	b.Helper()
	c, err := b.s.Acquire(b.Context(), "one", time.Minute, false)
	if err != nil {
		b.Fatalf("Acquire: %v", err)
	}
	b.epoch, b.lsn = c.Epoch, c.LSN
}

func (b *bridge) begin(opts sink.TxOptions) sink.Tx {
	b.Helper()
	tx, err := b.s.Begin(b.Context(), b.epoch, b.lsn, opts)
	if err != nil {
		b.Fatalf("Begin: %v", err)
	}
	return tx
}

func (b *bridge) insert(ids ...int) *sink.Writes {
	set := sink.RowSet{Table: b.contacts, Mode: sink.Insert, Columns: []int{0, 1, 2}}
	for _, id := range ids {
		set.Rows = append(set.Rows, cdc.Row{cdc.TextValue(fmt.Sprint(id)), cdc.TextValue("1"), cdc.TextValue(fmt.Sprint("secret ", id))})
	}
	return &sink.Writes{Rows: []sink.RowSet{set}}
}

func upTo(n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i + 1
	}
	return ids
}

// try writes one batch and returns the first error.
func (b *bridge) try(w *sink.Writes) error {
	b.Helper()
	tx := b.begin(sink.TxOptions{})
	defer tx.Rollback(b.Context())
	if err := tx.Apply(b.Context(), w); err != nil {
		return err
	}
	if err := tx.Commit(b.Context(), sink.Progress{LSN: b.lsn + 10}); err != nil {
		return err
	}
	b.lsn += 10
	return nil
}

func (b *bridge) must(w *sink.Writes) {
	b.Helper()
	if err := b.try(w); err != nil {
		b.Fatalf("write: %v", err)
	}
}

func (b *bridge) count() string {
	b.Helper()
	return pgtest.QueryValue(b.T, b.admin, "SELECT count(*) FROM public.contacts")
}

// settled says what became of a batch of unknown outcome, and that its rows and
// the checkpoint agree about it.
func (b *bridge) settled(rows string) (committed bool) {
	b.Helper()
	c, err := b.s.Checkpoint(b.Context())
	if err != nil {
		b.Fatalf("Checkpoint: %v", err)
	}
	committed = c.LSN == b.lsn+10
	if !committed && c.LSN != b.lsn {
		b.Fatalf("the checkpoint is at %s, neither before nor after the batch", c.LSN)
	}
	if committed != (b.count() == rows) {
		b.Fatalf("the checkpoint says committed=%t, the table has %s rows of %s", committed, b.count(), rows)
	}
	b.lsn = c.LSN
	return committed
}

func TestCommit_ReplyLost(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	proxy := pgtest.NewProxy(t, c.Addr())
	b := newBridge(t, strings.Replace(url, c.Addr(), proxy.Addr(), 1), admin)

	lost := proxy.LoseReply("COMMIT")
	err := b.try(b.insert(1, 2, 3))
	var unknown *sink.UnknownError
	if !errors.As(err, &unknown) {
		t.Fatalf("Commit without a reply: %v, want *sink.UnknownError", err)
	}
	<-lost
	pgtest.Eventually(t, "the commit that nobody heard of", time.Minute, func() bool { return b.count() == "3" })
	if !b.settled("3") {
		t.Fatal("the checkpoint doesn't know the commit")
	}
	b.must(b.insert(4))
}

// Wherever the wire is cut, the checkpoint tells the truth.
func TestCommit_CutAnywhere(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	proxy := pgtest.NewProxy(t, c.Addr())
	b := newBridge(t, strings.Replace(url, c.Addr(), proxy.Addr(), 1), admin)
	want := 0
	outcomes := map[bool]int{}
	for _, direction := range []pgtest.Direction{pgtest.ToServer, pgtest.ToClient} {
		for at := int64(0); ; at += 97 {
			// A batch that loads has nothing but its second round trip in the air.
			tx := b.begin(sink.TxOptions{})
			if _, err := tx.Load(t.Context(), &sink.Query{Rows: map[*sink.Table][]sink.Key{b.contacts: {"1"}}}); err != nil {
				t.Fatalf("Load: %v", err)
			}
			if err := tx.Apply(t.Context(), b.insert(want+1)); err != nil {
				t.Fatalf("Apply: %v", err)
			}
			proxy.CutAfter(at, direction)
			err := tx.Commit(t.Context(), sink.Progress{LSN: b.lsn + 10})
			_ = tx.Rollback(t.Context())
			if err == nil { // it was shorter than that
				b.lsn += 10
				want++
				proxy.CutAfter(1<<40, direction)
				break
			}
			var unknown *sink.UnknownError
			if !errors.As(err, &unknown) {
				t.Fatalf("cut after %d bytes: %v, want *sink.UnknownError", at, err)
			}
			// What the server has received whole may take a moment.
			quiet := "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'bridge'"
			pgtest.Eventually(t, "the end of the old session", time.Minute, func() bool { return pgtest.QueryValue(t, admin, quiet) == "0" })
			committed := b.settled(fmt.Sprint(want + 1))
			outcomes[committed]++
			if committed {
				want++
			}
		}
	}
	if outcomes[true] == 0 || outcomes[false] == 0 {
		t.Errorf("outcomes %v: the cuts should have met both", outcomes)
	}
	b.must(b.insert(want + 1))
}

func TestSink_KilledBackend(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	b := newBridge(t, url, admin)
	kill := func() {
		t.Helper()
		pgtest.Eventually(t, "the end of the session", time.Minute, func() bool {
			return pgtest.QueryValue(t, admin, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE datname = current_database() AND application_name = 'bridge'`) == "0"
		})
	}
	tx := b.begin(sink.TxOptions{})
	if err := tx.Apply(t.Context(), b.insert(upTo(1000)...)); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	kill()
	_, err := tx.Load(t.Context(), &sink.Query{Rows: map[*sink.Table][]sink.Key{b.contacts: {"1"}}})
	if fault.ClassOf(err) != fault.Retry {
		t.Fatalf("Load on a killed session: %v (%s), want an error to retry", err, fault.ClassOf(err))
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatalf("Rollback: %v", err)
	}
	b.must(b.insert(1))
	if got := b.count(); got != "1" {
		t.Fatalf("%s rows, want 1", got)
	}
	// Idle sessions die, too. The next call fails or reconnects, the one after
	// that works.
	kill()
	_, _ = b.s.Checkpoint(t.Context())
	if _, err := b.s.Checkpoint(t.Context()); err != nil {
		t.Fatalf("Checkpoint after the session's death: %v", err)
	}
	kill()
	err = b.try(b.insert(2))
	var unknown *sink.UnknownError
	if !errors.As(err, &unknown) || b.settled("2") {
		t.Fatalf("a batch on a dead session: %v, want an unknown outcome that was none", err)
	}
	b.must(b.insert(2))
}

func TestSink_Canceled(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	b := newBridge(t, url, admin)
	lock := pgtest.Connect(t, admin)
	if _, err := lock.Exec(t.Context(), "BEGIN; LOCK TABLE public.contacts"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	tx := b.begin(sink.TxOptions{})
	if err := tx.Apply(ctx, b.insert(1)); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	done := make(chan error)
	go func() { done <- tx.Commit(ctx, sink.Progress{LSN: b.lsn + 10}) }()
	pgtest.Eventually(t, "the commit to wait for the lock", time.Minute, func() bool {
		return pgtest.QueryValue(t, admin, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()") == "1"
	})
	cancel()
	var unknown *sink.UnknownError
	if err := <-done; !errors.As(err, &unknown) {
		t.Fatalf("a canceled Commit: %v, want *sink.UnknownError", err)
	}
	_ = tx.Rollback(ctx)
	if _, err := lock.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	pgtest.Eventually(t, "the end of the old session", time.Minute, func() bool {
		return pgtest.QueryValue(t, admin, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bridge' AND datname = current_database()") == "0"
	})
	if !b.settled("1") {
		b.must(b.insert(1))
	}
}

func TestSink_LockedTableIsRetried(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	b := newBridge(t, url, admin)
	lock := pgtest.Connect(t, admin)
	if _, err := lock.Exec(t.Context(), "BEGIN; LOCK TABLE public.contacts"); err != nil {
		t.Fatal(err)
	}
	err := b.try(b.insert(1))
	if fault.Code(err) != "55P03" || fault.ClassOf(err) != fault.Retry {
		t.Fatalf("a locked table: %v, want 55P03 to retry", err)
	}
}

// A target that was made anew has no checkpoint, whatever the bridge remembers.
func TestSink_WipedTarget(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	b := newBridge(t, url, admin)
	pgtest.Exec(t, url, "DELETE FROM walbridge.checkpoint")
	if err := b.try(b.insert(1)); !errors.Is(err, sink.ErrNoCheckpoint) {
		t.Fatalf("a batch without a checkpoint row: %v, want ErrNoCheckpoint", err)
	}
	pgtest.Exec(t, url, "DROP SCHEMA walbridge CASCADE")
	if err := b.try(b.insert(1)); !errors.Is(err, sink.ErrNoCheckpoint) {
		t.Fatalf("a batch without a private schema: %v, want ErrNoCheckpoint", err)
	}
	if _, err := b.s.Checkpoint(t.Context()); !errors.Is(err, sink.ErrNoCheckpoint) {
		t.Fatalf("Checkpoint without a private schema: %v, want ErrNoCheckpoint", err)
	}
	if got := b.count(); got != "0" {
		t.Fatalf("%s rows were written", got)
	}
}

func TestSink_RejectAtCommit(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	b := newBridge(t, url, admin)
	pgtest.Exec(t, url, `CREATE TABLE provedores (id bigint PRIMARY KEY);
		ALTER TABLE contacts ADD CONSTRAINT known FOREIGN KEY (provedor_id) REFERENCES provedores DEFERRABLE INITIALLY DEFERRED`)
	var reject *sink.RejectError
	if err := b.try(b.insert(1)); !errors.As(err, &reject) {
		t.Fatalf("Commit against a deferred constraint: %v, want *sink.RejectError", err)
	}
	if diff := cmp.Diff(&sink.RejectError{Table: "public.contacts", Code: "23503", Constraint: "known"}, reject); diff != "" {
		t.Fatalf("RejectError (-want +got):\n%s", diff)
	}
	pgtest.Exec(t, url, "INSERT INTO provedores VALUES (1)")
	b.must(b.insert(1))
}

// Whatever the target says about a row, none of its values gets into an error.
func TestSink_ErrorsHoldNoValues(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	b := newBridge(t, url, admin)
	b.must(b.insert(7777))
	trigger := func(body string) []string {
		return []string{`CREATE OR REPLACE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ` + body + `; END $$`,
			`DROP TRIGGER IF EXISTS t ON contacts`, `CREATE TRIGGER t BEFORE INSERT ON contacts FOR EACH ROW EXECUTE FUNCTION f()`}
	}
	for name, break_ := range map[string][]string{
		"unique":  {`ALTER TABLE contacts ADD CONSTRAINT u UNIQUE (provedor_id)`},
		"check":   {`ALTER TABLE contacts ADD CONSTRAINT c CHECK (name NOT LIKE 'secret 8888%')`},
		"trigger": trigger(`RAISE EXCEPTION 'no % here', NEW.name`),
		"cast":    trigger(`PERFORM NEW.name::int`),
		"state":   trigger(`RAISE EXCEPTION USING MESSAGE = NEW.name, ERRCODE = '42501'`),
	} {
		for _, ids := range [][]int{{8888}, append(upTo(300), 8888)} {
			url, admin := newDB(t, c)
			b := newBridge(t, url, admin)
			b.must(b.insert(7777))
			pgtest.Exec(t, url, break_...)
			err := b.try(b.insert(ids...))
			if err == nil {
				t.Fatalf("%s: no error", name)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				// The server's own error stays in the chain for its code. Nobody
				// prints it, because what wraps it doesn't.
				if fmt.Sprintf("%T", e) == "*pgconn.PgError" {
					break
				}
				for _, secret := range []string{"secret", "8888", "7777"} {
					if strings.Contains(e.Error(), secret) {
						t.Errorf("%s: the error holds a value: %v", name, e)
					}
				}
			}
		}
	}
}
