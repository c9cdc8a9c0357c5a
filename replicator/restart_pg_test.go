package replicator_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/internal/verify"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/replicator"
)

// requireEqual compares the two sides by the mapping, and the audit log with
// itself and its chain.
func (w *world) requireEqual() {
	w.t.Helper()
	ctx := w.t.Context()
	src, err := pg.Connect(ctx, w.src, pg.Options{Side: pg.Source})
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = src.Close(ctx) }()
	dst, err := pg.Connect(ctx, w.dst, pg.Options{Side: pg.Target})
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = dst.Close(ctx) }()
	m, err := verify.Compile(ctx, w.file, mapping.CompileOptions{}, src, dst)
	if err != nil {
		w.t.Fatal(err)
	}
	rows, err := verify.Compare(ctx, m, src, dst, verify.Options{Keys: 5})
	if err != nil {
		w.t.Fatal(err)
	}
	entries, err := verify.Entries(ctx, m, dst, verify.DefaultName)
	if err != nil {
		w.t.Fatal(err)
	}
	chain, err := verify.Chain(ctx, m, dst, verify.DefaultName)
	if err != nil {
		w.t.Fatal(err)
	}
	if !rows.Equal() || !entries.OK() || chain != nil && !chain.OK() {
		w.t.Errorf("the target differs:\n%s\n%s\n%v", rows, entries, chain)
	}
}

// writer inserts messages, one a transaction, until it is stopped. It goes on
// over restarts of the source; what counts is what is there at the end.
func (w *world) writer() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			conn, err := pg.Connect(ctx, w.src, pg.Options{Side: pg.Source})
			if err != nil {
				continue
			}
			// Statements are never broken off: the server would still commit one,
			// after the test has looked how far it has to wait.
			for err == nil && ctx.Err() == nil {
				_, err = conn.Exec(context.Background(), `INSERT INTO public.conversations_message (message_type, content, created_at, conversation_id, additional_attributes, is_from_customer, updated_at)
					VALUES ('text', 'oi', now(), 10, '{}', true, now())`)
				if err == nil {
					_, err = conn.Exec(context.Background(), `UPDATE public.conversations_conversation SET updated_at = now(), status = CASE status WHEN 'open' THEN 'closed' ELSE 'open' END WHERE id = 10`)
				}
			}
			_ = conn.Close(context.Background())
		}
	})
	return func() { cancel(); wg.Wait() }
}

// shortSeed makes the identity of the seed's messages leave room for those with
// ids of their own.
const moveIdentities = `SELECT setval('conversations_message_id_seq', 1000)`

func TestBridge_GoesOnOverRestarts(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.exec(seed, moveIdentities)
	r := w.start()
	stop := w.writer()
	defer stop()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		w.catchUp(r)
		must(w.target.Kill())
		must(w.target.Start())
		w.catchUp(r)
		must(w.source.Restart(pgtest.Fast))
		w.catchUp(r)
		must(w.source.Kill())
		must(w.source.Start())
		w.catchUp(r)
		must(w.target.Kill())
		must(w.source.Kill())
		must(w.source.Start())
		must(w.target.Start())
	}
	stop()
	w.catchUp(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.requireEqual()
}

