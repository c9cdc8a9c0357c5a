package supabase_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pgtest"
)

func TestMetrics_Answers(t *testing.T) {
	t.Parallel()
	p := newProject(t, "niochat-pt.yaml")
	if v := p.cluster.Version(); v < 15 {
		t.Skipf("PostgreSQL %d has no views that read with the caller's rights", v)
	}
	p.apply()
	pgtest.Exec(t, p.dst, `
		INSERT INTO conversations (id, provedor_id, status, created_at, ended_at) VALUES
			(1, 7, 'open', now() - interval '1 hour', NULL),
			(2, 7, 'pending', now() - interval '2 hours', NULL),
			(3, 7, 'closed', now() - interval '5 hours', now() - interval '2 hours'),
			(4, 7, 'resolved', now() - interval '3 hours', now() - interval '2 hours'),
			(5, 7, 'closed', now() - interval '4 hours', NULL),                          -- its end is not known
			(6, 7, 'ended', now() - interval '1 hour', now() - interval '1 hour 1 second'), -- two clocks
			(7, 7, 'closed', now() - interval '25 hours', now() - interval '1 hour'),
			(8, 7, NULL, now() - interval '3 hours', NULL),
			(9, 8, 'open', NULL, NULL),
			(10, 8, 'closed', now() - interval '31 days', now() - interval '30 days'),
			(11, 9, 'open', now(), NULL);
		INSERT INTO csat_feedback (id, provedor_id, rating_value) SELECT gen_random_uuid(), 7, r FROM unnest(ARRAY[5, 4, 3, 2, 1, 5]) r`)
	// Three hours, one and none.
	for _, tt := range []struct {
		tenant    int
		sql, want string
	}{
		{7, "SELECT row_to_json(t)::jsonb - 'provedor_id' FROM (SELECT provedor_id, total_conversations, open_conversations, closed_conversations, round(avg_resolution_time_hours, 3) AS hours FROM dashboard_metrics) t",
			`{"hours": 1.333, "open_conversations": 1, "total_conversations": 7, "closed_conversations": 4}`},
		{8, "SELECT count(*) FROM dashboard_metrics", "0"},
		{9, "SELECT avg_resolution_time_hours IS NULL AND open_conversations = 1 FROM dashboard_metrics", "t"},
		{7, "SELECT sum(total_conversations) FROM conversation_metrics", "8"},
		{8, "SELECT count(*) FROM conversation_metrics", "0"},
		{7, "SELECT count(DISTINCT day) > 1 FROM conversation_metrics", "t"},
		{7, "SELECT format('%s %s %s %s %s', total_feedbacks, round(avg_rating, 2), satisfied, neutral, dissatisfied) FROM csat_metrics", "6 3.33 3 1 2"},
		{8, "SELECT count(*) FROM csat_metrics", "0"},
	} {
		if got := p.as("authenticated", claims(tt.tenant), tt.sql); got != tt.want {
			t.Errorf("tenant %d: %s: %s, want %s", tt.tenant, tt.sql, got, tt.want)
		}
	}
	if got := p.as("service_role", "", "SELECT count(*) FROM dashboard_metrics"); got != "2" {
		t.Errorf("service_role sees %s", got)
	}
}

// many makes a large project of 100 tenants.
const many = `
	INSERT INTO conversations (id, provedor_id, contact_id, inbox_id, status, created_at, ended_at, open_since)
	SELECT n, n %% 100, n, n, CASE WHEN n %% 50 = 0 THEN 'open' ELSE 'closed' END, now() - n * interval '40 days' / %[1]d,
		CASE WHEN n %% 50 > 0 THEN now() - n * interval '40 days' / %[1]d + interval '20 minutes' END,
		CASE WHEN n %% 50 = 0 THEN now() - n * interval '40 days' / %[1]d END
	FROM generate_series(1, %[1]d) n;
	INSERT INTO csat_feedback (id, provedor_id, conversation_id, contact_id, rating_value, feedback_sent_at)
	SELECT gen_random_uuid(), n %% 100, n, n, 1 + n %% 5, now() FROM generate_series(1, %[1]d / 5) n;
	INSERT INTO messages (id, provedor_id, conversation_id, contact_id, content, created_at)
	SELECT n, n %% 100, n, n, 'x', now() - n * interval '40 days' / %[1]d FROM generate_series(1, %[1]d) n;
	INSERT INTO audit_logs (id, provedor_id, action, details, timestamp)
	SELECT gen_random_uuid(), n %% 100, 'message.created', '{}', now() - n * interval '40 days' / %[1]d FROM generate_series(1, %[1]d) n`

