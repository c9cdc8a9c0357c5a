package postgres_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

func typ(name string) string { return `"pg_catalog"."` + name + `"` }

func col(name, typeName string) sink.Column { return sink.Column{Name: name, Type: typ(typeName)} }

// chatSchema is the part of NioChat's mapping that the tests here need.
func chatSchema() *sink.Schema {
	inbox := &sink.Node{Name: "public.conversations_inbox", Columns: []string{"provedor_id"}, Next: []*sink.Node{nil}}
	contact := &sink.Node{Name: "public.conversations_contact", Columns: []string{"provedor_id"}, Next: []*sink.Node{nil}}
	tenant := sink.Column{Name: "provedor_id", Type: typ("int8"), NotNull: true}
	return &sink.Schema{
		Fingerprint: "f",
		Nodes:       []*sink.Node{inbox, contact, {Name: "public.conversations_conversation", Columns: []string{"inbox_id", "contact_id"}, Next: []*sink.Node{inbox, contact}}},
		Tables: []*sink.Table{
			{Schema: "public", Name: "conversations", Key: []int{0}, Tenant: 1,
				Columns: []sink.Column{col("id", "int8"), tenant, col("contact_id", "int8"), col("inbox_id", "int8"), col("status", "text"), col("additional_attributes", "jsonb")},
				Derived: []sink.Derived{{Column: 1, From: []sink.Lookup{
					{Column: 3, Steps: []sink.Step{{Node: inbox, Column: 0}}},
					{Column: 2, Steps: []sink.Step{{Node: contact, Column: 0}}},
				}}},
				Indexes: [][]int{{3}, {2}, {1}}},
			{Schema: "public", Name: "audit_logs", Key: []int{0}, Tenant: 1,
				Columns: []sink.Column{col("id", "uuid"), tenant, col("user_id", "int8"), col("action", "text"), col("details", "jsonb"), col("timestamp", "timestamptz")}},
		},
		Entries: &sink.EntryTable{Schema: "public", Name: "audit_logs", ID: "id", Tenant: "provedor_id", User: "user_id",
			Action: "action", Details: "details", Time: "timestamp"},
	}
}

func install(t *testing.T, s sink.Sink, schema *sink.Schema, dry bool) []string {
	t.Helper()
	missing, err := s.Install(t.Context(), schema, dry)
	if err != nil {
		t.Fatalf("Install: %v", err)
	}
	return missing
}

func TestInstall_OnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	s := open(t, url, "bridge")
	schema := chatSchema()

	missing := install(t, s, schema, true)
	if got := pgtest.QueryValue(t, admin, `SELECT count(*) FROM pg_class WHERE relname IN ('checkpoint', 'conversations')`); got != "0" {
		t.Fatal("a dry install has made something")
	}
	if diff := cmp.Diff(missing, install(t, s, schema, false)); diff != "" {
		t.Errorf("the dry install announced something else (-dry +done):\n%s", diff)
	}
	if again := install(t, s, schema, true); len(again) != 0 {
		t.Errorf("after Install these are still missing: %q", again)
	}
	if again := install(t, s, schema, false); len(again) != 0 {
		t.Errorf("a second Install did %q", again)
	}
	// Another bridge needs indexes and functions of its own, and nothing else of
	// the old ones.
	for _, sql := range install(t, open(t, url, "it's another"), schema, false) {
		if !strings.HasPrefix(sql, "CREATE INDEX") && !strings.HasPrefix(sql, "CREATE OR REPLACE FUNCTION walbridge.tend_") &&
			!strings.HasPrefix(sql, "CREATE OR REPLACE FUNCTION walbridge.erase_entries_") && !strings.HasPrefix(sql, "REVOKE") {
			t.Errorf("the second bridge did %q", sql)
		}
	}

	// What has changed behind our back is repaired, and only that.
	pgtest.Exec(t, url, `DROP INDEX walbridge_conversations_inbox_id; GRANT USAGE ON SCHEMA walbridge TO anon;
		CREATE OR REPLACE FUNCTION walbridge.expect_rows(int8, int8) RETURNS void LANGUAGE sql AS ''`)
	missing = install(t, s, schema, false)
	if got := strings.Join(missing, ";"); !strings.Contains(got, "walbridge_conversations_inbox_id") || !strings.Contains(got, "REVOKE ALL ON SCHEMA walbridge FROM PUBLIC") ||
		!strings.Contains(got, "walbridge.expect_rows") || strings.Contains(got, "CREATE TABLE") {
		t.Errorf("the repair did %s", got)
	}
	if again := install(t, s, schema, true); len(again) != 0 {
		t.Errorf("after the repair these are missing: %q", again)
	}

	pgtest.Exec(t, url, `INSERT INTO walbridge.schema_version VALUES (99)`)
	_, err := s.Install(t.Context(), schema, false)
	if err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("Install on a newer private schema: %v", err)
	}
}

