package replicator_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/replicator"
)

// confirmed is what the source takes for done.
func (w *world) confirmed() string {
	w.t.Helper()
	return pgtest.QueryValue(w.t, w.src, "SELECT coalesce((SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'walbridge'), 'no slot')")
}

// blocked waits until the bridge is blocked with an error that contains text, and
// returns its hint.
func (r *running) blocked(text string) string {
	r.w.t.Helper()
	var hint string
	pgtest.Eventually(r.w.t, "blocked with "+text, patience, func() error {
		select {
		case r.err = <-r.done:
			r.ended = true
		default:
		}
		s := r.status.Snapshot()
		switch {
		case r.ended:
			return fmt.Errorf("the bridge has ended: %w", r.err)
		case s.State != status.Blocked:
			return errors.New(string(s.State))
		case s.LastError == nil || !strings.Contains(s.LastError.Message, text):
			return fmt.Errorf("last error %+v", s.LastError)
		}
		hint = s.LastError.Hint
		return nil
	})
	if hint == "" {
		r.w.t.Errorf("%q has no hint", text)
	}
	return hint
}

// startOver does what a hint says: it asks for a resync.
func (w *world) startOver(hint string) {
	w.t.Helper()
	if !strings.Contains(hint, "walbridge resync --no-wait") {
		w.t.Fatalf("the hint names no command: %s", hint)
	}
	w.ask(request.Resync, "{}") // which is what that command does
}

// Taking a table out of the publication and putting it back leaves a publication
// that looks as before, and a hole in the stream. Nothing behind the first of the
// two may be confirmed, and nobody may go on before the table is copied again.
func TestGate_PublicationAlteredWhileRunning(t *testing.T) {
	t.Parallel()
	const unseen = "UPDATE conversations_message SET content = 'unseen' WHERE id = 100"
	for _, tt := range []struct {
		name, says string
		alter      []string
	}{
		{"AndBack", "was altered", []string{"ALTER PUBLICATION walbridge DROP TABLE conversations_message", unseen,
			"ALTER PUBLICATION walbridge ADD TABLE conversations_message"}},
		// PostgreSQL 18 goes on without a publication that is gone, with a warning.
		{"Dropped", "is gone or lacks a table", []string{"DROP PUBLICATION walbridge", unseen}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newNioChat(t)
			w.exec(seed, moveIdentities)
			r := w.start()
			w.catchUp(r)
			before := pgtest.QueryValue(t, w.src, "SELECT pg_current_wal_insert_lsn()")
			w.exec(tt.alter...)
			hint := r.blocked(tt.says)
			if got := pgtest.QueryValue(t, w.src, "SELECT confirmed_flush_lsn <= '"+before+"' FROM pg_replication_slots"); got != "t" {
				t.Errorf("the source was told %s, the publication was altered at %s", w.confirmed(), before)
			}
			w.startOver(hint)
			w.catchUp(r)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			w.requireEqual()
		})
	}
}

// The same while the bridge is away: what the checkpoint has stored of the
// publication tells.
func TestGate_PublicationAlteredWhileAway(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, away, back string }{
		{"Operations", "ALTER PUBLICATION walbridge SET (publish = 'insert')", "ALTER PUBLICATION walbridge SET (publish = 'insert, update, delete, truncate')"},
		{"Table", "ALTER PUBLICATION walbridge DROP TABLE conversations_message", "ALTER PUBLICATION walbridge ADD TABLE conversations_message"},
		{"Dropped", "CREATE TEMP TABLE was ON COMMIT PRESERVE ROWS AS SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') AS list FROM pg_publication_tables WHERE pubname = 'walbridge'; DROP PUBLICATION walbridge",
			"DO $$ BEGIN EXECUTE 'CREATE PUBLICATION walbridge FOR TABLE ' || (SELECT list FROM was); END $$"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newNioChat(t)
			w.exec(seed)
			r := w.start()
			w.catchUp(r)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			w.untilIdle()
			before := w.confirmed()
			w.exec(tt.away, "UPDATE conversations_message SET content = 'unseen' WHERE id = 100", tt.back)
			err := w.start().wait()
			var altered *replicator.PublicationAlteredError
			if !errors.As(err, &altered) || !strings.Contains(fault.HintOf(err), "walbridge resync") {
				t.Fatalf("Run = %v (%s)", err, fault.HintOf(err))
			}
			if got := w.confirmed(); got != before {
				t.Errorf("confirmed moved from %s to %s", before, got)
			}
		})
	}
}

