package schema_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/schema"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/internal/verify"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// patience ends a test that hangs; nothing is expected to take it.
const patience = 5 * time.Minute

const (
	name     = "walbridge"
	password = "a password that nothing prints"
)

// world is NioChat's database and a target like a new Supabase project, with both
// scripts applied: the source's by its superuser, the target's by a role that
// owns the database and is none.
type world struct {
	*testing.T
	source, target *pgtest.Cluster
	// src and dst are the administrators' URLs.
	src, dst string
	file     *mapping.File
	manual   bool
}

func newWorld(t *testing.T, mappingYAML string, manual bool) *world {
	t.Helper()
	passwords := func(role string) pgtest.Option {
		return pgtest.WithHBA("host all " + role + " 127.0.0.1/32 scram-sha-256")
	}
	w := &world{T: t, manual: manual,
		source: pgtest.Start(t, passwords(schema.SourceRole)), target: pgtest.Start(t, passwords(schema.TargetRole))}
	w.src, w.dst = w.source.URL("postgres"), w.target.URLAs("project", "", "project")
	// Before PostgreSQL 15 every role may make tables in public.
	const closed = "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
	pgtest.Exec(t, w.src, demo.SourceSchema, closed)
	pgtest.Exec(t, w.target.URL("postgres"), "CREATE ROLE project LOGIN CREATEROLE; CREATE ROLE anon; CREATE ROLE authenticated", "CREATE DATABASE project OWNER project")
	pgtest.Exec(t, w.target.URL("project"), "ALTER SCHEMA public OWNER TO project", closed)
	pgtest.Exec(t, w.dst, `ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated;
		ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated;
		CREATE SCHEMA private; CREATE TABLE private.secrets (s text); CREATE TABLE others (id int)`)
	var err error
	if w.file, err = mapping.Parse("test.yaml", []byte(mappingYAML)); err != nil {
		t.Fatal(err)
	}
	w.apply()
	pgtest.Exec(t, w.src, "ALTER ROLE "+schema.SourceRole+" PASSWORD '"+password+"'")
	pgtest.Exec(t, w.dst, "ALTER ROLE "+schema.TargetRole+" PASSWORD '"+password+"'")
	return w
}

// apply runs both scripts.
func (w *world) apply() {
	w.Helper()
	ctx := w.Context()
	src, dst := pgtest.Connect(w, w.src), pgtest.Connect(w, w.dst)
	o := schema.Options{Name: name, Role: schema.SourceRole, File: w.file}
	s, err := schema.Source(ctx, src, o)
	if err != nil {
		w.Fatal(err)
	}
	if w.manual {
		s.Slot = name
	}
	if err := s.Apply(ctx, w.src, pg.Options{Side: pg.Source}); err != nil {
		w.Fatal(err)
	}
	o.Role = schema.TargetRole
	if s, err = schema.Target(ctx, src, dst, postgres.Options{URL: w.dst, Name: o.Name}, o); err != nil {
		w.Fatal(err)
	}
	if err := s.Apply(ctx, w.dst, pg.Options{Side: pg.Target}); err != nil {
		w.Fatal(err)
	}
}

// reader and writer are the bridge's URLs.
func (w *world) reader() string { return w.source.URLAs(schema.SourceRole, password, "postgres") }
func (w *world) writer() string { return w.target.URLAs(schema.TargetRole, password, "project") }

