package verify_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/verify"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// testMapping writes from the tables of one schema to those of another in the
// same database, so that the target can be filled by plain SQL.
const testMapping = `
audit_log: {table: mirror.audit_logs}
tables:
  mirror.contacts:
    from: conversations_contact
    tenant: [provedor_id]
    columns: [id, name, phone, email, updated_at, additional_attributes]
    on_delete: delete
  mirror.conversations:
    from: conversations_conversation
    tenant: [inbox.provedor_id, contact.provedor_id]
    columns:
      - id
      - contact_id
      - inbox_id
      - status
      - ended_at: {observe: status, when: [closed], initial: [updated_at]}
    on_delete: keep
  mirror.messages:
    from: conversations_message
    tenant: [conversation.inbox.provedor_id, conversation.contact.provedor_id]
    columns: [id, conversation_id, {contact_id: conversation.contact_id}, content, is_from_customer, additional_attributes]
    on_delete: keep
  mirror.audit_logs:
    from: core_auditlog
    tenant: [provedor_id]
    without_tenant: drop
    columns: [{id: {uuid: [id]}}, {action: action}, {details: {json_object: [ip_address]}}, timestamp, user_id]
    on_delete: keep
    audit: false
`

// fill writes what a bridge would have written, stated in SQL once more, except
// for what core SQL can't: UUIDs by name.
const fill = `
INSERT INTO mirror.contacts (id, name, phone, email, updated_at, additional_attributes, provedor_id)
	SELECT id, name, phone, email, updated_at, additional_attributes, provedor_id
	FROM conversations_contact WHERE provedor_id IS NOT NULL;
INSERT INTO mirror.conversations (id, contact_id, inbox_id, status, ended_at, provedor_id)
	SELECT c.id, c.contact_id, c.inbox_id, c.status, CASE WHEN c.status = 'closed' THEN c.updated_at END, COALESCE(i.provedor_id, k.provedor_id)
	FROM conversations_conversation c JOIN conversations_inbox i ON i.id = c.inbox_id JOIN conversations_contact k ON k.id = c.contact_id
	WHERE COALESCE(i.provedor_id, k.provedor_id) IS NOT NULL;
INSERT INTO mirror.messages (id, conversation_id, contact_id, content, is_from_customer, additional_attributes, provedor_id)
	SELECT m.id, m.conversation_id, c.contact_id, m.content, m.is_from_customer, m.additional_attributes, COALESCE(i.provedor_id, k.provedor_id)
	FROM conversations_message m JOIN conversations_conversation c ON c.id = m.conversation_id
	JOIN conversations_inbox i ON i.id = c.inbox_id JOIN conversations_contact k ON k.id = c.contact_id
	WHERE COALESCE(i.provedor_id, k.provedor_id) IS NOT NULL;
INSERT INTO mirror.audit_logs (id, provedor_id, action, details, timestamp)
	SELECT gen_random_uuid(), 1, 'conversation.created', ('{"by": "walbridge", "n": ' || n || ', "lsn": "0/' || n || '", "seq": 1}')::jsonb, now()
	FROM generate_series(1, 10) n;
INSERT INTO walbridge.checkpoint (name, epoch, schema_version, audit_head) VALUES ('walbridge', 1, 1, 10);
-- What came to an end: rows that were deleted at the source and stay.
-- The second one's conversation is long gone.
INSERT INTO mirror.messages (id, conversation_id, contact_id, content, provedor_id) SELECT 900001, conversation_id, contact_id, 'apagada', provedor_id
	FROM mirror.messages WHERE id = (SELECT min(id) FROM mirror.messages);
INSERT INTO mirror.messages (id, conversation_id, contact_id, content, provedor_id) VALUES (900002, 999999, 1, 'apagada', 2);
INSERT INTO walbridge.deleted (bridge, "table", key, lsn) VALUES
	('walbridge', 'mirror.messages', '900001', '0/1'), ('walbridge', 'mirror.messages', '900002', '0/1');`

