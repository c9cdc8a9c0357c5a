package supabase_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/postgrest"
	"github.com/walbridge/walbridge/internal/schema"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink/postgres"
)

// project is a Supabase project and NioChat's database, on one cluster.
type project struct {
	*testing.T
	cluster *pgtest.Cluster
	// src is the source; owner and dst are the target as its owner and as the
	// superuser.
	src, owner, dst string
	file            *mapping.File
	// api is PostgREST's connection.
	api *pgx.Conn
}

func newProject(t *testing.T, preset string, opts ...pgtest.Option) *project {
	t.Helper()
	p := &project{T: t}
	p.cluster, p.owner = postgrest.Project(t, opts...)
	p.src, p.dst = pgtest.CreateDB(t, p.cluster, "niochat"), p.cluster.URL("project")
	pgtest.Exec(t, p.src, demo.SourceSchema)
	data, err := configs.Read(preset)
	if err != nil {
		t.Fatal(err)
	}
	if p.file, err = mapping.Parse(preset, data); err != nil {
		t.Fatal(err)
	}
	return p
}

// script makes the target's script as its owner.
func (p *project) script() *schema.Script {
	p.Helper()
	s, err := schema.Target(p.Context(), pgtest.Connect(p, p.src), pgtest.Connect(p, p.owner),
		postgres.Options{URL: p.owner, Name: "walbridge"},
		schema.Options{Name: "walbridge", Role: schema.TargetRole, File: p.file})
	if err != nil {
		p.Fatal(err)
	}
	return s
}

func (p *project) apply() *schema.Script {
	p.Helper()
	s := p.script()
	if err := s.Apply(p.Context(), p.owner, pg.Options{Side: pg.Target}); err != nil {
		p.Fatal(err)
	}
	return s
}

func (p *project) value(sql string) string {
	p.Helper()
	return pgtest.QueryValue(p, p.dst, sql)
}

// as runs SQL as PostgREST would: as a role, with claims. It returns the first
// value, or the SQLSTATE.
func (p *project) as(role, claims, sql string) string {
	p.Helper()
	if p.api == nil {
		p.api = pgtest.Connect(p, p.cluster.URLAs("authenticator", "", "project"))
	}
	conn := p.api
	var got string
	err := pgx.BeginFunc(p.Context(), conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(p.Context(), "SELECT set_config('role', $1, true), set_config('request.jwt.claims', $2, true)", role, claims); err != nil {
			return err
		}
		rows, err := tx.Query(p.Context(), sql, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if raw := rows.RawValues(); len(raw) > 0 && got == "" {
				got = string(raw[0])
			}
		}
		return rows.Err()
	})
	if code := pg.Code(err); code != "" {
		return code
	}
	if err != nil {
		p.Fatal(err)
	}
	return got
}

// claims are a token's of a tenant.
func claims(tenant any) string {
	return fmt.Sprintf(`{"role": "authenticated", "app_metadata": {"provedor_id": %v}, "user_metadata": {"provedor_id": 1}}`, tenant)
}

var quiet = slog.New(slog.DiscardHandler)

