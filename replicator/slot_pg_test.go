package replicator

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
)

func TestCheckSlotName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"walbridge": true, "a": true, "a_1": true, "7": true, strings.Repeat("a", 63): true,
		"": false, "A": false, "a-b": false, "a b": false, "a;b": false, `a"b`: false, "a'b": false,
		"a\n": false, "ç": false, strings.Repeat("a", 64): false,
	} {
		if err := CheckSlotName(name); (err == nil) != want {
			t.Errorf("%q: %v, want valid=%v", name, err, want)
		} else if err != nil && fault.ClassOf(err) != fault.Config {
			t.Errorf("%q: class %s", name, fault.ClassOf(err))
		}
	}
}

func TestSlot_Read(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	got := src.slot(t)
	if got.Name != src.db || got.Plugin != "pgoutput" || got.Database != src.db || got.Temporary || got.Active || got.Lost() {
		t.Errorf("slot %+v", got)
	}
	if got.Confirmed != src.start || got.Restart == 0 || got.Restart > got.Confirmed || got.WALStatus != "reserved" {
		t.Errorf("slot %+v, made at %s", got, src.start)
	}
	src.exec(t, "SELECT pg_logical_emit_message(true, '', repeat('x', 1000000))")
	if got := src.slot(t).Retained; got < 1_000_000 {
		t.Errorf("retains %d bytes", got)
	}
	if _, err := ReadSlot(t.Context(), src.conn, "missing"); !errors.Is(err, ErrNoSlot) {
		t.Errorf("missing slot: %v", err)
	}
}

// The columns of pg_replication_slots by version.
func TestParseSlot(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, json, reason string
		lost               bool
	}{
		{"14", `{"slot_name":"s","wal_status":"lost","restart_lsn":null,"confirmed_flush_lsn":"0/1","retained":null}`, "wal_removed", true},
		{"17", `{"slot_name":"s","wal_status":"lost","invalidation_reason":"rows_removed","confirmed_flush_lsn":"0/1"}`, "rows_removed", true},
		{"18", `{"slot_name":"s","wal_status":"reserved","invalidation_reason":"idle_timeout","confirmed_flush_lsn":"0/1"}`, "idle_timeout", true},
		{"Good", `{"slot_name":"s","wal_status":"extended","invalidation_reason":null,"safe_wal_size":-5,"confirmed_flush_lsn":"0/1","failover":true}`, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := parseSlot([]byte(tt.json))
			if err != nil {
				t.Fatal(err)
			}
			if s.Lost() != tt.lost || s.Invalidation != tt.reason || s.Confirmed != 1 {
				t.Errorf("slot %+v", s)
			}
		})
	}
	if _, err := parseSlot([]byte(`{"restart_lsn":"x"}`)); err == nil {
		t.Error("a broken LSN was read")
	}
}

