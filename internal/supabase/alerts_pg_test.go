package supabase_test

import (
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/schema"
	"github.com/walbridge/walbridge/sink/postgres"
)

// Where pg_cron is, it raises the alerts, as the role that has run the script, and
// the bridge leaves them to it.
func TestAlerts_Cron(t *testing.T) {
	t.Parallel()
	p := newProject(t, "niochat-pt.yaml")
	if p.value("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_cron'") == "0" {
		t.Skip("this PostgreSQL has no pg_cron (Debian: postgresql-15-cron)")
	}
	if got := notes(p.apply()); !strings.Contains(got, "CREATE EXTENSION pg_cron;") {
		t.Errorf("nothing says that pg_cron could be used: %s", got)
	}
	for _, settings := range []string{"shared_preload_libraries = 'pg_cron'", "cron.database_name = 'project'"} {
		pgtest.Exec(t, p.dst, "ALTER SYSTEM SET "+settings)
		if err := p.cluster.Restart(pgtest.Fast); err != nil {
			t.Fatal(err)
		}
	}
	pgtest.Exec(t, p.dst, "CREATE EXTENSION pg_cron; GRANT USAGE ON SCHEMA cron TO project; GRANT SELECT ON cron.job TO project",
		"INSERT INTO walbridge.checkpoint (name, epoch, schema_version) VALUES ('walbridge', 3, 1)",
		"INSERT INTO conversations (id, provedor_id, status, created_at) VALUES (1, 7, 'open', now())")
	p.apply()
	p.apply()
	if got := p.value("SELECT count(*) FROM cron.job"); got != "1" {
		t.Fatalf("%s jobs", got)
	}
	tend := "SELECT " + p.value("SELECT 'walbridge.' || proname FROM pg_proc WHERE proname LIKE 'tend_%'") + "(3, false)"
	pgtest.Exec(t, p.dst, "UPDATE conversations SET created_at = now() - interval '2 hours'")
	writer := p.cluster.URLAs(schema.TargetRole, "", "project")
	if got := pgtest.QueryValue(t, writer, tend); got != "{0,0}" {
		t.Errorf("beside pg_cron the bridge raised %s", got)
	}
	pgtest.Exec(t, p.owner, p.value("SELECT command FROM cron.job"))
	pgtest.Exec(t, p.owner, p.value("SELECT command FROM cron.job"))
	if got := p.value("SELECT count(*) FROM conversation_alerts"); got != "1" {
		t.Errorf("pg_cron's command raised %s alerts", got)
	}
	pgtest.Exec(t, p.owner, "SELECT cron.unschedule(jobid) FROM cron.job")
	pgtest.Exec(t, p.dst, "DELETE FROM conversation_alerts")
	if got := pgtest.QueryValue(t, writer, tend); got != "{1,0}" {
		t.Errorf("without pg_cron's job the bridge raised %s", got)
	}

	p.apply()
	p.remove()
	if got := p.value("SELECT count(*) FROM cron.job"); got != "0" {
		t.Errorf("after the bridge is gone pg_cron has %s jobs", got)
	}
}

// remove takes away what the bridge has at the target.
func (p *project) remove() {
	p.Helper()
	if _, gone, err := postgres.RemoveRemains(p.Context(), pgtest.Connect(p, p.owner), "walbridge"); err != nil || !gone {
		p.Errorf("RemoveRemains() = %t, %v", gone, err)
	}
}

// A bridge that is taken away in the middle of its first copy leaves Realtime as it
// was, and one that shares the target keeps what is its own.
func TestRealtime_Remains(t *testing.T) {
	t.Parallel()
	p := newProject(t, "niochat.yaml")
	if v := p.cluster.Version(); v < 15 {
		t.Skipf("PostgreSQL %d publishes no list of columns", v)
	}
	p.apply()
	const members = "SELECT coalesce(string_agg(tablename, ' ' ORDER BY tablename), '') FROM pg_publication_tables WHERE pubname = 'supabase_realtime'"
	all := p.value(members)
	pgtest.Exec(t, p.dst, "INSERT INTO walbridge.checkpoint (name, epoch, schema_version) VALUES ('walbridge', 3, 1)",
		"ALTER PUBLICATION supabase_realtime DROP TABLE csat_feedback; ALTER PUBLICATION supabase_realtime ADD TABLE csat_feedback (id, rating_value, provedor_id)")
	tend := "SELECT " + p.value("SELECT 'walbridge.' || proname FROM pg_proc WHERE proname LIKE 'tend_%'")
	writer := p.cluster.URLAs(schema.TargetRole, "", "project")
	for range 2 {
		if got := pgtest.QueryValue(t, writer, tend+"(3, true)"); got != "{0,3}" {
			t.Errorf("quiet: %s", got)
		}
	}
	// The one with a list of columns would lose it.
	if got := p.value(members); got != "conversation_alerts csat_feedback" {
		t.Errorf("while a copy runs Realtime carries %s", got)
	}
	p.apply() // leaves that to the bridge
	if got := p.value(members); got != "conversation_alerts csat_feedback" {
		t.Errorf("after the script Realtime carries %s", got)
	}
	p.remove()
	if got := p.value(members); got != all {
		t.Errorf("after the bridge is gone Realtime carries %s", got)
	}
}

// The role of the bridge reads and writes no alert itself.
func TestAlerts_Rights(t *testing.T) {
	t.Parallel()
	p := newProject(t, "niochat.yaml")
	p.apply()
	writer := pgtest.Connect(t, p.cluster.URLAs(schema.TargetRole, "", "project"))
	for _, sql := range []string{
		"SELECT FROM conversation_alerts", "DELETE FROM conversation_alerts", "INSERT INTO conversation_alerts_thresholds VALUES (1, '1 s')",
		"ALTER PUBLICATION supabase_realtime DROP TABLE messages", "INSERT INTO walbridge.quieted VALUES ('walbridge', 'private.secrets')",
	} {
		if _, err := writer.Exec(t.Context(), sql); err == nil {
			t.Errorf("the bridge's role may %s", sql)
		}
	}
	// All of what the mapping names is in Realtime, and nothing else.
	if got := p.value("SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables WHERE pubname = 'supabase_realtime'"); got != "audit_logs conversation_alerts conversations csat_feedback messages" {
		t.Errorf("Realtime carries %s", got)
	}
}
