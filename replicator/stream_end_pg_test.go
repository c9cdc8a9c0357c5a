package replicator

import (
	"errors"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
)

func TestStream_Terminated(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	s := startStream(t, src.config())
	pgtest.Eventually(t, "the slot is active", patience, func() bool { return src.slot(t).Active })
	if err := EndWalsender(t.Context(), src.conn, src.db, src.slot(t).ActivePID); err != nil {
		t.Fatal(err)
	}
	if src.slot(t).Active {
		t.Error("the slot is still active")
	}
	err := s.wait(t)
	if fault.Code(err) != "57P01" || fault.ClassOf(err) != fault.Retry {
		t.Errorf("run: %v, want SQLSTATE 57P01, to retry", err)
	}
}

// A fast shutdown waits for walsenders, and a walsender for its client to
// confirm. The pulse hears of it first.
func TestStream_Shutdown(t *testing.T) {
	t.Parallel()
	src := newOwnSource(t)
	s := startStream(t, src.config())
	src.exec(t, "INSERT INTO public.item VALUES (1, 'a')")
	s.Confirm(src.start) // not zero, and behind
	s.txs(t, 1)
	pulse := startPulse(t, src)

	stopped := make(chan error, 1)
	go func() { stopped <- src.cluster.Stop(pgtest.Fast) }()
	if err := pulse.wait(t); !errors.Is(err, ErrSourceShutdown) || fault.ClassOf(err) != fault.Retry {
		t.Fatalf("pulse: %v, want ErrSourceShutdown, to retry", err)
	}
	select {
	case err := <-stopped:
		t.Fatalf("the source stopped although the position is not confirmed (%v): the test proves nothing", err)
	default:
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-stopped:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("the source can't stop")
	}
	if err := s.wait(t); err == nil {
		t.Error("run ended without an error")
	}
}

// With everything confirmed the server ends the stream by itself.
func TestStream_ShutdownConfirmed(t *testing.T) {
	t.Parallel()
	src := newOwnSource(t)
	s := startStream(t, src.config())
	go func() {
		for {
			select {
			case <-s.Ready():
				for _, it := range s.Take(1000, 1<<20) {
					s.Confirm(it.WALEnd)
				}
			case <-s.done:
				return
			}
		}
	}()
	src.exec(t, "INSERT INTO public.item VALUES (1, 'a')")
	pgtest.Eventually(t, "the slot is active", patience, func() bool { return src.slot(t).Active })
	if err := src.cluster.Stop(pgtest.Fast); err != nil {
		t.Fatal(err)
	}
	if err := s.wait(t); !errors.Is(err, ErrStreamEnded) {
		t.Errorf("run: %v, want ErrStreamEnded", err)
	}
}

func TestStream_SlotErrors(t *testing.T) {
	t.Parallel()
	src := newOwnSource(t, pgtest.WithSetting("max_slot_wal_keep_size", "1MB"))
	run := func(cfg StreamConfig) error { return startStream(t, cfg).wait(t) }

	t.Run("Active", func(t *testing.T) {
		first := startStream(t, src.config())
		pgtest.Eventually(t, "the slot is active", patience, func() bool { return src.slot(t).Active })
		err := run(src.config())
		var active *SlotActiveError
		if !errors.As(err, &active) || active.PID != src.slot(t).ActivePID || active.PID == 0 {
			t.Errorf("run: %v, want a SlotActiveError with pid %d", err, src.slot(t).ActivePID)
		}
		first.stop(t)
		pgtest.Eventually(t, "the slot is free", patience, func() bool { return !src.slot(t).Active })
	})
	t.Run("Missing", func(t *testing.T) {
		cfg := src.config()
		cfg.Slot = "missing"
		if err := run(cfg); !errors.Is(err, ErrNoSlot) {
			t.Errorf("run: %v, want ErrNoSlot", err)
		}
	})
	t.Run("Lost", func(t *testing.T) {
		pgtest.Eventually(t, "the slot is lost", patience, func() bool {
			src.exec(t, "SELECT pg_switch_wal()")
			src.exec(t, "SELECT pg_logical_emit_message(true, '', repeat('x', 100000))")
			src.exec(t, "CHECKPOINT")
			return src.slot(t).Lost()
		})
		err := run(src.config())
		var lost *SlotLostError
		if !errors.As(err, &lost) || lost.Reason != "wal_removed" {
			t.Errorf("run: %v, want a SlotLostError", err)
		}
	})
}

func TestStream_PublicationMissing(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	src.exec(t, "DROP PUBLICATION bridge")
	src.exec(t, "INSERT INTO public.item VALUES (1, 'a')")
	err := startStream(t, src.config()).wait(t)
	var missing *PublicationMissingError
	if !errors.As(err, &missing) || missing.Publication != "bridge" {
		t.Errorf("run: %v, want a PublicationMissingError", err)
	}
}