// fixture makes the template database: a source that has been worked on, and a
// target that is equal to it.
func fixture(t *testing.T) (c *pgtest.Cluster, template string) {
	t.Helper()
	c = pgtest.Start(t)
	template = "equal"
	url := pgtest.CreateDB(t, c, template)
	pgtest.Exec(t, url, demo.SourceSchema, `CREATE SCHEMA mirror`)
	log := slog.New(slog.DiscardHandler)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if err := demo.Seed(t.Context(), conn, demo.SeedOptions{Seed: 9}); err != nil {
		t.Fatal(err)
	}
	traffic := demo.NewTraffic(url, demo.TrafficOptions{Seed: 9, Workers: 1, Actions: 500}, log)
	if err := traffic.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	src, dst, m := open(t, url)
	defer src.Close(context.WithoutCancel(t.Context()))
	defer dst.Close(context.WithoutCancel(t.Context()))
	s, err := postgres.Open(t.Context(), postgres.Options{URL: url, Name: verify.DefaultName}, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Install(t.Context(), m.Schema, false); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, url, fill)
	fillHeld(t, src, m)
	fillPaths(t, src, m)
	return c, template
}

// open connects as the bridge does and compiles the mapping.
func open(t *testing.T, url string) (src, dst *pgx.Conn, m *mapping.Mapping) {
	t.Helper()
	var err error
	if src, err = pg.Connect(t.Context(), url, pg.Options{Side: pg.Source}); err != nil {
		t.Fatal(err)
	}
	if dst, err = pg.Connect(t.Context(), url, pg.Options{Side: pg.Target}); err != nil {
		t.Fatal(err)
	}
	f, err := mapping.Parse("test.yaml", []byte(testMapping))
	if err != nil {
		t.Fatal(err)
	}
	if m, err = verify.Compile(t.Context(), f, mapping.CompileOptions{}, src, dst); err != nil {
		t.Fatal(err)
	}
	return src, dst, m
}

// fillHeld writes the rows without a tenant, and the audit rows with one, from
// the view.
func fillHeld(t *testing.T, conn *pgx.Conn, m *mapping.Mapping) {
	t.Helper()
	for _, s := range m.Sources {
		view := m.View(s)
		if view == nil {
			continue
		}
		table := s.Target.Table
		sql, _ := view.SQL(mapping.ViewRange{})
		for _, in := range texts(t, conn, sql) {
			row, err := view.Row(in)
			if err != nil {
				t.Fatal(err)
			}
			vals := make([]*string, len(row))
			for i, v := range row {
				if !v.IsNull() {
					vals[i] = &v.Text
				}
			}
			switch tenantless := row[table.Tenant].IsNull(); {
			case tenantless && s.Target.WithoutTenant == mapping.Hold:
				exec(t, conn, `INSERT INTO walbridge.held (bridge, "table", key, vals, reason, since) VALUES ('walbridge', $1, $2, $3, 'tenant', '0/1')`,
					table.FullName(), string(table.KeyOf(row)), vals)
			case !tenantless && table.Name == "audit_logs":
				// What a json_object makes is not yet as jsonb writes it.
				var names, casts []string
				for i, c := range table.Columns {
					names = append(names, c.Name)
					casts = append(casts, fmt.Sprintf("v[%d]::%s", i+1, c.Type))
				}
				exec(t, conn, fmt.Sprintf("INSERT INTO mirror.audit_logs (%s) SELECT %s FROM (SELECT $1::text[]) AS x(v)",
					strings.Join(names, ", "), strings.Join(casts, ", ")), vals)
			}
		}
	}
}

func fillPaths(t *testing.T, conn *pgx.Conn, m *mapping.Mapping) {
	t.Helper()
	for _, s := range m.Sources {
		if s.Node == nil {
			continue
		}
		exec(t, conn, fmt.Sprintf(`INSERT INTO walbridge.path_values (bridge, source, key, vals) SELECT 'walbridge', $1, id::text, ARRAY[%s::text]::text[] FROM public.%s`,
			strings.Join(s.Node.Columns, "::text, "), s.Name), s.Node.Name)
	}
}

