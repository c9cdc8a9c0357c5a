package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// Script returns the statements that make all that a bridge of that name needs at
// the target, whose role has no rights but those that it needs. They may run again
// at any time. Tables that are there keep their rights and their row security; the
// notes say what somebody should know about them.
func Script(ctx context.Context, opts Options, role string, schema *sink.Schema) (script []pg.Statement, notes []string, err error) {
	s := &Sink{opts: opts, name: opts.Name, log: slog.New(slog.DiscardHandler)}
	if err := s.connect(ctx); err != nil {
		return nil, nil, err
	}
	defer s.drop(ctx)
	has, _, err := s.inspectPrivate(ctx)
	if err != nil {
		return nil, nil, err
	}
	tables, err := s.compareTables(ctx, schema)
	if err != nil {
		return nil, nil, err
	}
	if notes, err = s.tableNotes(ctx, tables, role); err != nil {
		return nil, nil, err
	}
	alerts, err := s.missingAlerts(ctx, schema)
	if err != nil {
		return nil, nil, err
	}
	return slices.Concat(
		privateScript(s.name, schema, has),
		tableScript(tables),
		about("Alerts for conversations that stay open: the bridge raises them through a function.", alerts...),
		privateGrants(s.name, schema, role),
		s.tableGrants(schema, tables, role),
	), notes, nil
}

// about gives the first of statements a comment.
func about(text string, sql ...string) []pg.Statement {
	list := make([]pg.Statement, len(sql))
	for i, s := range sql {
		list[i] = pg.Statement{SQL: s}
	}
	if len(list) > 0 {
		list[0].About = text
	}
	return list
}

func privateScript(name string, schema *sink.Schema, has map[string]cdc.Value) []pg.Statement {
	objects := []string{createSchema}
	for _, o := range slices.Concat(privateTables, reverseIndexes(name, schema)) {
		objects = append(objects, o.create)
	}
	for _, c := range laterColumns {
		objects = append(objects, c.create())
	}
	for _, o := range slices.Concat(privateFunctions, tendFunctions(name, schema)) {
		objects = append(objects, o.create)
	}
	return slices.Concat(
		about("The bridge's own schema: its checkpoint, held rows, path values and deletion marks.", append(objects, insertVersion())...),
		about("Nobody else reads it, nor does the API.", revokePrivate(has)...),
	)
}

func tableScript(tables []compared) (script []pg.Statement) {
	for i := range tables {
		t := &tables[i]
		text := "Table " + t.want.name.String() + ". Row security is on and no policy lets anybody in but the bridge."
		if t.exists {
			text = "Table " + t.want.name.String() + " is there; the bridge finds its rows by these indexes."
		}
		script = append(script, about(text, t.missing()...)...)
	}
	return script
}

// PrivateRight is a right that a bridge's role needs on a table of the private
// schema.
type PrivateRight struct{ Table, Right string }

// PrivateRights lists them, and the functions that it needs to call.
func PrivateRights(bridge string) (rights []PrivateRight, functions []string) {
	for _, o := range privateTables {
		for right := range strings.SplitSeq(o.rights, ", ") {
			rights = append(rights, PrivateRight{o.name, right})
		}
	}
	for _, o := range privateFunctions {
		functions = append(functions, o.name)
	}
	return rights, append(functions, tendName(bridge), eraseName(bridge))
}

// privateGrants are the rights on the private schema.
func privateGrants(name string, schema *sink.Schema, role string) []pg.Statement {
	to := " TO " + pg.Quote(role)
	grants := []string{"GRANT USAGE ON SCHEMA walbridge" + to}
	for _, o := range privateTables {
		grants = append(grants, "GRANT "+o.rights+" ON TABLE walbridge."+pg.Quote(o.name)+to)
	}
	for _, o := range slices.Concat(privateFunctions, tendFunctions(name, schema)) {
		grants = append(grants, fmt.Sprintf("GRANT EXECUTE ON FUNCTION walbridge.%s(%s)", o.name, o.args)+to)
	}
	return about("What the bridge may do with its own schema: it makes nothing there, and doesn't remove its checkpoint.", grants...)
}

// tableGrants are the rights on the tables of the mapping and on the audit table,
// and the policies without which row security would hide every row.
func (s *Sink) tableGrants(schema *sink.Schema, tables []compared, role string) []pg.Statement {
	to := " TO " + pg.Quote(role)
	var usage, grants []string
	var policies []pg.Statement
	for _, t := range tables {
		for _, name := range t.want.schemas() {
			if sql := "GRANT USAGE ON SCHEMA " + name + to; !slices.Contains(usage, sql) {
				usage = append(usage, sql)
			}
		}
		mapped := mappedTable(schema, t.want.name)
		rights := "SELECT, INSERT"
		if mapped != nil {
			rights += ", UPDATE, DELETE"
		}
		grants = append(grants, "GRANT "+rights+" ON TABLE "+t.want.name.sql()+to)
		policies = append(policies, s.policies(schema, t.want, mapped, role)...)
	}
	if len(policies) > 0 {
		policies[0].About = "Row security lets the bridge at every row, and keeps it from writing one without a tenant."
	}
	return slices.Concat(about("What it may do with the tables: no TRUNCATE, no change of a table.", append(usage, grants...)...), policies)
}

