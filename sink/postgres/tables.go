package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// relName names a table of the target.
type relName struct{ schema, name string }

func (n relName) String() string { return n.schema + "." + n.name }
func (n relName) sql() string    { return pg.Quote(n.schema, n.name) }

// wantedTable is a table as the mapping and the audit log together need it.
type wantedTable struct {
	name    relName
	columns []wantedColumn
	key     []string
	indexes [][]string
	parent  bool
	// chained is the audit table's, where entries are looked up by their numbers.
	chained *sink.EntryTable
	// source is the table that is copied into it, empty where entries go, too.
	source string
}

type wantedColumn struct {
	name, typ string
	notNull   bool
	// observed columns are the bridge's own invention.
	observed bool
	// accept are further types of an existing column that will do.
	accept []string
}

const (
	typeUUID      = `"pg_catalog"."uuid"`
	typeInt8      = `"pg_catalog"."int8"`
	typeText      = `"pg_catalog"."text"`
	typeVarchar   = `"pg_catalog"."varchar"`
	typeJSONB     = `"pg_catalog"."jsonb"`
	typeTime      = `"pg_catalog"."timestamptz"`
	typeLocalTime = `"pg_catalog"."timestamp"`
	typeJSON      = `"pg_catalog"."json"`
	// anyType accepts whatever there is: values are cast to it.
	anyType = "*"
)

// wantedTables lists the tables of the schema. The audit table may be one that
// the mapping writes, too; then it is made once, with the columns of both.
func wantedTables(schema *sink.Schema) []*wantedTable {
	var all []*wantedTable
	byName := make(map[relName]*wantedTable)
	for _, t := range schema.Tables {
		w := &wantedTable{name: relName{t.Schema, t.Name}, parent: t.Parent, source: t.Source}
		for _, c := range t.Columns {
			w.columns = append(w.columns, wantedColumn{name: c.Name, typ: c.Type, notNull: c.NotNull, observed: c.Observed})
		}
		for _, k := range t.Key {
			w.key = append(w.key, t.Columns[k].Name)
		}
		for _, index := range t.Indexes {
			var names []string
			for _, i := range index {
				names = append(names, t.Columns[i].Name)
			}
			w.indexes = append(w.indexes, names)
		}
		all = append(all, w)
		byName[w.name] = w
	}
	e := schema.Entries
	if e == nil {
		return all
	}
	w := byName[relName{e.Schema, e.Name}]
	if w == nil {
		w = &wantedTable{name: relName{e.Schema, e.Name}, key: []string{e.ID}}
		all = append(all, w)
	}
	w.source = ""
	w.share(entryColumns(schema))
	if e.Chained {
		w.chained = e
	}
	return all
}

// share adds the columns of entries. Both kinds of rows have to fit: what only
// the mapping fills may be null, because entries leave it out, and what entries
// need must have a value.
func (w *wantedTable) share(entry []wantedColumn) {
	for i := range w.columns {
		c := &w.columns[i]
		j := slices.IndexFunc(entry, func(e wantedColumn) bool { return e.name == c.name })
		c.notNull = j >= 0 && (c.notNull || entry[j].notNull) || slices.Contains(w.key, c.name)
	}
	for _, e := range entry {
		if !slices.ContainsFunc(w.columns, func(have wantedColumn) bool { return have.name == e.name }) {
			w.columns = append(w.columns, e)
		}
	}
}

// entryColumns are the audit table's, in the order in which entries are written.
func entryColumns(schema *sink.Schema) []wantedColumn {
	e := schema.Entries
	tenant := typeInt8
	for i, t := range schema.Tables {
		switch typ := t.Columns[t.Tenant].Type; {
		case i == 0:
			tenant = typ
		case typ != tenant:
			tenant = typeInt8
		}
	}
	return []wantedColumn{
		{name: e.ID, typ: typeUUID, notNull: true, accept: []string{typeText, typeVarchar}},
		{name: e.Tenant, typ: tenant, notNull: true, accept: []string{anyType}},
		{name: e.User, typ: typeInt8, accept: []string{anyType}},
		{name: e.Action, typ: typeText, notNull: true, accept: []string{typeVarchar}},
		{name: e.Details, typ: typeJSONB, accept: []string{typeJSON, typeText}},
		{name: e.Time, typ: typeTime, accept: []string{typeLocalTime}},
	}
}

