package replicator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
)

// compared waits for the end of a resync or a repair and returns what it has done.
func (w *world) compared(id string) (p request.CompareProgress) {
	w.t.Helper()
	state, rest, _ := strings.Cut(w.ended(id), " | ")
	text, why, _ := strings.Cut(rest, " | ")
	if state != "done" {
		w.t.Fatalf("the request has %s: %s", state, why)
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// many fills the seed's tables up, so that a copy has several pieces.
const many = `
INSERT INTO conversations_contact (id, name, phone, additional_attributes, created_at, updated_at, provedor_id)
  SELECT n, 'c' || n, n::text, '{}', now(), now(), 1 + n % 2 FROM generate_series(1000, 1299) n;
INSERT INTO conversations_conversation (id, status, additional_attributes, created_at, updated_at, contact_id, inbox_id)
  SELECT n, CASE WHEN n % 3 = 0 THEN 'closed' ELSE 'open' END, '{}', now(), now(), n, CASE WHEN n % 2 = 0 THEN 5 ELSE 6 END FROM generate_series(1000, 1299) n;
INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, is_from_customer, updated_at)
  SELECT n, 'text', 'm' || n, now(), 1000 + n % 300, '{}', true, now() FROM generate_series(2000, 4999) n;
SELECT setval('conversations_message_id_seq', 10000);
`

// harm changes the target in all the ways that a person or a fault may.
const harm = `
UPDATE messages SET content = 'forged' WHERE id IN (2001, 2500, 4999);
UPDATE messages SET provedor_id = 9 WHERE id BETWEEN 2100 AND 2110;
DELETE FROM messages WHERE id BETWEEN 3000 AND 3010 OR id = 2000;
UPDATE conversations SET status = 'lost', ended_at = NULL WHERE id = 1002;
UPDATE conversations SET ended_at = '2001-01-01' WHERE id = 1008;
DELETE FROM contacts WHERE id = 1200;
UPDATE walbridge.path_values SET vals[2] = '9' WHERE source = 'public.conversations_contact' AND key IN ('1001', '1003');
DELETE FROM walbridge.path_values WHERE source = 'public.conversations_conversation' AND key = '1005';
INSERT INTO walbridge.deleted (bridge, "table", key, lsn) VALUES ('walbridge', 'public.messages', '2002', '0/1');
DELETE FROM walbridge.held WHERE "table" = 'public.contacts';
UPDATE walbridge.checkpoint SET held_rows = held_rows - 1;
DELETE FROM walbridge.deleted WHERE key = '3500';
INSERT INTO messages (id, provedor_id, conversation_id, content, created_at) VALUES (900000, 1, 10, 'somebody else''s', now());
`

func TestResync_MendsWhatWasDoneToTheTarget(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.exec(seed, many)
	w.tune = func(o *replicator.Options) { o.CopyRows = 400 }
	r := w.start()
	w.catchUp(r)
	w.exec("DELETE FROM conversations_message WHERE id = 3500")
	w.catchUp(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, w.dst, harm)
	before := w.rows("SELECT xmin FROM messages WHERE id IN (2003, 4000) ORDER BY id")
	r = w.start()
	w.catchUp(r)
	stop := w.writer()
	defer stop()
	id := w.ask(request.Resync, "{}")
	p := w.compared(id)
	stop()
	w.catchUp(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.requireEqual()
	w.want("the row of another writer", "SELECT content, (SELECT count(*) FROM walbridge.deleted WHERE key = '900000') FROM messages WHERE id = 900000", "somebody else's | 0")
	w.want("rows that were right", "SELECT xmin FROM messages WHERE id IN (2003, 4000) ORDER BY id", before)
	w.want("observed columns", "SELECT id, ended_at::date = '2001-01-01', ended_at IS NULL FROM conversations WHERE id IN (1002, 1008) ORDER BY id", "1002 | f | f\n1008 | t | f")
	w.want("the mark of a deletion", "SELECT count(*) FROM walbridge.deleted WHERE key IN ('3500', '2002')", "1")
	w.want("entries of the resync", "SELECT DISTINCT action FROM audit_logs WHERE details->>'request' = '"+id+"' ORDER BY 1",
		"contact.copied\nconversation.copied\nmessage.copied")
	if p.Foreign != 1 || p.Gone != 1 || p.Checked < 3600 || p.Written < 28 || p.Table != "" {
		t.Errorf("the resync says %+v", p)
	}
}

// A repair reads the named rows again, with what their paths pass, and makes one
// entry for each that it mends. Other rows stay as they are.
func TestResync_Repair(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.exec(seed, many)
	r := w.start()
	w.catchUp(r)
	w.exec("DELETE FROM conversations_message WHERE id = 3500")
	w.catchUp(r)
	pgtest.Exec(t, w.dst, `UPDATE messages SET content = 'forged' WHERE id IN (2001, 2600)`,
		`DELETE FROM messages WHERE id = 3000`,
		`UPDATE messages SET provedor_id = 9 WHERE id = 2101`,
		`DELETE FROM walbridge.deleted WHERE key = '3500'`)
	id := w.ask(request.Repair, `{"table": "messages", "keys": ["2001", "3000", "2101", "3500", "2002", "777777"]}`)
	if p := w.compared(id); p.Checked != 6 || p.Written != 3 || p.Gone != 1 {
		t.Errorf("the repair says %+v", p)
	}
	w.want("the row that was not named", "SELECT content FROM messages WHERE id = 2600", "forged")
	w.want("entries", `SELECT action, provedor_id, details->'key'->>'id', details->>'op', details->'changed'->'content'->>0, details->>'gone' FROM audit_logs
		WHERE details->>'request' = '`+id+`' ORDER BY 3, 2`,
		"message.repaired | 2 | 2001 | repair | forged | \\N\n"+
			"message.repaired | "+w.rows("SELECT provedor_id FROM messages WHERE id = 2101")+" | 2101 | repair | \\N | \\N\n"+
			"message.repaired | 9 | 2101 | repair | \\N | \\N\n"+
			"message.repaired | "+w.rows("SELECT provedor_id FROM messages WHERE id = 3000")+" | 3000 | repair | \\N | \\N\n"+
			"message.repaired | "+w.rows("SELECT provedor_id FROM messages WHERE id = 3500")+" | 3500 | repair | \\N | true")
	w.compared(w.ask(request.Repair, `{"table": "public.messages", "keys": ["2600"]}`))

	// A path value that is wrong has taken its rows along.
	pgtest.Exec(t, w.dst, `UPDATE walbridge.path_values SET vals[2] = '9' WHERE source = 'public.conversations_contact' AND key = '1001'`,
		`UPDATE messages SET provedor_id = 9 WHERE conversation_id = 1001`, `UPDATE conversations SET provedor_id = 9 WHERE id = 1001`)
	if err := r.stop(); err != nil { // it has the value in memory
		t.Fatal(err)
	}
	r = w.start()
	w.catchUp(r)
	w.compared(w.ask(request.Repair, `{"table": "messages", "keys": ["2101"]}`))
	w.want("the tenant of all that depends on it", `SELECT (SELECT string_agg(DISTINCT provedor_id::text, ' ') FROM messages WHERE conversation_id = 1001), provedor_id FROM conversations WHERE id = 1001`, "2 | 2")

	for _, tt := range []struct{ args, want string }{
		{`{"table": "nowhere", "keys": ["1"]}`, "the bridge's mapping has no target table public.nowhere"},
		{`{"keys": ["1"]}`, "it names no table"},
		{`{"table": "messages", "keys": ["x"]}`, "SQLSTATE 22P02"},
	} {
		if got := w.ended(w.ask(request.Repair, tt.args)); !strings.HasPrefix(got, "failed | ") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s, want %s", tt.args, got, tt.want)
		}
	}
	w.catchUp(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.requireEqual()
}

// A target that has no room takes a piece up again when there is some; nothing of
// it is there before.
func TestResync_DiskFull(t *testing.T) {
	t.Parallel()
	s := &steps{before: func(n int64) error {
		if n%2 == 0 && n < 8 {
			return &pgconn.PgError{Severity: "ERROR", Code: "53100", Message: "could not extend file: No space left on device"}
		}
		return nil
	}, after: func(n int64) error {
		if n == 3 {
			return &sink.UnknownError{Err: &pgconn.PgError{Severity: "FATAL", Code: "57P01", Message: "terminating connection"}}
		}
		return nil
	}}
	w := newItems(t, s)
	tune := w.tune
	w.tune = func(o *replicator.Options) { tune(o); o.CopyRows = 100 }
	w.exec("INSERT INTO item SELECT n, 1 + n % 3, 'good' FROM generate_series(1, 500) n")
	r := w.start()
	w.catchUp(r)
	pgtest.Exec(t, w.dst, "UPDATE items SET code = 'forged' WHERE id % 5 = 0", "DELETE FROM items WHERE id > 490")
	id := w.ask(request.Resync, "{}")
	if p := w.compared(id); p.Checked != 500 || p.Written != 108 {
		t.Errorf("the resync says %+v", p)
	}
	w.catchUp(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.want("entries", "SELECT provedor_id, details->>'rows', details->>'written' FROM audit_logs WHERE details->>'request' = '"+id+"' ORDER BY 1",
		w.rows("SELECT id % 3 + 1, count(*), count(*) FILTER (WHERE id % 5 = 0 OR id > 490) FROM items GROUP BY 1 ORDER BY 1"))
	w.requireEqual()
}

// outrun is a sink whose target has one more row behind every page of keys before
// the next one is asked for.
type outrun struct {
	sink.Sink
	insert func()
}

func (o *outrun) Begin(ctx context.Context, epoch int64, lsn cdc.LSN, opts sink.TxOptions) (sink.Tx, error) {
	tx, err := o.Sink.Begin(ctx, epoch, lsn, opts)
	if err != nil {
		return nil, err
	}
	return &outrunTx{tx, o}, nil
}

type outrunTx struct {
	sink.Tx
	of *outrun
}

func (t *outrunTx) Load(ctx context.Context, q *sink.Query) (*sink.Loaded, error) {
	l, err := t.Tx.Load(ctx, q)
	if err == nil && q.Keys != nil && q.Keys.Limit > 1 {
		t.of.insert()
	}
	return l, err
}

// The application goes on while a resync looks for rows that are gone, and must
// not be able to outrun it.
func TestResync_EndsThoughRowsAreAdded(t *testing.T) {
	t.Parallel()
	w := newItems(t, &steps{})
	w.exec("INSERT INTO item SELECT n, 1 + n % 3, 'good' FROM generate_series(1, 30) n")
	var pages atomic.Int64
	tune := w.tune
	w.tune = func(o *replicator.Options) {
		tune(o)
		o.CopyRows = 20
		open := o.OpenSink
		o.OpenSink = func(ctx context.Context) (sink.Sink, error) {
			s, err := open(ctx)
			return &outrun{s, func() { w.exec(fmt.Sprintf("INSERT INTO item VALUES (%d, 1, 'good')", 1000+pages.Add(1))) }}, err
		}
	}
	r := w.start()
	w.catchUp(r)
	id := w.ask(request.Resync, "{}")
	pgtest.Eventually(t, "the end of the request", patience, func() error {
		if n := pages.Load(); n > 50 {
			t.Fatalf("the resync has read %d pages of about 30 keys, 20 at a time", n)
		}
		if w.rows("SELECT state FROM walbridge.requests WHERE id = "+id) != "done" {
			return errors.New("still open")
		}
		return nil
	})
	w.catchUp(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.requireEqual()
}

// Path values that somebody has cut short are refused with the way out.
func TestResync_DamagedPathValues(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.exec(seed)
	r := w.start()
	w.catchUp(r)
	if err := r.stop(); err != nil { // it has them in memory
		t.Fatal(err)
	}
	pgtest.Exec(t, w.dst, "UPDATE walbridge.path_values SET vals = vals[1:1] WHERE source = 'public.conversations_conversation'")
	w.exec("UPDATE conversations_conversation SET inbox_id = 6 WHERE id = 10")
	r = w.start()
	hint := r.blocked("somebody has edited it")
	mend, ok := strings.CutPrefix(hint, "at the target: ")
	if !ok {
		t.Fatalf("the hint names no statement: %s", hint)
	}
	mend, _, _ = strings.Cut(mend, ";")
	pgtest.Exec(t, w.dst, mend)
	w.compared(w.ask(request.Resync, "{}"))
	w.catchUp(r)
	w.requireEqual()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}