// schemas are those of the table and of its columns' types, quoted.
func (w *wantedTable) schemas() []string {
	all := []string{pg.Quote(w.name.schema)}
	for _, c := range w.columns {
		if schema, _, _ := strings.Cut(c.typ, `"."`); schema != `"pg_catalog` {
			all = append(all, schema+`"`)
		}
	}
	return all
}

func mappedTable(schema *sink.Schema, name relName) *sink.Table {
	for _, t := range schema.Tables {
		if name == (relName{t.Schema, t.Name}) {
			return t
		}
	}
	return nil
}

// policies are those of one table. The bridge writes entries once and for all;
// where they share a table with mapped rows, the policies tell the two apart, as
// far as the details are jsonb.
func (s *Sink) policies(schema *sink.Schema, w *wantedTable, mapped *sink.Table, role string) []pg.Statement {
	policy := func(verb, clause string) pg.Statement {
		name := role
		if verb != "ALL" {
			name += " " + strings.ToLower(verb)
		}
		return pg.Statement{
			SQL: fmt.Sprintf("CREATE POLICY %s ON %s FOR %s TO %s %s", pg.Quote(name), w.name.sql(), verb, pg.Quote(role), clause),
			Unless: fmt.Sprintf("SELECT FROM pg_catalog.pg_policy WHERE polrelid = %s::regclass AND polname = %s",
				pg.QuoteLiteral(w.name.sql()), pg.QuoteLiteral(name)),
		}
	}
	e := schema.Entries
	audit := e != nil && w.name == relName{e.Schema, e.Name}
	tenant := ""
	if mapped != nil {
		tenant = mapped.Columns[mapped.Tenant].Name
	} else {
		tenant = e.Tenant
	}
	check := " WITH CHECK (" + pg.Quote(tenant) + " IS NOT NULL)"
	if !audit {
		return []pg.Statement{policy("ALL", "USING (true)"+check)}
	}
	list := []pg.Statement{policy("SELECT", "USING (true)"), policy("INSERT", strings.TrimSpace(check))}
	if mapped == nil {
		return list
	}
	row := "USING (" + s.noEntry(e) + ")"
	return append(list, policy("UPDATE", row+check), policy("DELETE", row))
}

// noEntry is a condition that no entry of a bridge fulfils, or true where the
// details have a type without operators for it.
func (s *Sink) noEntry(e *sink.EntryTable) string {
	for _, c := range s.entries.Columns {
		if c.Name == e.Details && c.Type == typeJSONB {
			return fmt.Sprintf("(%s OPERATOR(pg_catalog.->>) 'by') IS DISTINCT FROM 'walbridge' OR NOT %[1]s OPERATOR(pg_catalog.?&) '{n,op}'", pg.Quote(c.Name))
		}
	}
	return "true"
}

// inspectAccess asks about tables that are there: whether row security is on, and
// for triggers of somebody else's.
const inspectAccess = `SELECT q.s, q.n, c.relrowsecurity, coalesce((
		SELECT pg_catalog.string_agg(t.tgname, ', ' ORDER BY t.tgname) FROM pg_catalog.pg_trigger AS t
		WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'), '')
	FROM unnest($1::text[], $2::text[]) AS q(s, n)
	JOIN pg_catalog.pg_namespace AS sn ON sn.nspname = q.s
	JOIN pg_catalog.pg_class AS c ON c.relnamespace = sn.oid AND c.relname = q.n
	ORDER BY 1, 2`

// inspectOpen finds schemas in which every role may make tables, which was the
// default for public before PostgreSQL 15 and stays over upgrades.
const inspectOpen = `SELECT n.nspname FROM pg_catalog.pg_namespace AS n
	WHERE n.nspname = ANY ($1::text[]) AND EXISTS (SELECT FROM pg_catalog.aclexplode(n.nspacl) AS a
		WHERE a.grantee = 0 AND a.privilege_type = 'CREATE')
	ORDER BY 1`

func (s *Sink) tableNotes(ctx context.Context, tables []compared, role string) (notes []string, err error) {
	var schemas, names []string
	var all []string
	for _, t := range tables {
		all = append(all, t.want.name.schema)
		if t.exists {
			schemas, names = append(schemas, t.want.name.schema), append(names, t.want.name.name)
		}
	}
	found, err := s.rows(ctx, inspectOpen, textArray(all))
	if err != nil {
		return nil, fmt.Errorf("inspect schemas: %w", err)
	}
	for _, r := range found {
		notes = append(notes, fmt.Sprintf("Schema %s lets every role make tables, this one too. Unless somebody relies on it:\nREVOKE CREATE ON SCHEMA %s FROM PUBLIC;", r[0].Text, pg.Quote(r[0].Text)))
	}
	found, err = s.rows(ctx, inspectAccess, textArray(schemas), textArray(names))
	if err != nil {
		return nil, fmt.Errorf("inspect row security: %w", err)
	}
	for _, r := range found {
		name := relName{r[0].Text, r[1].Text}
		if r[2].Text != "t" {
			notes = append(notes, fmt.Sprintf("Table %s has no row security: whoever has rights on it reads every tenant, and the policies below\nhave no effect. It is left like that, because whoever reads it now would see nothing. When your own\npolicies are there: ALTER TABLE %s ENABLE ROW LEVEL SECURITY;", name, name.sql()))
		}
		if r[3].Text != "" {
			notes = append(notes, fmt.Sprintf("Table %s has triggers (%s): they run with the rights of %s. Make their functions\nSECURITY DEFINER, or grant it what they touch.", name, r[3].Text, pg.Quote(role)))
		}
	}
	return notes, nil
}
