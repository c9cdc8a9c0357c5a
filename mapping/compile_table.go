package mapping

import (
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// unit compiles one table of the file.
type unit struct {
	c   *compiler
	t   *table
	o   *origin
	dst *pg.Table // nil when Install makes it

	// columns are those of the target, in its order, the tenant among them.
	columns []*targetColumn
	target  *Target
}

// targetColumn is a column of the target while it is being compiled.
type targetColumn struct {
	at   pos
	name string
	spec *column // nil for the tenant
	// routes are where values come from, for conversions their arguments.
	routes []*route
	// types are those of the values, one for each route, or one for the whole.
	types   []*pg.Type
	want    *typeName // the type that the file names
	derived bool
	// failed says that what is wrong with it has been noted, so that nothing
	// else is made of it.
	failed bool
	fit    fit
	sink   sink.Column
	col    Column
}

// resolve resolves the paths of the tenant and of all columns. It comes before
// everything else, because it finds out which tables are passed.
func (u *unit) resolve() {
	for _, c := range u.t.columns {
		tc := &targetColumn{at: c.at, name: c.name, spec: c, want: c.typ}
		paths := c.paths
		if c.form != formPaths {
			paths = c.args
		}
		u.routes(tc, paths)
		u.columns = append(u.columns, tc)
	}
	tenant := &targetColumn{at: u.t.tenantAt, name: u.t.tenantColumn, want: u.t.tenantType}
	if i := slices.IndexFunc(u.columns, func(c *targetColumn) bool { return c.name == tenant.name }); i >= 0 {
		u.c.add(u.columns[i].at, "remove it here, or choose another tenant_column", "column %q is the tenant's, which tenant: says how to fill", tenant.name)
		return
	}
	u.routes(tenant, u.t.tenant)
	if tenant.derived && u.t.withoutTenant == Drop {
		u.c.add(u.t.tenantAt, "write without_tenant: hold", "rows whose tenant comes over a path can't be dropped: a change elsewhere may give them one, and nothing would be left of them")
	}
	// Behind the key, where a reader expects it.
	n := 0
	for n < len(u.columns) && u.partOfKey(u.columns[n]) {
		n++
	}
	u.columns = slices.Insert(u.columns, n, tenant)
}

func (u *unit) routes(tc *targetColumn, paths []path) {
	for _, p := range paths {
		r, ok := u.c.route(u.o, p)
		if !ok {
			tc.failed = true
			continue
		}
		tc.routes = append(tc.routes, r)
		if len(r.hops) == 0 {
			continue
		}
		if tc.spec != nil && tc.spec.form != formPaths {
			u.c.add(p.at, "map the path to a column as it is", "%s converts columns of the row itself; %s is a path", tc.spec.form, p.text)
			tc.failed = true
		}
		tc.derived = true
	}
}

// partOfKey reports that a column is made of columns of the primary key alone,
// so that it can be a part of the target's.
func (u *unit) partOfKey(tc *targetColumn) bool {
	if tc.spec == nil || tc.derived || len(tc.routes) == 0 {
		return false
	}
	if tc.spec.form != formUUID && (tc.spec.form != formPaths || len(tc.routes) > 1) {
		return false
	}
	return !slices.ContainsFunc(tc.routes, func(r *route) bool { return !slices.Contains(u.o.cat.PrimaryKey, r.column) })
}

// compile makes the target.
func (u *unit) compile() {
	if len(u.columns) == 0 || !slices.ContainsFunc(u.columns, func(tc *targetColumn) bool { return tc.spec == nil }) {
		return // what is wrong has been noted
	}
	if u.dst != nil && u.dst.Kind != "r" && u.dst.Kind != "p" {
		u.c.add(u.t.at, "choose another name, or drop it at the target", "%s exists at the target and is no table", u.t.target)
		return
	}
	u.target = &Target{
		Table:    &sink.Table{Schema: u.t.target.Schema, Name: u.t.target.Name, Source: u.o.name.String(), Tenant: -1, Parent: u.o.node != nil},
		OnDelete: u.t.onDelete, WithoutTenant: u.t.withoutTenant, Realtime: u.t.realtime,
	}
	if u.c.opts.OnDelete != nil {
		u.target.OnDelete = *u.c.opts.OnDelete
	}
	for i, tc := range u.columns {
		if !tc.failed && !u.compileColumn(tc) {
			tc.failed = true
		}
		if tc.spec == nil {
			u.target.Table.Tenant = i
		}
	}
	u.carry()
	u.observed()
	u.chooseKey()
	u.derive()
	u.addIndexes()
	u.checkExisting()
	u.audit()
	if len(u.c.list) > 0 {
		return
	}
	for _, tc := range u.columns {
		u.target.Table.Columns = append(u.target.Table.Columns, tc.sink)
		u.target.Columns = append(u.target.Columns, tc.col)
	}
	u.o.source.Target = u.target
	u.c.prints = append(u.c.prints, u.print())
}

// carry notes which target column has each input as it is.
func (u *unit) carry() {
	for i, tc := range u.columns {
		if !tc.failed && len(tc.col.Own) == 1 && tc.col.Convert == nil && tc.fit == exact {
			if in := &u.o.source.Inputs[tc.col.Own[0]]; in.Carrier < 0 {
				in.Carrier = i
			}
		}
	}
}

// chooseKey sets the target's key: what the file says, else the primary key of
// the table if it exists, else the columns that stand for the source's key.
func (u *unit) chooseKey() {
	var names []nameAt
	switch {
	case len(u.t.key) > 0:
		names = u.t.key
	case u.dst != nil && len(u.dst.PrimaryKey) > 0:
		for _, n := range u.dst.PrimaryKey {
			names = append(names, nameAt{u.t.at, n})
		}
	default:
		names = u.impliedKey()
	}
	if names == nil {
		u.c.add(u.t.at, "add "+strings.Join(u.o.cat.PrimaryKey, " and ")+" to columns, or id: {uuid: ["+strings.Join(u.o.cat.PrimaryKey, ", ")+"]}",
			"the key of source table %s is not among the columns, so rows can't be told apart", u.o.name)
		return
	}
	var stands []string
	for _, n := range names {
		i := slices.IndexFunc(u.columns, func(tc *targetColumn) bool { return tc.name == n.name })
		switch {
		case i < 0:
			u.c.add(n.at, "map it, or change the table's key", "key column %q of target table %s is not mapped", n.name, u.t.target)
			return
		case u.columns[i].failed:
			return
		case !u.partOfKey(u.columns[i]) || u.columns[i].fit != exact:
			u.c.add(u.columns[i].at, "make it of "+strings.Join(u.o.cat.PrimaryKey, " and ")+", as it is or by uuid, or change the table's key",
				"column %q is in the key of target table %s, but doesn't come from the primary key of %s alone: it could change, and then no change would find its row", n.name, u.t.target, u.o.name)
			return
		}
		u.target.Table.Key = append(u.target.Table.Key, i)
		u.columns[i].sink.NotNull = true
		for _, r := range u.columns[i].routes {
			stands = append(stands, r.column)
		}
	}
	if !covers(stands, u.o.cat.PrimaryKey) {
		u.c.add(names[0].at, "let the target's key stand for all of them",
			"the key of target table %s stands for %s only, and the one of source table %s is %s: several rows would become one",
			u.t.target, strings.Join(stands, ", "), u.o.name, strings.Join(u.o.cat.PrimaryKey, ", "))
		return
	}
	u.keyIsUnique(names[0].at)
}

// impliedKey finds the columns that stand for the source's key: a UUID of all of
// it, else each of its columns as it is.
func (u *unit) impliedKey() []nameAt {
	for _, tc := range u.columns {
		if u.partOfKey(tc) && tc.spec.form == formUUID && len(tc.routes) == len(u.o.cat.PrimaryKey) {
			return []nameAt{{tc.at, tc.name}}
		}
	}
	var names []nameAt
	for _, k := range u.o.cat.PrimaryKey {
		i := slices.IndexFunc(u.columns, func(tc *targetColumn) bool {
			return u.partOfKey(tc) && tc.spec.form == formPaths && tc.routes[0].column == k
		})
		if i < 0 {
			return nil
		}
		names = append(names, nameAt{u.columns[i].at, u.columns[i].name})
	}
	return names
}

// keyIsUnique demands a unique index on the key of a table that exists: without
// one, ON CONFLICT has nothing to go by.
func (u *unit) keyIsUnique(at pos) {
	if u.dst == nil {
		return
	}
	var names []string
	for _, i := range u.target.Table.Key {
		names = append(names, u.columns[i].name)
	}
	deferrable := false
	for _, un := range u.dst.Uniques {
		if len(un.Columns) == len(names) && covers(un.Columns, names) {
			if !un.Deferrable {
				return
			}
			deferrable = true
		}
	}
	fix := "at the target: ALTER TABLE " + u.t.target.SQL() + " ADD PRIMARY KEY (" + quoteList(names) + ")"
	if deferrable {
		u.c.add(at, "make it NOT DEFERRABLE", "the unique key of target table %s is deferrable, and ON CONFLICT can't use one", u.t.target)
		return
	}
	u.c.add(at, fix, "target table %s has no unique key on %s", u.t.target, strings.Join(names, ", "))
	return
}

func quoteList(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = pg.Quote(n)
	}
	return strings.Join(quoted, ", ")
}

