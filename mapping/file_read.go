package mapping

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/walbridge/walbridge/internal/pg"
)

// maxFile is far above any mapping: a table takes about a kilobyte. The parser's
// time grows faster than its input.
const maxFile = 1 << 20

// Parse reads the sections tables, audit_log and dashboard of a mapping file, strictly: an
// unknown key, a repeated one or a value of the wrong kind is an error with its
// line, and all of them are reported at once. The file's other sections are
// settings, which package config reads and checks.
func Parse(name string, data []byte) (*File, error) {
	r := &reader{problems: problems{file: name}}
	f := &File{Name: name}
	switch {
	case len(data) > maxFile:
		r.add(pos{line: 1}, "name the right file", "the file has %d bytes, which no mapping needs", len(data))
	case !utf8.Valid(data):
		r.add(pos{line: 1}, "save it as UTF-8", "the file is not valid UTF-8")
	default:
		if doc, ok := r.parseYAML(data); ok {
			r.sections(f, doc)
		}
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return f, nil
}

func (r *reader) sections(f *File, doc ast.Node) {
	list, ok := r.entries(pos{line: 1}, doc, "sections, one of them tables")
	if !ok {
		return
	}
	found := false
	for _, e := range list {
		switch e.key {
		case "tables":
			found = true
			f.tables = r.tables(e)
		case "audit_log":
			f.auditLog = r.auditLog(e)
		case "dashboard":
			f.dashboard = r.dashboard(e)
		}
	}
	if !found {
		r.add(pos{line: 1}, "add tables: with an entry for each target table", "the file has no section tables")
	}
}

func (r *reader) auditLog(e entry) *auditLog {
	a := &auditLog{at: e.at, columns: map[string]nameAt{}}
	for _, c := range auditColumns {
		a.columns[c.role] = nameAt{at: e.at, name: c.name}
	}
	given := false
	r.fields(e.at, e.value, "the table that entries go to, like {table: audit_logs}", map[string]func(pos, ast.Node){
		"table": func(at pos, n ast.Node) {
			given = true
			a.table, _ = r.table(at, n)
		},
		"columns": func(at pos, n ast.Node) {
			roles := map[string]func(pos, ast.Node){}
			for _, c := range auditColumns {
				roles[c.role] = func(at pos, n ast.Node) {
					if v, ok := r.name(at, n, "a column's name"); ok {
						a.columns[c.role] = v
					}
				}
			}
			r.fields(at, n, "columns, like {tenant: organization_id}", roles)
		},
	})
	if !given {
		r.add(e.at, "add table: audit_logs", "no table is named")
	}
	used := map[string]string{}
	for _, c := range auditColumns {
		col := a.columns[c.role]
		if other, twice := used[col.name]; twice {
			r.add(col.at, "give each a column of its own", "column %q would hold both %s and %s", col.name, other, c.role)
		}
		used[col.name] = c.role
	}
	return a
}

func (r *reader) table(at pos, n ast.Node) (pg.TableName, bool) {
	s, ok := r.text(at, n, "a table's name, like conversations_contact or sales.orders")
	if !ok {
		return pg.TableName{}, false
	}
	return r.tableName(at, s)
}

func (r *reader) tableName(at pos, s string) (pg.TableName, bool) {
	t, err := parseTable(s)
	if err != nil {
		r.add(at, "write table or schema.table; a name with a dot goes in double quotes", "%s", err)
	}
	return t, err == nil
}

func (r *reader) tables(e entry) []*table {
	list, ok := r.entries(e.at, e.value, "target tables, each with from, tenant and columns")
	if ok && len(list) == 0 {
		r.add(e.at, "add an entry for each target table", "no table is mapped")
	}
	var tables []*table
	seen := map[pg.TableName]int{}
	for _, e := range list {
		t := &table{at: e.at, tenantColumn: "provedor_id"}
		t.target, ok = r.tableName(e.at, e.key)
		if line, twice := seen[t.target]; ok && twice {
			r.add(e.at, "keep one of them", "table %s is mapped twice, first on line %d", t.target, line)
		}
		if t.target.Schema == "walbridge" {
			r.add(e.at, "use another schema", "schema walbridge belongs to the bridge")
		}
		seen[t.target] = e.at.line
		r.tableFields(t, e.value)
		tables = append(tables, t)
	}
	return tables
}

func (r *reader) tableFields(t *table, n ast.Node) {
	t.onDelete, t.withoutTenant = Delete, Hold
	t.audit.at = t.at
	ok := r.fields(t.at, n, "keys like from, tenant and columns", map[string]func(pos, ast.Node){
		"from": func(at pos, n ast.Node) {
			t.sourceAt = at
			t.source, _ = r.table(at, n)
		},
		"tenant": func(at pos, n ast.Node) {
			t.tenantAt = at
			t.tenant = r.pathList(at, n)
		},
		"tenant_column": func(at pos, n ast.Node) {
			if v, ok := r.name(at, n, "the tenant column's name"); ok {
				t.tenantColumn = v.name
			}
		},
		"tenant_type": func(at pos, n ast.Node) { t.tenantType = r.typeName(at, n) },
		"key":         func(at pos, n ast.Node) { t.key = r.names(at, n, "columns of this table, like [id]") },
		"columns":     func(at pos, n ast.Node) { t.columns = r.columns(at, n) },
		"paths":       func(at pos, n ast.Node) { t.paths = r.relations(at, n) },
		"on_delete": func(at pos, n ast.Node) {
			if r.choice(at, n, "delete", "keep") == "keep" {
				t.onDelete = Keep
			}
		},
		"without_tenant": func(at pos, n ast.Node) {
			if r.choice(at, n, "hold", "drop") == "drop" {
				t.withoutTenant = Drop
			}
		},
		"realtime": func(at pos, n ast.Node) { t.realtime = r.boolean(at, n) },
		"indexes": func(at pos, n ast.Node) {
			const want = "a list of indexes, each a list of columns, like [[status], [created_at]]"
			for i, e := range r.elements(at, n, false, want) {
				t.indexes = append(t.indexes, r.names(at.item(i, e), e, want))
			}
		},
		"audit": func(at pos, n ast.Node) { t.audit = r.audit(at, n) },
	})
	if !ok {
		return
	}
	if t.sourceAt == (pos{}) {
		r.add(t.at, "add from: with the source table's name", "the source table is missing")
	}
	if t.tenantAt == (pos{}) {
		r.add(t.at, "add tenant: with the path to it, like [provedor_id]", "the tenant is missing: no row is written without one")
	}
	if t.columns == nil {
		r.add(t.at, "add columns: with the columns to carry", "the columns are missing")
	}
}

// relations reads paths: explicit relations where the source has no foreign key.
func (r *reader) relations(at pos, n ast.Node) map[string]relation {
	list, _ := r.entries(at, n, "relations, like {conversation: {column: conversation_id, table: conversations_conversation}}")
	out := map[string]relation{}
	for _, e := range list {
		rel := relation{at: e.at}
		r.fields(e.at, e.value, "{column: …, table: …}", map[string]func(pos, ast.Node){
			"column": func(at pos, n ast.Node) {
				v, _ := r.name(at, n, "a column's name")
				rel.column = v.name
			},
			"table": func(at pos, n ast.Node) { rel.table, _ = r.table(at, n) },
		})
		if rel.column == "" || rel.table.Name == "" {
			r.add(e.at, "write {column: …, table: …}", "a relation needs the column that refers and the table that it refers to")
			continue
		}
		parts, err := splitName(e.key)
		if err != nil {
			r.add(e.at, "name the relation", "%s", err)
			continue
		}
		out[joinRelations(parts)] = rel
	}
	return out
}

// joinRelations makes a map key of relations' names.
func joinRelations(parts []string) string { return strings.Join(parts, "\x00") }

func (r *reader) pathList(at pos, n ast.Node) []path {
	const want = "a column or a path, like provedor_id or [inbox.provedor_id, contact.provedor_id]"
	var list []path
	for i, e := range r.elements(at, n, true, want) {
		at := at
		if _, ok := n.(*ast.SequenceNode); ok {
			at = at.item(i, e)
		}
		if s, ok := r.text(at, e, want); ok {
			if p, ok := r.path(at, s); ok {
				list = append(list, p)
			}
		}
	}
	return list
}

func (r *reader) path(at pos, s string) (path, bool) {
	parts, err := splitName(s)
	if err != nil {
		r.add(at, "write a column, or relations and a column with dots between", "%s", err)
		return path{}, false
	}
	last := len(parts) - 1
	return path{at: at, text: s, relations: parts[:last], column: parts[last]}, true
}

var initialForm = regexp.MustCompile(`^([^()]+)\(([^()]+)\)\.([^()]+)$`)

// initials reads the expressions of an observed column's first value.
func (r *reader) initials(at pos, n ast.Node) []initial {
	const want = "columns, like [csat_requests(conversation_id).conversation_ended_at, updated_at]"
	var list []initial
	for i, e := range r.elements(at, n, true, want) {
		at := at.item(i, e)
		s, ok := r.text(at, e, want)
		if !ok {
			continue
		}
		out, err := parseInitial(s)
		if err != nil {
			r.add(at, "write a column, or table(column that refers to this row).column", "%s", err)
			continue
		}
		out.at = at
		list = append(list, out)
	}
	return list
}

func parseInitial(s string) (initial, error) {
	single := func(s string) (string, error) {
		parts, err := splitName(s)
		if err == nil && len(parts) != 1 {
			err = fmt.Errorf("%q has %d parts", s, len(parts))
		}
		if err != nil {
			return "", err
		}
		return parts[0], nil
	}
	m := initialForm.FindStringSubmatch(s)
	if m == nil {
		column, err := single(s)
		return initial{column: column}, err
	}
	t, err := parseTable(m[1])
	if err != nil {
		return initial{}, err
	}
	by, err := single(m[2])
	if err != nil {
		return initial{}, err
	}
	column, err := single(m[3])
	return initial{table: t, by: by, column: column}, err
}
