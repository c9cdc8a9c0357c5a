package mapping

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// audited reports that entries are made at all.
func (c *compiler) audited() bool { return c.f.auditLog != nil && !c.opts.NoAudit }

// auditTable compiles the section audit_log.
func (c *compiler) auditTable() {
	a := c.f.auditLog
	if !c.audited() {
		return
	}
	audit := c.opts.Audit
	c.mapping.Audit = &audit
	c.mapping.Schema.Entries = &sink.EntryTable{
		Schema: a.table.Schema, Name: a.table.Name,
		ID: a.columns["id"].name, Tenant: a.columns["tenant"].name, User: a.columns["user"].name,
		Action: a.columns["action"].name, Details: a.columns["details"].name, Time: a.columns["time"].name,
		Chained: audit.Chain,
	}
	for _, t := range c.f.tables {
		if t.target == a.table {
			c.sharedAuditTable(t)
		}
	}
	if dst := c.dst.Table(a.table); dst != nil {
		c.existingAuditTable(a, dst)
	}
}

// entryTypes are the types that an audit table's columns must be able to take.
var entryTypes = map[string][]string{
	"id": {"uuid", "text", "varchar"}, "action": {"text", "varchar"},
	"details": {"jsonb", "json", "text"}, "time": {"timestamptz"},
}

// chainedTypes are those that they may have where entries are linked: what is read
// back must tell what was written, and the index over numbers takes no other.
var chainedTypes = map[string][]string{
	"tenant": {"int8", "int4", "int2", "uuid", "text", "varchar"}, "user": {"int8", "int4", "int2", "uuid", "text", "varchar"},
	"details": {"jsonb"}, "time": {"timestamptz"},
}

// chainedColumn checks a column of an audit table whose entries are linked.
func (c *compiler) chainedColumn(a *auditLog, role string, col *pg.Column, alter string) {
	types := chainedTypes[role]
	if types == nil {
		return
	}
	t := base(&col.Type)
	if !isBuiltin(t, types...) || role == "time" && t.Mod >= 0 && t.Mod < 6 {
		c.add(a.columns[role].at, alter+" ALTER COLUMN "+pg.Quote(col.Name)+" TYPE "+types[0]+", or turn audit.chain off",
			"column %q of audit table %s is %s; with audit.chain it takes %s", col.Name, a.table, col.Type.Display, oneOf(types))
	}
}

func (c *compiler) existingAuditTable(a *auditLog, dst *pg.Table) {
	alter := "at the target: ALTER TABLE " + a.table.SQL()
	if dst.Kind != "r" && dst.Kind != "p" {
		c.add(a.at, "choose another table", "%s exists at the target and is no table", a.table)
		return
	}
	var own []string
	for _, role := range auditColumns {
		name := a.columns[role.role]
		own = append(own, name.name)
		col := dst.Column(name.name)
		if col == nil {
			continue // Install adds it
		}
		if types := entryTypes[role.role]; types != nil && (!isBuiltin(base(&col.Type), types...) || base(&col.Type).Mod >= 0 && role.role == "action") {
			c.add(name.at, alter+" ALTER COLUMN "+pg.Quote(name.name)+" TYPE "+types[0], "column %q of audit table %s is %s, and takes %s", name.name, a.table, col.Type.Display, oneOf(types))
		} else if c.mapping.Audit.Chain {
			c.chainedColumn(a, role.role, col, alter)
		}
		if role.role == "user" && col.NotNull {
			c.add(name.at, alter+" ALTER COLUMN "+pg.Quote(name.name)+" DROP NOT NULL", "column %q of audit table %s is NOT NULL, and not every change has a known user", name.name, a.table)
		}
	}
	for _, col := range dst.Columns {
		mapped := slices.Contains(own, col.Name)
		if !mapped && col.NotNull && !col.Default && col.Generated == "" && col.Identity == "" {
			c.add(a.at, alter+" ALTER COLUMN "+pg.Quote(col.Name)+" DROP NOT NULL", "column %q of audit table %s is NOT NULL without a default, and entries don't fill it", col.Name, a.table)
		}
	}
}

