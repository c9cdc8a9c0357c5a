package replicator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/replicator"
)

// A conversation that nobody touches raises an alert when it has been open for an
// hour, and one more each time that it is opened again.
func TestTend_Alerts(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.tune = func(o *replicator.Options) { o.TendEvery = 20 * time.Millisecond }
	w.exec(seed, "UPDATE conversations_conversation SET created_at = now() - interval '2 hours' WHERE id = 10; DELETE FROM conversations_message WHERE id = 101; DELETE FROM conversations_conversation WHERE id = 11")
	listener := pgtest.Connect(t, w.dst)
	if _, err := listener.Exec(t.Context(), "LISTEN conversation_alert"); err != nil {
		t.Fatal(err)
	}
	raised := func() string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		n, err := listener.WaitForNotification(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(n.Payload, " ", "")
	}
	r := w.start()
	const want = `{"conversation_id":10,"provedor_id":%d,"alert_type":"long_open_conversation"}`
	if got := raised(); got != fmt.Sprintf(want, 1) {
		t.Errorf("notified %s", got)
	}
	w.want("the episode begins with the conversation", `SELECT a.provedor_id, a.kind, a.episode_start = c.created_at
		FROM conversation_alerts a JOIN conversations c ON c.id = a.conversation_id`, "1 | long_open_conversation | t")

	// Waiting is no end. Both changes of the last two statements are likely to be
	// in one batch.
	w.exec("UPDATE conversations_conversation SET status = 'snoozed'", "UPDATE conversations_conversation SET status = 'open'")
	w.catchUp(r)
	w.want("snoozed and open again", "SELECT count(*), bool_and(open_since = created_at) FROM conversation_alerts, conversations", "1 | t")
	pgtest.Exec(t, w.dst, "INSERT INTO conversation_alerts_thresholds VALUES (1, '1 microsecond')")
	w.exec("UPDATE conversations_conversation SET status = 'closed'", "UPDATE conversations_conversation SET status = 'open'")
	if got := raised(); got != fmt.Sprintf(want, 1) {
		t.Errorf("notified %s", got)
	}
	w.want("another episode", "SELECT count(*), count(DISTINCT episode_start) FROM conversation_alerts", "2 | 2")

	// The alert of the present episode follows its conversation.
	w.exec("UPDATE conversations_inbox SET provedor_id = 2")
	pgtest.Eventually(t, "the alert following its conversation", patience, func() error {
		if got := w.rows("SELECT string_agg(provedor_id::text, ' ' ORDER BY episode_start) FROM conversation_alerts"); got != "1 2" {
			return errors.New(got)
		}
		return nil
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// realtime reads what a client of publication supabase_realtime is sent, as
// "operation table" in its order.
func (w *world) realtime() []string {
	w.t.Helper()
	var list []string
	names := map[string]string{}
	for _, r := range pgtest.QueryText(w.t, w.dst, `SELECT convert_from(substring(data FROM 1 FOR 1), 'LATIN1'),
		CASE WHEN get_byte(data, 0) IN (73, 82, 85, 68) THEN ('x' || encode(substring(data FROM 2 FOR 4), 'hex'))::bit(32)::int::text END,
		CASE get_byte(data, 0) WHEN 82 THEN split_part(convert_from(replace(encode(substring(data FROM 6), 'escape'), '\000', ' ')::bytea, 'LATIN1'), ' ', 2) END
		FROM pg_logical_slot_get_binary_changes('realtime', NULL, NULL, 'proto_version', '1', 'publication_names', 'supabase_realtime')`) {
		switch r[0] {
		case "R":
			names[r[1]] = r[2]
		case "I", "U", "D":
			list = append(list, r[0]+" "+names[r[1]])
		}
	}
	return list
}

// A first copy doesn't travel to the browsers; what comes after it does, once and
// in order.
func TestTend_QuietCopy(t *testing.T) {
	t.Parallel()
	for _, quiet := range []bool{true, false} {
		t.Run(fmt.Sprintf("quiet %v", quiet), func(t *testing.T) {
			t.Parallel()
			w := newNioChat(t)
			w.tune = func(o *replicator.Options) { o.QuietCopy, o.CopyRows = quiet, 50 }
			pgtest.Exec(t, w.dst, guideTables, `CREATE PUBLICATION supabase_realtime; CREATE TABLE others (id int PRIMARY KEY);
				ALTER PUBLICATION supabase_realtime ADD TABLE conversations, messages, others`,
				"SELECT pg_create_logical_replication_slot('realtime', 'pgoutput')")
			w.exec(seed, `INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, is_from_customer, updated_at)
				SELECT 1000 + n, 'text', n::text, now(), 10, '{}', true, now() FROM generate_series(1, 500) n`)
			r := w.start()
			w.catchUp(r)
			members := func() string {
				return w.rows("SELECT string_agg(tablename::text, ' ' ORDER BY tablename) FROM pg_publication_tables WHERE pubname = 'supabase_realtime'")
			}
			pgtest.Eventually(t, "the copy", patience, func() error {
				if w.rows("SELECT count(*) FROM messages") != "501" || members() != "conversations messages others" {
					return errors.New("not there yet")
				}
				return nil
			})
			if got := w.realtime(); quiet != (len(got) == 0) {
				t.Errorf("the copy sent %d changes", len(got))
			}
			w.exec("UPDATE conversations_conversation SET status = 'pending' WHERE id = 10", `INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, is_from_customer, updated_at)
				VALUES (9999, 'text', 'novo', now(), 10, '{}', true, now())`, "UPDATE conversations_conversation SET status = 'closed' WHERE id = 10")
			w.catchUp(r)
			// A batch is one transaction, parents first; updates of a row in it are one.
			got := strings.Join(w.realtime(), ", ")
			if strings.Count(got, "I messages") != 1 || strings.Count(got, ",") > 2 || !strings.Contains(got, "U conversations") {
				t.Errorf("the stream sent %s", got)
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A resync sends what differed, and nothing if it is to be quiet; then the tables
// are back.
func TestTend_QuietResync(t *testing.T) {
	t.Parallel()
	for _, quiet := range []bool{true, false} {
		t.Run(fmt.Sprintf("quiet %v", quiet), func(t *testing.T) {
			t.Parallel()
			w := newNioChat(t)
			w.tune = func(o *replicator.Options) { o.QuietResync = quiet }
			pgtest.Exec(t, w.dst, guideTables, "CREATE PUBLICATION supabase_realtime FOR TABLE conversations, messages")
			w.exec(seed)
			r := w.start()
			w.catchUp(r)
			pgtest.Exec(t, w.dst, "UPDATE messages SET content = 'altered'", "SELECT pg_create_logical_replication_slot('realtime', 'pgoutput')")
			if got := w.ended(w.ask("resync", "{}")); !strings.HasPrefix(got, "done") {
				t.Fatal(got)
			}
			pgtest.Eventually(t, "the tables in Realtime", patience, func() bool {
				return w.rows("SELECT count(*) FROM pg_publication_rel") == "2"
			})
			w.want("mended", "SELECT content FROM messages WHERE id = 100", "oi")
			if got, want := strings.Join(w.realtime(), ", "), map[bool]string{false: "U messages"}[quiet]; got != want {
				t.Errorf("the resync sent %q, want %q", got, want)
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A client of the slot sees each change once, and those of a row in their order.
func TestTend_RealtimeOrder(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.tune = func(o *replicator.Options) { o.BatchRows = 7 }
	w.exec(seed)
	r := w.start()
	w.catchUp(r)
	pgtest.Exec(t, w.dst, "SELECT pg_create_logical_replication_slot('realtime', 'test_decoding')")
	var sql []string
	for n := range 60 {
		sql = append(sql, fmt.Sprintf("UPDATE conversations_contact SET name = 'n%03d' WHERE id = 7", n),
			fmt.Sprintf(`INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, is_from_customer, updated_at)
				VALUES (%d, 'text', '', now(), 10, '{}', true, now())`, 1000+n))
	}
	w.exec(sql...)
	w.catchUp(r)
	const changes = "FROM pg_logical_slot_peek_changes('realtime', NULL, NULL, 'skip-empty-xacts', 'on') AS c, LATERAL substring(data FROM '%s') AS v WHERE v IS NOT NULL"
	names := w.rows("SELECT v " + fmt.Sprintf(changes, "table public.contacts: UPDATE: .*name.text.:.(n[0-9]{3})"))
	list := strings.Split(names, "\n")
	for i, name := range list[1:] {
		if name <= list[i] {
			t.Errorf("after %s comes %s", list[i], name)
		}
	}
	if got := list[len(list)-1]; got != "n059" {
		t.Errorf("the last name is %s", got)
	}
	w.want("messages", "SELECT count(*), count(DISTINCT v), min(v), max(v) "+fmt.Sprintf(changes, "table public.messages: INSERT: id.bigint.:([0-9]+)"), "60 | 60 | 1000 | 1059")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// guideTables are the tables of NioChat's Supabase guide that the test publishes.
const guideTables = `
CREATE TABLE conversations (id BIGINT PRIMARY KEY, provedor_id BIGINT NOT NULL, contact_id BIGINT NOT NULL, inbox_id BIGINT,
	status TEXT DEFAULT 'open', assignee_id BIGINT, created_at TIMESTAMPTZ DEFAULT NOW(), updated_at TIMESTAMPTZ DEFAULT NOW(),
	ended_at TIMESTAMPTZ, additional_attributes JSONB);
CREATE TABLE messages (id BIGINT PRIMARY KEY, conversation_id BIGINT NOT NULL, contact_id BIGINT NOT NULL, provedor_id BIGINT NOT NULL,
	content TEXT, message_type TEXT DEFAULT 'text', is_from_customer BOOLEAN DEFAULT true, file_url TEXT, file_name TEXT,
	file_size BIGINT, external_id TEXT, additional_attributes JSONB, created_at TIMESTAMPTZ DEFAULT NOW());`