// entriesTable is the audit table as row sets are written to it, with the types
// that its columns have.
func entriesTable(schema *sink.Schema, have map[relName]*foundTable) *sink.Table {
	e := schema.Entries
	if e == nil {
		return nil
	}
	t := &sink.Table{Schema: e.Schema, Name: e.Name, Tenant: 1, Key: []int{0}}
	found := have[relName{e.Schema, e.Name}]
	for _, c := range entryColumns(schema) {
		typ := c.typ
		if found != nil {
			if f, ok := found.columns[c.name]; ok {
				typ = f.typ
			} else if w := mapped(schema, e, c.name); w != "" {
				typ = w
			}
		}
		t.Columns = append(t.Columns, sink.Column{Name: c.name, Type: typ})
	}
	return t
}

// mapped is the type that the mapping gives a column of the audit table, if it
// maps that table, too.
func mapped(schema *sink.Schema, e *sink.EntryTable, column string) string {
	for _, t := range schema.Tables {
		if t.Schema == e.Schema && t.Name == e.Name {
			for _, c := range t.Columns {
				if c.Name == column {
					return c.Type
				}
			}
		}
	}
	return ""
}

// parentFill leaves room on the pages of a parent table. A batch writes many rows
// of a page at once; where their new versions find room beside the old ones, no
// index is touched (PostgreSQL documentation, storage-hot).
const parentFill = " WITH (fillfactor = 50)"

// create makes the table with row security on and without a policy: nobody but
// its owner reads it until somebody decides who may.
func (w *wantedTable) create(revokeFrom string) []string {
	lines := make([]string, 0, len(w.columns)+1)
	for _, c := range w.columns {
		line := pg.Quote(c.name) + " " + c.typ
		if c.notNull {
			line += " NOT NULL"
		}
		lines = append(lines, line)
	}
	lines = append(lines, "PRIMARY KEY ("+quoteAll(w.key)+")")
	fill := ""
	if w.parent {
		fill = parentFill
	}
	return []string{
		fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (\n\t%s\n)%s", w.name.sql(), strings.Join(lines, ",\n\t"), fill),
		"ALTER TABLE " + w.name.sql() + " ENABLE ROW LEVEL SECURITY",
		"REVOKE ALL ON TABLE " + w.name.sql() + " FROM " + revokeFrom,
	}
}

func quoteAll(names []string) string {
	return list(len(names), ", ", func(i int) string { return pg.Quote(names[i]) })
}

// missingColumns are observed columns that an existing table lacks. Nobody but the
// bridge can have known that they would be wanted; adding one that may be null
// rewrites nothing.
func (w *wantedTable) missingColumns(found *foundTable) (missing []string) {
	for _, c := range w.columns {
		if _, ok := found.columns[c.name]; !ok && c.observed {
			missing = append(missing, fmt.Sprintf("ALTER TABLE %s ADD COLUMN IF NOT EXISTS %s %s", w.name.sql(), pg.Quote(c.name), c.typ))
		}
	}
	return missing
}

// missingIndexes are indexes whose columns no index of the table begins with.
func (w *wantedTable) missingIndexes(found *foundTable) []string {
	var missing []string
	for _, columns := range w.indexes {
		covered := slices.Equal(columns, w.key[:min(len(columns), len(w.key))])
		if found != nil {
			covered = slices.ContainsFunc(found.indexes, func(x foundIndex) bool {
				return x.ordered && len(x.columns) >= len(columns) && slices.Equal(x.columns[:len(columns)], columns)
			})
		}
		if !covered {
			missing = append(missing, fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s ON %s (%s)",
				pg.Quote(indexName(w.name, columns)), w.name.sql(), quoteAll(columns)))
		}
	}
	if w.chained == nil {
		return missing
	}
	if name := indexName(w.name, []string{"n"}); found == nil || !found.partial[name] {
		missing = append(missing, fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s ON %s ((%s)) WHERE %s::jsonb ->> 'by' = 'walbridge'",
			pg.Quote(name), w.name.sql(), entryNumber("", w.chained), pg.Quote(w.chained.Details)))
	}
	return missing
}