// sharedAuditTable checks a table that holds entries and mapped rows: the
// application's own audit log beside the bridge's.
func (c *compiler) sharedAuditTable(t *table) {
	if !t.audit.off {
		c.add(t.audit.at, "write audit: false", "table %s holds the entries themselves, and entries about entries would never say anything new", t.target)
	}
	e := c.mapping.Schema.Entries
	if t.tenantColumn != e.Tenant {
		c.add(t.at, "use one name", "the tenant column of table %s is %q here and %q in audit_log", t.target, t.tenantColumn, e.Tenant)
	}
	for _, col := range t.columns {
		if col.name == e.ID && col.form != formUUID {
			c.add(col.at, "use "+col.name+": {uuid: [id]}", "column %q of table %s holds the UUIDs of entries, so that of mapped rows must be a UUID too", col.name, t.target)
		}
	}
}

// audit compiles a table's part audit.
func (u *unit) audit() {
	a := &u.t.audit
	if a.off || !u.c.audited() {
		return
	}
	if a.entity == "" {
		a.entity = u.t.target.Name
		if !verbForm.MatchString(a.entity) {
			u.c.add(a.at, "add audit: {entity: …}, or audit: false", "the table's name %q can't be half of an action", a.entity)
		}
	}
	out := &TableAudit{Entity: a.entity, User: -1}
	if a.user != nil {
		if i, ok := u.columnIndex(*a.user); ok {
			out.User = i
		}
	}
	for _, h := range a.hide {
		if i, ok := u.columnIndex(h); ok {
			if out.Hidden == nil {
				out.Hidden = map[int]bool{}
			}
			out.Hidden[i] = true
		}
	}
	for _, t := range a.transitions {
		tr, ok := u.transition(t)
		if !ok {
			continue
		}
		if i := slices.IndexFunc(out.Transitions, func(earlier Transition) bool { return earlier.includes(&tr) }); i >= 0 {
			u.c.add(t.at, "put it before that one, or narrow one of them", "the transition %q never comes: whatever fits it fits %q, which is tried first", t.verb, out.Transitions[i].Verb)
			continue
		}
		out.Transitions = append(out.Transitions, tr)
	}
	u.target.Audit = out
}

func (u *unit) columnIndex(n nameAt) (int, bool) {
	i := slices.IndexFunc(u.columns, func(tc *targetColumn) bool { return tc.name == n.name })
	if i < 0 {
		var names []string
		for _, tc := range u.columns {
			names = append(names, tc.name)
		}
		fix := "add it to columns"
		if k := nearest(n.name, names); k != "" {
			fix = "did you mean " + k + "?"
		}
		u.c.add(n.at, fix, "target table %s has no mapped column %q", u.t.target, n.name)
	}
	return i, i >= 0
}

