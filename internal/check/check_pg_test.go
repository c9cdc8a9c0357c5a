package check_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/check"
	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// pair is NioChat's database and an empty one, on a cluster.
type pair struct {
	cluster        *pgtest.Cluster
	source, target string // names of the databases
	role           string // as whom they are looked at
}

func newPair(t *testing.T, c *pgtest.Cluster, name string) *pair {
	t.Helper()
	p := &pair{cluster: c, source: name + "_source", target: name + "_target", role: pgtest.Superuser}
	pgtest.CreateDB(t, c, p.source)
	pgtest.CreateDB(t, c, p.target)
	pgtest.Exec(t, c.URL(p.source), demo.SourceSchema)
	return p
}

// publish makes a publication of the mapped tables, whole but for what is added.
func publish(contacts string) string {
	return "CREATE PUBLICATION findings FOR TABLE conversations_inbox, conversations_conversation, conversations_message, csat_feedbacks, core_auditlog, " + contacts
}

const password = "hunter2"

// check makes all checks, and holds its whole output against the password.
func (p *pair) check(t *testing.T, alter ...func(*check.Options)) *check.Report {
	t.Helper()
	preset, err := configs.Read(configs.Default)
	if err != nil {
		t.Fatal(err)
	}
	opts := check.Options{
		Name:      strings.TrimSuffix(p.source, "_source"),
		SourceURL: p.cluster.URLAs(p.role, password, p.source), TargetURL: p.cluster.URLAs(p.role, password, p.target),
		MappingName: "niochat.yaml", Mapping: preset,
	}
	for _, f := range alter {
		f(&opts)
	}
	r, err := check.Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), password) {
		t.Errorf("the password is in the report: %s", text)
	}
	return r
}

// one returns the only finding of a check that is worse than a note.
func one(t *testing.T, r *check.Report, part check.Part, name string) check.Finding {
	t.Helper()
	var found []check.Finding
	for _, f := range r.Findings {
		if f.Part == part && f.Check == name && f.Severity > check.Info {
			found = append(found, f)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s %s: %+v, want one finding", part, name, found)
	}
	return found[0]
}

// others lists what was found beside some checks, written as "part check".
func others(r *check.Report, except ...string) (list []string) {
	skip := strings.Join(except, "|") + "|"
	for _, f := range r.Findings {
		if at := string(f.Part) + " " + f.Check; f.Severity > check.Info && !strings.Contains(skip, at+"|") {
			list = append(list, fmt.Sprintf("%s: %s: %s", at, f.Severity, f.What))
		}
	}
	return list
}

// unchanging is a cluster on which nobody but the test takes transaction ids.
func unchanging(t *testing.T, settings ...string) *pgtest.Cluster {
	t.Helper()
	opts := []pgtest.Option{pgtest.WithSetting("autovacuum", "off"), pgtest.WithSetting("max_slot_wal_keep_size", "1GB")}
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		opts = append(opts, pgtest.WithSetting(key, value))
	}
	return pgtest.Start(t, opts...)
}

// state is the next transaction id, which every change of a row or of the
// catalogs takes one from; and what changes without: slots and settings.
func (p *pair) state(t *testing.T) [][]string {
	t.Helper()
	return pgtest.QueryText(t, p.cluster.URL(p.source), `
		SELECT 'next id ' || pg_snapshot_xmax(pg_current_snapshot())
		UNION ALL SELECT 'slot ' || to_jsonb(s)::text FROM pg_replication_slots s
		UNION ALL SELECT 'setting ' || to_jsonb(s)::text FROM pg_file_settings s
		UNION ALL SELECT 'prepared ' || gid FROM pg_prepared_xacts
		UNION ALL SELECT 'walsender ' || pid FROM pg_stat_replication WHERE state = 'streaming' ORDER BY 1`)
}

func TestRun_Healthy(t *testing.T) {
	t.Parallel()
	p := newPair(t, unchanging(t), "healthy")
	before := p.state(t)
	r := p.check(t)
	if !r.Clean() || len(r.Skipped) > 0 || r.Infos == 0 {
		t.Errorf("found %v, left out %v", others(r), r.Skipped)
	}
	if diff := gocmp.Diff(before, p.state(t)); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}

	// A host whose clock is wrong sees those of both databases wrong.
	r = p.check(t, func(o *check.Options) { o.Now = func() time.Time { return time.Now().Add(-time.Hour) } })
	for _, part := range []check.Part{check.Source, check.Target} {
		f := one(t, r, part, "clock")
		if f.Severity != check.Warning || !strings.Contains(f.What, "ahead of this host's") || !strings.Contains(f.Fix, "NTP") {
			t.Errorf("%+v, want a warning about this host's clock", f)
		}
	}
	if list := others(r, "source clock", "target clock"); list != nil {
		t.Errorf("also found %q", list)
	}
}

