package pgtest

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// TB is what the helpers need of testing.TB.
type TB interface {
	Helper()
	Cleanup(func())
	Context() context.Context
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Null stands for SQL NULL in the results of QueryText, as in COPY.
const Null = `\N`

// Start starts a cluster that lives as long as the test. With -short it skips
// the test.
func Start(tb TB, opts ...Option) *Cluster {
	tb.Helper()
	if f := flag.Lookup("test.short"); f != nil && f.Value.String() == "true" {
		tb.Skipf("needs a PostgreSQL server; run without -short")
	}
	c, err := New(tb.Context(), "", opts...)
	if err != nil {
		tb.Fatalf("start cluster: %v", err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Logf("close cluster: %v", err)
		}
	})
	return c
}

// Connect opens a connection that lives as long as the test.
func Connect(tb TB, url string) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), url)
	if err != nil {
		tb.Fatalf("connect: %v", err)
	}
	// The test's context is over when cleanups run.
	tb.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Exec runs statements, each of which may hold several, on a new connection.
func Exec(tb TB, url string, sql ...string) {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), url)
	if err != nil {
		tb.Fatalf("connect: %v", err)
	}
	defer conn.Close(context.Background())
	for _, s := range sql {
		if err := conn.PgConn().Exec(tb.Context(), s).Close(); err != nil {
			tb.Fatalf("execute %s: %v", s, err)
		}
	}
}

// QueryText returns the rows of a query in PostgreSQL's text form, NULL as Null.
func QueryText(tb TB, url, sql string, args ...any) [][]string {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), url)
	if err != nil {
		tb.Fatalf("connect: %v", err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(tb.Context(), sql, append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)...)
	if err != nil {
		tb.Fatalf("query %s: %v", sql, err)
	}
	got, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]string, error) {
		out := make([]string, len(row.RawValues()))
		for i, v := range row.RawValues() {
			out[i] = Null
			if v != nil {
				out[i] = string(v)
			}
		}
		return out, nil
	})
	if err != nil {
		tb.Fatalf("query %s: %v", sql, err)
	}
	return got
}

// QueryValue returns the only value of a query.
func QueryValue(tb TB, url, sql string, args ...any) string {
	tb.Helper()
	rows := QueryText(tb, url, sql, args...)
	if len(rows) != 1 || len(rows[0]) != 1 {
		tb.Fatalf("query %s: got %d rows, want one value", sql, len(rows))
	}
	return rows[0][0]
}

// CreateDB makes a database on c and returns its URL.
func CreateDB(tb TB, c *Cluster, name string) string {
	tb.Helper()
	if err := c.CreateDB(tb.Context(), name); err != nil {
		tb.Fatalf("%v", err)
	}
	return c.URL(name)
}

// Eventually waits until cond is true, or returns no error, and fails the test
// if that takes longer than the bound, which should be generous: it is there to
// end a test that hangs, not to measure.
func Eventually[F func() bool | func() error](tb TB, what string, within time.Duration, cond F) {
	tb.Helper()
	try := func() error {
		switch f := any(cond).(type) {
		case func() bool:
			if !f() {
				return fmt.Errorf("condition is false")
			}
		case func() error:
			return f()
		}
		return nil
	}
	deadline := time.Now().Add(within)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("wait for %s: not after %s: %v", what, within, err)
		}
		select {
		case <-tb.Context().Done():
			tb.Fatalf("wait for %s: %v", what, context.Cause(tb.Context()))
		case <-time.After(poll):
		}
	}
}