// A fast shutdown of the source waits until its walsender's client has confirmed
// everything, which the bridge does not while its target is away or in somebody's
// lock. It has to hear of the shutdown another way, and leave.
func TestBridge_LetsTheSourceStopWhileTheTargetHangs(t *testing.T) {
	t.Parallel()
	for name, hang := range map[string]func(w *world, r *running) (mend func()){
		"down": func(w *world, r *running) func() {
			if err := w.target.Kill(); err != nil {
				w.t.Fatal(err)
			}
			w.exec(`UPDATE conversations_conversation SET status = 'closed' WHERE id = 10`)
			pgtest.Eventually(w.t, "the bridge noticing", patience, func() bool { return r.status.Snapshot().State == status.Retrying })
			return func() {
				if err := w.target.Start(); err != nil {
					w.t.Fatal(err)
				}
			}
		},
		"locked": func(w *world, r *running) func() {
			conn := pgtest.Connect(w.t, w.dst)
			if _, err := conn.Exec(w.t.Context(), "BEGIN; LOCK TABLE conversations"); err != nil {
				w.t.Fatal(err)
			}
			w.exec(`UPDATE conversations_conversation SET status = 'closed' WHERE id = 10`)
			pgtest.Eventually(w.t, "the bridge waiting for the lock", patience, func() bool {
				return w.rows("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted") == "t"
			})
			return func() {
				if _, err := conn.Exec(w.t.Context(), "COMMIT"); err != nil {
					w.t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newNioChat(t)
			w.exec(seed, moveIdentities)
			r := w.start()
			w.catchUp(r)
			mend := hang(w, r)
			stopped := make(chan error, 1)
			go func() { stopped <- w.source.Stop(pgtest.Fast) }()
			select {
			case err := <-stopped:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(patience):
				t.Fatal("the source does not stop")
			}
			if err := w.source.Start(); err != nil {
				t.Fatal(err)
			}
			mend()
			w.catchUp(r)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			w.requireEqual()
		})
	}
}

func TestBridge_SecondInstanceWaitsAndTakesOver(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.exec(seed, moveIdentities)
	first := w.start()
	w.catchUp(first)
	second := w.start()
	pgtest.Eventually(t, "the second instance standing by", patience, func() bool { return second.status.Snapshot().State == status.Standby })
	stop := w.writer()
	defer stop()
	w.catchUp(first)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	w.catchUp(second)
	stop()
	w.catchUp(second)
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	w.requireEqual()
}

func TestBridge_EqualAfterTheDemosTraffic(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	conn := pgtest.Connect(t, w.src)
	if err := demo.Seed(t.Context(), conn, demo.SeedOptions{Seed: 7}); err != nil {
		t.Fatal(err)
	}
	w.tune = func(o *replicator.Options) { o.BatchRows, o.CopyRows = 50, 100 }
	r := w.start()
	w.catchUp(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.requireEqual()
}

// untilIdle waits until the source has noticed that the bridge is gone.
func (w *world) untilIdle() {
	w.t.Helper()
	pgtest.Eventually(w.t, "the slot to be idle", patience, func() bool {
		return pgtest.QueryValue(w.t, w.src, "SELECT active FROM pg_replication_slots WHERE slot_name = 'walbridge'") == "f"
	})
}

// The hint of a refusal has to be a way out: its commands bring the bridge back.
func TestBridge_StartsOverAsItsHintSays(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.exec(seed, moveIdentities)
	r := w.start()
	w.catchUp(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.untilIdle()
	w.exec("SELECT pg_drop_replication_slot('walbridge')",
		"UPDATE conversations_conversation SET status = 'closed' WHERE id = 10")
	r = w.start()
	err := r.wait()
	if err == nil || !strings.Contains(err.Error(), "slot walbridge is gone") {
		t.Fatalf("without its slot the bridge ended with %v", err)
	}
	if hint := fault.HintOf(err); !strings.HasPrefix(hint, "walbridge resync --no-wait, then walbridge run") {
		t.Fatalf("the hint names no command: %s", hint)
	}
	w.ask(request.Resync, "{}") // which is what that command does
	r = w.start()
	w.catchUp(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.requireEqual()
}

// What is written to a table while the publication lacks it is not in the stream,
// so the bridge must not go on as if it were.
func TestBridge_RefusesPublicationThatLostTable(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.exec(seed)
	r := w.start()
	w.catchUp(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.exec("ALTER PUBLICATION walbridge DROP TABLE conversations_message",
		`UPDATE conversations_message SET content = 'unseen' WHERE id = 100`,
		"ALTER PUBLICATION walbridge ADD TABLE csat_requests")
	before := pgtest.QueryValue(t, w.src, "SELECT confirmed_flush_lsn FROM pg_replication_slots")
	err := w.start().wait()
	if err == nil || !strings.Contains(err.Error(), "lacks a table") {
		t.Fatalf("Run = %v", err)
	}
	if hint := fault.HintOf(err); !strings.Contains(hint, `ADD TABLE "public"."conversations_message"`) || !strings.HasPrefix(hint, "walbridge resync") {
		t.Errorf("hint = %q", hint)
	}
	if got := pgtest.QueryValue(t, w.src, "SELECT confirmed_flush_lsn FROM pg_replication_slots"); got != before {
		t.Errorf("confirmed moved from %s to %s", before, got)
	}
}
