package schema

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/replicator"
)

// Source makes the script for the source. The tables must be there, because the
// mapping's paths follow their foreign keys; the role needs no right on them.
func Source(ctx context.Context, conn *pgx.Conn, o Options) (*Script, error) {
	m, cat, err := compile(ctx, o, conn, nil)
	if err != nil {
		return nil, err
	}
	published, read := sourceTables(m)
	partitioned, err := replicator.CheckIdentities(ctx, conn, published)
	if err != nil {
		return nil, err
	}
	role, err := readRole(ctx, conn, o.Role)
	if err != nil {
		return nil, err
	}
	s, err := begin(ctx, conn, pg.Source, o.Role, role.attributes(),
		"The bridge's role. It streams, and reads what the first copy needs; it writes nothing.")
	if err != nil {
		return nil, err
	}
	s.Statements = append(s.Statements, role.mayReplicate(o.Role)...)
	s.Statements = append(s.Statements, readGrants(read, o.Role)...)
	pub, extra, err := publication(ctx, conn, o.Name, published, partitioned)
	if err != nil {
		return nil, err
	}
	s.Statements = append(s.Statements, pub...)
	if s.Notes, err = sourceNotes(ctx, conn, o.Name); err != nil {
		return nil, err
	}
	s.Notes = append(s.Notes, rowSecurityNotes(cat, read, o.Role)...)
	if len(extra) > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("Publication %s has tables that the mapping doesn't follow, and loses them: %s.", o.Name, names(extra)))
	}
	s.Closing = []string{s.password(),
		fmt.Sprintf("The bridge makes its slot itself; REPLICATION is enough for that. With --prepare=manual it doesn't:\nwalbridge schema source --slot, or last of all\n  SELECT pg_create_logical_replication_slot(%s, 'pgoutput');", pg.QuoteLiteral(o.Name))}
	return s, nil
}

// compile checks the mapping against the databases; target may be nil.
func compile(ctx context.Context, o Options, source, target *pgx.Conn) (*mapping.Mapping, *pg.Catalog, error) {
	src, err := pg.ReadCatalog(ctx, source, o.File.SourceTables())
	if err != nil {
		return nil, nil, fmt.Errorf("read the source's catalog: %w", err)
	}
	var dst *pg.Catalog
	if target != nil {
		if dst, err = pg.ReadCatalog(ctx, target, o.File.TargetTables()); err != nil {
			return nil, nil, fmt.Errorf("read the target's catalog: %w", err)
		}
	}
	m, err := mapping.Compile(o.File, src, dst, o.Compile)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Config, "correct the mapping file, or make the table that it names (Django: manage.py migrate)", err)
	}
	return m, src, nil
}

// sourceTables are the tables that are published, and those that are read: the
// same, and what only initial expressions look at.
func sourceTables(m *mapping.Mapping) (published, read []pg.TableName) {
	for _, s := range m.Sources {
		published = append(published, pg.TableName{Schema: s.Schema, Name: s.Name})
	}
	read = slices.Clone(published)
	for _, t := range m.Reads {
		if !slices.Contains(read, t) {
			read = append(read, t)
		}
	}
	byName := func(a, b pg.TableName) int { return strings.Compare(a.String(), b.String()) }
	slices.SortFunc(published, byName)
	slices.SortFunc(read, byName)
	return published, read
}

// sourceRole is what the source says of the bridge's role.
type sourceRole struct {
	exists, replicates bool
	// rds says that roles replicate there by membership in rds_replication.
	rds bool
}

func readRole(ctx context.Context, conn *pgx.Conn, name string) (r sourceRole, err error) {
	err = conn.QueryRow(ctx, `SELECT r.rolname IS NOT NULL, coalesce(r.rolreplication OR r.rolsuper, false), m.oid IS NOT NULL
		FROM (SELECT) AS one
		LEFT JOIN pg_catalog.pg_roles AS r ON r.rolname = $1
		LEFT JOIN pg_catalog.pg_roles AS m ON m.rolname = 'rds_replication'`, name).Scan(&r.exists, &r.replicates, &r.rds)
	if err != nil {
		return r, fmt.Errorf("inspect role %s: %w", name, pg.Safe(err))
	}
	return r, nil
}

