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

// APIScript is what a target needs for a sink over a Session, beside what that
// brings along: the private schema and the tables, without a role of the bridge's
// own.
type APIScript struct {
	Statements []pg.Statement
	// Templates are the statements that the sink may run.
	Templates []*Template
	// Outsiders are the roles of the API that nothing is for.
	Outsiders []string
}

// NewAPIScript looks at what the target has.
func NewAPIScript(ctx context.Context, opts Options, schema *sink.Schema) (*APIScript, error) {
	s := &Sink{opts: opts, name: opts.Name, log: slog.New(slog.DiscardHandler)}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	defer s.drop(ctx)
	has, _, err := s.inspectPrivate(ctx)
	if err != nil {
		return nil, err
	}
	tables, err := s.compareTables(ctx, schema)
	if err != nil {
		return nil, err
	}
	alerts, err := s.missingAlerts(ctx, schema)
	if err != nil {
		return nil, err
	}
	a := &APIScript{Templates: s.Statements(schema)}
	for _, role := range apiRoles {
		if _, ok := has["role "+role]; ok {
			a.Outsiders = append(a.Outsiders, role)
		}
	}
	a.Statements = slices.Concat(privateScript(s.name, schema, has), tableScript(tables), about(aboutAlerts, alerts...))
	return a, nil
}

const aboutAlerts = "Alerts for conversations that stay open: the bridge raises them through a function."

// BlindAPIScript is NewAPIScript for a Supabase project that can't be looked at.
// Tables that are there stay as they are, but for columns that only the bridge
// knows of and for indexes.
func BlindAPIScript(name string, schema *sink.Schema) *APIScript {
	s := &Sink{opts: Options{Name: name}, name: name}
	has := make(map[string]cdc.Value)
	for _, role := range apiRoles {
		has["role "+role] = cdc.Value{}
	}
	revoke := strings.Join(revokeFrom(has), ", ")
	a := &APIScript{Templates: s.Statements(schema), Outsiders: apiRoles, Statements: privateScript(name, schema, has)}
	for _, w := range wantedTables(schema) {
		st := unlessThere(w.name.String(), w.create(revoke))
		st.About = "Table " + w.name.String() + ", unless it is there. Row security is on and no policy lets anybody in but its owner."
		a.Statements = append(a.Statements, st)
		a.Statements = append(a.Statements, about("", slices.Concat(w.missingColumns(&foundTable{}), w.missingIndexes(nil))...)...)
	}
	if schema.Alerts != nil {
		for i, o := range alertObjects(schema.Alerts, revoke) {
			st := unlessThere(o.name, o.sql)
			if i == 0 {
				st.About = aboutAlerts
			}
			a.Statements = append(a.Statements, st)
		}
	}
	return a
}

// unlessThere makes one statement of those that make a relation.
func unlessThere(name string, sql []string) pg.Statement {
	var own []string
	for _, one := range sql {
		// A block within a block needs no DO of its own.
		one = strings.TrimSuffix(strings.TrimPrefix(one, "DO $$ "), " $$")
		own = append(own, one)
	}
	schema, table, _ := strings.Cut(name, ".")
	return pg.Statement{
		SQL: strings.Join(own, ";\n\t\t"),
		Unless: fmt.Sprintf("SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
			pg.QuoteLiteral(schema), pg.QuoteLiteral(table)),
	}
}
