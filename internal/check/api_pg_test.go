package check_test

import (
	"cmp"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/check"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/postgrest"
	"github.com/walbridge/walbridge/internal/schema"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink/postgres"
	"github.com/walbridge/walbridge/sink/rest"
)

// overAPI leaves check nothing of the target, which has the API's roles, but its API.
func (p *pair) overAPI(t *testing.T) (api *postgrest.Server, alter func(*check.Options)) {
	t.Helper()
	api = postgrest.New(postgrest.Options{URL: p.cluster.URLAs("authenticator", "", p.target), Secret: "a secret of at least 32 characters, for tests"})
	url, err := api.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	return api, func(o *check.Options) {
		o.TargetURL = ""
		o.API = &rest.Options{URL: url, Key: func() (string, error) { return api.Keys().Secret, nil }, Name: o.Name, MaxBody: 1 << 20, Version: "test"}
	}
}

// prepare runs what schema target prints for the API.
func (p *pair) prepare(t *testing.T) {
	t.Helper()
	preset, err := configs.Read(configs.Default)
	if err != nil {
		t.Fatal(err)
	}
	file, err := mapping.Parse("niochat.yaml", preset)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimSuffix(p.source, "_source")
	source, target := pgtest.Connect(t, p.cluster.URL(p.source)), pgtest.Connect(t, p.cluster.URL(p.target))
	s, err := schema.API(t.Context(), source, target,
		postgres.Options{URL: p.cluster.URL(p.target), Name: name}, schema.Options{Name: name, File: file})
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, p.cluster.URL(p.target), strings.Join(s.SQL(), ";\n"))
	if err := errors.Join(source.Close(t.Context()), target.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// Over the API as over a connection, each case spoils one thing, and finds that and
// nothing else.
func TestRun_OverAPI(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t, pgtest.WithSetting("max_slot_wal_keep_size", "1GB"))
	const owner = "CREATE ROLE NAME; GRANT ALL ON ALL TABLES IN SCHEMA public, walbridge TO NAME; GRANT USAGE ON SCHEMA walbridge TO NAME; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA walbridge TO NAME; " +
		"ALTER FUNCTION public.walbridge(json) OWNER TO NAME; ALTER FUNCTION public.walbridge_read(json) OWNER TO NAME; "
	tests := []struct {
		name           string
		target         string // SQL; NAME is a role of the case's own
		fault          postgrest.Kind
		at, also       string // "part check"
		severity       check.Severity
		what, fix, not string
	}{
		{name: "Healthy"},
		{name: "NoFunction", target: "DROP FUNCTION public.walbridge(json)", at: "target connect", severity: check.Error,
			what: "it has no function public.walbridge;", fix: "walbridge schema target", not: "the target can't be reached"},
		{name: "NoReader", target: "DROP FUNCTION public.walbridge_read(json)", at: "target functions", severity: check.Error,
			what: "it has no function public.walbridge_read;", fix: "walbridge schema target", not: "read by a function that doesn't answer"},
		{name: "OldFunction", target: `CREATE OR REPLACE FUNCTION public.walbridge(json) RETURNS json LANGUAGE sql AS $$ SELECT '{"error": {"code": "WB007"}}'::json $$`,
			at: "target connect", severity: check.Error, what: "is of another version", fix: "walbridge schema target", not: "the target can't be reached"},
		{name: "OldStatements", target: "DELETE FROM walbridge.statements WHERE parts[1] LIKE '%pg_is_in_recovery%'",
			at: "target functions", severity: check.Warning, what: "don't know what check asks", fix: "walbridge schema target", not: "don't know what check asks"},
		{name: "OldMapping", target: `DELETE FROM walbridge.statements WHERE array_to_string(parts, '') LIKE '%"csat_feedback"%'`,
			at: "target tables", severity: check.Error, what: "its functions don't know table public.csat_feedback", fix: "walbridge schema target"},
		{name: "NoStatements", target: "DELETE FROM walbridge.statements",
			at: "target functions", severity: check.Error, what: "doesn't know a statement", fix: "walbridge schema target", not: "don't know what check asks"},
		{name: "NoRightToCall", target: "REVOKE ALL ON FUNCTION public.walbridge(json) FROM PUBLIC, service_role",
			at: "target connect", severity: check.Error, what: "may not call the function", fix: "walbridge schema target", not: "the target can't be reached"},
		{name: "OthersMayCall", target: "GRANT EXECUTE ON FUNCTION public.walbridge(json) TO anon",
			at: "target exposure", severity: check.Error, what: "anon may call function public.walbridge(json)", fix: "REVOKE ALL ON FUNCTION"},
		{name: "Expired", fault: postgrest.Expired, at: "target connect", severity: check.Error,
			what: "(PGRST303): the API key is refused: it has expired", fix: "SUPABASE_SECRET_KEY_FILE", not: "the target can't be reached"},
		{name: "Paused", fault: postgrest.Paused, at: "target connect", severity: check.Error,
			what: "the project is paused", fix: "dashboard", not: "the target can't be reached"},
		{name: "Unknown", fault: postgrest.NotFound, at: "target connect", severity: check.Error,
			what: "there is no Supabase API", fix: "check SUPABASE_URL", not: "the target can't be reached"},
		{name: "RowSecurity", target: owner, at: "target row_security", severity: check.Error,
			what: "binds the role NAME", fix: `ALTER FUNCTION public.walbridge(json) OWNER TO "postgres";`},
		{name: "NoWrite", target: owner + "ALTER ROLE NAME BYPASSRLS; REVOKE UPDATE, DELETE ON contacts FROM NAME",
			at: "target write", severity: check.Error, what: "the role NAME lacks rights on table public.contacts: UPDATE, DELETE", fix: `OWNER TO "postgres"`},
		{name: "PrivateRights", target: owner + "ALTER ROLE NAME BYPASSRLS; REVOKE UPDATE ON walbridge.held FROM NAME",
			at: "target private", severity: check.Error, what: "lacks rights on table walbridge.held", fix: "GRANT USAGE ON SCHEMA walbridge"},
		{name: "NoColumn", target: "ALTER TABLE contacts DROP COLUMN phone",
			at: "target tables", severity: check.Error, what: "public.contacts, column phone: it is missing", fix: "ADD COLUMN"},
		{name: "NoTable", target: "DROP TABLE messages", also: "target tables",
			at: "", severity: check.Error},
		{name: "Triggers", target: "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER alert BEFORE INSERT ON contacts FOR EACH ROW EXECUTE FUNCTION f()",
			at: "target triggers", severity: check.Warning, what: "triggers: alert", fix: "DISABLE TRIGGER"},
		{name: "ForeignKey", target: "ALTER TABLE contacts ADD CONSTRAINT self FOREIGN KEY (provedor_id) REFERENCES contacts",
			at: "target foreign_keys", severity: check.Warning, what: "self of table public.contacts is checked at once", fix: "DEFERRABLE INITIALLY DEFERRED"},
		{name: "Exposed", target: "ALTER TABLE contacts DISABLE ROW LEVEL SECURITY; GRANT SELECT ON contacts TO anon",
			at: "target exposure", severity: check.Warning, what: "read by anon", fix: "ENABLE ROW LEVEL SECURITY"},
		{name: "OldPolicy", target: "CREATE POLICY old ON contacts USING (true)",
			at: "target access", severity: check.Warning, what: `users of the API: "old"`, fix: `DROP POLICY "old" ON "public"."contacts";`},
		{name: "Logging", target: "ALTER DATABASE DB SET log_statement = 'mod'",
			at: "target logging", severity: check.Warning, what: "log_statement = mod", fix: `ALTER ROLE "authenticator" SET log_parameter_max_length = 0`},
	}
	whole := newPair(t, c, "api")
	pgtest.Exec(t, c.URL(whole.target), postgrest.Roles)
	whole.prepare(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			name := "a_" + strings.ToLower(tt.name)
			p := &pair{cluster: c, source: whole.source, target: name, role: pgtest.Superuser}
			pgtest.Exec(t, c.URL("postgres"), "CREATE DATABASE "+p.target+" TEMPLATE "+whole.target)
			api, alter := p.overAPI(t)
			named := strings.NewReplacer("NAME", name, "DB", p.target)
			pgtest.Exec(t, c.URL(p.target), named.Replace(cmp.Or(tt.target, "SELECT 1")))
			if tt.fault != 0 {
				api.Fail(postgrest.Fault{Kind: tt.fault})
			}
			r := p.check(t, alter)
			if part, at, ok := strings.Cut(tt.at, " "); ok {
				list := findings(r, check.Part(part), at)
				if len(list) == 0 {
					t.Fatalf("found %q, want %s", others(r), tt.at)
				}
				f := list[0]
				if f.Severity != tt.severity || !strings.Contains(f.What, named.Replace(tt.what)) || !strings.Contains(f.Fix, named.Replace(tt.fix)) {
					t.Errorf("%+v, want %s with %q and %q", f, tt.severity, tt.what, tt.fix)
				}
			}
			if list := others(r, tt.at, tt.also); list != nil {
				t.Errorf("also found %q", list)
			}
			for _, s := range r.Skipped {
				if want := cmp.Or(tt.not, "-"); s.Check != "create" && !strings.Contains(s.Reason, want) && !strings.Contains(s.Reason, "as said") {
					t.Errorf("%s %s was not made: %s", s.Part, s.Check, s.Reason)
				}
			}
		})
	}
}

