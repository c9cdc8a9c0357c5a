package replicator_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// patience is the upper bound of every wait; nothing is expected to take it.
const patience = 300 * time.Second

// world is a source, a target and what bridges them.
type world struct {
	t              *testing.T
	source, target *pgtest.Cluster
	src, dst       string // URLs
	mapping        string
	file           *mapping.File
	tune           func(*replicator.Options)
}

// newWorld starts two clusters; the source has schema, and is started with opts.
func newWorld(t *testing.T, schema, mappingYAML string, opts ...pgtest.Option) *world {
	t.Helper()
	w := &world{t: t, source: pgtest.Start(t, opts...), target: pgtest.Start(t), mapping: mappingYAML}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("WALBRIDGE_TEST_LOG") != "" {
			t.Log(w.source.Log(), w.target.Log())
		}
	})
	w.src, w.dst = w.source.URL("postgres"), w.target.URL("postgres")
	pgtest.Exec(t, w.src, schema)
	f, err := mapping.Parse("test.yaml", []byte(mappingYAML))
	if err != nil {
		t.Fatal(err)
	}
	w.file = f
	return w
}

func newNioChat(t *testing.T) *world {
	t.Helper()
	preset, err := configs.Read(configs.Default)
	if err != nil {
		t.Fatal(err)
	}
	return newWorld(t, demo.SourceSchema, string(preset))
}

func (w *world) options() replicator.Options {
	level := slog.LevelWarn
	if os.Getenv("WALBRIDGE_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	o := replicator.Options{
		Name: "walbridge", SourceURL: w.src, File: w.file,
		Compile: mapping.CompileOptions{Audit: mapping.Audit{MaxValue: 8192}},
		OpenSink: func(ctx context.Context) (sink.Sink, error) {
			return postgres.Open(ctx, postgres.Options{URL: w.dst, Name: "walbridge"}, log)
		},
		TargetCatalog: func(ctx context.Context, tables []pg.TableName) (*pg.Catalog, error) {
			conn, err := pg.Connect(ctx, w.dst, pg.Options{Side: pg.Target})
			if err != nil {
				return nil, err
			}
			defer func() { _ = conn.Close(ctx) }()
			return pg.ReadCatalog(ctx, conn, tables)
		},
		Status: status.New("test"), Log: log,
		Heartbeat: time.Second, Lease: 4 * time.Second,
		BatchRows: 10_000, BatchBytes: 4 << 20, QueueBytes: 4 << 20, CopyRows: 1000, RejectLimit: 100,
	}
	if w.tune != nil {
		w.tune(&o)
	}
	return o
}

// running is a bridge in the background.
type running struct {
	w      *world
	status *status.State
	cancel context.CancelFunc
	done   chan error
	ended  bool
	err    error
}

func (w *world) start() *running {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	o := w.options()
	r := &running{w: w, status: o.Status, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- replicator.Run(ctx, o) }()
	w.t.Cleanup(func() { r.stop() })
	return r
}

// stop ends the bridge and returns what Run returned.
func (r *running) stop() error {
	if r.ended {
		return nil
	}
	r.ended = true
	r.cancel()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		return errors.New("the bridge does not stop")
	}
}

// wait returns what Run returns when the bridge ends by itself.
func (r *running) wait() error {
	r.ended = true
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		return nil
	}
}

// catchUp waits until everything that is committed at the source now is at the
// target: the checkpoint has passed it.
func (w *world) catchUp(r *running) {
	w.t.Helper()
	lsn := pgtest.QueryValue(w.t, w.src, "SELECT pg_current_wal_insert_lsn()")
	pgtest.Exec(w.t, w.src, "SELECT pg_logical_emit_message(true, 'test', 'catch up')")
	pgtest.Eventually(w.t, "catching up with "+lsn, patience, func() error {
		select {
		case r.err = <-r.done:
			r.ended = true
		default:
		}
		if r.ended {
			w.t.Fatalf("the bridge has ended: %v", r.err)
		}
		s := r.status.Snapshot()
		if s.State != status.Streaming {
			if s.LastError != nil {
				return errors.New(string(s.State) + ": " + s.LastError.Message)
			}
			return errors.New(string(s.State))
		}
		got := pgtest.QueryValue(w.t, w.dst, "SELECT lsn >= '"+lsn+"' FROM walbridge.checkpoint WHERE name = 'walbridge'")
		if got != "t" && got != "true" {
			return errors.New("not there yet")
		}
		return nil
	})
}

// rows returns a query's rows at the target as text.
func (w *world) rows(sql string) string {
	w.t.Helper()
	var lines []string
	for _, r := range pgtest.QueryText(w.t, w.dst, sql) {
		lines = append(lines, strings.Join(r, " | "))
	}
	return strings.Join(lines, "\n")
}

func (w *world) exec(sql ...string) {
	w.t.Helper()
	pgtest.Exec(w.t, w.src, sql...)
}

func (w *world) want(what, sql, want string) {
	w.t.Helper()
	if got := w.rows(sql); got != want {
		w.t.Errorf("%s:\ngot  %s\nwant %s", what, got, want)
	}
}

