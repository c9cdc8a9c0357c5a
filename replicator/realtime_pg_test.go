package replicator_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/postgrest"
	"github.com/walbridge/walbridge/replicator/pgoutput"
)

// sent are the rows that a client of publication supabase_realtime is sent, in its
// order: the operation, the table, and the columns by their names.
type sent struct {
	op, table string
	row       map[string]string
}

// listen returns what the client has been sent since it was asked last.
func (w *world) listen(d *pgoutput.Decoder) (list []sent) {
	w.t.Helper()
	conn := pgtest.Connect(w.t, w.dst)
	rows, err := conn.Query(w.t.Context(), `SELECT data FROM pg_logical_slot_get_binary_changes('realtime', NULL, NULL,
		'proto_version', '1', 'publication_names', 'supabase_realtime')`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var frame []byte
		var m pgoutput.Message
		if err := rows.Scan(&frame); err != nil {
			w.t.Fatal(err)
		}
		if err := d.Decode(frame, &m); err != nil {
			w.t.Fatal(err)
		}
		if m.Kind != pgoutput.Insert && m.Kind != pgoutput.Update && m.Kind != pgoutput.Delete {
			continue
		}
		s := sent{op: string(rune(m.Kind)), table: m.Relation.Name, row: map[string]string{}}
		for i, c := range m.Relation.Columns {
			if i < len(m.New) && m.New[i].Kind == cdc.Text {
				s.row[c.Name] = m.New[i].Text
			}
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return list
}

// A client of Realtime is sent each change once and in the order of the source,
// whatever happens to the bridge: connections that break, answers that are lost
// after the commit, a new start.
func TestRealtime_OnceInOrder(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"over a connection", "over the API"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newNioChat(t)
			pending := func() int { return 0 }
			disturb := func() {
				pgtest.Exec(t, w.dst, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'walbridge%'")
			}
			if name == "over the API" {
				api := w.overAPI()
				pending = api.Pending
				disturb = func() {
					api.Fail(postgrest.Fault{Kind: postgrest.DropReply}, postgrest.Fault{Kind: postgrest.Truncated}, postgrest.Fault{Kind: postgrest.DropReply})
				}
			}
			pgtest.Exec(t, w.dst, guideTables, "CREATE PUBLICATION supabase_realtime FOR TABLE conversations, messages",
				"SELECT pg_create_logical_replication_slot('realtime', 'pgoutput')")
			w.exec(seed)
			r := w.start()
			w.catchUp(r)
			client := pgoutput.NewDecoder()
			w.listen(client) // the first copy
			const rounds, each = 4, 15
			for round := range rounds {
				for i := range each {
					n := round*each + i + 1
					w.exec(fmt.Sprintf(`BEGIN; UPDATE conversations_conversation SET additional_attributes = '{"n": %d}' WHERE id = 10;
						INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, is_from_customer, updated_at)
						VALUES (%d, 'text', 'n', now(), 10, '{}', true, now()); COMMIT`, n, 1000+n))
					if i == each/2 {
						disturb()
					}
				}
				if round%2 == 1 {
					if err := r.stop(); err != nil {
						t.Fatal(err)
					}
					r = w.start()
				}
			}
			w.catchUp(r)
			if n := pending(); n > 0 {
				t.Errorf("%d of the failures have not happened", n)
			}
			messages, last := 0, 0
			for _, s := range w.listen(client) {
				switch {
				case s.table == "messages":
					messages++
					if want := fmt.Sprint(1000 + messages); s.op != "I" || s.row["id"] != want {
						t.Errorf("sent %s of message %s, want the insert of %s", s.op, s.row["id"], want)
					}
				default:
					var is struct{ N int }
					if err := json.Unmarshal([]byte(s.row["additional_attributes"]), &is); err != nil {
						t.Fatal(err)
					}
					if s.op != "U" || is.N <= last {
						t.Errorf("sent %s of the conversation at %d, after %d", s.op, is.N, last)
					}
					last = is.N
				}
			}
			if messages != rounds*each || last != rounds*each {
				t.Errorf("sent %d messages, and the conversation up to %d, want %d", messages, last, rounds*each)
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
