package mapping

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// route is a path with its names resolved: it begins at a column of the row, and
// each hop takes the value so far as the key of a table and goes on with a
// column of that row.
type route struct {
	path   path
	column string
	hops   []hop
}

type hop struct {
	to     *origin
	column string
}

// end returns the column that the route ends in.
func (r *route) end(from *origin) *pg.Column {
	if len(r.hops) == 0 {
		return from.cat.Column(r.column)
	}
	last := r.hops[len(r.hops)-1]
	return last.to.cat.Column(last.column)
}

// String describes the route for the fingerprint.
func (r *route) String() string {
	var b strings.Builder
	b.WriteString(pg.Quote(r.column))
	for _, h := range r.hops {
		b.WriteString(" > " + h.to.name.SQL() + " " + pg.Quote(h.column))
	}
	return b.String()
}

// route resolves a path that begins at a row of o.
func (c *compiler) route(o *origin, p path) (*route, bool) {
	r := &route{path: p, column: p.column}
	at := o
	for i := range p.relations {
		col, next, ok := c.relation(o, at, p, i)
		if !ok {
			return nil, false
		}
		if i == 0 {
			r.column = col
		} else {
			r.hops[i-1].column = col
			if other := at.passed[col]; other != nil && other != next {
				c.add(p.at, "let all paths agree on the table", "column %q of table %s leads to %s here and to %s elsewhere", col, at.name, next.name, other.name)
				return nil, false
			}
			at.passed[col] = next
		}
		if !slices.Contains(at.parents, next) {
			at.parents = append(at.parents, next)
		}
		r.hops = append(r.hops, hop{to: next})
		at = next
	}
	if c.column(p.at, at.cat, p.column) == nil {
		return nil, false
	}
	if n := len(r.hops); n > 0 {
		r.hops[n-1].column = p.column
		at.ended[p.column] = true
	}
	return r, true
}

// relation resolves relation i of a path that began at start and has come to a
// row of at: the column that refers, and the table that it refers to.
func (c *compiler) relation(start, at *origin, p path, i int) (string, *origin, bool) {
	name := p.relations[i]
	column, ref, ok := explicit(start, at, p, i)
	if !ok {
		if column, ref, ok = c.foreignKey(at, p, name); !ok {
			return "", nil, false
		}
	}
	col := c.column(p.at, at.cat, column)
	next := c.origin(p.at, ref)
	if col == nil || next == nil {
		return "", nil, false
	}
	key := next.cat.PrimaryKey
	if len(key) != 1 {
		c.add(p.at, "paths pass tables with a key of one column only", "table %s, which %q leads to, has a primary key of %d columns", ref, name, len(key))
		return "", nil, false
	}
	if !sameKeyText(&col.Type, &next.cat.Column(key[0]).Type) {
		c.add(p.at, "give both columns the same type", "column %q of table %s is %s and the key of %s is %s: equal values may differ as texts",
			column, at.name, col.Type.Display, ref, next.cat.Column(key[0]).Type.Display)
		return "", nil, false
	}
	return column, next, true
}

// explicit finds a relation in the section paths: of the table that the path
// begins at, by all relations up to here, or of the table that it has come to.
func explicit(start, at *origin, p path, i int) (column string, ref pg.TableName, ok bool) {
	if start.spec != nil {
		if r, found := start.spec.paths[joinRelations(p.relations[:i+1])]; found {
			return r.column, r.table, true
		}
	}
	if at.spec != nil {
		if r, found := at.spec.paths[joinRelations(p.relations[i:i+1])]; found {
			return r.column, r.table, true
		}
	}
	return "", pg.TableName{}, false
}

// foreignKey finds a relation by the source's foreign keys: as in Django, the
// relation conversation is the column conversation_id.
func (c *compiler) foreignKey(at *origin, p path, name string) (string, pg.TableName, bool) {
	column := name + "_id"
	if at.cat.Column(column) == nil {
		column = name
	}
	if at.cat.Column(column) == nil {
		fix := "check its name"
		if k := nearest(name, relationNames(at.cat)); k != "" {
			fix = "did you mean " + k + "?"
		} else if names := relationNames(at.cat); len(names) > 0 {
			fix = "it has " + oneOf(names)
		}
		c.add(p.at, fix, "source table %s has no relation %q: neither a column %q nor a column %q", at.name, name, name+"_id", name)
		return "", pg.TableName{}, false
	}
	var refs []pg.ForeignKey
	for _, fk := range at.cat.ForeignKeys {
		if fk.Column == column && !slices.ContainsFunc(refs, func(o pg.ForeignKey) bool { return o.Ref == fk.Ref }) {
			refs = append(refs, fk)
		}
	}
	fix := "name the table: paths: {" + name + ": {column: " + column + ", table: …}}"
	switch {
	case len(refs) == 0:
		c.add(p.at, fix, "column %q of source table %s has no foreign key, so nothing says where it leads", column, at.name)
	case len(refs) > 1:
		c.add(p.at, fix, "column %q of source table %s refers to both %s and %s", column, at.name, refs[0].Ref, refs[1].Ref)
	case c.src.Table(refs[0].Ref) != nil && !slices.Equal(c.src.Table(refs[0].Ref).PrimaryKey, []string{refs[0].RefColumn}):
		c.add(p.at, "paths follow foreign keys to a primary key only", "column %q of source table %s refers to column %q of %s, which is not its primary key",
			column, at.name, refs[0].RefColumn, refs[0].Ref)
	default:
		return column, refs[0].Ref, true
	}
	return "", pg.TableName{}, false
}

