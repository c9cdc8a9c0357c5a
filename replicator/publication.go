package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
)

// ErrNoPublication says that the source has no publication of that name.
var ErrNoPublication = errors.New("the source has no such publication")

// TableName names a source table.
type TableName = pg.TableName

// Publication is a publication as the catalogs show it.
type Publication struct {
	Name, Owner string
	// AllTables and Schemas are set for FOR ALL TABLES and TABLES IN SCHEMA.
	AllTables bool
	Schemas   []string
	// What is published.
	Insert, Update, Delete, Truncate bool
	// ViaRoot publishes partitions as their root.
	ViaRoot bool
	Tables  []PublishedTable
}

// PublishedTable is a table in a publication, whichever way it came in.
type PublishedTable struct {
	TableName
	// Filter reports a row filter: rows that it hides vanish without a trace.
	Filter bool
	// ColumnList reports that only some columns are published.
	ColumnList bool
	// Partitions of it come under its name, however deep; none unless the
	// publication is ViaRoot.
	Partitions []TableName
}

// ReadPublication reads a publication, or returns ErrNoPublication.
func ReadPublication(ctx context.Context, conn *pgx.Conn, name string) (Publication, error) {
	p := Publication{Name: name}
	err := conn.QueryRow(ctx, `
		SELECT pg_catalog.pg_get_userbyid(pubowner), puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot
		FROM pg_catalog.pg_publication WHERE pubname = $1`, name).
		Scan(&p.Owner, &p.AllTables, &p.Insert, &p.Update, &p.Delete, &p.Truncate, &p.ViaRoot)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, fmt.Errorf("read publication %s: %w", name, ErrNoPublication)
	}
	if err == nil {
		p.Schemas, err = publishedSchemas(ctx, conn, name)
	}
	if err == nil {
		p.Tables, err = publishedTables(ctx, conn, name)
	}
	if err != nil {
		return p, fmt.Errorf("read publication %s: %w", name, pg.Safe(err))
	}
	return p, nil
}

func publishedSchemas(ctx context.Context, conn *pgx.Conn, name string) ([]string, error) {
	// PostgreSQL 14 has no such publications, and no such catalog.
	var exists bool
	err := conn.QueryRow(ctx, "SELECT pg_catalog.to_regclass('pg_catalog.pg_publication_namespace') IS NOT NULL").Scan(&exists)
	if err != nil || !exists {
		return nil, err
	}
	rows, err := conn.Query(ctx, `
		SELECT n.nspname FROM pg_catalog.pg_publication p
		JOIN pg_catalog.pg_publication_namespace pn ON pn.pnpubid = p.oid
		JOIN pg_catalog.pg_namespace n ON n.oid = pn.pnnspid
		WHERE p.pubname = $1 ORDER BY 1`, name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func publishedTables(ctx context.Context, conn *pgx.Conn, name string) ([]PublishedTable, error) {
	// Filters and column lists are columns that PostgreSQL 14 lacks, hence JSON.
	rows, err := conn.Query(ctx, `
		SELECT t.schemaname, t.tablename,
		       coalesce(pg_catalog.to_jsonb(r) ->> 'prqual' IS NOT NULL, false),
		       coalesce(pg_catalog.to_jsonb(r) ->> 'prattrs' IS NOT NULL, false),
		       pg_catalog.to_jsonb(ARRAY(
		         SELECT pg_catalog.jsonb_build_object('schema', pn.nspname, 'name', pc.relname)
		         FROM pg_catalog.pg_partition_tree(CASE WHEN p.pubviaroot AND c.relkind = 'p' THEN c.oid END) tree
		         JOIN pg_catalog.pg_class pc ON pc.oid = tree.relid JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace
		         WHERE tree.relid <> c.oid))
		FROM pg_catalog.pg_publication p
		JOIN pg_catalog.pg_publication_tables t USING (pubname)
		JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
		JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
		LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
		WHERE p.pubname = $1 ORDER BY 1, 2`, name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t PublishedTable, err error) {
		err = row.Scan(&t.Schema, &t.Name, &t.Filter, &t.ColumnList, &t.Partitions)
		return t, err
	})
}

// Prepared is what EnsurePublication found or did.
type Prepared struct {
	// SQL is what was run, or, without leave to create, what is missing.
	SQL []string
	// Missing are the tables that were added, or are to be.
	Missing []TableName
	// Extra are published tables that the mapping doesn't need. They cost time
	// and no more.
	Extra []TableName
}

// EnsurePublication sees that the publication holds every one of tables, whole,
// with all operations. With create it makes the publication or adds tables to
// it; else it returns the SQL that would. What it must not change by itself (a
// filter, a column list, a missing operation) is an error whose hint is the SQL.
//
// Tables without a usable identity are refused before anything is made:
// publishing one makes the application's UPDATE and DELETE fail there.
func EnsurePublication(ctx context.Context, conn *pgx.Conn, name string, tables []TableName, create bool) (Prepared, error) {
	partitioned, err := CheckIdentities(ctx, conn, tables)
	if err != nil {
		return Prepared{}, err
	}
	p, err := ReadPublication(ctx, conn, name)
	exists := !errors.Is(err, ErrNoPublication)
	if err != nil && exists {
		return Prepared{}, err
	}
	if exists {
		if err := errors.Join(p.Problems(tables, partitioned)...); err != nil {
			return Prepared{}, err
		}
	}
	plan := p.Plan(tables, exists, partitioned)
	if !create {
		return plan, nil
	}
	for _, sql := range plan.SQL {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return Prepared{}, cannotPublish(sql, err)
		}
	}
	return plan, nil
}

