package replicator

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
)

// IdentityError says which tables can't be published, and what would make them.
type IdentityError struct{ Problems []IdentityProblem }

// IdentityProblem is one table that can't be published.
type IdentityProblem struct {
	Table  TableName
	Reason string
	Fix    string // SQL, or empty
}

func (e *IdentityError) Error() string {
	var list []string
	for _, p := range e.Problems {
		list = append(list, p.Table.String()+" "+p.Reason)
	}
	return "tables can't be published: " + strings.Join(list, "; ")
}

func (e *IdentityError) hint() string {
	var list []string
	for _, p := range e.Problems {
		if p.Fix != "" {
			list = append(list, p.Fix)
		}
	}
	return strings.Join(list, " ")
}

// tableFacts is what decides whether a table, or a partition of it, can be
// published.
type tableFacts struct {
	table       TableName
	member      string // the table itself, or a partition, as SQL takes it
	partition   bool
	exists      bool
	kind        string
	persistence string
	identity    string
	primary     []int16 // columns of the primary key
	immediate   bool    // the primary key is not deferrable
	index       []int16 // columns of the identity index
}

// CheckIdentities returns an *IdentityError unless every table can be published
// without harm to the application. A published table whose updates can't be
// identified makes its UPDATE and DELETE fail:
//
//	identity   is fine when
//	default    there is a primary key that is not deferrable
//	full       there is a primary key, and the table isn't partitioned
//	index      its columns contain those of the primary key
//	nothing    never
//
// All partitions of a table are checked, because they have identities of their
// own. It reports whether any table is partitioned.
func CheckIdentities(ctx context.Context, conn *pgx.Conn, tables []TableName) (partitioned bool, err error) {
	facts, err := readFacts(ctx, conn, tables)
	if err != nil {
		return false, fmt.Errorf("read replica identities: %w", pg.Safe(err))
	}
	var problems []IdentityProblem
	for _, f := range facts {
		partitioned = partitioned || f.kind == "p"
		if reason, fix := f.problem(); reason != "" {
			if f.partition {
				reason = "has the partition " + f.member + ", which " + reason
			}
			problems = append(problems, IdentityProblem{Table: f.table, Reason: reason, Fix: fix})
		}
	}
	if problems == nil {
		return partitioned, nil
	}
	e := &IdentityError{Problems: problems}
	return partitioned, fault.Wrap(fault.Stop, e.hint(), e)
}

func (f tableFacts) problem() (reason, fix string) {
	alter := "ALTER TABLE " + f.member + " "
	switch {
	case !f.exists:
		return "does not exist", ""
	case f.kind != "r" && f.kind != "p":
		return "is not a table", ""
	case f.persistence != "p":
		return "is unlogged or temporary: its changes are not in the WAL", alter + "SET LOGGED;"
	case len(f.primary) == 0:
		return "has no primary key", alter + "ADD PRIMARY KEY (…);"
	case f.kind == "p" && !f.partition && cdc.Identity(f.identity[0]) == cdc.IdentityFull:
		// pgoutput says by the root's identity whether an old row is whole
		// (PostgreSQL source, logicalrep_write_update), and the WAL has what the
		// partition's says.
		return "is partitioned and has REPLICA IDENTITY FULL, which its new partitions have not", alter + "REPLICA IDENTITY DEFAULT;"
	}
	switch cdc.Identity(f.identity[0]) {
	case cdc.IdentityFull:
		return "", ""
	case cdc.IdentityDefault:
		if !f.immediate {
			return "has a deferrable primary key, which identifies no row", alter + "REPLICA IDENTITY FULL;"
		}
		return "", ""
	case cdc.IdentityIndex:
		for _, column := range f.primary {
			if !slices.Contains(f.index, column) {
				return "has an identity index without the primary key", alter + "REPLICA IDENTITY DEFAULT;"
			}
		}
		return "", ""
	}
	return "has REPLICA IDENTITY NOTHING", alter + "REPLICA IDENTITY DEFAULT;"
}

func readFacts(ctx context.Context, conn *pgx.Conn, tables []TableName) ([]tableFacts, error) {
	var schemas, names []string
	for _, t := range tables {
		schemas, names = append(schemas, t.Schema), append(names, t.Name)
	}
	rows, err := conn.Query(ctx, `
		WITH root AS (
		  SELECT w.schema, w.name, c.oid, c.relkind, false AS partition
		  FROM unnest($1::text[], $2::text[]) AS w(schema, name)
		  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
		  LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
		), member AS (
		  SELECT schema, name, oid, partition FROM root
		  UNION ALL
		  SELECT r.schema, r.name, t.relid, true FROM root r, pg_catalog.pg_partition_tree(r.oid) t
		  WHERE r.relkind = 'p' AND t.relid <> r.oid
		)
		SELECT m.schema, m.name, m.partition, c.oid IS NOT NULL,
		       coalesce(pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), ''),
		       coalesce(c.relkind::text, ''), coalesce(c.relpersistence::text, ''), coalesce(c.relreplident::text, 'n'),
		       coalesce(p.columns, '{}'), coalesce(p.immediate, false), coalesce(i.columns, '{}')
		FROM member m
		LEFT JOIN pg_catalog.pg_class c ON c.oid = m.oid
		LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN LATERAL (
		  SELECT (x.indkey::int2[])[0:x.indnkeyatts - 1] AS columns, x.indimmediate AS immediate
		  FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid AND x.indisprimary AND x.indisvalid) p ON true
		LEFT JOIN LATERAL (
		  SELECT (x.indkey::int2[])[0:x.indnkeyatts - 1] AS columns
		  FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid AND x.indisreplident AND x.indisvalid) i ON true
		ORDER BY 1, 2, 5`, schemas, names)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (f tableFacts, err error) {
		err = row.Scan(&f.table.Schema, &f.table.Name, &f.partition, &f.exists, &f.member, &f.kind, &f.persistence, &f.identity,
			&f.primary, &f.immediate, &f.index)
		return f, err
	})
}
