package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
	"github.com/walbridge/walbridge/sink/sinktest"
)

// owner is a role as Supabase's postgres is: it owns what it makes and the
// schema public, and is no superuser.
const owner = "app_owner"

var databases atomic.Int64

// newDB makes a database like a new Supabase project's, and returns its URL as
// the owner and as the superuser.
func newDB(t *testing.T, c *pgtest.Cluster) (url, admin string) {
	t.Helper()
	name := fmt.Sprintf("target%d", databases.Add(1))
	admin = pgtest.CreateDB(t, c, name)
	pgtest.Exec(t, admin, `GRANT CREATE ON DATABASE `+name+` TO `+owner+`;
		ALTER SCHEMA public OWNER TO `+owner+`;
		ALTER DEFAULT PRIVILEGES FOR ROLE `+owner+` IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated;
		ALTER DEFAULT PRIVILEGES FOR ROLE `+owner+` IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated`)
	return c.URLAs(owner, "", name), admin
}

func newCluster(t *testing.T, opts ...pgtest.Option) *pgtest.Cluster {
	t.Helper()
	c := pgtest.Start(t, opts...)
	pgtest.Exec(t, c.URL("postgres"), `CREATE ROLE `+owner+` LOGIN NOSUPERUSER CREATEROLE; CREATE ROLE anon; CREATE ROLE authenticated`)
	return c
}

func open(t *testing.T, url, name string) sink.Sink {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Options{URL: url, Name: name}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

func TestSink(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sinktest.Exercise(t, func(t *testing.T) sinktest.Target {
		url, admin := newDB(t, c)
		return sinktest.Postgres(t, admin, func(name string) sink.Sink { return open(t, url, name) })
	})
}

func TestReader(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sinktest.ExerciseReader(t, func(t *testing.T) (sinktest.Target, func(string, *sink.Schema) sink.Reader) {
		url, admin := newDB(t, c)
		target := sinktest.Postgres(t, admin, func(name string) sink.Sink { return open(t, url, name) })
		return target, func(name string, schema *sink.Schema) sink.Reader {
			r, err := postgres.OpenReader(t.Context(), postgres.Options{URL: url, Name: name}, schema, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatalf("OpenReader: %v", err)
			}
			return r
		}
	})
}

// A pooler may give each transaction another session. Whatever relied on prepared
// statements, temporary tables or locks of the one before would fail.
func TestSink_BehindAPooler(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	pooler := pgtest.StartPooler(t, c, pgtest.Transaction)
	sinktest.Exercise(t, func(t *testing.T) sinktest.Target {
		_, admin := newDB(t, c)
		url := pooler.URL(admin)
		return sinktest.Postgres(t, admin, func(name string) sink.Sink { return open(t, url, name) })
	})
}
