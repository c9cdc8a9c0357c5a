package mapping

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// The statements here run at the source, in sessions with pinned settings and
// search_path = pg_catalog. Results are to be read in text form, so that a value
// is the same text as in the stream. FROM ONLY, because a row of a child table
// is not one of the table's, unless it is a partition.

// PieceSQL returns the statement that reads the next rows behind the key after,
// in key order: the source's inputs, then the first value of each observed
// column, in the order of the target's columns. after is nil at the start;
// without a limit (0) it reads the rest. The parameters are texts.
func (s *Source) PieceSQL(after []string, limit int) (sql string, args []string) {
	var p params
	var b strings.Builder
	b.WriteString("SELECT " + strings.Join(s.pieceColumns(), ", ") + s.from())
	if after != nil {
		b.WriteString(" WHERE " + s.beyond(&p, ">", after))
	}
	b.WriteString(" ORDER BY " + s.orderBy())
	if limit > 0 {
		fmt.Fprintf(&b, " LIMIT %d", limit)
	}
	return b.String(), p
}

// KeysSQL returns the statement that reads the rows with the given keys, with
// the columns of PieceSQL and in key order. Keys that don't exist yield nothing.
func (s *Source) KeysSQL(keys [][]string) (sql string, args []string) {
	var p params
	return "SELECT " + strings.Join(s.pieceColumns(), ", ") + s.from() + s.among(&p, keys) + " ORDER BY " + s.orderBy(), p
}

// ExistSQL returns the statement that reads which of the given keys there are:
// the key's columns, in the place of the first inputs. Without keys (nil) it reads
// all that there are, in no order.
func (s *Source) ExistSQL(keys [][]string) (sql string, args []string) {
	var p params
	sql = "SELECT " + strings.Join(s.pieceColumns()[:len(s.Key)], ", ") + s.from()
	if keys != nil {
		sql += s.among(&p, keys)
	}
	return sql, p
}

// PieceSQL is Source.PieceSQL for the rows of one tenant.
func (v *View) PieceSQL(after []string, limit int, tenant string) (sql string, args []string) {
	var p params
	where := v.tenantIs(&p, tenant)
	if after != nil {
		where += " AND " + v.s.beyond(&p, ">", after)
	}
	return fmt.Sprintf("SELECT %s%s%s WHERE %s ORDER BY %s LIMIT %d",
		strings.Join(v.s.pieceColumns(), ", "), v.s.from(), v.joins, where, v.s.orderBy(), limit), p
}

// PathsFrom calls each with the first step of every path of a row that PieceSQL has
// read: the node, and the key there.
func (s *Source) PathsFrom(row cdc.Row, each func(*sink.Node, cdc.Value)) {
	if s.Node != nil {
		for i, next := range s.Node.Next {
			each(next, row[s.NodeInputs[i]])
		}
	}
	if s.Target == nil {
		return
	}
	for _, d := range s.Target.Table.Derived {
		for _, l := range d.From {
			if own := s.Target.Columns[l.Column].Own; len(l.Steps) > 0 && len(own) > 0 {
				each(l.Steps[0].Node, row[own[0]])
			}
		}
	}
}

// SourceOf is the source whose path values a node keeps.
func (m *Mapping) SourceOf(node *sink.Node) *Source {
	return m.Sources[slices.IndexFunc(m.Sources, func(s *Source) bool { return s.Node == node })]
}

// TargetKey is the target key of the row with a source key, given by its parts.
func (s *Source) TargetKey(parts []string) (sink.Key, error) {
	in := make(cdc.Row, len(s.Inputs))
	for i, part := range parts {
		in[i] = cdc.TextValue(part)
	}
	return s.Target.targetKey(in)
}

// KeysTell reports whether target keys tell source keys: whether all columns of the
// source's key are in the target's as they are.
func (s *Source) KeysTell() bool {
	for i := range s.Key {
		if !slices.Contains(s.Target.Table.Key, s.Inputs[i].Carrier) {
			return false
		}
	}
	return true
}

// SourceKey is the source key that a target key stands for. It is false when that
// can't be told, because the target's key is made of the source's by a conversion.
func (s *Source) SourceKey(key sink.Key) (parts []string, ok bool) {
	of := s.Target.Table.Key
	texts, err := key.Split(len(of))
	if err != nil {
		return nil, false
	}
	parts = make([]string, len(s.Key))
	for i := range parts {
		at := slices.Index(of, s.Inputs[i].Carrier)
		if at < 0 {
			return nil, false
		}
		parts[i] = texts[at]
	}
	return parts, true
}

func (s *Source) from() string {
	return " FROM " + s.relation() + " AS s"
}