const seed = `
INSERT INTO core_provedor (id, nome, is_active, created_at, updated_at) VALUES (1, 'Um', true, now(), now()), (2, 'Dois', true, now(), now());
INSERT INTO conversations_inbox (id, name, channel_type, is_active, created_at, updated_at, provedor_id, additional_attributes, channel_id)
  VALUES (5, 'wa', 'whatsapp', true, now(), now(), 1, '{}', 'c5'), (6, 'tg', 'telegram', true, now(), now(), NULL, '{}', 'c6');
INSERT INTO conversations_contact (id, name, phone, additional_attributes, created_at, updated_at, provedor_id)
  VALUES (7, 'Ana', '11', '{}', now(), now(), 1), (8, 'Bia', '22', '{}', now(), now(), NULL);
INSERT INTO conversations_conversation (id, status, additional_attributes, created_at, updated_at, contact_id, inbox_id)
  VALUES (10, 'open', '{}', now(), now(), 7, 5), (11, 'open', '{}', now(), now(), 8, 6);
INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, is_from_customer, updated_at)
  VALUES (100, 'text', 'oi', now(), 10, '{}', true, now()), (101, 'text', 'x', now(), 11, '{}', true, now());
`

// wantActivity holds what a process has counted of a whole life against the
// checkpoint's totals.
func wantActivity(t *testing.T, s *status.State) {
	t.Helper()
	var n status.Snapshot
	pgtest.Eventually(t, "the status to say what is held still", patience, func() bool {
		n = s.Snapshot()
		return n.Held == 1 && slices.Equal(n.HeldBy, []status.Held{{Table: "public.conversations_contact", Reason: "tenant", Rows: 1}})
	})
	var tables, tenants int64
	for _, table := range n.Tables {
		tables += table.Rows
	}
	for _, tenant := range n.Tenants {
		tenants += tenant.Rows
	}
	// Taking a row away that was never there, for one that is held, is no tenant's.
	if n.Written != n.Rows || tables != n.Rows || tenants != n.Rows-1 || n.Transactions == 0 {
		t.Errorf("%d rows applied; counted %d, by table %d, by tenant %d; %d transactions", n.Rows, n.Written, tables, tenants, n.Transactions)
	}
	if table := n.Tables[0]; table.Name != "public.conversations_message" || len(n.Tenants) != 2 || n.Tenants[0].ID != "1" {
		t.Errorf("tables %v, tenants %v", n.Tables, n.Tenants)
	}
}

func TestBridge_CopiesThenStreams(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.exec(seed)
	r := w.start()
	w.catchUp(r)
	w.want("copied", "SELECT id, provedor_id, contact_id FROM public.messages ORDER BY id", "100 | 1 | 7")
	w.want("held", `SELECT "table", key FROM walbridge.held ORDER BY 1, 2`, "public.contacts | 8\npublic.conversations | 11\npublic.messages | 101")
	pgtest.Eventually(t, "the status to say what is held", patience, func() bool {
		return slices.Equal(r.status.Snapshot().HeldBy, []status.Held{
			{Table: "public.conversations_contact", Reason: "tenant", Rows: 1},
			{Table: "public.conversations_conversation", Reason: "tenant", Rows: 1},
			{Table: "public.conversations_message", Reason: "tenant", Rows: 1},
		})
	})
	w.exec(`INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, is_from_customer, updated_at)
		VALUES (102, 'text', 'novo', now(), 10, '{}', true, now())`,
		`UPDATE conversations_conversation SET status = 'closed' WHERE id = 10`)
	w.catchUp(r)
	w.want("streamed", "SELECT id, provedor_id, content FROM public.messages ORDER BY id", "100 | 1 | oi\n102 | 1 | novo")
	w.want("observed", "SELECT status, ended_at IS NOT NULL FROM public.conversations", "closed | t")
	w.exec("UPDATE conversations_inbox SET provedor_id = 2 WHERE id = 6")
	w.catchUp(r)
	w.want("released", "SELECT id, provedor_id FROM public.messages ORDER BY id", "100 | 1\n101 | 2\n102 | 1")
	w.exec("UPDATE conversations_inbox SET provedor_id = 2 WHERE id = 5")
	w.catchUp(r)
	w.want("moved", "SELECT id, provedor_id FROM public.messages ORDER BY id", "100 | 2\n101 | 2\n102 | 2")
	w.want("moved conversations", "SELECT id, provedor_id FROM public.conversations ORDER BY id", "10 | 2\n11 | 2")
	w.exec("DELETE FROM conversations_message WHERE id = 100")
	w.catchUp(r)
	w.want("kept", `SELECT key FROM walbridge.deleted`, "100")
	w.want("entries", `SELECT provedor_id, action, details->>'n', details->>'op' FROM public.audit_logs WHERE details->>'by' = 'walbridge' ORDER BY (details->>'n')::int`, strings.TrimSpace(`
1 | contact.copied | 1 | copy
1 | conversation.copied | 2 | copy
1 | message.copied | 3 | copy
1 | message.created | 4 | insert
1 | conversation.closed | 5 | update
2 | inbox.moved | 6 | move
1 | inbox.moved | 7 | move
2 | inbox.moved | 8 | move
2 | message.deleted | 9 | delete`))
	wantActivity(t, r.status)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}