func texts(t *testing.T, conn *pgx.Conn, sql string) [][]cdc.Value {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, pgx.QueryResultFormats{pgx.TextFormatCode})
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]cdc.Value, error) {
		values := make([]cdc.Value, len(row.RawValues()))
		for i, raw := range row.RawValues() {
			if raw != nil {
				values[i] = cdc.TextValue(string(raw))
			}
		}
		return values, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// Each case spoils an equal target, or changes the source without it, and says
// what Compare must find, as what the totals of one table are beyond those of the
// equal one.
func TestCompare(t *testing.T) {
	t.Parallel()
	cluster, template := fixture(t)
	compare := func(t *testing.T, name, sql string, opts verify.Options) *verify.Report {
		t.Helper()
		pgtest.Exec(t, cluster.URL("postgres"), fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, template))
		url := cluster.URL(name)
		pgtest.Exec(t, url, sql)
		src, dst, m := open(t, url)
		defer src.Close(context.WithoutCancel(t.Context()))
		defer dst.Close(context.WithoutCancel(t.Context()))
		report, err := verify.Compare(t.Context(), m, src, dst, opts)
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	base := compare(t, "base", "SELECT", verify.Options{Keys: 3})
	t.Logf("\n%s", base)
	if !base.Equal() {
		t.Fatal("the fixture isn't equal")
	}
	total := map[string]verify.Counts{}
	for _, table := range base.Tables {
		total[table.Name] = table.Total()
	}
	if c := total["mirror.messages"]; c.Held == 0 || c.Kept != 2 || c.Equal == 0 {
		t.Fatalf("the fixture proves little: %+v", c)
	}
	if c := total["mirror.audit_logs"]; c.Dropped == 0 || c.Equal == 0 {
		t.Fatalf("the fixture proves little: %+v", c)
	}

	const someMessage = "(SELECT min(id) FROM mirror.messages)"
	const mark = `INSERT INTO walbridge.deleted (bridge, "table", key, lsn) SELECT 'walbridge', 'mirror.%[1]s', min(id)::text, '0/1' FROM mirror.%[1]s;`
	tests := []struct {
		name, sql, table string
		want             verify.Counts // beyond the base
		column           string
		opts             verify.Options
	}{
		{name: "value", table: "mirror.messages", column: "content", want: verify.Counts{Equal: -1, Different: 1},
			sql: "UPDATE mirror.messages SET content = content || ' ' WHERE id = " + someMessage},
		{name: "null_for_empty", table: "mirror.messages", column: "content", want: verify.Counts{Equal: -1, Different: 1},
			sql: "UPDATE conversations_message SET content = '' WHERE id = " + someMessage + "; UPDATE mirror.messages SET content = NULL WHERE id = " + someMessage},
		{name: "jsonb_number", table: "mirror.messages", column: "additional_attributes", want: verify.Counts{Equal: -1, Different: 1},
			sql: `UPDATE conversations_message SET additional_attributes = '{"v": 1.00}' WHERE id = ` + someMessage +
				`; UPDATE mirror.messages SET additional_attributes = '{"v": 1.0}' WHERE id = ` + someMessage},
		{name: "tenant", table: "mirror.conversations", column: "provedor_id", want: verify.Counts{Equal: -1, Different: 1},
			sql: "UPDATE mirror.conversations SET provedor_id = provedor_id + 1 WHERE id = (SELECT min(id) FROM mirror.conversations)"},
		{name: "derived", table: "mirror.messages", column: "contact_id", want: verify.Counts{Equal: -1, Different: 1},
			sql: "UPDATE mirror.messages SET contact_id = contact_id + 1 WHERE id = " + someMessage},
		{name: "missing", table: "mirror.messages", want: verify.Counts{Equal: -1, Missing: 1},
			sql: "DELETE FROM mirror.messages WHERE id = " + someMessage},
		{name: "foreign_row", table: "mirror.messages", want: verify.Counts{Foreign: 1},
			sql: "INSERT INTO mirror.messages (id, conversation_id, provedor_id) VALUES (999999, 1, 77)"},
		{name: "extra", table: "mirror.contacts", want: verify.Counts{Extra: 1},
			sql: "INSERT INTO mirror.contacts (id, name, phone, updated_at, additional_attributes, provedor_id) VALUES (999999, '', '', now(), '{}', 1)"},
		{name: "kept", table: "mirror.messages", want: verify.Counts{Compared: -1, Equal: -1, Kept: 1},
			sql: fmt.Sprintf(mark, "messages") + "DELETE FROM conversations_message WHERE id = " + someMessage},
		{name: "stale_mark", table: "mirror.messages", want: verify.Counts{Equal: -1, Different: 1},
			sql: fmt.Sprintf(mark, "messages")},
		{name: "kept_where_deleted", table: "mirror.contacts", want: verify.Counts{Extra: 1},
			sql: `INSERT INTO mirror.contacts (id, name, phone, updated_at, additional_attributes, provedor_id) VALUES (999999, '', '', now(), '{}', 1);
				INSERT INTO walbridge.deleted (bridge, "table", key, lsn) VALUES ('walbridge', 'mirror.contacts', '999999', '0/1')`},
		{name: "not_held", table: "mirror.messages", want: verify.Counts{Held: -1, Missing: 1},
			sql: `DELETE FROM walbridge.held WHERE "table" = 'mirror.messages' AND key = (SELECT min(key) FROM walbridge.held WHERE "table" = 'mirror.messages')`},
		{name: "held_value", table: "mirror.contacts", column: "name", want: verify.Counts{Held: -1, Different: 1},
			sql: `UPDATE walbridge.held SET vals[3] = 'x' WHERE "table" = 'mirror.contacts' AND key = (SELECT min(key) FROM walbridge.held WHERE "table" = 'mirror.contacts')`},
		{name: "held_too_many", table: "mirror.messages", want: verify.Counts{Extra: 1},
			sql: `INSERT INTO walbridge.held (bridge, "table", key, vals, reason, since) VALUES ('walbridge', 'mirror.messages', '777777', '{}', 'tenant', '0/1')`},
		{name: "held_and_kept", table: "mirror.messages", want: verify.Counts{Kept: 1},
			sql: `INSERT INTO walbridge.held (bridge, "table", key, vals, reason, since) VALUES ('walbridge', 'mirror.messages', '777777', '{}', 'tenant', '0/1');
				INSERT INTO walbridge.deleted (bridge, "table", key, lsn) VALUES ('walbridge', 'mirror.messages', '777777', '0/1')`},
		{name: "held_and_there", table: "mirror.messages", want: verify.Counts{Held: -1, Different: 1},
			sql: `INSERT INTO mirror.messages (id, conversation_id, provedor_id) SELECT min(key::int8), 1, 1 FROM walbridge.held WHERE "table" = 'mirror.messages'`},
		{name: "held_and_foreign", table: "mirror.messages", want: verify.Counts{Foreign: 1}, opts: verify.Options{OthersWrite: true},
			sql: `INSERT INTO mirror.messages (id, conversation_id, provedor_id) SELECT min(key::int8), 1, 1 FROM walbridge.held WHERE "table" = 'mirror.messages'`},
		{name: "written_untagged", table: "mirror.messages", want: verify.Counts{Held: -1, Different: 1},
			sql: `INSERT INTO mirror.messages (id, conversation_id, provedor_id) SELECT min(key::int8), 1, 1 FROM walbridge.held WHERE "table" = 'mirror.messages';
				DELETE FROM walbridge.held WHERE "table" = 'mirror.messages' AND key = (SELECT min(key) FROM walbridge.held WHERE "table" = 'mirror.messages')`},
		{name: "ended_while_open", table: "mirror.conversations", column: "ended_at", want: verify.Counts{Equal: -1, Different: 1},
			sql: "UPDATE mirror.conversations SET ended_at = now() WHERE id = (SELECT min(id) FROM mirror.conversations WHERE status <> 'closed')"},
		{name: "closed_without_end", table: "mirror.conversations", column: "ended_at", want: verify.Counts{Equal: -1, Different: 1},
			sql: "UPDATE mirror.conversations SET ended_at = NULL WHERE id = (SELECT min(id) FROM mirror.conversations WHERE status = 'closed')"},
		{name: "another_end", table: "mirror.conversations",
			sql: "UPDATE mirror.conversations SET ended_at = 'epoch' WHERE status = 'closed'"},
		{name: "kept_behind", table: "mirror.messages", column: "provedor_id", want: verify.Counts{Kept: -1, Different: 1},
			sql: "UPDATE mirror.messages SET provedor_id = provedor_id + 1 WHERE id = 900001"},
		{name: "path_value", table: "paths public.conversations_inbox", column: "provedor_id", want: verify.Counts{Equal: -1, Different: 1},
			sql: `UPDATE walbridge.path_values SET vals[1] = '99' WHERE source = 'public.conversations_inbox' AND key = (SELECT min(key) FROM walbridge.path_values WHERE source = 'public.conversations_inbox' AND vals[1] IS NOT NULL
				AND key::int8 <> (SELECT c.inbox_id FROM mirror.messages m JOIN conversations_conversation c ON c.id = m.conversation_id WHERE m.id = 900001))`},
		{name: "path_missing", table: "paths public.conversations_inbox", want: verify.Counts{Equal: -1, Missing: 1},
			sql: "DELETE FROM walbridge.path_values WHERE source = 'public.conversations_inbox' AND key = (SELECT min(key) FROM walbridge.path_values WHERE source = 'public.conversations_inbox')"},
		{name: "path_extra", table: "paths public.conversations_inbox", want: verify.Counts{Extra: 1},
			sql: "INSERT INTO walbridge.path_values (bridge, source, key, vals) VALUES ('walbridge', 'public.conversations_inbox', '99999', '{1}')"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opts := tt.opts
			opts.Keys = i % 3 // with and without naming keys
			report := compare(t, tt.name, tt.sql, opts)
			for _, table := range report.Tables {
				want := total[table.Name]
				if table.Name == tt.table {
					want = plus(want, tt.want)
				}
				if diff := cmp.Diff(want, table.Total()); diff != "" {
					t.Errorf("%s (-want +got):\n%s", table.Name, diff)
				}
				var columns map[string]int64
				if table.Name == tt.table && tt.column != "" {
					columns = map[string]int64{tt.column: 1}
				}
				if diff := cmp.Diff(columns, table.Columns); diff != "" && len(columns)+len(table.Columns) > 0 {
					t.Errorf("columns of %s (-want +got):\n%s", table.Name, diff)
				}
			}
			wrong := tt.want.Missing+tt.want.Different+tt.want.Extra > 0
			if got := report.Equal(); got == wrong {
				t.Errorf("Equal() = %t", got)
			}
			if named := strings.Contains(report.String(), ": ") && len(keysOf(report)) > 0; wrong && opts.Keys > 0 && !named {
				t.Errorf("no key is named:\n%s", report)
			}
			if keys := keysOf(report); opts.Keys == 0 && len(keys) > 0 {
				t.Errorf("keys are named unasked: %v", keys)
			}
		})
	}
}

func keysOf(r *verify.Report) []sink.Key {
	var all []sink.Key
	for _, table := range r.Tables {
		for _, keys := range table.Keys {
			all = append(all, keys...)
		}
	}
	return all
}

func plus(a, b verify.Counts) verify.Counts {
	return verify.Counts{Compared: a.Compared + b.Compared, Equal: a.Equal + b.Equal, Missing: a.Missing + b.Missing,
		Different: a.Different + b.Different, Extra: a.Extra + b.Extra, Held: a.Held + b.Held, Dropped: a.Dropped + b.Dropped,
		Kept: a.Kept + b.Kept, Foreign: a.Foreign + b.Foreign}
}