// guide is what NioChat's guide has its users make. Its policies don't parse as they
// are printed there.
const guide = `
CREATE TABLE conversations (id BIGINT PRIMARY KEY, provedor_id BIGINT NOT NULL, contact_id BIGINT NOT NULL, inbox_id BIGINT,
	status TEXT DEFAULT 'open', assignee_id BIGINT, created_at TIMESTAMPTZ DEFAULT NOW(), updated_at TIMESTAMPTZ DEFAULT NOW(),
	ended_at TIMESTAMPTZ, additional_attributes JSONB);
CREATE TABLE contacts (id BIGINT PRIMARY KEY, provedor_id BIGINT NOT NULL, name TEXT NOT NULL, phone TEXT, email TEXT, avatar TEXT,
	created_at TIMESTAMPTZ DEFAULT NOW(), updated_at TIMESTAMPTZ DEFAULT NOW(), additional_attributes JSONB);
CREATE TABLE messages (id BIGINT PRIMARY KEY, conversation_id BIGINT NOT NULL, contact_id BIGINT NOT NULL, provedor_id BIGINT NOT NULL,
	content TEXT, message_type TEXT DEFAULT 'text', is_from_customer BOOLEAN DEFAULT true, file_url TEXT, file_name TEXT,
	file_size BIGINT, external_id TEXT, additional_attributes JSONB, created_at TIMESTAMPTZ DEFAULT NOW());
CREATE TABLE csat_feedback (id UUID PRIMARY KEY DEFAULT gen_random_uuid(), provedor_id BIGINT NOT NULL, conversation_id BIGINT NOT NULL,
	contact_id BIGINT NOT NULL, emoji_rating TEXT, rating_value INTEGER NOT NULL, original_message TEXT, contact_avatar TEXT,
	feedback_sent_at TIMESTAMPTZ DEFAULT NOW());
CREATE TABLE audit_logs (id UUID PRIMARY KEY DEFAULT gen_random_uuid(), provedor_id BIGINT NOT NULL, user_id BIGINT, action TEXT NOT NULL,
	details JSONB, timestamp TIMESTAMPTZ DEFAULT NOW());
CREATE INDEX idx_conversations_provedor_id ON conversations(provedor_id);
CREATE INDEX idx_conversations_status ON conversations(status);
CREATE INDEX idx_conversations_assignee_id ON conversations(assignee_id);
CREATE INDEX idx_conversations_created_at ON conversations(created_at);
CREATE INDEX idx_contacts_provedor_id ON contacts(provedor_id);
CREATE INDEX idx_contacts_phone ON contacts(phone);
CREATE INDEX idx_messages_conversation_id ON messages(conversation_id);
CREATE INDEX idx_messages_provedor_id ON messages(provedor_id);
CREATE INDEX idx_messages_created_at ON messages(created_at);
CREATE INDEX idx_csat_provedor_id ON csat_feedback(provedor_id);
CREATE INDEX idx_csat_rating_value ON csat_feedback(rating_value);
CREATE INDEX idx_csat_feedback_sent_at ON csat_feedback(feedback_sent_at);
CREATE INDEX idx_audit_provedor_id ON audit_logs(provedor_id);
CREATE INDEX idx_audit_user_id ON audit_logs(user_id);
CREATE INDEX idx_audit_action ON audit_logs(action);
CREATE INDEX idx_audit_timestamp ON audit_logs(timestamp);
ALTER TABLE conversations ENABLE ROW LEVEL SECURITY;
ALTER TABLE contacts ENABLE ROW LEVEL SECURITY;
ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE csat_feedback ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_logs ENABLE ROW LEVEL SECURITY;
ALTER PUBLICATION supabase_realtime ADD TABLE conversations;
ALTER PUBLICATION supabase_realtime ADD TABLE messages;
CREATE VIEW dashboard_metrics AS
SELECT provedor_id, COUNT(*) as total_conversations, COUNT(CASE WHEN status = 'open' THEN 1 END) as open_conversations,
	COUNT(CASE WHEN status = 'closed' THEN 1 END) as closed_conversations,
	AVG(CASE WHEN status = 'closed' THEN EXTRACT(EPOCH FROM (ended_at - created_at))/3600 END) as avg_resolution_time_hours
FROM conversations WHERE created_at >= NOW() - INTERVAL '24 hours' GROUP BY provedor_id;
CREATE FUNCTION check_conversation_alerts() RETURNS TRIGGER AS $$ BEGIN RETURN NEW; END; $$ LANGUAGE plpgsql;
CREATE TRIGGER conversation_alert_trigger AFTER UPDATE ON conversations FOR EACH ROW EXECUTE FUNCTION check_conversation_alerts();
`

// guideRows are rows that the application has POSTed.
const guideRows = `
INSERT INTO contacts (id, provedor_id, name) VALUES (70, 7, 'Ana'), (80, 8, 'Bia');
INSERT INTO conversations (id, provedor_id, contact_id, status, created_at) VALUES (1, 7, 70, 'open', now()), (2, 7, 70, 'closed', now()), (3, 8, 80, 'open', now());
INSERT INTO messages (id, provedor_id, conversation_id, contact_id, content) VALUES (1, 7, 1, 70, 'a'), (2, 7, 1, 70, 'b'), (3, 8, 3, 80, 'c');
INSERT INTO csat_feedback (id, provedor_id, conversation_id, contact_id, rating_value) VALUES (gen_random_uuid(), 7, 2, 70, 5), (gen_random_uuid(), 8, 3, 80, 1);
INSERT INTO audit_logs (id, provedor_id, action, timestamp) VALUES (gen_random_uuid(), 7, 'x', now()), (gen_random_uuid(), 8, 'y', now()), (gen_random_uuid(), 8, 'z', now());`

// notes joins a script's notes for searching.
func notes(s *schema.Script) string { return strings.Join(s.Notes, "\n") }
