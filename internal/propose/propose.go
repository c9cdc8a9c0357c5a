// Package propose reads a live database and proposes a mapping file for it:
// which tables, which columns, and over which foreign keys each row finds its
// tenant. It reads the catalog only, never a row, and what it proposes has been
// compiled against that catalog.
package propose

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
)

// Options say what to propose.
type Options struct {
	// Tenant is the column that holds the tenant, as provedor_id; guessed if empty.
	Tenant string
	// Schemas are the source's schemas to look at; all but the system's if empty.
	Schemas []string
}

// Proposal is a mapping in the making.
type Proposal struct {
	// Tenant is the column with the tenant, Guessed says that nobody named it.
	Tenant  string
	Guessed bool
	// Owner is the table that the tenant's foreign key leads to, if it has one.
	Owner pg.TableName
	// AuditLog is the name of the audit table, which no source table has.
	AuditLog string
	// Tables are what is mapped, Left what isn't, both by name.
	Tables []Table
	Left   []Left
}

// Table is a source table to be mapped.
type Table struct {
	*pg.Table
	Target string
	Entity string
	// Tenant are the paths to the tenant.
	Tenant []string
	// Columns are those to be mapped, Secret those left out for their names.
	Columns []Column
	Secret  []string
	// States are columns whose changes are probably worth a name of their own,
	// Personal those that probably tell something about a person.
	States, Personal []string
}

// Column is a column to be mapped. AsText: the target may not know its type.
type Column struct {
	Name   string
	AsText string // the type as the source has it, if the target can't have it
}

// Left is a table that isn't mapped, and why.
type Left struct {
	Table pg.TableName
	Why   string
	// Fix is what would mend it, if it can be.
	Fix string
}

// Read proposes a mapping for the database that conn leads to. Without a tenant
// column to be found it returns an error that names the candidates.
func Read(ctx context.Context, conn *pgx.Conn, opts Options) (*Proposal, error) {
	names, err := readNames(ctx, conn, opts.Schemas)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fault.Errorf(fault.Config, "give the URL of the application's own database", "the source has no tables")
	}
	cat, err := pg.ReadCatalog(ctx, conn, names)
	if err != nil {
		return nil, err
	}
	return fromCatalog(cat, names, opts)
}

// readNames lists the tables that an application could mean: not the system's,
// not an extension's, not a single partition.
func readNames(ctx context.Context, conn *pgx.Conn, schemas []string) ([]pg.TableName, error) {
	rows, err := conn.Query(ctx, `
		SELECT n.nspname::text, c.relname::text
		FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
			AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'walbridge'
			AND (cardinality($1::text[]) = 0 OR n.nspname = ANY ($1))
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
				WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
		ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`, append([]string{}, schemas...))
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", pg.Safe(err))
	}
	names, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (pg.TableName, error) {
		var n pg.TableName
		return n, row.Scan(&n.Schema, &n.Name)
	})
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", pg.Safe(err))
	}
	return names, nil
}

// fromCatalog makes the proposal. Whatever the compiler refuses of a table is the
// reason to leave it out: its rules stand in one place.
func fromCatalog(cat *pg.Catalog, names []pg.TableName, opts Options) (*Proposal, error) {
	p := &Proposal{Tenant: opts.Tenant}
	var open []*pg.Table
	for _, n := range names {
		t := cat.Table(n)
		if t == nil {
			continue // dropped since the list was read
		}
		if why := private(t); why != "" {
			p.Left = append(p.Left, Left{Table: n, Why: why})
			continue
		}
		open = append(open, t)
	}
	if p.Tenant == "" {
		var err error
		if p.Tenant, err = guessTenant(cat, open); err != nil {
			return nil, err
		}
		p.Guessed = true
	}
	p.Owner = ownerOf(open, p.Tenant)
	w := newWays(open, p.Tenant)
	for _, t := range open {
		p.add(cat, t, w.from(t))
	}
	if len(p.Tables) == 0 {
		return nil, fault.Errorf(fault.Config, "name the column that holds the tenant: walbridge init --tenant COLUMN", "no table that can be mapped reaches a column %q", p.Tenant)
	}
	if err := p.settle(cat); err != nil {
		return nil, err
	}
	slices.SortFunc(p.Left, func(a, b Left) int { return strings.Compare(a.Table.String(), b.Table.String()) })
	return p, nil
}