func TestInstall_KeepsOthersOut(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	install(t, open(t, url, "bridge"), chatSchema(), false)

	for _, role := range []string{"anon", "authenticated"} {
		got := pgtest.QueryText(t, admin, `SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname IN ('public', 'walbridge') AND c.relkind IN ('r', 'S')
			AND (CASE c.relkind WHEN 'S' THEN has_sequence_privilege($1, c.oid, 'USAGE, SELECT, UPDATE')
				ELSE has_table_privilege($1, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE') END)
			UNION ALL SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
			WHERE n.nspname = 'walbridge' AND has_function_privilege($1, p.oid, 'EXECUTE')
			UNION ALL SELECT 'schema walbridge' WHERE has_schema_privilege($1, 'walbridge', 'USAGE, CREATE')`, role)
		if len(got) != 0 {
			t.Errorf("%s has rights on %v", role, got)
		}
	}
	if got := pgtest.QueryValue(t, admin, `SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relrowsecurity`); got != "audit_logs,conversations" {
		t.Errorf("row security is on for %s", got)
	}
}

// guide is what the application's Supabase guide has its users create, with
// policies that compile.
const guide = `
	CREATE TABLE conversations (id bigint PRIMARY KEY, provedor_id bigint NOT NULL, contact_id bigint NOT NULL, inbox_id bigint,
		status text DEFAULT 'open', assignee_id bigint, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now(),
		ended_at timestamptz, additional_attributes jsonb);
	CREATE TABLE audit_logs (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), provedor_id bigint NOT NULL, user_id bigint,
		action text NOT NULL, details jsonb, "timestamp" timestamptz DEFAULT now());
	CREATE INDEX idx_conversations_provedor_id ON conversations (provedor_id);
	CREATE INDEX idx_conversations_contact ON conversations (contact_id, id);
	CREATE INDEX idx_audit_provedor_id ON audit_logs (provedor_id);
	ALTER TABLE conversations ENABLE ROW LEVEL SECURITY;
	ALTER TABLE audit_logs ENABLE ROW LEVEL SECURITY;
	CREATE POLICY p ON conversations USING (provedor_id = 1);`

func TestInstall_OverTheGuidesTables(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	pgtest.Exec(t, url, guide)
	before := pgtest.QueryText(t, admin, `SELECT attrelid::regclass, attname, atttypid::regtype FROM pg_attribute
		WHERE attrelid IN ('conversations'::regclass, 'audit_logs'::regclass) ORDER BY 1, attnum`)
	s := open(t, url, "bridge")
	var public []string
	for _, sql := range install(t, s, chatSchema(), false) {
		// Functions name the tables, and leave them as they are.
		if strings.Contains(sql, `"public"`) && !strings.HasPrefix(sql, "CREATE OR REPLACE FUNCTION walbridge.") {
			public = append(public, sql)
		}
	}
	want := []string{`CREATE INDEX IF NOT EXISTS "walbridge_conversations_inbox_id" ON "public"."conversations" ("inbox_id")`}
	if diff := cmp.Diff(want, public); diff != "" {
		t.Errorf("statements on the guide's tables (-want +got):\n%s", diff)
	}
	after := pgtest.QueryText(t, admin, `SELECT attrelid::regclass, attname, atttypid::regtype FROM pg_attribute
		WHERE attrelid IN ('conversations'::regclass, 'audit_logs'::regclass) ORDER BY 1, attnum`)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the tables have changed (-before +after):\n%s", diff)
	}
}

