package rest_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/postgrest"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
	"github.com/walbridge/walbridge/sink/rest"
	"github.com/walbridge/walbridge/sink/sinktest"
)

var databases atomic.Int64

// project is a Supabase project: a database and its API.
type project struct {
	*testing.T
	name  string
	admin string
	api   *postgrest.Server
	url   string
	opts  rest.Options
	// blind: the script is that of a project that nobody has looked at.
	blind bool
	// rotated is the key that has replaced the first one.
	rotated string
}

func newProject(t *testing.T, c *pgtest.Cluster) *project {
	t.Helper()
	name := fmt.Sprintf("target%d", databases.Add(1))
	p := &project{T: t, name: name, admin: pgtest.CreateDB(t, c, name)}
	p.serve(c, postgrest.Options{})
	return p
}

// serve starts the API.
func (p *project) serve(c *pgtest.Cluster, opts postgrest.Options) {
	p.Helper()
	p.api, p.url = postgrest.Start(p.T, c, p.name, opts)
	p.opts = rest.Options{URL: p.url, Key: p.key, MaxBody: 1 << 20, Version: "test"}
}

func (p *project) key() (string, error) {
	if p.rotated != "" {
		return p.rotated, nil
	}
	return p.api.Keys().Secret, nil
}

// prepare does what somebody does in the SQL editor.
func (p *project) prepare(name string, schema *sink.Schema) {
	p.Helper()
	opts := postgres.Options{URL: p.admin, Name: name}
	script, err := postgres.NewAPIScript(p.Context(), opts, schema)
	if err != nil {
		p.Fatalf("NewAPIScript: %v", err)
	}
	if p.blind {
		script = postgres.BlindAPIScript(name, schema)
	}
	var sql strings.Builder
	for _, st := range rest.Script(name, script) {
		sql.WriteString(st.String() + ";\n")
	}
	pgtest.Exec(p.T, p.admin, sql.String())
}

func (p *project) open(name string) *rest.Sink {
	p.Helper()
	opts := p.opts
	opts.Name = name
	s, err := rest.Open(p.Context(), opts, slog.New(slog.DiscardHandler))
	if err != nil {
		p.Fatalf("Open: %v", err)
	}
	p.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// prepared is a sink for whose Install somebody has run the script.
type prepared struct {
	*rest.Sink
	p    *project
	name string
}

func (s prepared) Install(ctx context.Context, schema *sink.Schema, dry bool) ([]string, error) {
	s.p.prepare(s.name, schema)
	return s.Sink.Install(ctx, schema, dry)
}

// TestSink goes through the suite with requests so small that nearly all is staged,
// and with REST_EXERCISE=all in the environment with ordinary ones, too.
func TestSink(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t)
	sizes := []int{2000}
	if os.Getenv("REST_EXERCISE") == "all" {
		sizes = append(sizes, 1<<20)
	}
	for _, maxBody := range sizes {
		t.Run(fmt.Sprint("requests of ", maxBody), func(t *testing.T) {
			sinktest.Exercise(t, func(t *testing.T) sinktest.Target {
				p := newProject(t, c)
				p.opts.MaxBody = maxBody
				p.blind = maxBody < 1<<20
				return sinktest.Postgres(t, p.admin, func(name string) sink.Sink {
					p.prepare(name, &sink.Schema{})
					return prepared{p.open(name), p, name}
				})
			})
		})
	}
}

// TestReader goes through the suite of readers.
func TestReader(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t)
	sinktest.ExerciseReader(t, func(t *testing.T) (sinktest.Target, func(string, *sink.Schema) sink.Reader) {
		p := newProject(t, c)
		target := sinktest.Postgres(t, p.admin, func(name string) sink.Sink {
			p.prepare(name, &sink.Schema{})
			return prepared{p.open(name), p, name}
		})
		return target, func(name string, schema *sink.Schema) sink.Reader {
			p.prepare(name, schema)
			opts := p.opts
			opts.Name = name
			r, err := rest.OpenReader(t.Context(), opts, schema, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.Close(context.Background()) })
			return r
		}
	})
}
