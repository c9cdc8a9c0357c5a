package mapping

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// newDatabase makes a database with the statements of files of testdata.
func newDatabase(t *testing.T, c *pgtest.Cluster, name string, files ...string) *pgx.Conn {
	t.Helper()
	url := pgtest.CreateDB(t, c, name)
	for _, f := range files {
		sql, err := os.ReadFile("testdata/" + f)
		if err != nil {
			t.Fatal(err)
		}
		pgtest.Exec(t, url, string(sql))
	}
	return connect(t, c, name)
}

// connect opens a session as the bridge has them at its source.
func connect(t *testing.T, c *pgtest.Cluster, name string) *pgx.Conn {
	t.Helper()
	conn, err := pg.Connect(t.Context(), c.URL(name), pg.Options{Side: pg.Source})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func mustParse(t *testing.T, name string, data []byte) *File {
	t.Helper()
	f, err := Parse(name, data)
	if err != nil {
		t.Fatalf("parse:\n%v", err)
	}
	return f
}

func mustReadCatalog(t *testing.T, conn *pgx.Conn, names []pg.TableName) *pg.Catalog {
	t.Helper()
	c, err := pg.ReadCatalog(t.Context(), conn, names)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// compilePreset compiles a mapping of package configs. dst may be nil.
func compilePreset(t *testing.T, name string, src, dst *pgx.Conn) *Mapping {
	t.Helper()
	data, err := configs.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	f := mustParse(t, name, data)
	var target *pg.Catalog
	if dst != nil {
		target = mustReadCatalog(t, dst, f.TargetTables())
	}
	m, err := Compile(f, mustReadCatalog(t, src, f.SourceTables()), target, CompileOptions{})
	if err != nil {
		t.Fatalf("compile:\n%v", err)
	}
	return m
}

// query reads rows in text form.
func query(t *testing.T, conn *pgx.Conn, sql string, args []string) []cdc.Row {
	t.Helper()
	params := make([][]byte, len(args))
	for i, a := range args {
		params[i] = []byte(a)
	}
	var rows []cdc.Row
	r := conn.PgConn().ExecParams(t.Context(), sql, params, nil, nil, nil)
	for r.NextRow() {
		rows = append(rows, cdc.CopyRow(r.Values()))
	}
	if _, err := r.Close(); err != nil {
		t.Fatalf("query: %v\n%s", err, sql)
	}
	return rows
}