// add maps t, or notes why not.
func (p *Proposal) add(cat *pg.Catalog, t *pg.Table, paths []string) {
	if t.TableName == p.Owner {
		p.leave(t, "these are the tenants themselves", "")
		return
	}
	if len(paths) == 0 {
		p.leave(t, "no foreign key leads from it to "+p.Tenant, "")
		return
	}
	m := Table{Table: t, Tenant: paths, Target: targetName(t.TableName), Entity: entityName(t.Name)}
	for i := range t.Columns {
		c := &t.Columns[i]
		switch {
		case c.Name == p.Tenant || c.Generated != "":
			// The first is what tenant: fills, the second isn't in the WAL.
		case secret(c.Name) && !slices.Contains(t.PrimaryKey, c.Name):
			m.Secret = append(m.Secret, c.Name)
		default:
			m.Columns = append(m.Columns, column(c))
			if stateful(c) {
				m.States = append(m.States, c.Name)
			}
			if personal(c) {
				m.Personal = append(m.Personal, c.Name)
			}
		}
	}
	alone := Proposal{Tenant: p.Tenant, AuditLog: "walbridge_init", Tables: []Table{m}}
	var problem *mapping.Problem
	if err := alone.compile(cat); errors.As(err, &problem) {
		p.leave(t, problem.What, problem.Fix)
		return
	}
	p.Tables = append(p.Tables, m)
}

func (p *Proposal) leave(t *pg.Table, why, fix string) {
	p.Left = append(p.Left, Left{Table: t.TableName, Why: why, Fix: fix})
}

// column says how to map a column: as it is, or as text where its type is one
// that a target may not know.
func column(c *pg.Column) Column {
	t := base(c)
	element := t
	if t.Element != nil {
		element = t.Element
	}
	if element.Builtin() || element.Kind == "e" || element.Name == "citext" {
		return Column{Name: c.Name}
	}
	return Column{Name: c.Name, AsText: c.Type.Display}
}

// settle gives the audit table a name that is free, and proves the whole.
func (p *Proposal) settle(cat *pg.Catalog) error {
	p.AuditLog = "audit_logs"
	if slices.ContainsFunc(p.Tables, func(t Table) bool { return t.Target == p.AuditLog }) {
		p.AuditLog = "walbridge_audit_logs"
	}
	for {
		err := p.compile(cat)
		if err == nil {
			return nil
		}
		// Tables that are right by themselves may not go together: paths that
		// lead in a circle. The one that is named goes.
		var problem *mapping.Problem
		if !errors.As(err, &problem) || !p.drop(problem) {
			return fmt.Errorf("check the proposal: %w", err)
		}
	}
}

// drop leaves out the table that a problem is about.
func (p *Proposal) drop(problem *mapping.Problem) bool {
	for i, t := range p.Tables {
		if path := "tables." + t.Target; problem.Path == path || strings.HasPrefix(problem.Path, path+".") {
			p.Tables = slices.Delete(p.Tables, i, i+1)
			p.leave(t.Table, problem.What, problem.Fix)
			return len(p.Tables) > 0
		}
	}
	return false
}

// compile checks what the proposal says as a mapping file.
func (p *Proposal) compile(cat *pg.Catalog) error {
	var b strings.Builder
	if err := p.Write(&b); err != nil {
		return err
	}
	file, err := mapping.Parse("proposal", []byte(b.String()))
	if err != nil {
		return err
	}
	_, err = mapping.Compile(file, cat, &pg.Catalog{}, mapping.CompileOptions{})
	return err
}