// findings are those of a check that are worse than a note.
func findings(r *check.Report, part check.Part, name string) (list []check.Finding) {
	for _, f := range r.Findings {
		if f.Part == part && f.Check == name && f.Severity > check.Info {
			list = append(list, f)
		}
	}
	return list
}

// What is told over the API of clocks and of Realtime.
func TestRun_OverAPI_Notes(t *testing.T) {
	t.Parallel()
	c := unchanging(t)
	p := newPair(t, c, "notes")
	_, alter := p.overAPI(t)
	pgtest.Exec(t, c.URL(p.target), postgrest.Roles, "CREATE PUBLICATION supabase_realtime")
	p.prepare(t)
	pgtest.Exec(t, c.URL(p.target), "ALTER PUBLICATION supabase_realtime DROP TABLE messages, conversations", `INSERT INTO walbridge.quieted VALUES ('notes', 'public.conversations')`)
	before := p.state(t)
	r := p.check(t, alter, func(o *check.Options) { o.Now = func() time.Time { return time.Now().Add(-time.Hour) } })
	if f := one(t, r, check.Target, "clock"); !strings.Contains(f.What, "the clock of the target is 1h0m0s ahead of this host's") {
		t.Errorf("%+v, want the clock", f)
	}
	var carried []string
	for _, f := range r.Findings {
		if f.Check == "realtime" {
			carried = append(carried, f.What+" "+f.Fix)
		}
	}
	want := []string{"Realtime doesn't carry table public.conversations ", `Realtime doesn't carry table public.messages ALTER PUBLICATION supabase_realtime ADD TABLE "public"."messages";`}
	if strings.Join(carried, "\n") != strings.Join(want, "\n") {
		t.Errorf("realtime: %q, want %q", carried, want)
	}
	if after := p.state(t); before[0][0] != after[0][0] {
		t.Errorf("changed: %v, then %v", before, after)
	}
}
