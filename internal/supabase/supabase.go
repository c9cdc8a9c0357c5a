// Package supabase makes the SQL for the readers' side of a target: who of the API
// sees which rows, what Realtime carries, what dashboards read. It is for a Supabase
// project; on any other PostgreSQL what has no counterpart there is left out.
package supabase

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink/postgres"
)

// Plan is SQL that may run any number of times, behind what makes the tables, and
// notes about what it leaves alone and somebody should see to.
type Plan struct {
	Statements []pg.Statement
	Notes      []string
	// API says that the target has the roles of Supabase's API.
	API bool
}

// New makes the plan for a bridge's target, which conn leads to as the role that
// will run it.
func New(ctx context.Context, conn *pgx.Conn, m *mapping.Mapping, bridge string) (*Plan, error) {
	p := &planner{Plan: &Plan{}, m: m, bridge: bridge, tables: Tables(m)}
	if err := p.inspect(ctx, conn); err != nil {
		return nil, err
	}
	p.API = p.has.api
	if p.has.api {
		findings, err := Inspect(ctx, pg.AskOver(conn), names(p.tables))
		if err != nil {
			return nil, err
		}
		for _, f := range findings {
			p.note("%s\n%s\n%s", f.What+".", f.Why, f.Fix)
		}
		p.access(findings)
		p.hook()
	}
	p.views()
	p.realtime()
	p.schedule()
	return p.Plan, nil
}

// Table is a table that the API's users read.
type Table struct {
	Name pg.TableName
	// Tenant is the column with the tenant, Type its type as SQL takes it.
	Tenant, Type string
	// Realtime carries its changes.
	Realtime bool
	// Condition holds beside that on the tenant; empty for none.
	Condition string
}

// Tables lists the mapped tables, that of the entries and those of the alerts.
func Tables(m *mapping.Mapping) []Table {
	var list []Table
	for _, s := range m.Sources {
		if s.Target == nil {
			continue
		}
		t := s.Target.Table
		tenant := t.Columns[t.Tenant]
		list = append(list, Table{Name: pg.TableName{Schema: t.Schema, Name: t.Name}, Tenant: tenant.Name, Type: tenant.Type, Realtime: s.Target.Realtime})
	}
	if e := m.Schema.Entries; e != nil && len(list) > 0 {
		name := pg.TableName{Schema: e.Schema, Name: e.Name}
		if !slices.ContainsFunc(list, func(t Table) bool { return t.Name == name }) {
			list = append(list, Table{Name: name, Tenant: e.Tenant, Type: list[0].Type})
		}
	}
	if a := m.Schema.Alerts; a != nil {
		tenant := a.Of.Columns[a.Of.Tenant]
		for i, name := range postgres.AlertTables(a) {
			t := Table{Name: name, Tenant: tenant.Name, Type: tenant.Type, Realtime: i == 0}
			if i == 0 {
				// The alert of a conversation that moves to another tenant follows it
				// a little later, or stays, if its episode is over.
				t.Condition = fmt.Sprintf("EXISTS (SELECT FROM %s AS c WHERE c.%s = %s.conversation_id AND c.%s = %[3]s.%[4]s)",
					pg.Quote(a.Of.Schema, a.Of.Name), pg.Quote(a.Of.Columns[a.Of.Key[0]].Name), pg.Quote(name.Name), pg.Quote(tenant.Name))
			}
			list = append(list, t)
		}
	}
	return list
}

func names(tables []Table) (list []pg.TableName) {
	for _, t := range tables {
		list = append(list, t.Name)
	}
	return list
}

// planner makes a plan.
type planner struct {
	*Plan
	m      *mapping.Mapping
	bridge string
	tables []Table
	has    facts
}

// facts are what the plan depends on.
type facts struct {
	version int
	// api: the roles of Supabase's API are there; auth: so is that of its
	// authentication.
	api, auth bool
	// realtime: the publication is there; realtimeOwner, unless empty, is a role
	// that owns it and that the plan doesn't run as.
	realtime      bool
	realtimeOwner string
	// cron: pg_cron is there; cronKnown: it could be.
	cron, cronKnown bool
	// open are tables that exist without row security.
	open map[pg.TableName]bool
	// views are those with a name of ours, with their comments; policies are the
	// comments of ours.
	views    map[string]string
	policies map[pg.TableName]string
}

const inspectFacts = `SELECT pg_catalog.current_setting('server_version_num')::int,
	EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'authenticated') AND EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'anon'),
	EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'supabase_auth_admin'),
	EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = 'supabase_realtime' AND NOT puballtables),
	coalesce((SELECT pg_catalog.pg_get_userbyid(pubowner)::text FROM pg_catalog.pg_publication
		WHERE pubname = 'supabase_realtime' AND NOT pg_catalog.pg_has_role(pubowner, 'USAGE')), ''),
	EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'pg_cron'),
	EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'pg_cron')`

func (p *planner) inspect(ctx context.Context, conn *pgx.Conn) error {
	h := &p.has
	err := conn.QueryRow(ctx, inspectFacts).Scan(&h.version, &h.api, &h.auth, &h.realtime, &h.realtimeOwner, &h.cron, &h.cronKnown)
	if err != nil {
		return fmt.Errorf("inspect the target: %w", pg.Safe(err))
	}
	h.open = map[pg.TableName]bool{}
	h.views = map[string]string{}
	h.policies = map[pg.TableName]string{}
	var schemas, list []string
	for _, t := range p.tables {
		schemas, list = append(schemas, t.Name.Schema), append(list, t.Name.Name)
	}
	for _, v := range p.metrics() {
		schemas, list = append(schemas, v.name.Schema), append(list, v.name.Name)
	}
	rows, err := conn.Query(ctx, `SELECT q.s, q.n, c.relkind::text, c.relrowsecurity, coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), ''),
			coalesce((SELECT pg_catalog.obj_description(p.oid, 'pg_policy') FROM pg_catalog.pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = $3), '')
		FROM unnest($1::text[], $2::text[]) AS q(s, n)
		JOIN pg_catalog.pg_namespace AS n ON n.nspname = q.s
		JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = q.n`, schemas, list, policyName)
	if err != nil {
		return fmt.Errorf("inspect the target's tables: %w", pg.Safe(err))
	}
	defer rows.Close()
	for rows.Next() {
		var name pg.TableName
		var kind, comment, policy string
		var secured bool
		if err := rows.Scan(&name.Schema, &name.Name, &kind, &secured, &comment, &policy); err != nil {
			return fmt.Errorf("inspect the target's tables: %w", err)
		}
		h.open[name], h.policies[name] = !secured, policy
		h.views[name.String()] = kind + " " + comment
	}
	return pg.Safe(rows.Err())
}

func (p *planner) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

// add appends statements, the first of them with a comment.
func (p *planner) add(about string, list ...pg.Statement) {
	if len(list) > 0 {
		list[0].About = about
	}
	p.Statements = append(p.Statements, list...)
}

func do(format string, args ...any) pg.Statement {
	return pg.Statement{SQL: fmt.Sprintf(format, args...)}
}
