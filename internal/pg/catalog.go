package pg

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// TableName is a table's schema and name, as the catalog spells them.
type TableName struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
}

// String returns the name for messages, schema-qualified and unquoted.
func (n TableName) String() string { return n.Schema + "." + n.Name }

// SQL returns the name as SQL takes it.
func (n TableName) SQL() string { return Quote(n.Schema, n.Name) }

// Catalog is what PostgreSQL says about some tables. A table that doesn't exist
// is not in it.
type Catalog struct {
	Tables map[TableName]*Table
}

// Table returns the table of that name, nil when there is none; it may be called
// on a nil Catalog.
func (c *Catalog) Table(n TableName) *Table {
	if c == nil {
		return nil
	}
	return c.Tables[n]
}

// Table describes one relation: a table, and whatever else bears the name of one.
type Table struct {
	TableName
	OID uint32 `json:"oid"`
	// Kind is pg_class.relkind: r table, p partitioned, f foreign, v view, m
	// materialized view. Persistence is relpersistence: p, u unlogged, t temporary.
	Kind        string `json:"kind"`
	Persistence string `json:"persistence"`
	// Partition, Inherits and Children report that it is a partition, that it
	// inherits from a table (as a partition does), that others inherit from it.
	Partition bool `json:"partition"`
	Inherits  bool `json:"inherits"`
	Children  bool `json:"children"`
	// Ancestors are the partitioned tables that a partition is in, however deep.
	Ancestors []TableName `json:"ancestors"`
	// Identity is relreplident; IdentityColumns are those of the index that
	// REPLICA IDENTITY USING INDEX names.
	Identity        string   `json:"identity"`
	IdentityColumns []string `json:"identity_columns"`
	// RowSecurity and ForceRowSecurity: the latter binds the owner too.
	RowSecurity      bool     `json:"row_security"`
	ForceRowSecurity bool     `json:"force_row_security"`
	Columns          []Column `json:"columns"`
	// PrimaryKey are its columns in key order, empty without one.
	PrimaryKey []string `json:"primary_key"`
	// Uniques are the unique indexes on plain columns over all rows, the primary
	// key's among them.
	Uniques []Unique `json:"uniques"`
	// ForeignKeys are those of a single column; a partition's are its parent's, too.
	ForeignKeys []ForeignKey `json:"foreign_keys"`
}

// Column returns the column of that name, nil when there is none.
func (t *Table) Column(name string) *Column {
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &t.Columns[i]
}

// Column is a column of a table. Dropped columns and system columns are left out.
type Column struct {
	Name    string `json:"name"`
	Type    Type   `json:"type"`
	NotNull bool   `json:"not_null"`
	// Generated is attgenerated: empty, s stored or v virtual. Identity is
	// attidentity: empty, a always or d by default.
	Generated string `json:"generated"`
	Identity  string `json:"identity"`
	Default   bool   `json:"default"`
	// Fuzzy reports a nondeterministic collation: texts that differ may be equal.
	Fuzzy bool `json:"fuzzy"`
}

// Type is a type as a column uses it.
type Type struct {
	OID    uint32 `json:"oid"`
	Schema string `json:"schema"`
	Name   string `json:"name"`
	// Mod is the modifier or -1; Display is the type's name with it, as
	// format_type prints it.
	Mod     int32  `json:"mod"`
	Display string `json:"display"`
	// Kind is typtype (b base, d domain, e enum, c composite, r range, m
	// multirange), Category typcategory.
	Kind     string `json:"kind"`
	Category string `json:"category"`
	// Labels are an enum's, in their order.
	Labels []string `json:"labels"`
	// Base is what a domain rests on, through all domains; Element is an
	// array's element type. Else they are nil.
	Base    *Type `json:"base"`
	Element *Type `json:"element"`
}

// SQL returns the type's name as SQL takes it, quoted, qualified and without a
// modifier: a cast to varchar(20) would cut a value silently.
func (t *Type) SQL() string { return Quote(t.Schema, t.Name) }

// Builtin reports that the type is PostgreSQL's own, hence the same everywhere.
func (t *Type) Builtin() bool { return t.Schema == "pg_catalog" }

// Unique is a unique index. Deferrable ones can't settle ON CONFLICT.
type Unique struct {
	Name       string   `json:"name"`
	Columns    []string `json:"columns"`
	Primary    bool     `json:"primary"`
	Deferrable bool     `json:"deferrable"`
}

// ForeignKey says that Column refers to RefColumn of table Ref.
type ForeignKey struct {
	Name      string    `json:"name"`
	Column    string    `json:"column"`
	Ref       TableName `json:"ref"`
	RefColumn string    `json:"ref_column"`
}

// ReadCatalog reads the tables, and those that foreign keys lead to from them,
// however far. It needs no right on any of them: the catalog is open to every
// role. Tables that don't exist are left out.
func ReadCatalog(ctx context.Context, conn *pgx.Conn, tables []TableName) (*Catalog, error) {
	return CollectCatalog(tables, func(schemas, names []string) ([]*Table, error) {
		return readTables(ctx, conn, schemas, names)
	})
}

// CollectCatalog is ReadCatalog where CatalogSQL is run by read.
func CollectCatalog(tables []TableName, read func(schemas, names []string) ([]*Table, error)) (*Catalog, error) {
	c := &Catalog{Tables: map[TableName]*Table{}}
	asked := map[TableName]bool{}
	for next := tables; len(next) > 0; {
		var schemas, names []string
		for _, n := range next {
			if !asked[n] {
				asked[n] = true
				schemas, names = append(schemas, n.Schema), append(names, n.Name)
			}
		}
		if len(names) == 0 {
			break
		}
		found, err := read(schemas, names)
		if err != nil {
			return nil, err
		}
		next = nil
		for _, t := range found {
			c.Tables[t.TableName] = t
			for _, fk := range t.ForeignKeys {
				next = append(next, fk.Ref)
			}
		}
	}
	return c, nil
}

func readTables(ctx context.Context, conn *pgx.Conn, schemas, names []string) ([]*Table, error) {
	rows, err := conn.Query(ctx, CatalogSQL, schemas, names)
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", Safe(err))
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Table, error) {
		var doc string
		if err := row.Scan(&doc); err != nil {
			return nil, err
		}
		t := new(Table)
		return t, json.Unmarshal([]byte(doc), t)
	})
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", Safe(err))
	}
	return found, nil
}