// What has to be mended while the bridge runs blocks it, nothing is confirmed
// meanwhile, and it goes on by itself once it is mended.
func TestGate_BlocksAndResumes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, spoil, says, mend string
		target                  bool
	}{
		{name: "Synchronous", spoil: "ALTER SYSTEM SET synchronous_standby_names = 'walbridge'; SELECT pg_reload_conf()",
			says: "takes the bridge for a standby", mend: "ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()"},
		{name: "Identity", spoil: "ALTER TABLE conversations_contact REPLICA IDENTITY NOTHING",
			says: "public.conversations_contact has REPLICA IDENTITY NOTHING", mend: "ALTER TABLE conversations_contact REPLICA IDENTITY DEFAULT"},
		{name: "RowSecurity", spoil: "REVOKE SELECT ON conversations_contact FROM bridge",
			says: "read table public.conversations_contact", mend: "GRANT SELECT ON conversations_contact TO bridge"},
		{name: "TargetColumn", target: true, spoil: "ALTER TABLE public.contacts RENAME COLUMN phone TO telefone",
			says: "phone", mend: "ALTER TABLE public.contacts RENAME COLUMN telefone TO phone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newNioChat(t)
			w.exec(seed, moveIdentities, "SET synchronous_commit = local", "CREATE ROLE bridge LOGIN REPLICATION",
				"GRANT CREATE ON DATABASE postgres TO bridge; GRANT ALL ON ALL TABLES IN SCHEMA public TO bridge")
			w.tune = func(o *replicator.Options) { o.Recheck = 300 * time.Millisecond }
			if tt.name == "RowSecurity" {
				// Published by the owner, so that the role only reads.
				w.exec(publishNioChat)
				w.src = w.source.URLAs("bridge", "", "postgres")
			}
			r := w.start()
			w.catchUp(r)
			alter := func(sql string) {
				t.Helper()
				url := w.source.URL("postgres")
				if tt.target {
					url = w.dst
				}
				pgtest.Exec(t, url, strings.Split(sql, "; ")...)
			}
			alter(tt.spoil)
			r.blocked(tt.says)
			before := w.confirmed()
			pgtest.Exec(t, w.source.URL("postgres"), "SET synchronous_commit = local", "UPDATE public.conversations_conversation SET status = 'closed' WHERE id = 10")
			r.blocked(tt.says)
			if got := w.confirmed(); got != before {
				t.Errorf("confirmed moved from %s to %s while blocked", before, got)
			}
			alter(tt.mend)
			w.catchUp(r)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			w.want("streamed after all", "SELECT status FROM public.conversations WHERE id = 10", "closed")
		})
	}
}

// freeSlot ends the walsender and drops the slot, however fast the bridge comes
// back to it.
const freeSlot = `DO $$ BEGIN LOOP
	BEGIN
		PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'walbridge' AND active;
		PERFORM pg_drop_replication_slot('walbridge');
		EXIT;
	EXCEPTION WHEN object_in_use THEN NULL;
	END;
END LOOP; END $$`

