package replicator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
)

// steps looks at the target transactions that record a request: it counts them
// from 1 and may fail each, before or after its commit.
type steps struct {
	before, after func(n int64) error
	n             atomic.Int64
}

type stepSink struct {
	sink.Sink
	steps *steps
}

func (s *stepSink) Begin(ctx context.Context, epoch int64, from cdc.LSN, opts sink.TxOptions) (sink.Tx, error) {
	tx, err := s.Sink.Begin(ctx, epoch, from, opts)
	if err != nil {
		return nil, err
	}
	return &stepTx{Tx: tx, steps: s.steps}, nil
}

type stepTx struct {
	sink.Tx
	steps  *steps
	number int64
}

func (t *stepTx) Apply(ctx context.Context, w *sink.Writes) error {
	if len(w.Requests) > 0 {
		t.number = t.steps.n.Add(1)
	}
	return t.Tx.Apply(ctx, w)
}

func (t *stepTx) Commit(ctx context.Context, p sink.Progress) error {
	hook := func(f func(int64) error) error {
		if f == nil || t.number == 0 {
			return nil
		}
		return f(t.number)
	}
	if err := hook(t.steps.before); err != nil {
		return err
	}
	if err := t.Tx.Commit(ctx, p); err != nil {
		return err
	}
	return hook(t.steps.after)
}

// newItems is a bridge over one table whose target refuses codes.
func newItems(t *testing.T, s *steps) *world {
	w := newWorld(t, `CREATE TABLE item (id bigint PRIMARY KEY, tenant bigint, code text NOT NULL)`, `
tables:
  items:
    from: item
    tenant: [tenant]
    columns: [id, code]
    audit: {entity: item}
audit_log: {table: audit_logs}
`)
	w.tune = func(o *replicator.Options) {
		o.RejectLimit = 10_000
		open := o.OpenSink
		o.OpenSink = func(ctx context.Context) (sink.Sink, error) {
			snk, err := open(ctx)
			return &stepSink{Sink: snk, steps: s}, err
		}
	}
	return w
}

// refused is how many items are held, enough for two steps of a request.
const refused = 1200

// hold has the target refuse items, and mends what it refused them for. Those
// with the code worse stay refused.
func (w *world) hold(r *running) {
	w.t.Helper()
	w.catchUp(r)
	pgtest.Exec(w.t, w.dst, `ALTER TABLE items ADD CONSTRAINT no_bad CHECK (code <> 'bad'), ADD CONSTRAINT no_worse CHECK (code <> 'worse')`)
	w.exec(fmt.Sprintf("INSERT INTO item SELECT n, 1 + n %% 3, 'bad' FROM generate_series(1, %d) n", refused))
	w.catchUp(r)
	w.want("held rows", "SELECT count(*), min(code), max(code) FROM walbridge.held", fmt.Sprintf("%d | 23514 | 23514", refused))
	pgtest.Exec(w.t, w.dst, `ALTER TABLE items DROP CONSTRAINT no_bad`)
}

func (w *world) ask(kind, args string) (id string) {
	w.t.Helper()
	return pgtest.QueryValue(w.t, w.dst, fmt.Sprintf("INSERT INTO walbridge.requests (bridge, kind, args) VALUES ('walbridge', '%s', '%s') RETURNING id", kind, args))
}

// ended waits until a request has ended, and returns its state, progress and
// error.
func (w *world) ended(id string) (row string) {
	w.t.Helper()
	pgtest.Eventually(w.t, "the end of request "+id, patience, func() error {
		row = w.rows("SELECT state, progress, error FROM walbridge.requests WHERE id = " + id)
		if strings.HasPrefix(row, "new ") || strings.HasPrefix(row, "running ") {
			return errors.New("still open: " + row)
		}
		return nil
	})
	return row
}