// Problems returns what would lose changes of tables, each as an error whose hint
// is the SQL that mends it.
func (p Publication) Problems(tables []TableName, partitioned bool) (found []error) {
	refuse := func(sql, format string, args ...any) {
		found = append(found, fault.Wrap(fault.Stop, sql, fmt.Errorf("publication %s "+format, append([]any{p.Name}, args...)...)))
	}
	quoted := pg.Quote(p.Name)
	if !p.Insert || !p.Update || !p.Delete || !p.Truncate {
		refuse("ALTER PUBLICATION "+quoted+" SET (publish = 'insert, update, delete, truncate');",
			"does not publish all of insert, update, delete and truncate")
	}
	if partitioned && !p.ViaRoot {
		refuse("ALTER PUBLICATION "+quoted+" SET (publish_via_partition_root = true);",
			"sends a partitioned table's changes under the names of its partitions")
	}
	for _, t := range p.Tables {
		for _, part := range t.Partitions {
			if slices.Contains(tables, part) {
				mend := "ALTER PUBLICATION " + quoted + " DROP TABLE " + t.SQL() + "; ALTER PUBLICATION " + quoted + " ADD TABLE " + part.SQL() + ";"
				if p.AllTables || len(p.Schemas) > 0 {
					mend = "DROP PUBLICATION " + quoted + "; run makes one of the mapped tables"
				}
				refuse(mend, "sends the changes of %s, which is mapped by itself, under the name of %s", part, t.TableName)
			}
		}
		what := "a row filter"
		switch {
		case !slices.Contains(tables, t.TableName), !t.Filter && !t.ColumnList:
			continue
		case t.Filter && t.ColumnList:
			what = "a row filter and a column list"
		case t.ColumnList:
			what = "a column list"
		}
		refuse("ALTER PUBLICATION "+quoted+" DROP TABLE "+t.SQL()+"; ALTER PUBLICATION "+quoted+" ADD TABLE "+t.SQL()+";",
			"has %s on %s: what it hides would be missing at the target", what, t.TableName)
	}
	return found
}

// Plan compares the publication with the tables that are needed.
func (p Publication) Plan(tables []TableName, exists, partitioned bool) Prepared {
	var plan Prepared
	published := make(map[TableName]bool)
	for _, t := range p.Tables {
		published[t.TableName] = true
		if !slices.Contains(tables, t.TableName) {
			plan.Extra = append(plan.Extra, t.TableName)
		}
	}
	var missing []string
	for _, t := range slices.Compact(slices.SortedFunc(slices.Values(tables), compareNames)) {
		if !published[t] {
			plan.Missing = append(plan.Missing, t)
			missing = append(missing, t.SQL())
		}
	}
	list := strings.Join(missing, ", ")
	switch {
	case !exists:
		plan.SQL = []string{fmt.Sprintf("CREATE PUBLICATION %s FOR TABLE %s WITH (%s);", pg.Quote(p.Name), list, PublishOptions(partitioned))}
	case list != "":
		plan.SQL = []string{fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s;", pg.Quote(p.Name), list)}
	}
	return plan
}

// PublishOptions are the options that a publication must have, as WITH and SET
// take them.
func PublishOptions(partitioned bool) string {
	options := "publish = 'insert, update, delete, truncate'"
	if partitioned {
		options += ", publish_via_partition_root = true"
	}
	return options
}

func compareNames(a, b TableName) int {
	return cmp.Or(strings.Compare(a.Schema, b.Schema), strings.Compare(a.Name, b.Name))
}

// DropPublication removes a publication; one that isn't there is no error.
func DropPublication(ctx context.Context, conn *pgx.Conn, name string) error {
	if _, err := conn.Exec(ctx, "DROP PUBLICATION IF EXISTS "+pg.Quote(name)); err != nil {
		return fmt.Errorf("drop publication %s: %w", name, pg.Safe(err))
	}
	return nil
}
