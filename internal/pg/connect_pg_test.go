package pg_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// A database whose own settings would change what values look like, and what a
// commit promises.
const hostile = `
ALTER DATABASE app SET datestyle = 'SQL, DMY';
ALTER DATABASE app SET intervalstyle = 'iso_8601';
ALTER DATABASE app SET extra_float_digits = 0;
ALTER DATABASE app SET timezone = 'America/Sao_Paulo';
ALTER DATABASE app SET bytea_output = 'escape';
ALTER DATABASE app SET array_nulls = off;
ALTER DATABASE app SET xmloption = document;
ALTER DATABASE app SET quote_all_identifiers = on;
ALTER DATABASE app SET lc_monetary = 'POSIX';
ALTER DATABASE app SET client_encoding = 'LATIN1';
ALTER DATABASE app SET standard_conforming_strings = off;
ALTER DATABASE app SET default_transaction_read_only = on;
ALTER DATABASE app SET synchronous_commit = off;
ALTER DATABASE app SET search_path = elsewhere;
SET default_transaction_read_only = off;
CREATE ROLE app LOGIN PASSWORD 'hunter2';`

func TestConnect(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, pgtest.WithHBA("host all app 127.0.0.1/32 scram-sha-256"))
	url := pgtest.CreateDB(t, cluster, "app")
	pgtest.Exec(t, url, hostile)

	pinned := map[string]string{
		"client_encoding": "UTF8", "IntervalStyle": "postgres", "extra_float_digits": "3",
		"TimeZone": "UTC", "bytea_output": "hex", "standard_conforming_strings": "on",
		"array_nulls": "on", "xmloption": "content", "quote_all_identifiers": "off", "lc_monetary": "C",
		"default_transaction_read_only": "off", "application_name": "walbridge",
		"tcp_keepalives_idle": "15", "tcp_user_timeout": "30000",
	}
	with := func(more ...string) map[string]string {
		m := maps.Clone(pinned)
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	tests := []struct {
		name string
		opts pg.Options
		want map[string]string
	}{
		{"source", pg.Options{}, with("row_security", "off", "search_path", "pg_catalog")},
		{"source with more", pg.Options{Application: "x", Settings: map[string]string{"work_mem": "1MB"}},
			with("application_name", "x", "work_mem", "1MB")},
		{"target", pg.Options{Side: pg.Target}, with("row_security", "on", "search_path", "elsewhere", "synchronous_commit", "on")},
		{"target with more", pg.Options{Side: pg.Target, Settings: map[string]string{"search_path": `pg_catalog, "a b"`}},
			with("search_path", `pg_catalog, "a b"`)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			conn, err := pg.Connect(t.Context(), url, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			got := map[string]string{}
			for name := range tt.want {
				var value string
				if err := conn.QueryRow(t.Context(), "SHOW "+name).Scan(&value); err != nil {
					t.Fatal(err)
				}
				got[name] = value
			}
			var day string
			if err := conn.QueryRow(t.Context(), "SELECT '2026-03-04'::date::text").Scan(&day); err != nil || day != "2026-03-04" {
				t.Errorf("4 March is %q, %v", day, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}

	t.Run("replication", func(t *testing.T) {
		t.Parallel()
		var dialled atomic.Int32
		conn, err := pg.ConnectReplication(t.Context(), url, pg.Options{DialFunc: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialled.Add(1)
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if dialled.Load() != 1 {
			t.Errorf("DialFunc was called %d times, want 1", dialled.Load())
		}
		if got := simple(t, conn, "IDENTIFY_SYSTEM"); len(got) != 4 || got[3] != "app" {
			t.Errorf("IDENTIFY_SYSTEM = %q", got)
		}
		if got := simple(t, conn, "SHOW datestyle")[0]; !strings.HasPrefix(got, "ISO,") {
			t.Errorf("datestyle = %q, want ISO", got)
		}
		for _, name := range slices.Sorted(maps.Keys(pinned)) {
			if got := simple(t, conn, "SHOW "+name)[0]; got != pinned[name] {
				t.Errorf("%s = %q, want %q", name, got, pinned[name])
			}
		}
	})

	t.Run("errors", func(t *testing.T) {
		t.Parallel()
		for _, tt := range []struct {
			name, url, code, text string
			class                 fault.Class
		}{
			{"password", cluster.URLAs("app", "hunter3", "app"), "28P01",
				`connect to source at ` + cluster.Addr() + ` as app: fatal: password authentication failed for user "app" (SQLSTATE 28P01)`, fault.Stop},
			{"database", cluster.URL("nowhere"), "3D000",
				`connect to source at ` + cluster.Addr() + ` as postgres: fatal: database "nowhere" does not exist (SQLSTATE 3D000)`, fault.Stop},
			{"role", cluster.URLAs("nobody", "", "app"), "28000", `role "nobody" does not exist`, fault.Stop},
			{"setting", cluster.URL("app") + "&no_such_setting=hunter3", "42704", `unrecognized configuration parameter "no_such_setting"`, fault.Stop},
		} {
			_, err := pg.Connect(t.Context(), tt.url, pg.Options{})
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%s: error = %v, want %s", tt.name, err, tt.text)
			}
			if got := pg.Code(err); got != tt.code {
				t.Errorf("%s: code = %q, want %s", tt.name, got, tt.code)
			}
			if got := fault.ClassOf(err); got != tt.class {
				t.Errorf("%s: class = %s, want %s", tt.name, got, tt.class)
			}
			if err != nil && strings.Contains(err.Error()+fault.HintOf(err), "hunter") {
				t.Errorf("%s: the error shows the password: %v", tt.name, err)
			}
		}
		_, err := pg.ConnectReplication(t.Context(), cluster.URLAs("app", "hunter2", "app"), pg.Options{})
		if err == nil || !strings.Contains(fault.HintOf(err), `ALTER ROLE "app" REPLICATION`) {
			t.Errorf("a role without REPLICATION: %v, hint %q", err, fault.HintOf(err))
		}
	})

	t.Run("server errors hide rows", func(t *testing.T) {
		t.Parallel()
		conn, err := pg.Connect(t.Context(), url, pg.Options{Side: pg.Target})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		run := func(sql string) error {
			_, err := conn.Exec(t.Context(), sql)
			return err
		}
		if err := run(`CREATE TABLE public.person (id int PRIMARY KEY, name varchar(8) NOT NULL, age int CHECK (age > 0))`); err != nil {
			t.Fatal(err)
		}
		if err := run(`INSERT INTO public.person VALUES (77001, 'Maria', 1)`); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct{ sql, want string }{
			{`INSERT INTO public.person VALUES (77001, 'Maria', 1)`, "error: a unique value is there already (SQLSTATE 23505, table public.person, constraint person_pkey)"},
			{`INSERT INTO public.person VALUES (77002, NULL, 1)`, "error: a column that must not be null is (SQLSTATE 23502, table public.person, column name)"},
			{`INSERT INTO public.person VALUES (77002, 'Maria', -7)`, "error: a check constraint is violated (SQLSTATE 23514, table public.person, constraint person_age_check)"},
			{`INSERT INTO public.person VALUES (77002, 'Maria Silva', 1)`, "error: a value is too long for its column (SQLSTATE 22001)"},
			{`SELECT 'Maria'::int`, "error: a value is not of the column's type (SQLSTATE 22P02)"},
			{`DO $$ BEGIN RAISE EXCEPTION 'Maria' USING ERRCODE = '42501'; END $$`, "error: the server reports an error (SQLSTATE 42501)"},
			{`DO $$ BEGIN RAISE 'Maria'; END $$`, "error: a function or trigger raised an error (SQLSTATE P0001)"},
			{`SELECT 1 FROM public.nowhere`, `error: relation "public.nowhere" does not exist (SQLSTATE 42P01)`},
		} {
			err := run(tt.sql)
			if got := fmt.Sprint(pg.Safe(err)); got != tt.want {
				t.Errorf("%s:\n got %s\nwant %s", tt.sql, got, tt.want)
			}
		}
	})
}

func simple(t *testing.T, conn *pgconn.PgConn, sql string) []string {
	t.Helper()
	results, err := conn.Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var row []string
	for _, value := range results[0].Rows[0] {
		row = append(row, string(value))
	}
	return row
}