// What a dashboard asks for costs as much as its tenant's rows, not as everybody's:
// the claim is read once, and an index finds them. METRICS_ROWS makes the project
// larger and prints the plans.
func TestMetrics_Plans(t *testing.T) {
	t.Parallel()
	p := newProject(t, "niochat.yaml")
	if v := p.cluster.Version(); v < 15 {
		t.Skipf("PostgreSQL %d has no views that read with the caller's rights", v)
	}
	p.apply()
	rows := 50_000
	if s := os.Getenv("METRICS_ROWS"); s != "" {
		if _, err := fmt.Sscan(s, &rows); err != nil {
			t.Fatal(err)
		}
	}
	pgtest.Exec(t, p.dst, fmt.Sprintf(many, rows))
	for _, table := range []string{"conversations", "csat_feedback", "messages", "audit_logs"} {
		pgtest.Exec(t, p.dst, "VACUUM ANALYZE "+table)
	}
	for _, sql := range []string{
		"SELECT * FROM dashboard_metrics",
		"SELECT * FROM conversation_metrics",
		"SELECT * FROM csat_metrics",
		"SELECT * FROM conversations WHERE status = 'open' ORDER BY created_at DESC LIMIT 50",
		"SELECT * FROM messages WHERE conversation_id = 7 ORDER BY created_at",
		"SELECT * FROM csat_feedback ORDER BY feedback_sent_at DESC LIMIT 20",
		"SELECT * FROM audit_logs ORDER BY timestamp DESC LIMIT 50",
		"SELECT * FROM audit_logs WHERE action = 'conversation.closed' AND timestamp > now() - interval '7 days'",
	} {
		plan := p.plan(claims(7), sql)
		if strings.Contains(plan, "Seq Scan") || !strings.Contains(plan, "InitPlan") || !indexCondition.MatchString(plan) {
			t.Errorf("%s doesn't find its tenant's rows by an index:\n%s", sql, plan)
		}
		if os.Getenv("METRICS_ROWS") != "" {
			t.Logf("%s\n%s", sql, plan)
		}
	}
	raise := p.value("SELECT 'walbridge.' || proname || '()' FROM pg_proc WHERE proname LIKE 'raise_alerts%'")
	pgtest.Exec(t, p.dst, "SELECT "+raise)
	var again string
	for _, r := range pgtest.QueryText(t, p.dst, "EXPLAIN (ANALYZE, TIMING off, SUMMARY on) SELECT "+raise) {
		again += r[0] + "\n"
	}
	t.Logf("alerts of %s conversations, once more\n%s", p.value("SELECT count(*) FROM conversation_alerts"), again)
}

var indexCondition = regexp.MustCompile(`(?s)Index Cond: .*(provedor_id|conversation_id) = `)

// plan is what PostgreSQL does for a tenant's query.
func (p *project) plan(claims, sql string) string {
	p.Helper()
	conn := pgtest.Connect(p, p.cluster.URLAs("authenticator", "", "project"))
	var b strings.Builder
	err := pgx.BeginFunc(p.Context(), conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(p.Context(), "SELECT set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)", claims); err != nil {
			return err
		}
		rows, err := tx.Query(p.Context(), "EXPLAIN (ANALYZE, TIMING off, COSTS off, BUFFERS) "+sql)
		if err != nil {
			return err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		b.WriteString(strings.Join(lines, "\n"))
		return err
	})
	if err != nil {
		p.Fatal(err)
	}
	return b.String()
}
