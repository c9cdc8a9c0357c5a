package supabase_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// relation is a table or view with how many rows of tenants 7 and 8 the tests put
// there.
type relation struct{ name, seven, eight string }

// readable are those that tenants read.
func (p *project) readable() []relation {
	list := []relation{
		{"contacts", "1", "1"}, {"conversations", "2", "1"}, {"messages", "2", "1"}, {"csat_feedback", "1", "1"}, {"audit_logs", "1", "2"},
		{"conversation_alerts", "1", "1"}, {"conversation_alerts_thresholds", "1", "0"},
	}
	if p.cluster.Version() >= 15 {
		list = append(list, relation{"dashboard_metrics", "1", "1"}, relation{"conversation_metrics", "1", "1"}, relation{"csat_metrics", "1", "1"})
	}
	return list
}

const alertRows = `
INSERT INTO conversation_alerts (provedor_id, conversation_id, kind, episode_start) VALUES
	(7, 1, 'long_open_conversation', now()), (8, 3, 'long_open_conversation', now()), (8, 1, 'long_open_conversation', '2020-01-01');
INSERT INTO conversation_alerts_thresholds VALUES (7, '2 hours');`

// Whatever a token says, its bearer sees the rows of the tenant that it names in a
// place that users can't edit, and no others.
func TestAccess_Claims(t *testing.T) {
	t.Parallel()
	p := newProject(t, "niochat.yaml")
	p.apply()
	pgtest.Exec(t, p.dst, guideRows, alertRows)
	p.apply() // it may run again

	none := []string{"", "{}", "null", "[]", "7", `"7"`, "not json", "{", `{"app_metadata": null}`, `{"app_metadata": []}`, `{"app_metadata": "7"}`,
		claims("null"), claims(`""`), claims(`"x"`), claims(`{"a": 7}`), claims("[7]"), claims("99"), claims("7.5"), claims("99999999999999999999"), claims(`"7 OR true"`),
		`{"user_metadata": {"provedor_id": 7}}`, `{"provedor_id": "x", "app_metadata": {"provedor_id": 7}}`}
	for _, r := range p.readable() {
		count := "SELECT count(*) FROM " + r.name
		for _, c := range none {
			if got := p.as("authenticated", c, count); got != "0" {
				t.Errorf("%s with the claims %q: %s rows", r.name, c, got)
			}
		}
		for claims, want := range map[string]string{
			claims(7): r.seven, claims(`"7"`): r.seven, claims(8): r.eight, `{"provedor_id": 8}`: r.eight,
			`{"provedor_id": 8, "app_metadata": {"provedor_id": 7}}`: r.eight,
		} {
			if got := p.as("authenticated", claims, count); got != want {
				t.Errorf("%s with the claims %s: %s rows, want %s", r.name, claims, got, want)
			}
		}
		if got := p.as("anon", claims(7), count); got != "42501" {
			t.Errorf("anon reads %s: %s", r.name, got)
		}
		if got := p.as("service_role", "", count); r.name == "messages" && got != "3" {
			t.Errorf("service_role reads %s rows of %s", got, r.name)
		}
	}
}

// Nobody of the API writes, or calls what isn't his.
func TestAccess_Refused(t *testing.T) {
	t.Parallel()
	p := newProject(t, "niochat.yaml")
	p.apply()
	pgtest.Exec(t, p.dst, guideRows, alertRows)
	for _, role := range []string{"anon", "authenticated"} {
		for _, r := range p.readable() {
			for _, sql := range []string{"DELETE FROM %s", "UPDATE %s SET provedor_id = 7", "INSERT INTO %s (provedor_id) VALUES (7)", "TRUNCATE %s", "CREATE TRIGGER t AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION f()"} {
				// A view that counts can't be written to by anybody.
				got := p.as(role, claims(7), fmt.Sprintf(sql, r.name))
				if got != "42501" && !((got == "42809" || got == "55000") && strings.HasSuffix(r.name, "_metrics")) {
					t.Errorf("%s: %s: %s", role, fmt.Sprintf(sql, r.name), got)
				}
			}
		}
		for _, sql := range []string{
			"SELECT nextval('conversation_alerts_id_seq')", "SELECT * FROM walbridge_api.members", "SELECT walbridge_api.access_token_hook('{}')",
			"SELECT FROM walbridge.checkpoint", "SELECT FROM walbridge.quieted", "CREATE TABLE public.mine (id int)", "CREATE TABLE walbridge_api.mine (id int)",
			"CREATE OR REPLACE FUNCTION walbridge_api.claim_int8(text) RETURNS int8 LANGUAGE sql AS 'SELECT 8::int8'",
			"ALTER PUBLICATION supabase_realtime DROP TABLE messages",
		} {
			if got := p.as(role, claims(7), sql); got != "42501" {
				t.Errorf("%s: %s: %s", role, sql, got)
			}
		}
	}
	// What PostgREST would expose of the functions: none in public.
	if got := p.value("SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"); got != "0" {
		t.Errorf("%s functions in public", got)
	}
}

