package rest_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/postgrest"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/rest"
)

// bridge is a sink that holds the lease, over one table.
type bridge struct {
	*project
	s     sink.Sink
	notes *sink.Table
	epoch int64
	lsn   cdc.LSN
}

const (
	int8Type = `"pg_catalog"."int8"`
	textType = `"pg_catalog"."text"`
)

func newBridge(t *testing.T, p *project) *bridge {
	t.Helper()
	b := &bridge{project: p, notes: &sink.Table{Schema: "public", Name: "notes", Key: []int{0}, Tenant: 1, Columns: []sink.Column{
		{Name: "id", Type: int8Type}, {Name: "tenant", Type: int8Type, NotNull: true}, {Name: "text", Type: textType}}}}
	schema := &sink.Schema{Tables: []*sink.Table{b.notes}}
	p.prepare("bridge", schema)
	b.s = p.open("bridge")
	if _, err := b.s.Install(t.Context(), schema, false); err != nil {
		t.Fatalf("Install: %v", err)
	}
	cp, err := b.s.Acquire(t.Context(), "one", time.Hour, false)
	if err != nil {
		t.Fatalf("Acquire: %v", err)
	}
	b.epoch, b.lsn = cp.Epoch, cp.LSN
	return b
}

func (b *bridge) rows(n int) *sink.Writes {
	set := sink.RowSet{Table: b.notes, Mode: sink.Insert, Columns: []int{0, 1, 2}}
	for i := range n {
		set.Rows = append(set.Rows, cdc.Row{cdc.TextValue(fmt.Sprint(i)), cdc.TextValue("7"), cdc.TextValue("secret " + strings.Repeat("x", 50))})
	}
	return &sink.Writes{Rows: []sink.RowSet{set}}
}

// commit writes n rows in a batch of their own.
func (b *bridge) commit(n int) error {
	tx, err := b.s.Begin(b.Context(), b.epoch, b.lsn, sink.TxOptions{Lease: time.Hour})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(b.Context()) }()
	if err := tx.Apply(b.Context(), b.rows(n)); err != nil {
		return err
	}
	return tx.Commit(b.Context(), sink.Progress{LSN: b.lsn + 10})
}

func (b *bridge) want(rows int, lsn cdc.LSN) {
	b.Helper()
	if got := pgtest.QueryValue(b.T, b.admin, "SELECT count(*) FROM public.notes"); got != fmt.Sprint(rows) {
		b.Errorf("%s rows at the target, want %d", got, rows)
	}
	if cp, err := b.s.Checkpoint(b.Context()); err != nil || cp.LSN != lsn {
		b.Errorf("checkpoint at %s, %v, want %s", cp.LSN, err, lsn)
	}
}

// What becomes of a commit whose answer doesn't come is in the checkpoint.
func TestCommit_WithoutAnswer(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t)
	for _, tt := range []struct {
		kind    postgrest.Kind
		unknown bool
		rows    int
	}{
		{postgrest.DropReply, true, 3},
		{postgrest.Truncated, true, 3},
		{postgrest.DropRequest, true, 0},
		{postgrest.BadGateway, true, 0},
		{postgrest.TooManyRequests, false, 0},
		{postgrest.Paused, false, 0},
	} {
		t.Run(fmt.Sprint(tt.kind), func(t *testing.T) {
			t.Parallel()
			b := newBridge(t, newProject(t, c))
			b.api.Fail(postgrest.Fault{Kind: tt.kind})
			err := b.commit(3)
			var unknown *sink.UnknownError
			if err == nil || errors.As(err, &unknown) != tt.unknown {
				t.Fatalf("commit = %v, want an unknown outcome: %v", err, tt.unknown)
			}
			b.want(tt.rows, b.lsn+cdc.LSN(10*min(tt.rows, 1)))
			err = b.commit(3)
			var stale *sink.StaleError
			if tt.rows > 0 && !errors.As(err, &stale) || tt.rows == 0 && err != nil {
				t.Errorf("the same batch again: %v", err)
			}
			b.want(3, b.lsn+10)
		})
	}
}

// A gateway that takes small requests only gets small ones, whatever the settings
// say.
func TestCommit_SmallRequests(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t)
	p := newProject(t, c)
	p.serve(c, postgrest.Options{MaxBody: 64 << 10})
	b := newBridge(t, p)
	if err := b.commit(5000); err != nil {
		t.Fatalf("commit: %v", err)
	}
	b.want(5000, b.lsn+10)
	if n := pgtest.QueryValue(t, p.admin, "SELECT count(*) FROM walbridge.stage"); n != "0" {
		t.Errorf("%s parts are left in the stage", n)
	}
	for _, r := range p.api.Requests() {
		if r.Status == 200 && r.Bytes > 64<<10 {
			t.Errorf("a request of %d bytes has passed", r.Bytes)
		}
	}
}

// A key that is changed in its file is taken up when the old one is refused.
func TestKey_Rotated(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t)
	p := newProject(t, c)
	b := newBridge(t, p)
	p.opts.URL = p.url
	old := p.api
	p.rotated = old.Keys().ServiceRole
	old.Revoke(old.Keys().Secret)
	if err := b.commit(2); err != nil {
		t.Fatalf("commit after the key has changed: %v", err)
	}
	b.want(2, b.lsn+10)
}