// running is a bridge under the two roles.
type running struct {
	w      *world
	status *status.State
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// start runs a bridge; via may lead its connections elsewhere.
func (w *world) start(via func(url string) string) *running {
	w.Helper()
	level := slog.LevelError
	if os.Getenv("WALBRIDGE_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	source, target := w.reader(), w.writer()
	if via != nil {
		source, target = via(source), via(target)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{w: w, status: status.New("test"), cancel: cancel, done: make(chan struct{})}
	opts := replicator.Options{
		Name: name, SourceURL: source, File: w.file, Manual: w.manual, Status: r.status, Log: log,
		Compile: mapping.CompileOptions{Audit: mapping.Audit{MaxValue: 8192}},
		OpenSink: func(ctx context.Context) (sink.Sink, error) {
			return postgres.Open(ctx, postgres.Options{URL: target, Name: name}, log)
		},
		TargetCatalog: func(ctx context.Context, tables []pg.TableName) (*pg.Catalog, error) {
			conn, err := pg.Connect(ctx, target, pg.Options{Side: pg.Target})
			if err != nil {
				return nil, err
			}
			defer func() { _ = conn.Close(ctx) }()
			return pg.ReadCatalog(ctx, conn, tables)
		},
		Heartbeat: time.Second, Lease: 2 * time.Second,
		BatchRows: 10_000, BatchBytes: 4 << 20, QueueBytes: 4 << 20, CopyRows: 1000,
	}
	go func() {
		defer close(r.done)
		r.err = replicator.Run(ctx, opts)
	}()
	w.Cleanup(func() { cancel(); <-r.done })
	return r
}

// catchUp waits until all that is committed at the source is at the target.
func (r *running) catchUp() {
	w := r.w
	w.Helper()
	lsn := pgtest.QueryValue(w, w.src, "SELECT pg_current_wal_insert_lsn()")
	pgtest.Exec(w, w.src, "SELECT pg_logical_emit_message(true, 'test', 'catch up')")
	pgtest.Eventually(w, "catching up with "+lsn, patience, func() error {
		select {
		case <-r.done:
			w.Fatalf("the bridge has ended: %v", r.err)
		default:
		}
		s := r.status.Snapshot()
		switch {
		case s.State == status.Blocked:
			w.Fatalf("the bridge is blocked: %s", s.LastError.Message)
		case s.State != status.Streaming:
			return errors.New(string(s.State))
		}
		if w.value("SELECT lsn >= '"+lsn+"' FROM walbridge.checkpoint") != "t" {
			return errors.New("not there yet")
		}
		return nil
	})
}

func (r *running) stop() {
	r.w.Helper()
	r.cancel()
	<-r.done
	if r.err != nil {
		r.w.Errorf("the bridge ended with %v", r.err)
	}
}

// value is a value of the target as its owner sees it.
func (w *world) value(sql string) string {
	w.Helper()
	return pgtest.QueryValue(w, w.target.URL("project"), sql)
}

// traffic writes what the application writes, tenant moves and lost tenants among
// it.
func (w *world) traffic(seed uint64) {
	w.Helper()
	t := demo.NewTraffic(w.src, demo.TrafficOptions{Seed: seed, Actions: 150}, slog.New(slog.DiscardHandler))
	if err := t.Run(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// requireEqual compares the two sides by the mapping, and the audit log with
// itself.
func (w *world) requireEqual() {
	w.Helper()
	rows, entries, err := demo.Compare(w.Context(), w.file, w.src, w.target.URL("project"), verify.Options{Keys: 5, Name: name})
	if err != nil {
		w.Fatal(err)
	}
	if !rows.Equal() || !entries.OK() {
		w.Errorf("the target differs:\n%s\n%s", rows, entries)
	}
}

func preset(t *testing.T) string {
	t.Helper()
	data, err := configs.Read(configs.Default)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Under the roles of both scripts a bridge does all that it does.
func TestRoles_DoEverything(t *testing.T) {
	t.Parallel()
	niochat := preset(t)
	t.Run("auto", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, niochat, false)
		w.bridgeEverything()
		w.denied()
		w.deniedEntries()
	})
	// Nothing is made at the start, deletions are passed on, and the audit table
	// is the bridge's alone.
	t.Run("manual", func(t *testing.T) {
		t.Parallel()
		own := strings.NewReplacer("audit_log:\n  table: audit_logs", "audit_log:\n  table: entries", "on_delete: keep", "on_delete: delete").Replace(niochat)
		w := newWorld(t, own, true)
		w.bridgeEverything()
		w.denied()
		for _, sql := range []string{"UPDATE entries SET action = 'x'", "DELETE FROM entries", "TRUNCATE entries"} {
			w.refused(w.writer(), sql)
		}
	})
}

func (w *world) bridgeEverything() {
	conn := pgtest.Connect(w, w.src)
	if err := demo.Seed(w.Context(), conn, demo.SeedOptions{Seed: 7}); err != nil {
		w.Fatal(err)
	}
	// Sets that would go by COPY, where row security doesn't forbid it.
	pgtest.Exec(w, w.src, `INSERT INTO conversations_message (message_type, content, created_at, conversation_id, additional_attributes, is_from_customer, updated_at)
		SELECT 'text', n::text, now(), (SELECT min(id) FROM conversations_conversation), '{}', true, now() FROM generate_series(1, 2500) n`)
	first := w.start(nil)
	first.catchUp()
	w.requireEqual()
	if got := w.value("SELECT count(*) > 0 FROM walbridge.held"); got != "t" {
		w.Error("nothing is held, so that path isn't tested")
	}
	w.traffic(1)
	first.catchUp()
	w.requireEqual()
	if got := w.value("SELECT heartbeat_token <> '' FROM walbridge.checkpoint"); got != "t" {
		w.Error("no heartbeat is stored")
	}
	first.stop()

	// What came while nobody ran, and both servers going away under the bridge.
	w.traffic(2)
	second := w.start(nil)
	second.catchUp()
	for _, err := range []error{w.target.Kill(), w.target.Start(), w.source.Restart(pgtest.Fast)} {
		if err != nil {
			w.Fatal(err)
		}
	}
	second.catchUp()
	second.stop()
	w.takeOver()

	last := w.start(nil)
	w.forgets(last)
	pgtest.Exec(w, w.src, "SET session_replication_role = replica; TRUNCATE conversations_message, csat_feedbacks, csat_requests, core_auditlog CASCADE")
	last.catchUp()
	w.requireEqual()
	last.stop()
}

// forgets has a contact that the application has deleted erased, whose values stand
// in entries that the bridge's role can't change by itself.
func (w *world) forgets(r *running) {
	w.Helper()
	for _, sql := range []string{
		`INSERT INTO conversations_contact (id, name, phone, additional_attributes, created_at, updated_at, provedor_id)
			SELECT 900000, 'MARKER', '1', '{}', now(), now(), min(id) FROM core_provedor`,
		`UPDATE conversations_contact SET name = 'MARKER again' WHERE id = 900000`,
		`DELETE FROM conversations_contact WHERE id = 900000`,
	} {
		pgtest.Exec(w, w.src, sql)
		r.catchUp()
	}
	owner := w.target.URL("project")
	table := w.value("SELECT CASE WHEN to_regclass('entries') IS NULL THEN 'audit_logs' ELSE 'entries' END")
	left := "SELECT count(*) FROM " + table + " WHERE details::text LIKE '%MARKER%'"
	if w.value(left) == "0" {
		w.Error("no entry has the name, so that erasing it isn't tested")
	}
	id := pgtest.QueryValue(w, owner, `INSERT INTO walbridge.requests (bridge, kind, args)
		VALUES ('`+name+`', '`+replicator.Forget+`', '{"table": "public.contacts", "key": "900000", "dependents": true}') RETURNING id`)
	var ended string
	pgtest.Eventually(w, "the end of the request", patience, func() error {
		if ended = w.value("SELECT state || ' ' || error FROM walbridge.requests WHERE id = " + id); ended == "new " || ended == "running " {
			return errors.New(ended)
		}
		return nil
	})
	if got := w.value(left); ended != "done " || got != "0" {
		w.Errorf("the request is %q, %s entries have the name still", ended, got)
	}
}

// takeOver freezes a bridge behind its proxies, so that another one has to wait
// for its lease, end its walsender and take the slot.
func (w *world) takeOver() {
	w.Helper()
	source, target := pgtest.NewProxy(w, w.source.Addr()), pgtest.NewProxy(w, w.target.Addr())
	frozen := w.start(func(url string) string {
		if strings.Contains(url, w.source.Addr()) {
			return source.URL(url)
		}
		return target.URL(url)
	})
	frozen.catchUp()
	standby := w.start(nil)
	pgtest.Eventually(w, "the second instance standing by", patience, func() bool { return standby.status.Snapshot().State == status.Standby })
	source.Stall()
	target.Stall()
	w.traffic(3)
	standby.catchUp()
	w.requireEqual()
	source.Resume()
	target.Resume()
	// Its next write is refused, unless it notices before that its connections
	// are gone; then it stands by.
	pgtest.Eventually(w, "the frozen instance giving up", patience, func() bool {
		select {
		case <-frozen.done:
			return errors.Is(frozen.err, sink.ErrFenced)
		default:
			return frozen.status.Snapshot().State == status.Standby
		}
	})
	frozen.cancel()
	<-frozen.done
	standby.catchUp()
	standby.stop()
}