func TestRun_PreparedTransaction(t *testing.T) {
	t.Parallel()
	p := newPair(t, unchanging(t), "prepared")
	pgtest.Exec(t, p.cluster.URL(p.source), `BEGIN`+"; "+
		`INSERT INTO core_provedor (id, nome, is_active, created_at, updated_at) VALUES (1, 'x', true, now(), now()); PREPARE TRANSACTION 'left behind'`)
	writer := pgtest.Connect(t, p.cluster.URL(p.source))
	if _, err := writer.Exec(t.Context(), "BEGIN; SELECT pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	before := p.state(t)
	r := p.check(t)
	f := one(t, r, check.Source, "transactions")
	if f.Severity != check.Error || !strings.Contains(f.What, "left behind in database prepared_source") ||
		!strings.Contains(f.Fix, "ROLLBACK PREPARED 'left behind'") {
		t.Errorf("%+v, want the prepared transaction's name", f)
	}
	if list := others(r, "source transactions"); list != nil {
		t.Errorf("also found %q", list)
	}
	if diff := gocmp.Diff(before, p.state(t)); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}

// What the settings of a cluster say.
func TestRun_Settings(t *testing.T) {
	t.Parallel()
	p := newPair(t, unchanging(t, "wal_level=replica", "max_slot_wal_keep_size=-1", "wal_sender_timeout=0",
		"synchronous_standby_names=settings", "synchronous_commit=local"), "settings")
	before := p.state(t)
	r := p.check(t)
	for name, want := range map[string]struct {
		severity check.Severity
		fix      string
	}{
		"wal_level":      {check.Error, "wal_level = 'logical'"},
		"synchronous":    {check.Error, "synchronous_standby_names"},
		"wal_keep":       {check.Warning, "max_slot_wal_keep_size"},
		"sender_timeout": {check.Warning, "wal_sender_timeout"},
	} {
		if f := one(t, r, check.Source, name); f.Severity != want.severity || !strings.Contains(f.Fix, want.fix) || f.Why == "" {
			t.Errorf("%s: %+v, want %s with %q", name, f, want.severity, want.fix)
		}
	}
	if list := others(r, "source wal_level", "source synchronous", "source wal_keep", "source sender_timeout"); list != nil {
		t.Errorf("also found %q", list)
	}
	if diff := gocmp.Diff(before, p.state(t)); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}

// Each case spoils one thing, and finds that and nothing else.
func TestRun_Findings(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t, pgtest.WithSetting("max_slot_wal_keep_size", "1GB"))
	pgtest.Exec(t, c.URL("postgres"), "CREATE ROLE bridge LOGIN REPLICATION; CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE plain LOGIN")
	const (
		owned   = `DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP EXECUTE format('ALTER TABLE %s OWNER TO bridge', t); END LOOP; END $$; GRANT CREATE ON DATABASE findings_source TO bridge`
		chats   = `CREATE TABLE contacts (id bigint PRIMARY KEY, provedor_id bigint NOT NULL, name varchar(255), phone varchar(20), email varchar(254), avatar varchar(200), created_at timestamptz, updated_at timestamptz, additional_attributes jsonb)`
		secured = `; ALTER TABLE contacts ENABLE ROW LEVEL SECURITY`
		creator = `; GRANT CREATE ON DATABASE findings_target TO bridge; GRANT CREATE ON SCHEMA public TO bridge`
	)
	tests := []struct {
		name           string
		source, target string
		role           string // that has no rights but these; a superuser if empty
		version        int    // least
		at, also       string // "part check"
		severity       check.Severity
		what, fix      string
	}{
		{name: "NoPrimaryKey", source: "ALTER TABLE csat_feedbacks DROP CONSTRAINT csat_feedbacks_pkey CASCADE",
			at: "mapping tables", severity: check.Error, what: "public.csat_feedbacks has no primary key", fix: "ADD PRIMARY KEY"},
		{name: "IdentityNothing", source: "ALTER TABLE core_auditlog REPLICA IDENTITY NOTHING",
			at: "mapping tables", severity: check.Error, what: "niochat.yaml:", fix: "REPLICA IDENTITY DEFAULT"},
		{name: "DeferrableKey", source: "ALTER TABLE core_auditlog DROP CONSTRAINT core_auditlog_pkey, ADD PRIMARY KEY (id) DEFERRABLE",
			at: "source identity", severity: check.Error, what: "table public.core_auditlog has a deferrable primary key", fix: "REPLICA IDENTITY FULL"},
		{name: "NoTable", source: "DROP TABLE csat_feedbacks CASCADE",
			at: "mapping tables", severity: check.Error, what: "the source has no table public.csat_feedbacks"},
		{name: "RowFilter", version: 15, source: publish("conversations_contact WHERE (id > 5)"),
			at: "source publication", severity: check.Error, what: "a row filter on public.conversations_contact", fix: "DROP TABLE"},
		{name: "ColumnList", version: 15, source: publish("conversations_contact (id, name)"),
			at: "source publication", severity: check.Error, what: "a column list on public.conversations_contact", fix: "DROP TABLE"},
		{name: "Operations", source: publish("conversations_contact") + " WITH (publish = 'insert, update')",
			at: "source publication", severity: check.Error, what: "all of insert", fix: "SET (publish"},
		{name: "Unexpected", source: publish("conversations_contact, core_user"),
			at: "source publication", severity: check.Warning, what: "public.core_user", fix: `DROP TABLE "public"."core_user"`},
		{name: "SlotWithoutPublication", source: "SELECT pg_create_logical_replication_slot('findings', 'pgoutput')",
			also: "target history",
			at:   "source publication", severity: check.Error, what: "its publication doesn't", fix: "pg_drop_replication_slot"},
		{name: "SlotWithoutCheckpoint", source: "SELECT pg_create_logical_replication_slot('findings', 'pgoutput');" + publish("conversations_contact"),
			at: "target history", severity: check.Error, what: "no checkpoint that belongs to it", fix: "walbridge resync"},
		{name: "OtherPlugin", source: "SELECT pg_create_logical_replication_slot('findings', 'test_decoding');" + publish("conversations_contact"),
			at: "source slot", severity: check.Error, what: "plugin test_decoding", fix: "pg_drop_replication_slot"},
		{name: "Replication", role: "plain", source: strings.ReplaceAll(owned, "bridge", "plain"), target: strings.ReplaceAll("SELECT 1"+creator, "bridge", "plain"),
			at: "source replication", severity: check.Error, what: "role plain may not replicate", fix: `ALTER ROLE "plain" REPLICATION`},
		{name: "NoOwner", role: "bridge", source: "GRANT SELECT ON ALL TABLES IN SCHEMA public TO bridge", target: "SELECT 1" + creator,
			at: "source publication", severity: check.Error, what: "no publication findings yet", fix: "as the owner of the tables: CREATE PUBLICATION"},
		{name: "Lacks", role: "bridge", source: "GRANT SELECT ON ALL TABLES IN SCHEMA public TO bridge; CREATE PUBLICATION findings FOR TABLE core_auditlog", target: "SELECT 1" + creator,
			at: "source publication", severity: check.Error, what: "findings lacks tables of the mapping", fix: "as the owner of the tables: ALTER PUBLICATION"},
		{name: "NoSelect", role: "bridge", source: owned + "; REVOKE SELECT ON core_auditlog FROM bridge", target: "SELECT 1" + creator,
			at: "source select", severity: check.Error, what: "core_auditlog", fix: `GRANT SELECT ON "public"."core_auditlog" TO "bridge"`},
		{name: "SourceRowSecurity", role: "bridge", source: owned + "; ALTER TABLE conversations_message ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", target: "SELECT 1" + creator,
			at: "source row_security", severity: check.Error, what: "conversations_message", fix: "BYPASSRLS"},
		{name: "NoCreate", role: "bridge", source: owned, target: "CREATE SCHEMA walbridge AUTHORIZATION bridge; REVOKE CREATE ON SCHEMA public FROM PUBLIC",
			at: "target create", severity: check.Error, what: "may not make tables public.audit_logs, public.contacts", fix: `GRANT CREATE, USAGE ON SCHEMA "public"`},
		{name: "NoPrivateSchema", role: "bridge", source: owned, target: "GRANT CREATE ON SCHEMA public TO bridge",
			at: "target create", severity: check.Error, what: "the private schema walbridge", fix: `GRANT CREATE ON DATABASE "findings_target"`},
		{name: "NoWrite", role: "bridge", source: owned, target: chats + "; CREATE INDEX ON contacts (provedor_id, phone); GRANT SELECT, INSERT ON contacts TO bridge" + creator,
			at: "target write", severity: check.Error, what: "UPDATE on table public.contacts as bridge", fix: "UPDATE"},
		{name: "PrivateRights", role: "bridge", source: owned, target: "CREATE SCHEMA walbridge; CREATE TABLE walbridge.other (); GRANT USAGE, CREATE ON SCHEMA walbridge TO bridge" + creator,
			at: "target private", severity: check.Error, what: "table walbridge.other", fix: "GRANT USAGE ON SCHEMA walbridge"},
		{name: "Policy", role: "bridge", source: owned, target: chats + "; CREATE INDEX ON contacts (provedor_id, phone); GRANT ALL ON contacts TO bridge; CREATE POLICY p ON contacts USING (true)" + secured + creator,
			at: "target row_security", severity: check.Warning, what: "contacts", fix: "BYPASSRLS"},
		{name: "NoPolicy", role: "bridge", source: owned, target: chats + "; CREATE INDEX ON contacts (provedor_id, phone); GRANT ALL ON contacts TO bridge" + secured + creator,
			at: "target row_security", severity: check.Error, what: "contacts", fix: "BYPASSRLS"},
		{name: "NoColumn", target: chats + secured + "; ALTER TABLE contacts DROP COLUMN phone",
			at: "target tables", severity: check.Error, what: "public.contacts, column phone: it is missing", fix: "ADD COLUMN"},
		{name: "Triggers", target: chats + secured + "; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER alert BEFORE INSERT ON contacts FOR EACH ROW EXECUTE FUNCTION f()",
			at: "target triggers", severity: check.Warning, what: "triggers: alert", fix: "DISABLE TRIGGER"},
		{name: "ForeignKeyElsewhere", target: "CREATE TABLE provedores (id bigint PRIMARY KEY);" + chats + secured + "; ALTER TABLE contacts ADD FOREIGN KEY (provedor_id) REFERENCES provedores DEFERRABLE",
			at: "target foreign_keys", severity: check.Warning, what: "that the bridge doesn't keep", fix: "DROP CONSTRAINT"},
		{name: "ForeignKeyImmediate", target: chats + secured + "; ALTER TABLE contacts ADD CONSTRAINT self FOREIGN KEY (provedor_id) REFERENCES contacts",
			at: "target foreign_keys", severity: check.Warning, what: "self of table public.contacts is checked at once", fix: "DEFERRABLE INITIALLY DEFERRED"},
		{name: "ForeignKeyIn", target: chats + secured + "; CREATE TABLE notes (contact bigint REFERENCES contacts)",
			at: "target foreign_keys", severity: check.Warning, what: "of notes leads to table public.contacts", fix: "on_delete: keep"},
		{name: "Exposed", target: chats + "; GRANT SELECT ON contacts TO anon",
			at: "target exposure", severity: check.Warning, what: "read by anon,", fix: "ENABLE ROW LEVEL SECURITY"},
		{name: "AccessPolicy", target: chats + secured + "; GRANT SELECT ON contacts TO anon; CREATE POLICY old ON contacts USING (provedor_id = (current_setting('request.headers')::json->>'x')::bigint)",
			at: "target access", severity: check.Warning, what: `users of the API: "old"`, fix: `DROP POLICY "old" ON "public"."contacts";`},
		{name: "AccessWrite", target: chats + secured + "; GRANT TRUNCATE ON contacts TO anon",
			at: "target access", severity: check.Warning, what: "anon may write to table public.contacts (TRUNCATE)", fix: `REVOKE ALL ON "public"."contacts" FROM anon;`},
		{name: "AccessView", target: chats + secured + "; CREATE VIEW metrics AS SELECT provedor_id, count(*) FROM contacts GROUP BY 1; GRANT SELECT ON metrics TO anon", version: 15,
			at: "target access", severity: check.Warning, what: "anon can read the view public.metrics", fix: "ALTER VIEW public.metrics SET (security_invoker = true);"},
		{name: "NewerSchema", target: "CREATE SCHEMA walbridge; CREATE TABLE walbridge.schema_version (version int); INSERT INTO walbridge.schema_version VALUES (99)",
			at: "target tables", severity: check.Error, what: "version 99", fix: "newer one"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if c.Version() < tt.version {
				t.Skipf("PostgreSQL %d has no such thing", c.Version())
			}
			name := "f_" + strings.ToLower(tt.name)
			p := newPair(t, c, name)
			p.role = cmp.Or(tt.role, pgtest.Superuser)
			named := strings.NewReplacer("findings", name)
			pgtest.Exec(t, c.URL(p.source), named.Replace(tt.source))
			pgtest.Exec(t, c.URL(p.target), named.Replace(tt.target))
			r := p.check(t)
			part, at, _ := strings.Cut(tt.at, " ")
			f := one(t, r, check.Part(part), at)
			if f.Severity != tt.severity || !strings.Contains(f.What, named.Replace(tt.what)) || !strings.Contains(f.Fix, named.Replace(tt.fix)) {
				t.Errorf("%+v, want %s with %q and %q", f, tt.severity, tt.what, tt.fix)
			}
			if list := others(r, tt.at, tt.also); list != nil {
				t.Errorf("also found %q", list)
			}
		})
	}
}