// wantReleased holds the target against a retry of all items: each is there
// once, and the log has no gap and no repetition, also behind it.
func (w *world) wantReleased(r *running) {
	w.t.Helper()
	w.exec("INSERT INTO item VALUES (0, 7, 'good')")
	w.catchUp(r)
	w.want("rows", "SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE provedor_id = 1 + id % 3 OR id = 0) FROM items",
		fmt.Sprintf("%d | %[1]d | %[1]d", refused+1))
	w.want("held rows", "SELECT (SELECT count(*) FROM walbridge.held), held_rows, audit_rows FROM walbridge.checkpoint", fmt.Sprintf("0 | 0 | %d", refused+1))
	w.want("entries", `SELECT count(*), count(DISTINCT details->>'n'), max((details->>'n')::int), count(DISTINCT details->'key'), count(*) FILTER (WHERE action = 'item.created') FROM audit_logs`,
		fmt.Sprintf("%d | %[1]d | %[1]d | %[1]d | %[1]d", refused+1))
}

func TestRequests_LostReply(t *testing.T) {
	t.Parallel()
	s := &steps{
		before: func(n int64) error {
			if n == 2 {
				return fault.Wrap(fault.Retry, "", errors.New("cut before the commit"))
			}
			return nil
		},
		after: func(n int64) error {
			if n == 1 || n == 3 {
				return &sink.UnknownError{Err: fault.Wrap(fault.Retry, "", errors.New("the reply was lost"))}
			}
			return nil
		},
	}
	w := newItems(t, s)
	r := w.start()
	w.hold(r)
	id := w.ask(replicator.HeldRetry, "{}")
	if got, want := w.ended(id), fmt.Sprintf(`done | {"released":%d,"refused":{},"waiting":0,"dropped":0} | `, refused); got != want {
		t.Errorf("the request is %s, want %s", got, want)
	}
	w.wantReleased(r)
	if n := s.n.Load(); n != 3 {
		t.Errorf("%d steps were tried, want two, and one of them twice", n)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// A bridge that dies between two steps leaves the rest to the next one.
func TestRequests_Restart(t *testing.T) {
	t.Parallel()
	second, died := make(chan struct{}), make(chan struct{})
	s := &steps{before: func(n int64) error {
		if n == 2 {
			close(second)
			<-died
			return fault.Wrap(fault.Retry, "", errors.New("killed"))
		}
		return nil
	}}
	w := newItems(t, s)
	r := w.start()
	w.hold(r)
	id := w.ask(replicator.HeldRetry, `{"table": "public.items", "reason": "rejected"}`)
	<-second
	r.cancel()
	close(died)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.want("half of the rows", "SELECT count(*), (SELECT state FROM walbridge.requests) FROM items", "1000 | running")
	r = w.start()
	if got, want := w.ended(id), fmt.Sprintf(`done | {"released":%d,"refused":{},"waiting":0,"dropped":0} | `, refused); got != want {
		t.Errorf("the request is %s, want %s", got, want)
	}
	w.wantReleased(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// Rows that are refused again stay held, whatever page they are on, and the
// others go.
func TestRequests_RefusedAgain(t *testing.T) {
	t.Parallel()
	w := newItems(t, &steps{})
	r := w.start()
	w.hold(r)
	w.exec("UPDATE item SET code = 'worse' WHERE id IN (1, 500, 999)", "UPDATE item SET tenant = NULL WHERE id = 7")
	w.catchUp(r)
	id := w.ask(replicator.HeldRetry, "{}")
	if got, want := w.ended(id), fmt.Sprintf(`done | {"released":%d,"refused":{"23514":3},"waiting":1,"dropped":0} | `, refused-4); got != want {
		t.Errorf("the request is %s, want %s", got, want)
	}
	w.want("held rows", "SELECT key, reason, code, cardinality(waiting) FROM walbridge.held ORDER BY key::int",
		"1 | rejected | 23514 | 2\n7 | tenant |  | 2\n500 | rejected | 23514 | 2\n999 | rejected | 23514 | 2")
	id = w.ask(replicator.HeldDrop, `{"table": "public.items", "keys": ["999", "7"]}`)
	if got, want := w.ended(id), `done | {"released":0,"refused":{},"waiting":0,"dropped":2} | `; got != want {
		t.Errorf("the request is %s, want %s", got, want)
	}
	w.want("given up", "SELECT (SELECT string_agg(key, ' ' ORDER BY key) FROM walbridge.held), held_rows, dropped_rows FROM walbridge.checkpoint", "1 500 | 2 | 2")
	w.want("entries of 999", `SELECT action, details->>'op', details->>'request' FROM audit_logs WHERE details->'key' = '{"id": 999}' ORDER BY (details->>'n')::int`,
		"item.created | insert | \\N\nitem.updated | update | \\N\nitem.dropped | skip | "+id)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// A request waits while a large transaction has the target's one transaction
// open.
func TestRequests_LargeTransaction(t *testing.T) {
	t.Parallel()
	first, resume := make(chan struct{}), make(chan struct{})
	s := &steps{before: func(n int64) error {
		if n == 1 {
			close(first)
			<-resume
		}
		return nil
	}}
	w := newItems(t, s)
	tune := w.tune
	w.tune = func(o *replicator.Options) {
		tune(o)
		o.BatchRows = 10
	}
	r := w.start()
	w.hold(r) // whose refusals end a session
	before := r.status.Snapshot().Errors
	id := w.ask(replicator.HeldRetry, "{}")
	<-first
	w.exec("INSERT INTO item SELECT n, 1, 'good' FROM generate_series(10001, 12000) n")
	lsn := pgtest.QueryValue(t, w.src, "SELECT pg_current_wal_insert_lsn()")
	pgtest.Eventually(t, "the transaction's arrival", patience, func() error {
		if got := pgtest.QueryValue(t, w.src, "SELECT sent_lsn >= '"+lsn+"' FROM pg_stat_replication"); got != "t" {
			return errors.New("not sent yet")
		}
		return nil
	})
	close(resume)
	if got, want := w.ended(id), fmt.Sprintf(`done | {"released":%d,"refused":{},"waiting":0,"dropped":0} | `, refused); got != want {
		t.Errorf("the request is %s, want %s", got, want)
	}
	w.catchUp(r)
	w.want("rows", "SELECT count(*), (SELECT held_rows FROM walbridge.checkpoint) FROM items", fmt.Sprintf("%d | 0", refused+2000))
	w.want("entries", `SELECT count(*), count(DISTINCT details->>'n'), max((details->>'n')::int) FROM audit_logs`, fmt.Sprintf("%d | %[1]d | %[1]d", refused+2000))
	if n := s.n.Load(); n != 2 {
		t.Errorf("%d steps were tried, want 2", n)
	}
	if diff := cmp.Diff(before, r.status.Snapshot().Errors); diff != "" {
		t.Errorf("the session has failed (-before +after):\n%s", diff)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// A request that fails is marked, and the stream goes on.
func TestRequests_Fail(t *testing.T) {
	t.Parallel()
	s := &steps{before: func(int64) error { return fault.Wrap(fault.Retry, "", errors.New("always in the way")) }}
	w := newItems(t, s)
	r := w.start()
	w.hold(r)
	for _, tt := range []struct{ kind, args, want string }{
		{"dance", "{}", `failed |  | this release of the bridge knows no requests of kind "dance"`},
		{replicator.HeldRetry, `{"table": "public.nowhere"}`, "failed |  | the bridge's mapping has no target table public.nowhere"},
		{replicator.HeldDrop, `{"keys": 7}`, "failed |  | its arguments can't be read: json: cannot unmarshal number into Go struct field HeldArgs.keys of type []sink.Key"},
		{replicator.HeldRetry, "{}", "failed |  | always in the way"},
	} {
		if got := w.ended(w.ask(tt.kind, tt.args)); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.kind, tt.args, got, tt.want)
		}
	}
	if n := s.n.Load(); n != 3 {
		t.Errorf("a step was tried %d times, want 3", n)
	}
	w.exec("INSERT INTO item VALUES (0, 7, 'good')")
	w.catchUp(r)
	w.want("rows", "SELECT id FROM items", "0")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}