// A policy that was widened, or that is of an earlier release, is found or mended.
func TestAccess_Versions(t *testing.T) {
	t.Parallel()
	p := newProject(t, "niochat.yaml")
	p.apply()
	pgtest.Exec(t, p.dst, guideRows)
	pgtest.Exec(t, p.owner, "ALTER POLICY walbridge_tenant ON messages USING (provedor_id = (SELECT walbridge_api.claim_int8('provedor_id')) OR content <> '')",
		"ALTER POLICY walbridge_tenant ON contacts USING (provedor_id = 8); COMMENT ON POLICY walbridge_tenant ON contacts IS 'walbridge 000'",
		"CREATE POLICY mine ON csat_feedback FOR SELECT TO authenticated USING (provedor_id = (SELECT walbridge_api.claim_int8('other_claim')))")
	s := p.apply()
	if got := notes(s); strings.Count(got, "DROP POLICY") != 2 || !strings.Contains(got, `DROP POLICY "walbridge_tenant" ON "public"."messages";`) || strings.Contains(got, "mine") {
		t.Errorf("notes: %s", got)
	}
	if got := p.as("authenticated", claims(7), "SELECT min(provedor_id) || ' ' || count(*) FROM contacts"); got != "7 1" {
		t.Errorf("tenant 7 sees contacts %s", got)
	}
	pgtest.Exec(t, p.owner, `DROP POLICY "walbridge_tenant" ON "public"."messages"`)
	if got := notes(p.apply()); strings.Contains(got, "DROP POLICY") {
		t.Errorf("still: %s", got)
	}
	if got := p.as("authenticated", claims(7), "SELECT count(*) FROM messages"); got != "2" {
		t.Errorf("tenant 7 sees %s messages", got)
	}
	if diff := cmp.Diff(p.apply().SQL(), p.script().SQL()); diff != "" {
		t.Errorf("a third run differs:\n%s", diff)
	}
}

// The hook puts a member's tenant into the token, and leaves other tokens alone.
func TestAccess_Hook(t *testing.T) {
	t.Parallel()
	p := newProject(t, "niochat.yaml")
	p.apply()
	pgtest.Exec(t, p.dst, guideRows, "INSERT INTO walbridge_api.members VALUES ('00000000-0000-0000-0000-000000000007', 7)")
	hook := func(user string) string {
		return p.as("supabase_auth_admin", "", `SELECT walbridge_api.access_token_hook('{"user_id": "00000000-0000-0000-0000-00000000000`+user+`", "claims": {"role": "authenticated"}}')->'claims'`)
	}
	pgtest.Exec(t, p.dst, "GRANT supabase_auth_admin TO authenticator")
	if got := p.as("authenticated", hook("7"), "SELECT count(*) FROM messages"); got != "2" {
		t.Errorf("a member reads %s messages", got)
	}
	if got, want := hook("8"), `{"role": "authenticated"}`; got != want {
		t.Errorf("the hook makes %s of a token without a tenant", got)
	}
}

