package replicator_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/replicator"
)

// writeWAL writes about n MiB of WAL that no published table has a part in.
func (w *world) writeWAL(n int) {
	w.t.Helper()
	for range n {
		w.exec("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1 << 20))")
	}
}

// level waits for the level of the slot.
func (r *running) level(want status.Level) status.Slot {
	r.w.t.Helper()
	var slot status.Slot
	pgtest.Eventually(r.w.t, "the slot's level "+string(want), patience, func() error {
		s := r.status.Snapshot()
		if s.Slot == nil || s.Slot.Level != want {
			return fmt.Errorf("%s, slot %+v", s.State, s.Slot)
		}
		slot = *s.Slot
		return nil
	})
	return slot
}

// lines is a log that several goroutines write.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// While the target is away the source keeps WAL: that has to show then, not when
// it is over; and it has to end before the application's disk is full.
func TestGuard_WarnsThenDropsTheSlotAtItsLimit(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.exec(seed, moveIdentities)
	var log lines
	w.tune = func(o *replicator.Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		o.Retention = replicator.Retention{Warning: 4 << 20, Alarm: 8 << 20, Max: 32 << 20}
	}
	r := w.start()
	w.catchUp(r)
	r.level(status.LevelOK)
	if err := w.target.Kill(); err != nil {
		t.Fatal(err)
	}
	w.exec("UPDATE conversations_conversation SET status = 'closed' WHERE id = 10")
	w.writeWAL(5)
	if s := r.level(status.LevelWarning); s.Retained < 4<<20 {
		t.Errorf("warning with %d bytes", s.Retained)
	}
	w.writeWAL(5)
	r.level(status.LevelAlarm)
	pgtest.Eventually(t, "the lag of a bridge without its target", patience, func() bool { return r.status.Snapshot().LagBytes > 8<<20 })
	w.writeWAL(30)
	pgtest.Eventually(t, "the slot dropped", patience, func() bool { return w.confirmed() == "no slot" })
	pgtest.Eventually(t, "the status saying so", patience, func() bool {
		s := r.status.Snapshot()
		return s.Slot != nil && s.Slot.WALStatus == status.SlotDropped && strings.Contains(s.Text(time.Now()), "resync needed")
	})
	if err := w.target.Start(); err != nil {
		t.Fatal(err)
	}
	hint := r.blocked("resync needed: slot walbridge was dropped")
	w.startOver(hint)
	w.catchUp(r)
	r.level(status.LevelOK)
	w.requireEqual()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`level=WARN msg="slot warning: source.warn_retained_wal is reached"`, `level=ERROR msg="slot alarm: source.alarm_retained_wal is reached"`, `level=ERROR msg="slot dropped at its limit"`} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("the log has not once %s:\n%s", want, log.String())
		}
	}
}

// Without a limit of the bridge's, the source may have one of its own.
func TestGuard_SeesTheSourcesOwnLimit(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.exec(seed, "ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'", "SELECT pg_reload_conf()")
	w.tune = func(o *replicator.Options) { o.Retention = replicator.Retention{} }
	r := w.start()
	w.catchUp(r)
	if err := w.target.Kill(); err != nil {
		t.Fatal(err)
	}
	pgtest.Eventually(t, "no more than an alarm", patience, func() error {
		w.writeWAL(4)
		s := r.status.Snapshot().Slot
		if s == nil || s.Level != status.LevelAlarm || s.Safe == nil {
			return fmt.Errorf("slot %+v", s)
		}
		return nil
	})
}

// A database in which nothing happens must not keep the WAL of its neighbours.
func TestGuard_IdleDatabaseRetainsNoWAL(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.exec(seed, "CREATE DATABASE neighbour")
	r := w.start()
	w.catchUp(r)
	neighbour := w.source.URL("neighbour")
	pgtest.Exec(t, neighbour, "CREATE TABLE busy (t text)")
	for range 8 {
		pgtest.Exec(t, neighbour, "INSERT INTO busy SELECT repeat(md5(n::text), 30) FROM generate_series(1, 8000) n")
	}
	written := pgtest.QueryValue(t, w.src, "SELECT pg_current_wal_insert_lsn()")
	pgtest.Eventually(t, "the slot letting go of the neighbour's WAL", patience, func() error {
		// What a slot may let go of moves with the records that checkpoints write.
		pgtest.Exec(t, neighbour, "CHECKPOINT")
		got := pgtest.QueryValue(t, w.src, "SELECT restart_lsn >= '"+written+"' AND pg_current_wal_lsn() - restart_lsn < 16 << 20 FROM pg_replication_slots")
		if got != "t" {
			return fmt.Errorf("%+v", r.status.Snapshot().Slot)
		}
		return nil
	})
}

// While the target is locked nothing is applied and nothing confirmed, and the
// source must not give up on the bridge for it.
func TestGuard_KeepsTheWalsenderWhileTheTargetIsLocked(t *testing.T) {
	t.Parallel()
	locked := 3 * time.Second // beyond wal_sender_timeout
	if d, err := time.ParseDuration(os.Getenv("WALBRIDGE_TEST_LOCKED")); err == nil {
		locked = d
	}
	w := newNioChat(t)
	w.exec(seed, moveIdentities, "ALTER SYSTEM SET wal_sender_timeout = '2s'", "SELECT pg_reload_conf()")
	r := w.start()
	w.catchUp(r)
	lock := pgtest.Connect(t, w.dst)
	if _, err := lock.Exec(t.Context(), "BEGIN; LOCK TABLE public.conversations IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	const replied = "SELECT pid || ' ' || extract(epoch FROM reply_time)::float8 FROM pg_stat_replication WHERE application_name = 'walbridge'"
	read := func() (pid int, at float64) {
		t.Helper()
		if _, err := fmt.Sscan(pgtest.QueryValue(t, w.src, replied), &pid, &at); err != nil {
			t.Fatal(err)
		}
		return pid, at
	}
	pid, begin := read()
	w.exec("UPDATE conversations_conversation SET status = 'closed' WHERE id = 10")
	pgtest.Eventually(t, "status for long enough", patience, func() bool {
		now, at := read()
		if now != pid {
			t.Fatalf("walsender %d was replaced by %d", pid, now)
		}
		return at > begin+locked.Seconds()
	})
	if _, err := lock.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	w.catchUp(r)
	w.want("applied after all", "SELECT status FROM public.conversations WHERE id = 10", "closed")
	if now, _ := read(); now != pid {
		t.Errorf("walsender %d was replaced by %d", pid, now)
	}
}
