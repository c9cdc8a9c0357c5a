package postgres_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/sink"
)

// A role that is subject to row security can't COPY, and writes all the same.
func TestSink_RowSecurity(t *testing.T) {
	t.Parallel()
	c := newCluster(t, pgtest.WithSetting("log_statement", "all"))
	url, admin := newDB(t, c)
	pgtest.Exec(t, c.URL("postgres"), "CREATE ROLE writer LOGIN")
	b := newBridge(t, url, admin)
	b.must(b.insert(upTo(500)...))
	copied := func() int { return strings.Count(c.Log(), `COPY "public"."contacts"`) }
	if got := copied(); got != 1 {
		t.Fatalf("the owner's rows went by %d COPYs, want 1", got)
	}

	pgtest.Exec(t, url, `GRANT USAGE ON SCHEMA walbridge, public TO writer;
		GRANT ALL ON ALL TABLES IN SCHEMA walbridge, public TO writer; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA walbridge TO writer;
		CREATE POLICY bridge ON contacts TO writer USING (true) WITH CHECK (true)`)
	w := &bridge{T: t, admin: admin, contacts: b.contacts}
	w.s = open(t, strings.Replace(url, owner, "writer", 1), "bridge")
	schema := chatSchema()
	schema.Tables = []*sink.Table{b.contacts}
	// The owner has made everything; the writer, who may make nothing, passes.
	if missing := install(t, w.s, schema, false); len(missing) != 0 {
		t.Fatalf("Install as the writer did %q", missing)
	}
	w.acquire()
	ids := make([]int, 600)
	for i := range ids {
		ids[i] = i + 300 // half of them are there
	}
	w.must(w.insert(ids...))
	if got := copied(); got != 1 {
		t.Fatalf("COPY was tried against row security (%d times in all)", got)
	}
	if got := w.count(); got != "899" {
		t.Fatalf("%s rows, want 899", got)
	}

	// Rows that a policy hides don't vanish silently.
	pgtest.Exec(t, url, `DROP POLICY bridge ON contacts; CREATE POLICY bridge ON contacts TO writer USING (id <> 5) WITH CHECK (true)`)
	err := w.try(&sink.Writes{Rows: []sink.RowSet{{Table: b.contacts, Mode: sink.Update, Columns: []int{0, 2},
		Rows: []cdc.Row{{cdc.TextValue("4"), cdc.TextValue("x")}, {cdc.TextValue("5"), cdc.TextValue("x")}}}}})
	var missing *sink.MissingError
	if !errors.As(err, &missing) || missing.Got != 1 || missing.Want != 2 {
		t.Fatalf("an update of a hidden row: %v, want *sink.MissingError", err)
	}
	if got := pgtest.QueryValue(t, admin, "SELECT count(*) FROM contacts WHERE name = 'x'"); got != "0" {
		t.Fatalf("%s rows of the failed batch stayed", got)
	}
}

// Row security that is switched on while the bridge runs turns COPY into an error
// once; the set then goes as arrays.
func TestSink_RowSecuritySwitchedOn(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	b := newBridge(t, url, admin)
	b.must(b.insert(upTo(300)...))
	pgtest.Exec(t, url, `ALTER TABLE contacts FORCE ROW LEVEL SECURITY; CREATE POLICY p ON contacts USING (true)`)
	b.must(b.insert(upTo(500)...))
	b.must(b.insert(upTo(600)...))
	if got := b.count(); got != "600" {
		t.Fatalf("%s rows, want 600", got)
	}
}

// Statistics of the private tables are made under a role that doesn't own them,
// too: for it a plain ANALYZE is a warning and no more.
func TestSink_StatisticsOfAnotherOwner(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	pgtest.Exec(t, c.URL("postgres"), "CREATE ROLE writer LOGIN")
	b := newBridge(t, url, admin)
	pgtest.Exec(t, url, `GRANT USAGE ON SCHEMA walbridge TO writer; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA walbridge TO writer;
		GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA walbridge TO writer`)
	w := &bridge{T: t, admin: admin, contacts: b.contacts}
	w.s = open(t, strings.Replace(url, owner, "writer", 1), "bridge")
	w.acquire()
	w.must(&sink.Writes{Copied: []sink.CopyProgress{{Source: "public.contact", Done: true}}})
	if got := pgtest.QueryValue(t, admin, `SELECT reltuples >= 0 FROM pg_class WHERE oid = 'walbridge.path_values'::regclass`); got != "t" {
		t.Error("path_values has no statistics")
	}
}

// A pooler in transaction mode loses settings between transactions; every batch
// brings its own.
func TestSink_Pooled(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	_, admin := newDB(t, c)
	pgtest.Exec(t, admin, `DO $$ BEGIN
		EXECUTE format('ALTER DATABASE %I SET datestyle = ''SQL, DMY''', current_database());
		EXECUTE format('ALTER DATABASE %I SET intervalstyle = ''iso_8601''', current_database());
		EXECUTE format('ALTER DATABASE %I SET timezone = ''America/Sao_Paulo''', current_database());
	END $$`)
	b := newBridge(t, pgtest.StartPooler(t, c, pgtest.Transaction).URL(admin), admin)
	times := &sink.Table{Schema: "public", Name: "times", Key: []int{0}, Tenant: 1,
		Columns: []sink.Column{col("id", "int8"), {Name: "provedor_id", Type: typ("int8"), NotNull: true}, col("at", "timestamptz"), col("iv", "interval")}}
	schema := chatSchema()
	schema.Tables = []*sink.Table{times}
	install(t, b.s, schema, false)
	row := cdc.Row{cdc.TextValue("1"), cdc.TextValue("1"), cdc.TextValue("2026-03-04 05:06:07.123456+00"), cdc.TextValue("1 year 2 mons -3 days")}
	b.must(&sink.Writes{Rows: []sink.RowSet{{Table: times, Mode: sink.Insert, Columns: []int{0, 1, 2, 3}, Rows: []cdc.Row{row}}}})
	tx := b.begin(sink.TxOptions{})
	defer tx.Rollback(t.Context())
	l, err := tx.Load(t.Context(), &sink.Query{Rows: map[*sink.Table][]sink.Key{times: {"1"}}})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	if got := l.Rows[times]["1"].Row; !slices.Equal(got, row) {
		t.Fatalf("loaded %v, want %v", got, row)
	}
}