// derive describes the columns that are reached over paths, for the sink.
func (u *unit) derive() {
	for i, tc := range u.columns {
		if !tc.derived || tc.failed {
			continue
		}
		d := sink.Derived{Column: i}
		for _, r := range tc.routes {
			carrier := u.o.source.Inputs[u.o.input(r.column)].Carrier
			if carrier < 0 {
				if u.failedCarrier(r.column) {
					continue
				}
				u.c.add(r.path.at, "add "+r.column+" to columns", "%s begins at column %q, which target table %s doesn't carry: when a value on the path changes, nothing would lead to the rows that depend on it",
					r.path.text, r.column, u.t.target)
				continue
			}
			l := sink.Lookup{Column: carrier}
			for _, h := range r.hops {
				l.Steps = append(l.Steps, h.step())
			}
			d.From = append(d.From, l)
		}
		u.target.Table.Derived = append(u.target.Table.Derived, d)
	}
}

// failedCarrier reports that a column which would carry a source column was
// meant to be there.
func (u *unit) failedCarrier(column string) bool {
	return slices.ContainsFunc(u.columns, func(tc *targetColumn) bool {
		return tc.failed && len(tc.routes) == 1 && tc.routes[0].column == column
	})
}

// addIndexes collects the indexes: those of the file, the tenant, and each column
// that a path begins at, unless another index begins with the same column.
func (u *unit) addIndexes() {
	t := u.target.Table
	for _, index := range u.t.indexes {
		var columns []int
		for _, n := range index {
			i := slices.IndexFunc(u.columns, func(tc *targetColumn) bool { return tc.name == n.name })
			if i < 0 {
				u.c.add(n.at, "index mapped columns only", "target table %s has no mapped column %q", u.t.target, n.name)
				continue
			}
			columns = append(columns, i)
		}
		if slices.ContainsFunc(t.Indexes, func(o []int) bool { return slices.Equal(o, columns) }) {
			u.c.add(index[0].at, "keep one of them", "the same index is there twice")
		}
		t.Indexes = append(t.Indexes, columns)
	}
	need := func(i int) {
		first := func(o []int) bool { return len(o) > 0 && o[0] == i }
		if !slices.ContainsFunc(t.Indexes, first) && !first(t.Key) {
			t.Indexes = append(t.Indexes, []int{i})
		}
	}
	need(t.Tenant)
	for _, d := range t.Derived {
		for _, l := range d.From {
			if len(l.Steps) > 0 {
				need(l.Column)
			}
		}
	}
}

// checkExisting looks for what an existing table demands beyond the mapping.
func (u *unit) checkExisting() {
	if u.dst == nil {
		return
	}
	for i := range u.dst.Columns {
		col := &u.dst.Columns[i]
		mapped := slices.ContainsFunc(u.columns, func(tc *targetColumn) bool { return tc.name == col.Name })
		if !mapped && col.NotNull && !col.Default && col.Generated == "" && col.Identity == "" {
			u.c.add(u.t.at, "map it, or at the target: ALTER TABLE "+u.t.target.SQL()+" ALTER COLUMN "+pg.Quote(col.Name)+" DROP NOT NULL",
				"column %q of target table %s is NOT NULL without a default, and the mapping doesn't fill it", col.Name, u.t.target)
		}
	}
}
