package mapping

import (
	"fmt"
	"slices"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// CompileOptions are the settings that alter a mapping from outside its file.
type CompileOptions struct {
	// OnDelete, unless nil, goes before every table's own policy.
	OnDelete *Policy
	// Audit says how entries are made. It has no effect on a file without
	// audit_log.
	Audit Audit
	// NoAudit makes no entries, whatever the file says.
	NoAudit bool
	// HashKey is the key of hashed columns.
	HashKey HashKey
}

// compiler compiles one file. It goes on after a problem as far as it makes
// sense, so that one run reports all of them.
type compiler struct {
	problems
	f        *File
	src, dst *pg.Catalog
	opts     CompileOptions
	origins  map[pg.TableName]*origin
	order    []*origin // as they were met, then parents first
	mapping  *Mapping
	prints   []tablePrint
}

// origin is a source table that the mapping follows.
type origin struct {
	name pg.TableName
	cat  *pg.Table
	spec *table // nil when only paths pass it
	at   pos    // where it was met first
	// passed are the columns that paths pass, with the table that they lead to;
	// ended those that paths end in.
	passed map[string]*origin
	ended  map[string]bool
	// parents must be copied before it.
	parents []*origin
	node    *sink.Node // nil unless paths pass it
	source  *Source
	inputs  map[string]int
}

// Compile checks a file against the catalogs of both databases and makes a
// Mapping of it. target may be nil, and may lack tables and columns: those are
// made by sink.Sink's Install. All problems are reported at once.
func Compile(f *File, source, target *pg.Catalog, opts CompileOptions) (*Mapping, error) {
	c := &compiler{
		problems: problems{file: f.Name}, f: f, src: source, dst: target, opts: opts,
		origins: map[pg.TableName]*origin{},
		mapping: &Mapping{Schema: &sink.Schema{}},
	}
	var units []*unit
	for _, t := range f.tables {
		if o := c.origin(t.sourceAt, t.source); o != nil {
			if o.spec != nil {
				c.add(t.sourceAt, "map each source table once", "table %s is the source of %s already", t.source, o.spec.target)
				continue
			}
			o.spec = t
			units = append(units, &unit{c: c, t: t, o: o, dst: c.dst.Table(t.target)})
		}
	}
	for _, u := range units {
		u.resolve()
	}
	c.followsOnce()
	c.sortOrigins()
	c.makeNodes()
	for _, o := range c.order {
		c.makeSource(o)
	}
	for _, u := range units {
		u.compile()
	}
	c.auditTable()
	c.dashboard()
	if err := c.err(); err != nil {
		return nil, err
	}
	return c.finish(), nil
}

// finish puts the compiled parts together.
func (c *compiler) finish() *Mapping {
	m := c.mapping
	for _, o := range c.order {
		m.Sources = append(m.Sources, o.source)
		if o.source.Node != nil {
			m.Schema.Nodes = append(m.Schema.Nodes, o.source.Node)
		}
		if o.source.Target != nil {
			m.Schema.Tables = append(m.Schema.Tables, o.source.Target.Table)
		}
	}
	m.Reads = uniqueNames(m.Reads)
	m.Schema.Fingerprint = fingerprint(c.prints)
	return m
}

// warn notes something that doesn't keep the mapping from working.
func (c *compiler) warn(at pos, format string, args ...any) {
	p := &Problem{File: c.file, Line: at.line, Path: at.path, What: fmt.Sprintf(format, args...)}
	c.mapping.Warnings = append(c.mapping.Warnings, p.Error())
}

// origin returns the source table of that name, or notes what is wrong with it
// and returns nil.
func (c *compiler) origin(at pos, name pg.TableName) *origin {
	if o, met := c.origins[name]; met {
		return o
	}
	cat := c.src.Table(name)
	if cat == nil {
		c.add(at, "check its name, and its schema if that isn't public", "the source has no table %s", name)
		c.list[len(c.list)-1].Table = name
		return nil
	}
	c.origins[name] = nil
	if !c.follows(at, cat) {
		c.list[len(c.list)-1].Table = name
		return nil
	}
	o := &origin{
		name: name, cat: cat, at: at,
		passed: map[string]*origin{}, ended: map[string]bool{}, inputs: map[string]int{},
	}
	c.origins[name] = o
	c.order = append(c.order, o)
	return o
}

// follows reports whether a table can be followed: its changes are in the WAL,
// and name their row.
func (c *compiler) follows(at pos, t *pg.Table) bool {
	name := t.TableName.SQL()
	switch {
	case t.Kind != "r" && t.Kind != "p":
		c.add(at, "map the table that its rows come from", "%s is no table, and only tables are in the WAL", t.TableName)
	case (t.Inherits || t.Children) && t.Kind != "p" && !t.Partition:
		c.add(at, "leave it out of the mapping",
			"table %s takes part in inheritance, so its primary key doesn't name one row", t.TableName)
	case t.Persistence == "u":
		c.add(at, "ALTER TABLE "+name+" SET LOGGED", "table %s is unlogged: its changes are not in the WAL", t.TableName)
	case t.Persistence != "p":
		c.add(at, "leave it out of the mapping", "table %s is temporary", t.TableName)
	case len(t.PrimaryKey) == 0 && t.Identity == "f":
		c.add(at, "ALTER TABLE "+name+" ADD PRIMARY KEY (…)",
			"table %s has no primary key: with REPLICA IDENTITY FULL the stream says what a row was, but two equal rows can't be told apart", t.TableName)
	case len(t.PrimaryKey) == 0:
		c.add(at, "ALTER TABLE "+name+" ADD PRIMARY KEY (…)",
			"table %s has no primary key: nothing says which row a change is of, and publishing the table would make the application's updates fail", t.TableName)
	case t.Identity == "n":
		c.add(at, "ALTER TABLE "+name+" REPLICA IDENTITY DEFAULT",
			"table %s has REPLICA IDENTITY NOTHING: once it is published, the application's updates and deletes fail", t.TableName)
	case t.Identity == "f" && t.Kind == "p":
		c.add(at, "ALTER TABLE "+name+" REPLICA IDENTITY DEFAULT",
			"table %s is partitioned and has REPLICA IDENTITY FULL: its old rows would be taken for whole, and those of a new partition come with their key alone", t.TableName)
	case t.Identity == "i" && !covers(t.IdentityColumns, t.PrimaryKey):
		c.add(at, "ALTER TABLE "+name+" REPLICA IDENTITY DEFAULT",
			"the replica identity index of table %s lacks a column of the primary key: a delete would not say which row, and a change of the key would not show", t.TableName)
	default:
		return c.keyIsExact(at, t)
	}
	return false
}

// followsOnce refuses a partitioned table beside one of its partitions: what
// happens to their rows comes once, under the name of one of the two.
func (c *compiler) followsOnce() {
	for _, o := range c.order {
		for _, up := range o.cat.Ancestors {
			if whole := c.origins[up]; whole != nil {
				c.add(o.at, "map one of the two", "table %s is a partition of %s, which the mapping follows as well (%s)", o.name, up, whole.at.path)
			}
		}
	}
}

// keyIsExact refuses keys of which two different texts can be the same row: the
// bridge tells rows apart by the text of their key.
func (c *compiler) keyIsExact(at pos, t *pg.Table) bool {
	for _, name := range t.PrimaryKey {
		col := t.Column(name)
		switch {
		case col.Fuzzy:
			c.add(at, "give the key column a deterministic collation", "key column %q of table %s has a nondeterministic collation: texts that differ may be one row", name, t.TableName)
		case col.Generated != "":
			c.add(at, "leave the table out of the mapping", "key column %q of table %s is generated, so the stream doesn't carry it", name, t.TableName)
		default:
			continue
		}
		return false
	}
	return true
}

// covers reports whether set has all of names.
func covers(set, names []string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(set, n) })
}

// column returns a source column that the mapping wants to read, or notes why it
// can't.
func (c *compiler) column(at pos, t *pg.Table, name string) *pg.Column {
	col := t.Column(name)
	switch {
	case col == nil:
		fix := "check its name"
		if t.Column(name+"_id") != nil {
			fix = "did you mean " + name + "_id?"
		} else if k := nearest(name, columnNames(t)); k != "" {
			fix = "did you mean " + k + "?"
		}
		c.add(at, fix, "source table %s has no column %q", t.TableName, name)
		return nil
	case col.Generated != "":
		c.add(at, "leave it out of the mapping", "column %q of source table %s is generated, so the stream doesn't carry it", name, t.TableName)
		return nil
	}
	return col
}

func columnNames(t *pg.Table) []string {
	names := make([]string, len(t.Columns))
	for i := range t.Columns {
		names[i] = t.Columns[i].Name
	}
	return names
}