// relation is the table as FROM takes it.
func (s *Source) relation() string {
	if s.Partitioned {
		return pg.Quote(s.Schema, s.Name)
	}
	return "ONLY " + pg.Quote(s.Schema, s.Name)
}

func (s *Source) pieceColumns() []string {
	var list []string
	for _, in := range s.Inputs {
		list = append(list, "s."+pg.Quote(in.Name))
	}
	if s.Target == nil {
		return list
	}
	for i := range s.Target.Columns {
		o := s.Target.Columns[i].Observed
		switch {
		case o == nil:
		case o.Initial == "":
			list = append(list, "NULL")
		default:
			list = append(list, o.Initial)
		}
	}
	return list
}

// textOf is a column's value as its text, null if it is null.
func textOf(alias string, col *pg.Column) string {
	name := alias + "." + pg.Quote(col.Name)
	if isBuiltin(&col.Type, "text", "varchar", "int2", "int4", "int8", "uuid") || col.Type.Kind == "e" {
		return name + "::pg_catalog.text"
	}
	return "CASE WHEN " + name + " IS NOT NULL THEN pg_catalog.concat(" + name + ") END"
}

// View evaluates the mapping of one table as a single SELECT over the source,
// with a join for each relation that a path passes. It knows nothing of what the
// stream has said, so it can tell whether that was right.
type View struct {
	s       *Source
	columns []string // SQL of the outputs: the key, then what Row needs
	joins   string
	joined  int // relations, aliased j1 …
	tenant  string
	integer bool        // the tenant is one
	values  []viewValue // for each target column
}

// viewValue says which outputs make a target column.
type viewValue struct {
	from []int // outputs; the value is the first that is not null
	col  *Column
}

// ViewRange narrows a View down. The zero value is the whole table, in no order.
type ViewRange struct {
	// After and Upto, unless nil, bound the key; rows then come in key order, as
	// they do with a Limit.
	After, Upto []string
	Limit       int
	// Keys, unless nil, are the only keys that are read.
	Keys [][]string
	// Tenant, unless nil, is the only tenant whose rows are read.
	Tenant *string
	// Versions adds an output at the end: the versions of all rows that one is
	// made of. Where it is the same in two snapshots, none of them has changed
	// in between, not even there and back.
	Versions bool
}

// View returns the view of s, nil when no target table comes from it.
func (m *Mapping) View(s *Source) *View {
	if s.Target == nil {
		return nil
	}
	v := &View{s: s}
	b := viewBuilder{View: v, m: m, outputs: map[string]int{}, aliases: map[string]string{}}
	for _, k := range s.Key {
		b.output("s." + pg.Quote(k.Name))
	}
	derived := map[int][]sink.Lookup{}
	for _, d := range s.Target.Table.Derived {
		derived[d.Column] = d.From
	}
	for i := range s.Target.Columns {
		col := &s.Target.Columns[i]
		value := viewValue{col: col}
		var ends []end
		for _, in := range col.Own {
			ends = append(ends, end{"s." + pg.Quote(s.Inputs[in].Name), s.Inputs[in].Type})
		}
		for _, l := range derived[i] {
			ends = append(ends, b.lookup(l))
		}
		for _, e := range ends {
			value.from = append(value.from, b.output(e.sql))
		}
		if i == s.Target.Table.Tenant {
			v.tenantOf(ends)
		}
		v.values = append(v.values, value)
	}
	v.joins, v.joined = b.joins.String(), len(b.aliases)
	return v
}

// tenantOf is the tenant as SQL. Integers stay what they are, so that an index
// on a tenant of the row's own serves; all else is compared as text.
func (v *View) tenantOf(ends []end) {
	v.integer = !slices.ContainsFunc(ends, func(e end) bool { return !isIntegerOID(e.typ) })
	var list []string
	for _, e := range ends {
		if v.integer {
			list = append(list, e.sql)
		} else {
			list = append(list, "CASE WHEN "+e.sql+" IS NOT NULL THEN pg_catalog.concat("+e.sql+") END")
		}
	}
	if v.tenant = list[0]; len(list) > 1 {
		v.tenant = "COALESCE(" + strings.Join(list, ", ") + ")"
	}
}

// end is where a value comes from: an expression, and the OID of its type.
type end struct {
	sql string
	typ uint32
}

type viewBuilder struct {
	*View
	m       *Mapping
	outputs map[string]int
	aliases map[string]string // by the joined relation
	joins   strings.Builder
}

// output returns the position of an expression among the outputs.
func (b *viewBuilder) output(sql string) int {
	i, ok := b.outputs[sql]
	if !ok {
		i = len(b.columns)
		b.outputs[sql] = i
		b.columns = append(b.columns, sql)
	}
	return i
}