// transition compiles one transition, and refuses what can't happen.
func (u *unit) transition(t transition) (Transition, bool) {
	tr := Transition{Verb: t.verb, OnInsert: t.onInsert, Column: -1, NotNull: t.notNull, Keys: t.keys}
	if t.column == nil {
		if !t.onInsert {
			u.c.add(t.at, "add column: with the column that changes", "the transition %q has no column", t.verb)
			return tr, false
		}
		if len(t.to) > 0 || len(t.from) > 0 || len(t.keys) > 0 || t.notNull {
			u.c.add(t.at, "add column:", "the transition %q has conditions without a column", t.verb)
			return tr, false
		}
		return tr, true
	}
	i, ok := u.columnIndex(*t.column)
	if !ok {
		return tr, false
	}
	tr.Column = i
	tc := u.columns[i]
	if tc.failed {
		return tr, false
	}
	refuse := func(fix, format string, args ...any) {
		u.c.add(t.at, fix, format, args...)
		ok = false
	}
	switch {
	case tc.col.Const != nil:
		refuse("watch another column", "column %q is a constant and never changes", tc.name)
	case tc.col.Observed != nil:
		refuse("watch "+u.columns[tc.col.Observed.Column].name, "column %q follows another one", tc.name)
	case !t.onInsert && slices.Contains(u.target.Table.Key, i):
		refuse("watch another column", "column %q is in the key: a row whose key changes is another row", tc.name)
	case t.onInsert && len(t.from) > 0:
		refuse("remove from:", "an insert has no value before")
	case t.onInsert && len(t.keys) > 0:
		refuse("remove keys:", "an insert changes no keys of an object")
	case len(t.keys) > 0 && !isJSON(tc.types[0]):
		refuse("remove keys:", "column %q is %s and has no keys", tc.name, display(tc.types[0]))
	case len(t.keys) > 0 && len(t.from)+len(t.to) > 0:
		refuse("remove one of them", "keys and whole values can't be watched together")
	}
	if !ok {
		return tr, false
	}
	tr.From, ok = u.valueSet(t.from, tc, ok)
	tr.To, ok = u.valueSet(t.to, tc, ok)
	for v := range tr.From {
		if tr.To[v] {
			refuse("take it out of one of them", "the value %q is in both from and to, and from a value to itself nothing changes", v)
		}
	}
	return tr, ok
}

func (u *unit) valueSet(list []value, tc *targetColumn, ok bool) (map[string]bool, bool) {
	var set map[string]bool
	for _, v := range list {
		if !u.c.possible(v, tc.types[0]) {
			ok = false
		}
		if set == nil {
			set = map[string]bool{}
		}
		set[v.text] = true
	}
	return set, ok
}

// includes reports that whatever fits o fits t too.
func (t *Transition) includes(o *Transition) bool {
	subset := func(of, set map[string]bool) bool {
		if len(of) == 0 {
			return true
		}
		for v := range set {
			if !of[v] {
				return false
			}
		}
		return len(set) > 0
	}
	switch {
	case t.OnInsert != o.OnInsert:
		return false
	case t.Column < 0:
		return true
	case t.Column != o.Column:
		return false
	case !subset(t.From, o.From), !subset(t.To, o.To):
		return false
	case t.NotNull && !o.NotNull && len(o.To) == 0:
		return false
	case len(t.Keys) > 0:
		return len(o.Keys) > 0 && covers(t.Keys, o.Keys)
	}
	// From one of the values to another is no transition, so a wider set can
	// miss what a narrower one sees.
	return len(t.From) == len(o.From) && len(t.To) == len(o.To) || len(t.From)+len(t.To) == 0
}

// possible reports whether a column of type t can have a value, and notes why not.
func (c *compiler) possible(v value, t *pg.Type) bool {
	b := base(t)
	_, notInteger := strconv.ParseInt(v.text, 10, 64)
	switch {
	case b.Kind == "e" && len(b.Labels) > 0 && !slices.Contains(b.Labels, v.text):
		c.add(v.at, "use "+oneOf(b.Labels), "the type %s has no value %q", display(t), v.text)
	case isInteger(b) && notInteger != nil:
		c.add(v.at, "write an integer", "the column is %s and can't be %q", display(t), v.text)
	case isBuiltin(b, "bool") && v.kind != boolValue:
		c.add(v.at, "write true or false", "the column is boolean and can't be %q", v.text)
	case isBuiltin(b, "varchar") && b.Mod >= 4 && utf8.RuneCountInString(v.text) > int(b.Mod-4):
		c.add(v.at, "check the value", "the column is %s and can't hold %q", display(t), v.text)
	case !isInteger(b) && !isText(b) && !isBuiltin(b, "bool", "uuid"):
		c.add(v.at, "compare texts, integers and booleans", "values of type %s can be written in several ways, so comparing texts would miss some", display(t))
	case isBuiltin(b, "uuid") && v.text != strings.ToLower(v.text):
		c.add(v.at, "write it in lower case", "PostgreSQL prints a uuid in lower case")
	default:
		return true
	}
	return false
}
