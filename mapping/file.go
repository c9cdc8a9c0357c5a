package mapping

import (
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
)

// File is a mapping file that has been read but not compiled: what it says, and
// where. It knows nothing of either database yet.
type File struct {
	// Name is the file's name for messages.
	Name string

	auditLog  *auditLog  // nil without an audit log
	dashboard *dashboard // nil without
	tables    []*table
}

// auditLog is the section audit_log: the table that entries go to.
type auditLog struct {
	at      pos
	table   pg.TableName
	columns map[string]nameAt // by the name that the bridge has for them
}

// auditColumns are the columns of an audit table that can be renamed, with the
// names that they have by default.
var auditColumns = []struct{ role, name string }{
	{"id", "id"}, {"tenant", "provedor_id"}, {"user", "user_id"},
	{"action", "action"}, {"details", "details"}, {"time", "timestamp"},
}

// table is one entry of the section tables.
type table struct {
	at             pos
	target, source pg.TableName
	sourceAt       pos
	tenant         []path
	tenantAt       pos
	tenantColumn   string
	tenantType     *typeName // nil: as the source has it
	key            []nameAt  // empty: the target's primary key, or derived from the source's
	columns        []*column
	paths          map[string]relation // by the path's relations, joined with dots
	onDelete       Policy
	withoutTenant  Policy
	realtime       bool
	indexes        [][]nameAt
	audit          tableAudit
}

// nameAt is a name with its place.
type nameAt struct {
	at   pos
	name string
}

// path is one way to a value: the relations to pass, and the column it ends in.
type path struct {
	at        pos
	text      string
	relations []string
	column    string
}

// relation is an explicit path: where the source has no foreign key.
type relation struct {
	at     pos
	column string
	table  pg.TableName
}

// typeName is a target type as the file writes it.
type typeName struct {
	at           pos
	schema, name string
}

// form is how a column gets its value.
type form string

const (
	formPaths      form = "from"
	formConst      form = "const"
	formUUID       form = "uuid"
	formJSON       form = "json"
	formJSONObject form = "json_object"
	formHash       form = "hash"
	formObserve    form = "observe"
)

// column is one column of a table. Which fields count depends on the form.
type column struct {
	at   pos
	name string
	form form
	// paths: the value is the first that is not null.
	paths []path
	// args are what a conversion reads; keys, for json_object, are parallel.
	args []path
	keys []string
	// value is a constant, constType the type that it has by itself.
	value     cdc.Value
	constType typeName
	observe   observe
	typ       *typeName
}

// observe is {observe: …}.
type observe struct {
	column  nameAt
	when    []value
	initial []initial
}

// initial is one expression of an observed column's first value: a column of the
// row, or of the rows of another table whose column by refers to this row.
type initial struct {
	at     pos
	table  pg.TableName // zero: the row itself
	by     string
	column string
}

// value is a scalar that a column is compared with.
type value struct {
	at   pos
	kind valueKind
	text string // as PostgreSQL prints it
}

type valueKind uint8

const (
	stringValue valueKind = iota
	integerValue
	numberValue
	boolValue
)

// tableAudit is a table's part audit.
type tableAudit struct {
	at          pos
	off         bool
	entity      string // empty: the target table's name
	user        *nameAt
	hide        []nameAt
	transitions []transition
}

// transition is one entry of audit.transitions.
type transition struct {
	at       pos
	verb     string
	onInsert bool
	column   *nameAt
	from, to []value
	notNull  bool
	keys     []string
}

// SourceTables are the tables of the source that the file names. The tables that
// its paths pass are not among them unless it names them too; pg.ReadCatalog
// finds those by the foreign keys.
func (f *File) SourceTables() []pg.TableName {
	var list []pg.TableName
	for _, t := range f.tables {
		list = append(list, t.source)
		for _, r := range t.paths {
			list = append(list, r.table)
		}
		for _, c := range t.columns {
			for _, i := range c.observe.initial {
				if i.by != "" {
					list = append(list, i.table)
				}
			}
		}
	}
	return uniqueNames(list)
}

// TargetTables are the tables of the target that the file names, the audit table
// among them.
func (f *File) TargetTables() []pg.TableName {
	var list []pg.TableName
	for _, t := range f.tables {
		list = append(list, t.target)
	}
	if f.auditLog != nil {
		list = append(list, f.auditLog.table)
	}
	return uniqueNames(list)
}
