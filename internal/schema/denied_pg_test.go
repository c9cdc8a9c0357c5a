package schema_test

import (
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// refused wants the server to refuse a statement for lack of rights.
func (w *world) refused(url, sql string) {
	w.Helper()
	conn, err := pgx.Connect(w.Context(), url)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = conn.Close(w.Context()) }()
	if err := conn.PgConn().Exec(w.Context(), sql).Close(); pg.Code(err) != "42501" {
		w.Errorf("%s: %v, want SQLSTATE 42501", sql, err)
	}
}

// denied tries what none of the roles may.
func (w *world) denied() {
	w.Helper()
	for _, sql := range []string{
		"DELETE FROM walbridge.checkpoint",
		"TRUNCATE walbridge.checkpoint",
		"DELETE FROM walbridge.copies",
		"INSERT INTO walbridge.schema_version VALUES (99)",
		"DROP TABLE walbridge.held",
		"CREATE OR REPLACE FUNCTION walbridge.expect_rows(int8, int8) RETURNS void LANGUAGE sql AS ''",
		"CREATE TABLE walbridge.mine (id int)",
		"CREATE TABLE public.mine (id int)",
		"CREATE SCHEMA mine",
		"CREATE ROLE mine",
		"TRUNCATE contacts",
		"ALTER TABLE contacts DISABLE ROW LEVEL SECURITY",
		"ALTER TABLE contacts ADD COLUMN mine int",
		"DROP POLICY walbridge_writer ON contacts",
		"DROP TABLE contacts",
		"INSERT INTO contacts (id) VALUES (-1)",
		"UPDATE contacts SET provedor_id = NULL WHERE id = (SELECT min(id) FROM contacts)",
		"TRUNCATE audit_logs",
		"SELECT FROM others",
		"SELECT FROM private.secrets",
		"SELECT FROM pg_authid",
		"SET ROLE project",
	} {
		w.refused(w.writer(), sql)
	}
	for _, sql := range []string{
		"INSERT INTO conversations_contact (id) VALUES (-1)",
		"UPDATE conversations_contact SET name = ''",
		"DELETE FROM conversations_message",
		"TRUNCATE conversations_message",
		"SELECT FROM core_provedor",
		"SELECT FROM core_user",
		"CREATE TABLE public.mine (id int)",
		"DROP PUBLICATION walbridge",
		"CREATE PUBLICATION mine FOR ALL TABLES",
		"SELECT FROM pg_authid",
	} {
		w.refused(w.reader(), sql)
	}
	for _, role := range []string{"anon", "authenticated"} {
		for _, table := range []string{"walbridge.checkpoint", "walbridge.held"} {
			w.refused(w.target.URL("project"), "SET ROLE "+role+"; SELECT FROM "+table)
		}
		for _, table := range []string{"public.contacts", "public.audit_logs"} {
			if role == "anon" {
				w.refused(w.target.URL("project"), "SET ROLE anon; SELECT FROM "+table)
			} else if got := pgtest.QueryValue(w, w.target.URL("project")+"&options=-c%20role%3Dauthenticated", "SELECT count(*) FROM "+table); got != "0" {
				w.Errorf("without a token there are %s rows of %s", got, table)
			}
			w.refused(w.target.URL("project"), "SET ROLE "+role+"; DELETE FROM "+table)
		}
		w.refused(w.target.URL("project"), "SET ROLE "+role+"; SELECT walbridge.refresh_statistics('held')")
	}
}

// deniedEntries: where entries share their table with the application's own, its
// rows can be changed and entries can't.
func (w *world) deniedEntries() {
	w.Helper()
	const entries = "SELECT pg_catalog.md5(string_agg(a::text, '' ORDER BY id)) FROM audit_logs AS a WHERE details->>'by' = 'walbridge'"
	before := w.value(entries)
	pgtest.Exec(w, w.writer(), "UPDATE audit_logs SET action = 'x'", "DELETE FROM audit_logs")
	if after := w.value(entries); before != after || before == pgtest.Null {
		w.Error("the bridge's role has changed entries, or there were none")
	}
	if got := w.value("SELECT count(*) FROM audit_logs WHERE details->>'by' IS DISTINCT FROM 'walbridge'"); got != "0" {
		w.Errorf("%s of the application's rows stayed", got)
	}
	if !strings.Contains(w.value("SELECT string_agg(DISTINCT details->>'op', ' ') FROM audit_logs"), "move") {
		w.Error("no entry is of a tenant move")
	}
}