// indexName is readable where it fits into the 63 bytes of an identifier.
func indexName(table relName, columns []string) string {
	name := "walbridge_" + table.name + "_" + strings.Join(columns, "_")
	if len(name) <= 63 {
		return name
	}
	return "walbridge_" + digest(append([]string{table.schema, table.name}, columns...)...)
}

// problems says what of an existing table can't take the mapping's rows.
func (w *wantedTable) problems(t *foundTable) []error {
	if t.kind != "r" && t.kind != "p" {
		return []error{&sink.SchemaError{Table: w.name.String(), Reason: "it is not a table"}}
	}
	var all []error
	add := func(column, reason, fix string, args ...any) {
		all = append(all, &sink.SchemaError{Table: w.name.String(), Column: column, Reason: reason, Fix: fmt.Sprintf(fix, args...)})
	}
	for _, c := range w.columns {
		f, ok := t.columns[c.name]
		alter := "ALTER TABLE " + w.name.sql()
		switch {
		case t.wanted[c.typ] == "":
			add(c.name, "there is no type "+c.typ, "create it, or map the column to another type")
		case !ok && c.observed: // missingColumns
		case !ok:
			add(c.name, "it is missing", "%s ADD COLUMN %s %s;", alter, pg.Quote(c.name), t.wanted[c.typ])
		case f.generated:
			add(c.name, "it is generated and can't be written", "%s ALTER COLUMN %s DROP EXPRESSION;", alter, pg.Quote(c.name))
		case f.typ != c.typ && f.oid != t.oids[c.typ] && !slices.Contains(c.accept, f.typ) && !slices.Contains(c.accept, anyType):
			add(c.name, fmt.Sprintf("its type is %s, the mapping writes %s", f.shown, t.wanted[c.typ]),
				"%s ALTER COLUMN %s TYPE %s USING %[2]s::text::%[3]s;", alter, pg.Quote(c.name), t.wanted[c.typ])
		}
	}
	unique := slices.ContainsFunc(t.indexes, func(x foundIndex) bool {
		return x.unique && sameSet(x.columns, w.key)
	})
	if !unique {
		add("", "it has no primary key ("+quoteAll(w.key)+")", "ALTER TABLE %s ADD PRIMARY KEY (%s);", w.name.sql(), quoteAll(w.key))
	}
	return all
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// foundTable is a table as it is; kind is empty when there is none of that name
// in an existing schema.
type foundTable struct {
	kind string
	// owned: the bridge's role may do what its owner may.
	owned   bool
	columns map[string]foundColumn
	indexes []foundIndex
	// partial are the names of indexes with a condition.
	partial map[string]bool
	// wanted are the types of the mapping as PostgreSQL shows them, and oids
	// their OIDs; a type that doesn't exist is in neither.
	wanted, oids map[string]string
}

type foundColumn struct {
	// typ is the type in the form of sink.Column.Type, shown as PostgreSQL prints
	// it, with its modifier.
	typ, oid, shown string
	generated       bool
}

// foundIndex is a valid index without a condition. Its columns are those that it
// is ordered by; an expression ends them.
type foundIndex struct {
	columns []string
	// unique can be the target of ON CONFLICT; ordered is a btree.
	unique, ordered bool
}

const inspectColumns = `SELECT q.s, q.n, coalesce(c.relkind, '')::text, a.attname::text, tn.nspname::text, ty.typname::text, a.atttypid::text,
		pg_catalog.format_type(a.atttypid, a.atttypmod), a.attgenerated <> '', pg_catalog.pg_has_role(c.relowner, 'USAGE')
	FROM unnest($1::text[], $2::text[]) AS q(s, n)
	JOIN pg_catalog.pg_namespace AS sn ON sn.nspname = q.s
	LEFT JOIN pg_catalog.pg_class AS c ON c.relnamespace = sn.oid AND c.relname = q.n
	LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	LEFT JOIN pg_catalog.pg_type AS ty ON ty.oid = a.atttypid
	LEFT JOIN pg_catalog.pg_namespace AS tn ON tn.oid = ty.typnamespace`

const inspectIndexes = `SELECT q.s, q.n,
		ARRAY(SELECT coalesce(a.attname::text, '') FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k(attnum, o)
			LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = x.indrelid AND a.attnum = k.attnum AND k.attnum > 0
			WHERE k.o <= x.indnkeyatts ORDER BY k.o),
		x.indisunique AND x.indimmediate, am.amname = 'btree', xc.relname, x.indpred IS NOT NULL
	FROM unnest($1::text[], $2::text[]) AS q(s, n)
	JOIN pg_catalog.pg_namespace AS sn ON sn.nspname = q.s
	JOIN pg_catalog.pg_class AS c ON c.relnamespace = sn.oid AND c.relname = q.n
	JOIN pg_catalog.pg_index AS x ON x.indrelid = c.oid AND x.indisvalid
	JOIN pg_catalog.pg_class AS xc ON xc.oid = x.indexrelid
	JOIN pg_catalog.pg_am AS am ON am.oid = xc.relam`

const inspectTypes = `SELECT q.t, pg_catalog.to_regtype(q.t)::oid::text, pg_catalog.format_type(pg_catalog.to_regtype(q.t), NULL)
	FROM unnest($1::text[]) AS q(t) WHERE pg_catalog.to_regtype(q.t) IS NOT NULL`

// inspectTables looks at the tables that the schema names. Those whose schema
// doesn't exist are not in the map.
func (s *Sink) inspectTables(ctx context.Context, schema *sink.Schema) (map[relName]*foundTable, error) {
	var schemas, names, types []string
	for _, w := range wantedTables(schema) {
		schemas, names = append(schemas, w.name.schema), append(names, w.name.name)
		for _, c := range w.columns {
			types = append(types, c.typ)
		}
	}
	slices.Sort(types)
	shown, oids := make(map[string]string), make(map[string]string)
	found, err := s.rows(ctx, inspectTypes, textArray(slices.Compact(types)))
	if err != nil {
		return nil, fmt.Errorf("inspect types: %w", err)
	}
	for _, r := range found {
		oids[r[0].Text], shown[r[0].Text] = r[1].Text, r[2].Text
	}

	tables := make(map[relName]*foundTable)
	if found, err = s.rows(ctx, inspectColumns, textArray(schemas), textArray(names)); err != nil {
		return nil, fmt.Errorf("inspect columns: %w", err)
	}
	for _, r := range found {
		name := relName{r[0].Text, r[1].Text}
		t := tables[name]
		if t == nil {
			t = &foundTable{kind: r[2].Text, owned: r[9].Text == "t", columns: make(map[string]foundColumn), partial: make(map[string]bool), wanted: shown, oids: oids}
			tables[name] = t
		}
		if !r[3].IsNull() {
			t.columns[r[3].Text] = foundColumn{
				typ: pg.Quote(r[4].Text, r[5].Text), oid: r[6].Text, shown: r[7].Text, generated: r[8].Text == "t",
			}
		}
	}

	if found, err = s.rows(ctx, inspectIndexes, textArray(schemas), textArray(names)); err != nil {
		return nil, fmt.Errorf("inspect indexes: %w", err)
	}
	for _, r := range found {
		t := tables[relName{r[0].Text, r[1].Text}]
		if r[6].Text == "t" {
			t.partial[r[5].Text] = true
			continue
		}
		columns, err := parseArray([]byte(r[2].Text))
		if err != nil {
			return nil, fmt.Errorf("inspect indexes: %w", err)
		}
		x := foundIndex{unique: r[3].Text == "t", ordered: r[4].Text == "t"}
		for _, c := range columns {
			if c.Text == "" { // an expression
				x.unique = false
				break
			}
			x.columns = append(x.columns, c.Text)
		}
		t.indexes = append(t.indexes, x)
	}
	return tables, nil
}