// Whatever breaks the tie between checkpoint, slot and source is refused under
// its own name, with nothing confirmed; and the bridge comes back by itself when
// what its hint says has been done.
func TestGate_HistoryRefusedAndMended(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.exec(seed, moveIdentities, "CREATE DATABASE other")
	r := w.start()
	checkpoint := func(set string) func() {
		return func() {
			pgtest.Exec(t, w.dst, "UPDATE walbridge.checkpoint SET "+set)
			w.exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
		}
	}
	// mend does what a hint says and nothing else.
	startOver := func(hint string) { w.startOver(hint) }
	dropThenStartOver := func(hint string) {
		t.Helper()
		drop, _, _ := strings.Cut(hint, ", if nothing else uses it")
		w.exec(drop)
		w.startOver(r.blocked("slot walbridge is gone"))
	}
	undo := func(set string) func(string) { return func(string) { checkpoint(set)() } }
	for _, tt := range []struct {
		name, says string
		spoil      func()
		mend       func(hint string)
	}{
		{"SlotDropped", "slot walbridge is gone", func() { w.exec(freeSlot) }, startOver},
		{"SlotMadeAnew", "was made anew", func() {
			w.exec(freeSlot, "SELECT pg_create_logical_replication_slot('walbridge', 'pgoutput')")
		}, startOver},
		{"SlotAdvanced", "beyond the last heartbeat", func() {
			// As far as a bridge might have applied, and further than it confirms.
			w.exec(strings.Replace(freeSlot, "PERFORM pg_drop_replication_slot('walbridge');",
				"PERFORM pg_replication_slot_advance('walbridge', pg_current_wal_flush_lsn());", 1))
			pgtest.Exec(t, w.dst, "UPDATE walbridge.checkpoint SET lsn = '"+pgtest.QueryValue(t, w.src, "SELECT pg_current_wal_flush_lsn()")+"'")
		}, startOver},
		{"OtherPlugin", "is of the plugin test_decoding", func() {
			w.exec(freeSlot, "SELECT pg_create_logical_replication_slot('walbridge', 'test_decoding')")
		}, dropThenStartOver},
		{"OtherDatabase", "belongs to database other", func() {
			w.exec(freeSlot)
			pgtest.Exec(t, w.source.URL("other"), "SELECT pg_create_logical_replication_slot('walbridge', 'pgoutput')")
		}, dropThenStartOver},
		{"AheadOfTheSource", "the source was restored to an earlier state", checkpoint("lsn = 'FF/0'"), startOver},
		{"BehindTheSlot", "the target was restored to an earlier state", checkpoint("lsn = '0/1'"), startOver},
		{"Edited", "it was edited by hand", checkpoint("lsn = lsn - 1"), undo("lsn = lsn + 1")},
		{"OtherCluster", "the source is another cluster", checkpoint("system_id = system_id || '0'"), undo("system_id = left(system_id, -1)")},
		{"OtherTimeline", "the source is on timeline 1, the checkpoint's is 8", checkpoint("timeline = timeline + 7"), undo("timeline = timeline - 7")},
		{"Wiped", "the target is another one or was wiped", func() {
			pgtest.Exec(t, w.dst, "DROP SCHEMA walbridge CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
		}, startOver},
	} {
		ok := t.Run(tt.name, func(t *testing.T) {
			w.t, r.w.t = t, t
			w.catchUp(r)
			tt.spoil()
			hint := r.blocked(tt.says)
			before := w.confirmed()
			w.exec("UPDATE conversations_conversation SET status = CASE status WHEN 'open' THEN 'closed' ELSE 'open' END WHERE id = 10")
			r.blocked(tt.says)
			if got := w.confirmed(); got != before {
				t.Errorf("confirmed moved from %s to %s while blocked", before, got)
			}
			tt.mend(hint)
			w.catchUp(r)
			w.requireEqual()
		})
		if !ok {
			break // the next ones start from a bridge that is well
		}
	}
	w.t = t
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// publishNioChat makes the publication as the tables' owner.
const publishNioChat = `DO $$ BEGIN EXECUTE 'CREATE PUBLICATION walbridge FOR TABLE ' ||
	(SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables WHERE schemaname = 'public') ||
	' WITH (publish = ''insert, update, delete, truncate'')'; END $$`
