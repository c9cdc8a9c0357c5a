package replicator_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
)

// An alarm is a trigger of somebody else's at the target that raises an error,
// which no other row is to blame for.
func (w *world) alarm(table, when string) {
	w.t.Helper()
	pgtest.Exec(w.t, w.dst, `CREATE OR REPLACE FUNCTION public.alarm() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'alarm'; END $$`,
		`CREATE TRIGGER alarm BEFORE INSERT OR UPDATE ON public.`+table+` FOR EACH ROW WHEN (`+when+`) EXECUTE FUNCTION public.alarm()`)
}

// blockedAt waits until the bridge names the transaction that it is blocked at.
func (r *running) blockedAt() string {
	r.w.t.Helper()
	var at string
	pgtest.Eventually(r.w.t, "the bridge being blocked", patience, func() error {
		s := r.status.Snapshot()
		if s.Blocked == 0 {
			return errors.New(string(s.State))
		}
		at = s.Blocked.String()
		return nil
	})
	return at
}

func (w *world) skip(lsn string) (id string) {
	w.t.Helper()
	return w.ask(replicator.Skip, fmt.Sprintf(`{"lsn": %q}`, lsn))
}

// What is in front of the transaction is applied, what is behind it waits, and
// only its own rows are left out; also when the reply to the commit is lost.
func TestSkip_OneOfMany(t *testing.T) {
	t.Parallel()
	s := &steps{after: func(n int64) error {
		if n == 1 {
			return &sink.UnknownError{Err: fault.Wrap(fault.Retry, "", errors.New("the reply was lost"))}
		}
		return nil
	}}
	w := newItems(t, s)
	r := w.start()
	w.catchUp(r)
	w.alarm("items", "new.code = 'bad'")
	// Everything lands in few batches: they pile up while the table is locked.
	lock := pgtest.Connect(t, w.dst)
	if _, err := lock.Exec(t.Context(), "BEGIN; LOCK public.items"); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		w.exec(fmt.Sprintf("INSERT INTO item SELECT n, 1 + n %% 3, CASE %d WHEN 13 THEN 'bad' ELSE 'good' END FROM generate_series(%d, %d) n", i, i*10, i*10+9))
	}
	if _, err := lock.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	at := r.blockedAt()
	w.want("rows before", "SELECT count(*), max(id) FROM items", "130 | 129")
	if got, want := w.ended(w.skip("0/10")), "failed |  | the bridge is blocked at the transaction at "+at+", not at 0/10"; got != want {
		t.Errorf("another transaction: %s, want %s", got, want)
	}
	id := w.skip(at)
	w.ended(id)
	w.catchUp(r)
	w.want("rows", "SELECT count(*), count(*) FILTER (WHERE id BETWEEN 130 AND 139) FROM items", "190 | 0")
	w.want("entries", `SELECT provedor_id, details->'tables'->'public.item'->>'insert', details->>'lsn', details->>'request' FROM audit_logs WHERE action = 'transaction.skipped' ORDER BY 1`,
		fmt.Sprintf("1 | 3 | %[1]s | %[2]s\n2 | 4 | %[1]s | %[2]s\n3 | 3 | %[1]s | %[2]s", at, id))
	w.want("numbers", `SELECT count(*), max((details->>'n')::int), (SELECT audit_head FROM walbridge.checkpoint) FROM audit_logs`, "193 | 193 | 193")
	w.want("request", "SELECT state, progress::jsonb - 'xid' - 'lsn' FROM walbridge.requests WHERE id = "+id,
		`done | {"tables": {"public.item": {"insert": 10}}, "tenants": 3}`)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// A transaction in slices is passed in slices, by a later session than the one
// that met it.
func TestSkip_Large(t *testing.T) {
	t.Parallel()
	var bridge *status.State
	var shown []*status.Request
	w := newItems(t, &steps{before: func(int64) error {
		shown = append(shown, bridge.Snapshot().Request)
		return nil
	}})
	tune := w.tune
	w.tune = func(o *replicator.Options) {
		tune(o)
		o.BatchRows = 10
		bridge = o.Status
	}
	r := w.start()
	w.catchUp(r)
	w.alarm("items", "new.code = 'bad'")
	w.exec("INSERT INTO item SELECT n, 1 + n % 3, CASE n WHEN 70 THEN 'bad' ELSE 'good' END FROM generate_series(1, 99) n", "INSERT INTO item VALUES (100, 1, 'good')")
	id := w.skip(r.blockedAt())
	w.ended(id)
	w.catchUp(r)
	w.want("rows", "SELECT id FROM items", "100")
	w.want("entries", `SELECT provedor_id, action, details->'tables'->'public.item'->>'insert' FROM audit_logs ORDER BY (details->>'n')::int`,
		"1 | transaction.skipped | 33\n2 | transaction.skipped | 33\n3 | transaction.skipped | 33\n1 | item.created | \\N")
	if got := r.status.Snapshot().Request; got != nil {
		t.Errorf("afterwards the status shows %+v", got)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if len(shown) != 1 || shown[0] == nil || shown[0].Kind != replicator.Skip || fmt.Sprint(shown[0].ID) != id || shown[0].Done != 99 {
		t.Errorf("before its commit the status shows %+v", shown)
	}
}

// Rows that are left out leave no row behind them under a tenant that the
// transaction has taken away.
func TestSkip_TakesPathsOver(t *testing.T) {
	t.Parallel()
	for _, refused := range []bool{false, true} {
		t.Run(fmt.Sprintf("moves refused %t", refused), func(t *testing.T) {
			t.Parallel()
			w := newNioChat(t)
			w.exec(seed, moveIdentities)
			r := w.start()
			w.catchUp(r)
			w.alarm("contacts", "new.name = 'bad'")
			tenant, left := "2", "{}"
			if refused {
				w.alarm("messages", "new.provedor_id = 2 AND new.content = 'oi'")
				tenant, left = "1", `{"left": "moves"}`
			}
			w.exec(`BEGIN; UPDATE conversations_inbox SET provedor_id = 2 WHERE id = 5; UPDATE conversations_contact SET name = 'bad' WHERE id = 7; COMMIT`)
			id := w.skip(r.blockedAt())
			w.ended(id)
			w.exec(`INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, is_from_customer, updated_at)
				VALUES (200, 'text', 'novo', now(), 10, '{}', true, now())`)
			w.catchUp(r)
			w.want("messages", "SELECT id, provedor_id FROM messages ORDER BY id", "100 | "+tenant+"\n200 | 2")
			w.want("contact", "SELECT name FROM contacts", "Ana")
			w.want("request", "SELECT state, progress::jsonb - 'xid' - 'lsn' - 'tables' - 'tenants' FROM walbridge.requests WHERE id = "+id, "done | "+left)
			moved := `1 | [{"to": "2", "from": "1", "rows": 1, "table": "conversations"}, {"to": "2", "from": "1", "rows": 1, "table": "messages"}]`
			if refused {
				moved = `1 | \N`
			}
			w.want("entries", `SELECT provedor_id, details->'moved' FROM audit_logs WHERE action = 'transaction.skipped' AND provedor_id = 1`, moved)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