// A database in another encoding, and one that doesn't know its own.
func TestRun_Encoding(t *testing.T) {
	t.Parallel()
	c := unchanging(t)
	p := newPair(t, c, "encoding")
	for name, encoding := range map[string]string{"latin": "LATIN1", "ascii": "SQL_ASCII"} {
		pgtest.Exec(t, c.URL("postgres"), fmt.Sprintf("CREATE DATABASE %s ENCODING '%s' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'", name, encoding))
		pgtest.Exec(t, c.URL(name), demo.SourceSchema)
	}
	from := *p
	for source, severity := range map[string]check.Severity{"latin": check.Info, "ascii": check.Warning} {
		from.source = source
		found := false
		for _, f := range from.check(t).Findings {
			found = found || f.Part == check.Source && f.Check == "encoding" && f.Severity == severity
		}
		if !found {
			t.Errorf("no %s about the encoding of the source %s", severity, source)
		}
	}
	to := *p
	to.target = "latin"
	// NioChat's tables are none of the target's.
	if f := one(t, to.check(t), check.Target, "encoding"); !strings.Contains(f.What, "LATIN1") || f.Severity != check.Warning {
		t.Errorf("%+v, want a warning with LATIN1", f)
	}
}

func TestRun_TargetStandby(t *testing.T) {
	t.Parallel()
	p := newPair(t, unchanging(t), "standby")
	target := unchanging(t)
	url := pgtest.CreateDB(t, target, "away")
	if err := target.Stop(pgtest.Fast); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(target.DataDir(), "standby.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	r := p.check(t, func(o *check.Options) { o.TargetURL = url })
	if f := one(t, r, check.Target, "standby"); f.Severity != check.Error || !strings.Contains(f.Fix, "primary") {
		t.Errorf("%+v, want an error that asks for the primary", f)
	}
	if list := others(r, "target standby"); list != nil {
		t.Errorf("also found %q", list)
	}
}

// What the settings and the URLs say about themselves, while nobody is there.
func TestRun_Unreachable(t *testing.T) {
	t.Parallel()
	r, err := check.Run(t.Context(), check.Options{
		Name:      "b",
		SourceURL: "postgres://app:" + password + "@127.0.0.1:6432/niochat?sslmode=disable",
		TargetURL: "postgres://app:" + password + "@aws-0-eu.pooler.supabase.com:6543/postgres",
		Mapping:   []byte("tables: {}"), MappingName: "m.yaml",
		Warnings: []string{"a setting has no effect"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]string{
		"settings settings": "a setting has no effect", "mapping file": "m.yaml:1",
		"source url": "port 6432 is usual for a pooler", "source connect": "connect to source at 127.0.0.1:6432", "target url": "transaction pooler",
	} {
		part, name, _ := strings.Cut(at, " ")
		if f := one(t, r, check.Part(part), name); !strings.Contains(f.What, want) {
			t.Errorf("%+v, want %q", f, want)
		}
	}
	if list := others(r, "settings settings", "mapping file", "source url", "source connect", "target url"); list != nil {
		t.Errorf("also found %q", list)
	}
	var text strings.Builder
	if err := r.Print(&text); err != nil || strings.Contains(text.String(), password) {
		t.Errorf("the password is in the text, or %v", err)
	}
}