// lookup joins what a lookup passes and returns the expression of its end.
func (b *viewBuilder) lookup(l sink.Lookup) end {
	own := &b.s.Inputs[b.s.Target.Columns[l.Column].Own[0]]
	value, typ := "s."+pg.Quote(own.Name), own.Type
	for _, step := range l.Steps {
		to := b.m.SourceOf(step.Node)
		relation := value + " > " + to.FullName()
		alias, ok := b.aliases[relation]
		if !ok {
			alias = "j" + strconv.Itoa(len(b.aliases)+1)
			b.aliases[relation] = alias
			fmt.Fprintf(&b.joins, " LEFT JOIN %s AS %s ON %s.%s = %s",
				to.relation(), alias, alias, pg.Quote(to.Key[0].Name), value)
		}
		value = alias + "." + pg.Quote(step.Node.Columns[step.Column])
		typ = to.Inputs[to.NodeInputs[step.Column]].Type
	}
	return end{value, typ}
}

// SQL returns the statement that reads a range of the view, and its parameters,
// which are texts.
func (v *View) SQL(r ViewRange) (sql string, args []string) {
	list := strings.Join(v.columns, ", ")
	if r.Versions {
		list += ", " + v.versions()
	}
	return v.selectRange(list, r, r.After != nil || r.Upto != nil || r.Limit > 0)
}

// selectRange reads a range of the view, in key order or in none.
func (v *View) selectRange(list string, r ViewRange, ordered bool) (sql string, args []string) {
	var p params
	var b strings.Builder
	b.WriteString("SELECT " + list + v.s.from())
	if r.Keys != nil {
		b.WriteString(v.s.among(&p, r.Keys))
	}
	b.WriteString(v.joins)
	var where []string
	if r.After != nil {
		where = append(where, v.s.beyond(&p, ">", r.After))
	}
	if r.Upto != nil {
		where = append(where, v.s.beyond(&p, "<=", r.Upto))
	}
	if r.Tenant != nil {
		where = append(where, v.tenantIs(&p, *r.Tenant))
	}
	if len(where) > 0 {
		b.WriteString(" WHERE " + strings.Join(where, " AND "))
	}
	if ordered {
		b.WriteString(" ORDER BY " + v.s.orderBy())
	}
	if r.Limit > 0 {
		fmt.Fprintf(&b, " LIMIT %d", r.Limit)
	}
	return b.String(), p
}

// versions are the transactions that have written the row and those it is joined
// with. VACUUM leaves them alone (PostgreSQL documentation, routine-vacuuming).
func (v *View) versions() string {
	list := []string{"s.xmin"}
	for i := range v.joined {
		list = append(list, "j"+strconv.Itoa(i+1)+".xmin")
	}
	return "pg_catalog.concat_ws(' ', " + strings.Join(list, ", ") + ")"
}

func (v *View) tenantIs(p *params, tenant string) string {
	if !v.integer {
		return v.tenant + " = " + p.add(tenant, "pg_catalog.text")
	}
	if _, err := strconv.ParseInt(tenant, 10, 64); err != nil {
		return "false" // no row has it, and the server would refuse to compare
	}
	return v.tenant + " = " + p.add(tenant, "pg_catalog.int8")
}

// Key returns the source key of a row that SQL has read.
func (v *View) Key(values []cdc.Value) []string {
	key := make([]string, len(v.s.Key))
	for i := range key {
		key[i] = values[i].Text
	}
	return key
}

// Row makes the target row of a row that SQL has read, in the order of the
// target's columns. Observed columns are null: only the stream knows them.
func (v *View) Row(values []cdc.Value) (cdc.Row, error) {
	if len(values) != len(v.columns) {
		return nil, fmt.Errorf("view of %s: got %d values, want %d", v.s.FullName(), len(values), len(v.columns))
	}
	row := make(cdc.Row, len(v.values))
	for i, value := range v.values {
		switch {
		case value.col.Const != nil:
			row[i] = *value.col.Const
		case value.col.Convert != nil:
			in := make([]cdc.Value, len(value.from))
			for j, f := range value.from {
				in[j] = values[f]
			}
			out, err := value.col.Convert(in)
			if err != nil {
				return nil, fmt.Errorf("column %s of %s: %w", v.s.Target.Table.Columns[i].Name, v.s.Target.Table.FullName(), err)
			}
			row[i] = out
		default:
			for _, f := range value.from {
				if !values[f].IsNull() {
					row[i] = values[f]
					break
				}
			}
		}
	}
	return row, nil
}
