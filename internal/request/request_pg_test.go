package request

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// newTarget is a target whose bridge holds the lease for an hour.
func newTarget(t *testing.T) (url string, bridge sink.Sink, epoch int64) {
	t.Helper()
	url = pgtest.Start(t).URL("postgres")
	bridge, err := postgres.Open(t.Context(), postgres.Options{URL: url, Name: "b"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bridge.Close(context.Background()) })
	if _, err := bridge.Install(t.Context(), &sink.Schema{}, false); err != nil {
		t.Fatal(err)
	}
	cp, err := bridge.Acquire(t.Context(), "me", time.Hour, false)
	if err != nil {
		t.Fatal(err)
	}
	return url, bridge, cp.Epoch
}

func ask(t *testing.T, url string) *Request {
	t.Helper()
	conn, err := pg.Connect(t.Context(), url, pg.Options{Side: pg.Target})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	r, err := Ask(t.Context(), Over(conn), "b", "dance", map[string]string{"to": "it's"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRequest_Wait(t *testing.T) {
	t.Parallel()
	url, bridge, epoch := newTarget(t)
	report := func(r sink.Request) {
		t.Helper()
		if err := bridge.Report(t.Context(), epoch, r); err != nil {
			t.Error(err)
		}
	}
	r := ask(t, url)
	open, err := bridge.Requests(t.Context())
	if err != nil || len(open) != 1 || open[0].Kind != "dance" || open[0].Args != `{"to": "it's"}` || open[0].State != sink.RequestNew {
		t.Fatalf("the bridge sees %+v, %v", open, err)
	}

	// The bridge works while the caller looks on.
	report(sink.Request{ID: r.id, State: sink.RequestRunning, Progress: "half"})
	var told []string
	progress, err := r.Wait(t.Context(), func(p string) {
		if told = append(told, p); p == "half" {
			report(sink.Request{ID: r.id, State: sink.RequestDone, Progress: "all"})
		}
	})
	if err != nil || progress != "all" || !slices.Equal(told, []string{"half", "all"}) {
		t.Errorf("Wait = %q, %v; told %q", progress, err, told)
	}

	r = ask(t, url)
	report(sink.Request{ID: r.id, State: sink.RequestFailed, Progress: "half", Error: "it rains"})
	progress, err = r.Wait(t.Context(), func(string) {})
	if err == nil || !strings.Contains(err.Error(), "it rains") || progress != "half" {
		t.Errorf("Wait for a request that fails = %q, %v", progress, err)
	}
}

// A context that ends withdraws what the bridge has not taken up, and leaves the
// rest to it.
func TestRequest_Timeout(t *testing.T) {
	t.Parallel()
	url, bridge, epoch := newTarget(t)
	late := errors.New("too late")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(late)
	state := func(r *Request) string {
		return pgtest.QueryValue(t, url, fmt.Sprintf("SELECT state FROM walbridge.requests WHERE id = %d", r.id))
	}
	r := ask(t, url)
	if _, err := r.Wait(ctx, func(string) {}); !errors.Is(err, late) || !strings.Contains(err.Error(), "withdrawn") {
		t.Errorf("Wait = %v", err)
	}
	if got := state(r); got != "withdrawn" {
		t.Errorf("the request is %s", got)
	}
	r = ask(t, url)
	if err := bridge.Report(t.Context(), epoch, sink.Request{ID: r.id, State: sink.RequestRunning}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Wait(ctx, func(string) {}); !errors.Is(err, late) || strings.Contains(err.Error(), "withdrawn") {
		t.Errorf("Wait = %v", err)
	}
	if got := state(r); got != "running" {
		t.Errorf("the request is %s", got)
	}
}

// A bridge is alive while it has the lease, or the lock of a long transaction.
func TestRequest_Alive(t *testing.T) {
	t.Parallel()
	url, bridge, epoch := newTarget(t)
	r := ask(t, url)
	alive := func() bool {
		t.Helper()
		s, err := r.look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.alive
	}
	if !alive() {
		t.Error("a bridge with a lease counts as gone")
	}
	tx, err := bridge.Begin(t.Context(), epoch, 0, sink.TxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context(), sink.Progress{LSN: 8}); err != nil {
		t.Fatal(err)
	}
	if err := bridge.Release(t.Context(), epoch); err != nil {
		t.Fatal(err)
	}
	if alive() {
		t.Error("a bridge that has given its lease back counts as there")
	}
	lock, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close(context.Background())
	if _, err := lock.Exec(t.Context(), fmt.Sprintf("BEGIN; SELECT walbridge.lock_checkpoint('b', %d, '0/8')", epoch)); err != nil {
		t.Fatal(err)
	}
	if !alive() {
		t.Error("a bridge within a transaction counts as gone")
	}
	if _, err := lock.Exec(t.Context(), "ROLLBACK; DELETE FROM walbridge.checkpoint"); err != nil {
		t.Fatal(err)
	}
	if alive() {
		t.Error("a bridge that has never been counts as there")
	}
}