func TestInstall_WrongTables(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	pgtest.Exec(t, url, `
		CREATE TABLE conversations (id integer, provedor_id bigint, contact_id varchar(20), status text GENERATED ALWAYS AS ('x') STORED,
			additional_attributes json);
		CREATE UNIQUE INDEX ON conversations (id) WHERE id > 0;
		CREATE TABLE audit_logs (id text PRIMARY KEY, provedor_id integer, user_id text, action varchar(10), details json, "timestamp" date);`)
	schema := chatSchema()
	schema.Tables = append(schema.Tables[:1], &sink.Table{Schema: "nowhere", Name: "x", Key: []int{0}, Columns: []sink.Column{col("id", "int8")}},
		&sink.Table{Schema: "public", Name: "pg_user", Key: []int{0}, Columns: []sink.Column{{Name: "id", Type: `"public"."mood"`}}})
	pgtest.Exec(t, url, `CREATE VIEW pg_user AS SELECT 1 AS id`)
	_, err := open(t, url, "bridge").Install(t.Context(), schema, false)
	if err == nil {
		t.Fatal("Install returned no error")
	}
	var first *sink.SchemaError
	if !errors.As(err, &first) {
		t.Fatalf("Install: %v, want *sink.SchemaError", err)
	}
	for _, want := range []string{
		`public.conversations, column id: its type is integer, the mapping writes bigint: ALTER TABLE "public"."conversations" ALTER COLUMN "id" TYPE bigint USING "id"::text::bigint;`,
		`public.conversations, column contact_id: its type is character varying(20), the mapping writes bigint`,
		`public.conversations, column inbox_id: it is missing: ALTER TABLE "public"."conversations" ADD COLUMN "inbox_id" bigint;`,
		`public.conversations, column status: it is generated`,
		`public.conversations, column additional_attributes: its type is json, the mapping writes jsonb`,
		`public.conversations: it has no primary key ("id"): ALTER TABLE "public"."conversations" ADD PRIMARY KEY ("id");`,
		`public.audit_logs, column timestamp: its type is date, the mapping writes timestamp with time zone`,
		`nowhere.x: there is no schema of that name: CREATE SCHEMA "nowhere";`,
		`public.pg_user: it is not a table`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error doesn't say: %s", want)
		}
	}
	if got := strings.Count(err.Error(), "\n") + 1; got != 9 {
		t.Errorf("%d errors, want 9:\n%v", got, err)
	}
	if got := pgtest.QueryValue(t, admin, `SELECT count(*) FROM pg_namespace WHERE nspname = 'walbridge'`); got != "0" {
		t.Error("something was made although tables are wrong")
	}
}

// The audit table and a mapped table in one get the columns of both. What only
// the mapping fills can't be NOT NULL then, because entries leave it out.
func TestInstall_AuditTableIsMapped(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	schema := chatSchema()
	audit := schema.Tables[1]
	audit.Columns = append(audit.Columns[:4:4], sink.Column{Name: "ip", Type: typ("inet"), NotNull: true})
	install(t, open(t, url, "bridge"), schema, false)
	got := pgtest.QueryValue(t, admin, `SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN '!' ELSE '' END, ', ' ORDER BY attnum)
		FROM pg_attribute WHERE attrelid = 'audit_logs'::regclass AND attnum > 0`)
	want := "id uuid!, provedor_id bigint!, user_id bigint, action text!, ip inet, details jsonb, timestamp timestamp with time zone"
	if got != want {
		t.Errorf("audit_logs has %s, want %s", got, want)
	}
}

// A target that an earlier version has made keeps its checkpoint, which can be read
// before anybody has brought the private schema up to date, by a bridge or by the
// script; and the chain's columns are there when a batch needs them.
func TestInstall_EarlierVersion(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, script := range []bool{false, true} {
		url, _ := newDB(t, c)
		s := open(t, url, "bridge")
		schema := chatSchema()
		install(t, s, schema, false)
		cp, err := s.Acquire(t.Context(), "one", time.Hour, false)
		if err != nil {
			t.Fatal(err)
		}
		want := sink.Counters{Rows: 7, AuditHead: 5}
		commit := func() {
			t.Helper()
			tx, err := s.Begin(t.Context(), cp.Epoch, cp.LSN, sink.TxOptions{})
			if err == nil {
				err = tx.Commit(t.Context(), sink.Progress{LSN: cp.LSN, Counters: want})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		same := func(when string) {
			t.Helper()
			if got, err := s.Checkpoint(t.Context()); err != nil || got.Counters != want {
				t.Fatalf("%s the checkpoint has %+v, %v; want %+v", when, got.Counters, err, want)
			}
		}
		commit()
		pgtest.Exec(t, url, `ALTER TABLE walbridge.checkpoint DROP COLUMN chain_from, DROP COLUMN chain_head, DROP COLUMN chain_link`)
		same("before")
		schema.Entries.Chained = true
		if script {
			sql, _, err := postgres.Script(t.Context(), postgres.Options{URL: url, Name: "bridge"}, owner, schema)
			if err != nil {
				t.Fatal(err)
			}
			for _, st := range sql {
				pgtest.Exec(t, url, st.String())
			}
		}
		missing := strings.Join(install(t, s, schema, false), ";")
		for _, sql := range []string{"ADD COLUMN IF NOT EXISTS chain_link", "walbridge_audit_logs_n"} {
			if strings.Contains(missing, sql) == script {
				t.Errorf("after the script (%t) the install did %s", script, missing)
			}
		}
		same("after")
		want.AuditHead, want.Chain = 6, sink.Chain{From: 6, Head: 6, Link: sink.Link{1}}
		commit()
		same("with a chain")
		if again := install(t, s, schema, true); len(again) != 0 {
			t.Errorf("after all that these are missing: %q", again)
		}
	}
}