func (r sourceRole) attributes() string {
	if r.rds {
		return "LOGIN"
	}
	return "LOGIN REPLICATION"
}

// mayReplicate gives an existing role what CREATE ROLE gives a new one.
func (r sourceRole) mayReplicate(name string) []pg.Statement {
	switch {
	case r.rds:
		return []pg.Statement{{SQL: "GRANT rds_replication TO " + pg.Quote(name)}}
	case r.exists && !r.replicates:
		return []pg.Statement{{SQL: "ALTER ROLE " + pg.Quote(name) + " REPLICATION"}}
	}
	return nil
}

func readGrants(tables []pg.TableName, role string) []pg.Statement {
	to := " TO " + pg.Quote(role)
	var usage, grants []pg.Statement
	for _, t := range tables {
		st := pg.Statement{SQL: "GRANT USAGE ON SCHEMA " + pg.Quote(t.Schema) + to}
		if !slices.Contains(usage, st) {
			usage = append(usage, st)
		}
		grants = append(grants, pg.Statement{SQL: "GRANT SELECT ON TABLE " + t.SQL() + to})
	}
	if len(usage) > 0 {
		usage[0].About = "What the first copy reads, and nothing else."
	}
	return append(usage, grants...)
}

// publication makes the publication hold exactly tables, whole. extra are those
// that it loses.
func publication(ctx context.Context, conn *pgx.Conn, name string, tables []pg.TableName, partitioned bool) (list []pg.Statement, extra []pg.TableName, err error) {
	have, err := replicator.ReadPublication(ctx, conn, name)
	if err != nil && !errors.Is(err, replicator.ErrNoPublication) {
		return nil, nil, err
	}
	if have.AllTables || len(have.Schemas) > 0 {
		return nil, nil, fault.Wrap(fault.Stop, "if nothing else uses it: DROP PUBLICATION "+pg.Quote(name)+"; else give this bridge another name (WALBRIDGE_NAME)",
			fmt.Errorf("publication %s is for all tables, or for all of a schema, and can't be narrowed", name))
	}
	extra = have.Plan(tables, true, partitioned).Extra
	create := replicator.Publication{Name: name}.Plan(tables, false, partitioned).SQL[0]
	var sql []string
	for _, t := range tables {
		sql = append(sql, t.SQL())
	}
	alter := "ALTER PUBLICATION " + pg.Quote(name)
	return []pg.Statement{
		{
			About:  "The publication: exactly the tables that the mapping follows, whole, with everything that happens to them.\nA table that is published must keep its primary key, or the application can't update it any more.",
			SQL:    strings.TrimSuffix(create, ";"),
			Unless: "SELECT FROM pg_catalog.pg_publication WHERE pubname = " + pg.QuoteLiteral(name),
		},
		{SQL: alter + " SET TABLE " + strings.Join(sql, ", ")},
		{SQL: alter + " SET (" + replicator.PublishOptions(partitioned) + ")"},
	}, extra, nil
}

// sourceNotes are the settings that keep the source from being streamed. What
// CheckSource says of the role is about the one that asks, and not the bridge's.
func sourceNotes(ctx context.Context, conn *pgx.Conn, name string) (notes []string, err error) {
	found, err := replicator.CheckSource(ctx, conn, name, name)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		var e *replicator.SourceError
		if errors.As(f, &e) && e.Check != "replication" {
			notes = append(notes, e.Reason+".\n"+fault.HintOf(f))
		}
	}
	return notes, nil
}

// rowSecurityNotes: policies may hide rows from a copy, so the bridge reads with
// row_security = off, which only a role with BYPASSRLS may on such a table.
func rowSecurityNotes(cat *pg.Catalog, tables []pg.TableName, role string) (notes []string) {
	for _, n := range tables {
		if t := cat.Table(n); t != nil && t.RowSecurity {
			notes = append(notes, fmt.Sprintf("Table %s has row security, which would hide rows from the first copy. As a superuser:\nALTER ROLE %s BYPASSRLS;", n, pg.Quote(role)))
		}
	}
	return notes
}

func names(tables []pg.TableName) string {
	var list []string
	for _, t := range tables {
		list = append(list, t.String())
	}
	return strings.Join(list, ", ")
}