// relationNames are the relations that a table has by its foreign keys.
func relationNames(t *pg.Table) []string {
	var names []string
	for _, fk := range t.ForeignKeys {
		names = append(names, strings.TrimSuffix(fk.Column, "_id"))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// sortOrigins brings parents before children. Paths decide; between tables that
// no path connects, foreign keys do as far as they can, because the target may
// have the same ones.
func (c *compiler) sortOrigins() {
	var done []*origin
	left := slices.Clone(c.order)
	for len(left) > 0 {
		pick := -1
		for i, o := range left {
			if slices.ContainsFunc(o.parents, func(p *origin) bool { return slices.Contains(left, p) }) {
				continue
			}
			if pick < 0 {
				pick = i
			}
			if !c.waitsFor(o, left) {
				pick = i
				break
			}
		}
		if pick < 0 {
			c.cycle(left)
			return
		}
		done = append(done, left[pick])
		left = slices.Delete(left, pick, pick+1)
	}
	c.order = done
}

// waitsFor reports whether a foreign key of o refers to one of left.
func (c *compiler) waitsFor(o *origin, left []*origin) bool {
	return slices.ContainsFunc(o.cat.ForeignKeys, func(fk pg.ForeignKey) bool {
		ref := c.origins[fk.Ref]
		return ref != nil && ref != o && slices.Contains(left, ref)
	})
}

// cycle reports the paths that lead back to where they began.
func (c *compiler) cycle(left []*origin) {
	// Every table left has a parent that is left: following parents ends in the
	// cycle.
	seen := map[*origin]bool{}
	at := left[0]
	for !seen[at] {
		seen[at] = true
		i := slices.IndexFunc(at.parents, func(p *origin) bool { return slices.Contains(left, p) })
		at = at.parents[i]
	}
	c.add(at.at, "take the values from columns of the table itself", "paths lead from table %s back to it, so a row could depend on itself", at.name)
}

// makeNodes makes a node of every table that paths pass.
func (c *compiler) makeNodes() {
	nodes := map[*origin]*sink.Node{}
	for _, o := range c.order {
		if len(o.passed)+len(o.ended) > 0 {
			nodes[o] = &sink.Node{Name: o.name.String()}
		}
	}
	for o, n := range nodes {
		// By name and not by the catalog's order: a restored source may have
		// another one, and the values are stored by position.
		passed := slices.Sorted(maps.Keys(o.passed))
		for _, name := range passed {
			n.Columns = append(n.Columns, name)
			n.Next = append(n.Next, nodes[o.passed[name]])
		}
		for _, name := range slices.Sorted(maps.Keys(o.ended)) {
			if o.passed[name] == nil {
				n.Columns = append(n.Columns, name)
				n.Next = append(n.Next, nil)
			}
		}
		o.node = n
	}
}

// makeSource makes the compiled source of an origin: its key, and the columns
// that its node reads. Those of its target join later.
func (c *compiler) makeSource(o *origin) {
	o.source = &Source{Schema: o.name.Schema, Name: o.name.Name, OID: o.cat.OID, Partitioned: o.cat.Kind == "p", Node: o.node}
	for _, name := range o.cat.PrimaryKey {
		col := o.cat.Column(name)
		o.source.Key = append(o.source.Key, KeyColumn{Name: name, Type: col.Type.OID, Integer: isInteger(&col.Type)})
		o.input(name)
	}
	if o.node != nil {
		for _, name := range o.node.Columns {
			o.source.NodeInputs = append(o.source.NodeInputs, o.input(name))
		}
	}
}

// input returns the position of a source column among the inputs, and makes it
// one if it isn't yet.
func (o *origin) input(name string) int {
	if i, ok := o.inputs[name]; ok {
		return i
	}
	col := o.cat.Column(name)
	i := len(o.source.Inputs)
	o.inputs[name] = i
	o.source.Inputs = append(o.source.Inputs, Input{
		Name: name, Type: col.Type.OID, TypeName: col.Type.Display, Carrier: -1,
	})
	return i
}

// step returns where a hop's value is among the path values.
func (h hop) step() sink.Step {
	return sink.Step{Node: h.to.node, Column: slices.Index(h.to.node.Columns, h.column)}
}

// compareNames orders tables by name, for messages and the fingerprint.
func compareNames(a, b pg.TableName) int {
	return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
}