// On a project with the guide's tables nothing is dropped or rewritten, and what
// leaks is named with the SQL that stops it.
func TestAccess_ExistingProject(t *testing.T) {
	t.Parallel()
	p := newProject(t, "niochat.yaml")
	if v := p.cluster.Version(); v < 15 {
		t.Skipf("PostgreSQL %d has no views that read with the caller's rights", v)
	}
	pgtest.Exec(t, p.owner, guide, guideRows, `
		CREATE POLICY "header" ON conversations FOR ALL USING (provedor_id = coalesce((current_setting('request.headers', true)::json->>'x-provedor-id')::bigint, 1));
		CREATE POLICY "editable" ON contacts TO authenticated USING (provedor_id = (current_setting('request.jwt.claims', true)::json->'user_metadata'->>'provedor_id')::bigint);
		CREATE POLICY "open" ON messages FOR SELECT USING (true);
		CREATE POLICY "insert anything" ON audit_logs FOR INSERT TO anon WITH CHECK (provedor_id > 0);
		CREATE POLICY "narrowing" ON audit_logs AS RESTRICTIVE USING (true);
		CREATE POLICY "his own" ON csat_feedback TO authenticated USING (provedor_id = (nullif(current_setting('request.jwt.claims', true), '')::json->'app_metadata'->>'provedor_id')::bigint);
		CREATE MATERIALIZED VIEW totals AS SELECT provedor_id, count(*) FROM messages GROUP BY 1;
		CREATE VIEW nested AS SELECT * FROM dashboard_metrics;
		ALTER TABLE contacts DISABLE ROW LEVEL SECURITY; REVOKE ALL ON contacts FROM authenticated`)
	before := p.state()
	s := p.apply()
	for _, want := range []string{
		`DROP POLICY "header" ON "public"."conversations";`, `DROP POLICY "editable" ON "public"."contacts";`,
		`DROP POLICY "open" ON "public"."messages";`, `DROP POLICY "insert anything" ON "public"."audit_logs";`,
		`DROP POLICY "his own" ON "public"."csat_feedback";`, "only its author can tell", "by a header", "users edit themselves", "doesn't look at whose token",
		"ALTER VIEW public.dashboard_metrics SET (security_invoker = true);", "ALTER VIEW public.nested SET (security_invoker = true);",
		"REVOKE ALL ON public.totals FROM anon, authenticated;",
		`REVOKE ALL ON "public"."messages" FROM anon; REVOKE INSERT, UPDATE, DELETE`,
		`ALTER TABLE "public"."contacts" ENABLE ROW LEVEL SECURITY`, "public.dashboard_metrics is there and not walbridge's",
		"conversation_alert_trigger",
	} {
		if !strings.Contains(notes(s), want) {
			t.Errorf("no note says %q:\n%s", want, notes(s))
		}
	}
	if strings.Contains(notes(s), "narrowing") {
		t.Error("a restrictive policy is reported")
	}
	after := p.state()
	for _, what := range before {
		if !strings.Contains(strings.Join(after, "\n")+"\n", what+"\n") {
			t.Errorf("gone or changed: %s", what)
		}
	}
	// Row security is off: a right to read would open every row.
	if got := p.as("authenticated", claims(7), "SELECT count(*) FROM contacts"); got != "42501" {
		t.Errorf("contacts: %s", got)
	}

	// With all of the advice followed, nothing is left to say but the triggers.
	for _, f := range strings.Split(notes(s), "\n") {
		if i := strings.Index(f, "ALTER TABLE"); i > 0 {
			f = f[i:]
		}
		for _, verb := range []string{"DROP POLICY", "ALTER VIEW", "REVOKE ALL ON", "ALTER TABLE"} {
			if strings.HasPrefix(f, verb) {
				pgtest.Exec(t, p.owner, f)
			}
		}
	}
	s = p.apply()
	for _, note := range s.Notes {
		if !strings.Contains(note, "conversation_alert_trigger") && !strings.Contains(note, "DROP VIEW") && !strings.Contains(note, "pg_cron") {
			t.Errorf("left: %s", note)
		}
	}
	for _, table := range []string{"contacts", "conversations", "messages", "csat_feedback", "dashboard_metrics"} {
		if got := p.as("authenticated", claims(8), "SELECT count(*) FROM "+table); got != "1" {
			t.Errorf("tenant 8 sees %s rows of %s", got, table)
		}
	}
}

// state is what a project has: columns, indexes, policies, views, rights, rows.
func (p *project) state() (list []string) {
	p.Helper()
	for _, r := range pgtest.QueryText(p, p.dst, `
		SELECT 'column ' || attrelid::regclass || '.' || attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
			WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0
		UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
		UNION ALL SELECT 'policy ' || tablename || ' ' || policyname || ' ' || coalesce(qual, '') FROM pg_policies WHERE schemaname = 'public'
		UNION ALL SELECT 'view ' || viewname || ' ' || md5(definition) FROM pg_views WHERE schemaname = 'public'
		UNION ALL SELECT 'rights ' || relname || ' ' || rolname || ' ' || privilege_type FROM pg_class, pg_roles r, aclexplode(relacl) a
			WHERE relnamespace = 'public'::regnamespace AND a.grantee = r.oid
		UNION ALL SELECT 'realtime ' || tablename FROM pg_publication_tables WHERE pubname = 'supabase_realtime'
		UNION ALL SELECT 'rows ' || md5(string_agg(m::text, '' ORDER BY id)) FROM messages m`) {
		list = append(list, r[0])
	}
	return list
}