// always has every request fail.
func always(kind postgrest.Kind) func(*project) {
	return func(p *project) {
		for range 20 {
			p.api.Fail(postgrest.Fault{Kind: kind})
		}
	}
}

// A key that can't be the service's is never sent.
func TestKey_Unfit(t *testing.T) {
	t.Parallel()
	p := newProject(t, pgtest.Start(t))
	for text, key := range map[string]string{
		"is not that of service_role": p.api.Keys().Anon,
		"is a publishable one":        p.api.Keys().Publishable,
		"expired on 1970-01-02":       p.api.Token(map[string]any{"role": "service_role", "exp": 24 * 60 * 60}),
		"neither a secret key":        "something",
		"has blanks in it":            p.api.Keys().Secret + "\n",
	} {
		opts := p.opts
		opts.Key = func() (string, error) { return key, nil }
		_, err := rest.Open(t.Context(), opts, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(fault.HintOf(err), "API keys") || fault.ClassOf(err) != fault.Config {
			t.Errorf("Open = %v (%s), want a mistake in the settings with %q", err, fault.HintOf(err), text)
		}
		if strings.Contains(err.Error()+fault.HintOf(err), strings.TrimSpace(key)) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
	if n := len(p.api.Requests()); n > 0 {
		t.Errorf("%d requests went out", n)
	}
}

// Each mistake has its own word, none shows the key, and none is asked about again
// and again.
func TestMistakes(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t)
	for _, tt := range []struct {
		name       string
		make       func(p *project)
		text, hint string
	}{
		{"no function", func(p *project) { pgtest.Exec(t, p.admin, "DROP FUNCTION public.walbridge(json)") }, "no function public.walbridge", "walbridge schema target"},
		{"an old function", func(p *project) {
			pgtest.Exec(t, p.admin, `CREATE OR REPLACE FUNCTION public.walbridge(json) RETURNS json LANGUAGE sql AS $$ SELECT '{"error": {"code": "WB007"}}'::json $$`)
		}, "of another version", "walbridge schema target"},
		{"another mapping", func(p *project) { pgtest.Exec(t, p.admin, "DELETE FROM walbridge.statements") }, "doesn't know a statement", "walbridge schema target"},
		{"no right to call", func(p *project) {
			pgtest.Exec(t, p.admin, "REVOKE ALL ON FUNCTION public.walbridge(json) FROM PUBLIC, service_role")
		}, "may not call the function", "API keys"},
		{"a refused key", func(p *project) { p.api.Revoke(p.api.Keys().Secret) }, "the API key is refused", "API keys"},
		{"an expired key", always(postgrest.Expired), "the API key is refused: it has expired", "SUPABASE_SECRET_KEY_FILE"},
		{"a key of users", func(p *project) { p.rotated = p.api.Keys().Publishable; p.api.Revoke(p.api.Keys().Secret) }, "the API key is refused", "API keys"},
		{"a paused project", always(postgrest.Paused), "paused", "dashboard"},
		{"no project", always(postgrest.NotFound), "there is no Supabase API", "check SUPABASE_URL"},
		{"row security in the way", func(p *project) {
			pgtest.Exec(t, p.admin, `CREATE ROLE "weak `+p.name+`"; GRANT ALL ON ALL TABLES IN SCHEMA public, walbridge TO "weak `+p.name+`";
				GRANT USAGE ON SCHEMA walbridge TO "weak `+p.name+`"; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA walbridge TO "weak `+p.name+`";
				ALTER FUNCTION public.walbridge(json) OWNER TO "weak `+p.name+`"`)
		}, "SQLSTATE 42501", "ALTER FUNCTION public.walbridge(json) OWNER TO"},
		{"a statement that takes too long", func(p *project) {
			pgtest.Exec(t, p.admin, `ALTER FUNCTION public.walbridge(json) SET statement_timeout = '1s';
				CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(30); RETURN NULL; END';
				CREATE TRIGGER slow AFTER INSERT ON public.notes FOR EACH STATEMENT EXECUTE FUNCTION public.slow()`)
		}, "57014", "WALBRIDGE_TARGET_URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBridge(t, newProject(t, c))
			tt.make(b.project)
			err := b.commit(3)
			if err == nil || !strings.Contains(err.Error(), tt.text) || fault.ClassOf(err) != fault.Stop {
				t.Fatalf("commit = %v (%s), want a stop with %q", err, fault.ClassOf(err), tt.text)
			}
			if hint := fault.HintOf(err); !strings.Contains(hint, tt.hint) {
				t.Errorf("hint %q, want %q", hint, tt.hint)
			}
			if text := err.Error() + fault.HintOf(err); strings.Contains(text, "sb_secret_"+strings.TrimPrefix(b.api.Keys().Secret, "sb_secret_")) || strings.Contains(text, "secret x") {
				t.Errorf("the error shows the key or a value: %s", text)
			}
			var unknown *sink.UnknownError
			if errors.As(err, &unknown) {
				t.Errorf("the outcome is called unknown: %v", err)
			}
			if strings.Contains(tt.text, "57014") {
				return // which takes its time by itself
			}
			answered := len(b.api.Requests())
			for range 2 {
				if err := b.commit(3); err == nil || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("commit again = %v", err)
				}
			}
			for i, r := range b.api.Requests()[answered:] {
				if since := r.At.Sub(b.api.Requests()[answered+i-1].At); since < time.Second {
					t.Errorf("asked again after %s", since)
				}
			}
		})
	}
}
