package replicator_test

import (
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/replicator"
)

// filled is a NioChat whose bridge has copied everything, streamed some, and stopped.
func filled(t *testing.T) *world {
	t.Helper()
	w := newNioChat(t)
	w.exec(seed, many)
	w.tune = func(o *replicator.Options) { o.CopyRows = 400 }
	r := w.start()
	w.catchUp(r)
	w.exec(streamed)
	w.catchUp(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.untilIdle()
	return w
}

// streamed are changes that only the stream has brought: among them the highest
// message.
const streamed = `
INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, is_from_customer, updated_at)
  SELECT n, 'text', 'm' || n, now(), 1000 + n % 300, '{}', true, now() FROM generate_series(9000, 9009) n;
UPDATE conversations_conversation SET status = 'closed' WHERE id = 1001;
DELETE FROM conversations_message WHERE id = 2900`

// unseen are changes of every kind that the bridge never gets to see.
const unseen = `
DELETE FROM conversations_message WHERE id IN (2000, 2500, 9009);
INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, is_from_customer, updated_at)
  VALUES (9500, 'text', 'unseen', now(), 1000, '{}', true, now());
UPDATE conversations_message SET content = 'changed unseen' WHERE id IN (2001, 4999);
UPDATE conversations_contact SET provedor_id = 3 - provedor_id WHERE id BETWEEN 1001 AND 1050;
UPDATE conversations_contact SET provedor_id = 2 WHERE id = 8;
UPDATE conversations_conversation SET status = 'open' WHERE id = 1001;
UPDATE conversations_conversation SET status = 'closed' WHERE id = 1004`

// foreign puts a row of somebody else into the target.
const foreign = `INSERT INTO messages (id, provedor_id, conversation_id, content, created_at) VALUES (900000, 1, 10, 'somebody else''s', now())`

// refused starts the bridge and wants it to refuse, with the command that helps.
func (w *world) refused(why string) {
	w.t.Helper()
	err := w.start().wait()
	if err == nil || !strings.Contains(err.Error(), why) {
		w.t.Fatalf("the bridge ended with %v, want %q", err, why)
	}
}

// beginsAgain asks for a resync, starts the bridge under a writer's load and holds
// the target against the source.
func (w *world) beginsAgain() request.CompareProgress {
	w.t.Helper()
	id := w.ask(request.Resync, "{}")
	r := w.start()
	stop := w.writer()
	defer stop()
	p := w.compared(id)
	stop()
	w.catchUp(r)
	if err := r.stop(); err != nil {
		w.t.Fatal(err)
	}
	w.requireEqual()
	w.want("gaps", "SELECT count(*), count(DISTINCT provedor_id), min(details->>'request') FROM audit_logs WHERE action = 'audit.gap'",
		w.rows("SELECT count(DISTINCT provedor_id), count(DISTINCT provedor_id), '"+id+"' FROM contacts"))
	return p
}

func TestAnew_LostSlot(t *testing.T) {
	t.Parallel()
	w := filled(t)
	pgtest.Exec(t, w.dst, foreign)
	incarnation := w.rows("SELECT incarnation FROM walbridge.checkpoint")
	w.exec("SELECT pg_drop_replication_slot('walbridge')", unseen)
	w.refused("slot walbridge is gone")
	p := w.beginsAgain()
	if p.Gone != 3 || p.Foreign != 1 {
		t.Errorf("the resync says %+v", p)
	}
	w.want("the row of another writer", "SELECT content, (SELECT count(*) FROM walbridge.deleted WHERE key = '900000') FROM messages WHERE id = 900000", "somebody else's | 0")
	w.want("marks", "SELECT string_agg(key, ' ' ORDER BY key) FROM walbridge.deleted", "2000 2500 2900 9009")
	w.want("observed columns", "SELECT id, ended_at IS NULL FROM conversations WHERE id IN (1001, 1004) ORDER BY id", "1001 | t\n1004 | f")
	if now := w.rows("SELECT incarnation FROM walbridge.checkpoint"); now == incarnation {
		t.Error("the history has no new name")
	}
}

// A target that was restored has an old checkpoint; the slot doesn't go back.
func TestAnew_RestoredTarget(t *testing.T) {
	t.Parallel()
	w := filled(t)
	pgtest.Exec(t, w.dst, `CREATE SCHEMA backup`, `CREATE TABLE backup.checkpoint AS SELECT lsn, heartbeat_token, heartbeat_lsn, audit_head, audit_rows FROM walbridge.checkpoint`)
	w.exec(unseen)
	r := w.start()
	w.catchUp(r)
	// What is confirmed follows what is stored, with a heartbeat.
	stored := w.rows("SELECT lsn FROM backup.checkpoint")
	pgtest.Eventually(t, "the slot's going beyond "+stored, patience, func() bool {
		return pgtest.QueryValue(t, w.src, "SELECT confirmed_flush_lsn > '"+stored+"' FROM pg_replication_slots") == "t"
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.untilIdle()
	pgtest.Exec(t, w.dst, `UPDATE walbridge.checkpoint AS k SET lsn = b.lsn, heartbeat_token = b.heartbeat_token, heartbeat_lsn = b.heartbeat_lsn, audit_head = b.audit_head, audit_rows = b.audit_rows FROM backup.checkpoint AS b`,
		`DELETE FROM audit_logs USING backup.checkpoint AS b WHERE (details->>'n')::int > b.audit_head`,
		`DELETE FROM messages WHERE id = 9500`, `DELETE FROM walbridge.deleted WHERE key = '2500'`, `UPDATE messages SET content = 'old' WHERE id IN (2001, 4999)`,
		`UPDATE contacts SET provedor_id = 3 - provedor_id WHERE id = 1001`)
	w.refused("the target was restored to an earlier state")
	w.beginsAgain()
}

// A source that was restored is another history under the same name.
func TestAnew_RestoredSource(t *testing.T) {
	t.Parallel()
	w := filled(t)
	pgtest.Exec(t, w.dst, "UPDATE walbridge.checkpoint SET system_id = '1' || system_id")
	w.exec(unseen)
	w.refused("the source is another cluster")
	w.beginsAgain()
}

// A bridge that finds out in the middle of its work goes on by itself.
func TestAnew_Blocked(t *testing.T) {
	t.Parallel()
	w := filled(t)
	r := w.start()
	w.catchUp(r)
	w.exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots",
		"DO $$ BEGIN LOOP BEGIN PERFORM pg_drop_replication_slot('walbridge'); EXIT; EXCEPTION WHEN object_in_use THEN PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots; END; END LOOP; END $$", unseen)
	pgtest.Eventually(t, "the bridge to be blocked", patience, func() bool { return r.status.Snapshot().State == status.Blocked })
	// A part is no way out of that, and a request for one waits.
	part := w.ask(request.Resync, `{"table": "messages"}`)
	id := w.ask(request.Resync, "{}")
	w.compared(id)
	w.compared(part)
	w.catchUp(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.requireEqual()
}

// remap changes the mapping as an operator does in the file.
func (w *world) remap(old, new string) {
	w.t.Helper()
	text := strings.Replace(w.mapping, old, new, 1)
	if text == w.mapping {
		w.t.Fatalf("the mapping has no %q", old)
	}
	f, err := mapping.Parse("test.yaml", []byte(text))
	if err != nil {
		w.t.Fatal(err)
	}
	w.mapping, w.file = text, f
}

// A changed mapping lays out path values and held rows anew, while the stream is
// whole.
func TestAnew_ChangedMapping(t *testing.T) {
	t.Parallel()
	w := filled(t)
	w.exec(unseen)
	held := w.rows(`SELECT key, waiting FROM walbridge.held ORDER BY "table", key`)
	// The other way round: the contact wins. And one more column.
	w.remap("tenant: [inbox.provedor_id, contact.provedor_id]", "tenant: [contact.provedor_id, inbox.provedor_id]")
	w.remap("      - assignee_id\n      - created_at", "      - assignee_id\n      - inbox_name: inbox.name\n      - created_at")
	w.refused("ADD COLUMN")
	pgtest.Exec(t, w.dst, "ALTER TABLE public.conversations ADD COLUMN inbox_name text")
	w.refused("the mapping has changed since the tables were filled")
	if now := w.rows(`SELECT key, waiting FROM walbridge.held ORDER BY "table", key`); now != held {
		t.Errorf("the refusal has touched held rows:\n%s\nwas\n%s", now, held)
	}
	w.beginsAgain()
	w.want("the new column", "SELECT DISTINCT inbox_id, inbox_name FROM conversations ORDER BY 1", "5 | wa\n6 | tg")
	r := w.start() // under its fingerprint now
	w.catchUp(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// A column that a migration adds with a default, one that it renames and one that
// it drops.
func TestAnew_Migrations(t *testing.T) {
	t.Parallel()
	w := filled(t)
	w.remap("      - external_id\n", "")
	w.remap("      - file_name\n", "      - file_name: attachment_name\n      - priority\n")
	w.exec(`ALTER TABLE conversations_message ADD COLUMN priority integer DEFAULT 3`,
		`ALTER TABLE conversations_message RENAME COLUMN file_name TO attachment_name`,
		`ALTER TABLE conversations_message DROP COLUMN external_id`,
		`UPDATE conversations_message SET attachment_name = 'a.pdf', priority = 1 WHERE id = 2001`)
	pgtest.Exec(t, w.dst, "ALTER TABLE public.messages ADD COLUMN priority integer")
	w.refused("the mapping has changed since the tables were filled")
	w.beginsAgain()
	w.want("the migrated row", "SELECT file_name, priority FROM messages WHERE id IN (2001, 2002) ORDER BY id", "a.pdf | 1\n\\N | 3")

	// A column that is dropped and made again has no row events for its default.
	w.exec(`ALTER TABLE conversations_message DROP COLUMN priority`, `ALTER TABLE conversations_message ADD COLUMN priority integer DEFAULT 5`)
	r := w.start()
	w.catchUp(r)
	w.compared(w.ask(request.Resync, `{"table": "messages"}`))
	w.want("the default", "SELECT DISTINCT priority FROM messages WHERE id NOT IN (SELECT key::bigint FROM walbridge.deleted WHERE \"table\" = 'public.messages')", "5")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.requireEqual()
}

// A request that was at work on something else is no leave to go on with another
// source.
func TestAnew_OldRequestIsNoConsent(t *testing.T) {
	t.Parallel()
	w := filled(t)
	id := w.ask(request.Resync, "{}")
	pgtest.Exec(t, w.dst, "UPDATE walbridge.requests SET state = 'running' WHERE id = "+id,
		"UPDATE walbridge.checkpoint SET system_id = '1' || system_id")
	w.refused("the source is another cluster")
	w.want("the copy's progress", "SELECT bool_and(done) FROM walbridge.copies", "t")
}