// Whoever blocks the making of a slot is named, and no slot is left behind.
func TestSlot_CreateBlocked(t *testing.T) {
	t.Parallel()
	src := newOwnSource(t, pgtest.WithSetting("max_prepared_transactions", "2"))
	src.exec(t, "CREATE ROLE plain LOGIN REPLICATION")
	src.exec(t, "GRANT CREATE ON DATABASE app TO plain")
	url := src.cluster.URLAs("plain", "", "app")
	plain, err := pg.Connect(t.Context(), url, pg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close(context.Background())

	writer := src.connect(t)
	exec := func(sql string) {
		t.Helper()
		if _, err := writer.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	check := func(t *testing.T, role string, want func(Blocker) bool) {
		t.Helper()
		conn := src.conn
		if role == "plain" {
			conn = plain
		}
		_, err := CreateSlot(t.Context(), conn, "blocked", SlotOptions{Timeout: 200 * time.Millisecond})
		var blocked *SlotBlockedError
		if !errors.As(err, &blocked) || fault.ClassOf(err) != fault.Stop {
			t.Fatalf("create: %v, want a SlotBlockedError", err)
		}
		if len(blocked.Blockers) != 1 || !want(blocked.Blockers[0]) {
			t.Errorf("blockers %+v", blocked.Blockers)
		}
		if _, err := ReadSlot(t.Context(), conn, "blocked"); !errors.Is(err, ErrNoSlot) {
			t.Errorf("a slot was left behind: %v", err)
		}
	}
	exec("BEGIN")
	exec("INSERT INTO public.item VALUES (1, 'secret')")
	pid := int32(writer.PgConn().PID())
	var xid uint32
	if err := writer.QueryRow(t.Context(), "SELECT pg_current_xact_id()::xid").Scan(&xid); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"postgres", "plain"} {
		t.Run("Session/"+role, func(t *testing.T) {
			check(t, role, func(b Blocker) bool { return b.PID == pid && b.XID == xid && b.GID == "" && b.Database == "app" })
		})
	}
	exec("PREPARE TRANSACTION 'it''s'")
	for _, role := range []string{"postgres", "plain"} {
		t.Run("Prepared/"+role, func(t *testing.T) {
			check(t, role, func(b Blocker) bool {
				return b.PID == 0 && b.XID == xid && b.GID == "it's" && strings.Contains(b.String(), "ROLLBACK PREPARED 'it''s'")
			})
		})
	}
	exec("ROLLBACK PREPARED 'it''s'")
	if _, err := CreateSlot(t.Context(), plain, "blocked", SlotOptions{}); err != nil {
		t.Errorf("create when nobody blocks: %v", err)
	}
}

// What commits after the consistent point is streamed, and nothing else.
func TestSlot_ConsistentPoint(t *testing.T) {
	t.Parallel()
	src := newOwnSource(t)
	writer := src.connect(t)
	if _, err := writer.Exec(t.Context(), "BEGIN; INSERT INTO public.item VALUES (1, 'before')"); err != nil {
		t.Fatal(err)
	}
	other := src.connect(t)
	made := make(chan error, 1)
	go func() {
		_, err := CreateSlot(context.Background(), other, "other", SlotOptions{Timeout: patience})
		made <- err
	}()
	pgtest.Eventually(t, "the slot waits", patience, func() bool {
		return pgtest.QueryValue(t, src.url, "SELECT count(*) FROM pg_locks WHERE NOT granted") != "0"
	})
	if _, err := writer.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	src.exec(t, "INSERT INTO public.item VALUES (2, 'after')")
	cfg := src.config()
	cfg.Slot = "other"
	if got := bodies(startStream(t, cfg).txs(t, 1)); len(got) != 1 || got[0] != "after" {
		t.Errorf("streamed %v, want after", got)
	}
}

func TestSlot_Drop(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	s := startStream(t, src.config())
	pgtest.Eventually(t, "the slot is active", patience, func() bool { return src.slot(t).Active })
	var active *SlotActiveError
	if err := DropSlot(t.Context(), src.conn, src.db, false); !errors.As(err, &active) || active.PID != src.slot(t).ActivePID {
		t.Errorf("drop of an active slot: %v", err)
	}
	// A pid that streams no more is not touched.
	if err := EndWalsender(t.Context(), src.conn, src.db, int32(src.conn.PgConn().PID())); err != nil {
		t.Errorf("end a walsender that isn't one: %v", err)
	}
	if err := DropSlot(t.Context(), src.conn, src.db, true); err != nil {
		t.Errorf("drop: %v", err)
	}
	if err := s.wait(t); err == nil {
		t.Error("the stream ended without an error")
	}
	if err := DropSlot(t.Context(), src.conn, src.db, true); err != nil {
		t.Errorf("drop of what is gone: %v", err)
	}
}

func TestSlot_EndWalsenderDenied(t *testing.T) {
	t.Parallel()
	src := newOwnSource(t)
	startStream(t, src.config())
	pgtest.Eventually(t, "the slot is active", patience, func() bool { return src.slot(t).Active })
	src.exec(t, "CREATE ROLE plain LOGIN REPLICATION")
	plain, err := pg.Connect(t.Context(), src.cluster.URLAs("plain", "", "app"), pg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close(context.Background())
	err = EndWalsender(t.Context(), plain, src.db, src.slot(t).ActivePID)
	if fault.Code(err) != "42501" || fault.HintOf(err) == "" {
		t.Errorf("end: %v, hint %q", err, fault.HintOf(err))
	}
}

// Whoever is killed while the source waits on his behalf leaves no slot behind,
// although the wait would end well.
func TestSlot_CreatorDies(t *testing.T) {
	t.Parallel()
	src := newOwnSource(t)
	writer := src.connect(t)
	if _, err := writer.Exec(t.Context(), "BEGIN; INSERT INTO public.item VALUES (1, 'open')"); err != nil {
		t.Fatal(err)
	}
	proxy := pgtest.NewProxy(t, src.cluster.Addr())
	conn, err := pg.Connect(t.Context(), proxy.URL(src.url), pg.Options{Application: "creator"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	made := make(chan error, 1)
	go func() {
		_, err := CreateSlot(context.Background(), conn, "orphan", SlotOptions{Timeout: patience})
		made <- err
	}()
	const creators = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'creator'"
	pgtest.Eventually(t, "the slot waits", patience, func() bool {
		return pgtest.QueryValue(t, src.url, creators+" AND wait_event_type = 'Lock'") == "1"
	})
	proxy.Cut()
	if err := <-made; err == nil {
		t.Error("a slot was made over a connection that is gone")
	}
	pgtest.Eventually(t, "the source notices", patience, func() bool { return pgtest.QueryValue(t, src.url, creators) == "0" })
	if _, err := writer.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSlot(t.Context(), src.conn, "orphan"); !errors.Is(err, ErrNoSlot) {
		t.Errorf("a slot was left behind: %v", err)
	}
}
