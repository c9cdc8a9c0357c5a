package sink

// Schema is what a compiled mapping needs of a target. Implementations generate
// their statements from it; the mapping's tables, nodes and entries refer to
// the same pointers in every Query and Writes.
type Schema struct {
	// Fingerprint changes whenever the mapping's meaning does.
	Fingerprint string
	Tables      []*Table
	Nodes       []*Node
	// Entries is the audit table, nil without audit.
	Entries *EntryTable
	// Alerts are those that Tend raises, nil without.
	Alerts *Alerts
	// LateIndexes lets Install leave indexes of tables to the end of their first
	// copy, because one that is made of all rows at once costs a fraction of what it
	// takes row by row. They are made in the batch that records the copy as done, or
	// that has to find rows by them.
	LateIndexes bool
}

// Table is a target table as the mapping writes it.
type Table struct {
	Schema, Name string
	// Source is the table whose rows it has, as CopyProgress names it.
	Source string
	// Columns are the mapped columns; others of the table are left alone.
	Columns []Column
	// Key are the positions in Columns of the primary key, in key order.
	Key []int
	// Tenant is the position in Columns of the tenant column.
	Tenant int
	// Derived are the columns that are reached over paths, the tenant among
	// them unless it is the row's own.
	Derived []Derived
	// Indexes are the columns, by position, that need an index each.
	Indexes [][]int
	// Parent says that other rows depend on this table's. Those of a parent are
	// fewer, and written again and again.
	Parent bool
}

// Whose is the table with nothing but what says whose a row is and where it is
// reached from, for rows whose other values don't matter.
func (t *Table) Whose() *Table {
	s := &Table{Schema: t.Schema, Name: t.Name}
	at := map[int]int{}
	column := func(i int) int {
		if _, ok := at[i]; !ok {
			at[i] = len(s.Columns)
			s.Columns = append(s.Columns, t.Columns[i])
		}
		return at[i]
	}
	for _, k := range t.Key {
		s.Key = append(s.Key, column(k))
	}
	s.Tenant = column(t.Tenant)
	for _, d := range t.Derived {
		n := Derived{Column: column(d.Column)}
		for _, l := range d.From {
			n.From = append(n.From, Lookup{Column: column(l.Column), Steps: l.Steps})
		}
		s.Derived = append(s.Derived, n)
	}
	return s
}

// Column is a mapped column of a Table.
type Column struct {
	Name string
	// Type is the type's name as SQL takes it, quoted and without a modifier
	// ("pg_catalog"."int8"): a cast to varchar(20) would cut a value silently
	// where an assignment refuses it.
	Type string
	// NotNull is only for tables that Install makes.
	NotNull bool
	// Observed columns are set by the stream; a copy does not overwrite them.
	Observed bool
}

// Node is a source table that paths pass: for each of its rows the bridge keeps
// the values of Columns in walbridge.path_values.
type Node struct {
	// Name is the source table, schema-qualified, as the private schema stores it.
	Name string
	// Columns are the source columns whose values are kept, in their stored order.
	Columns []string
	// Next is, for each of Columns, the node whose key the value is, or nil.
	Next []*Node
}

// Derived is a target column whose value is the first of From that is not null.
type Derived struct {
	// Column is the position in Table.Columns.
	Column int
	From   []Lookup
}

// Lookup starts at the row's own target column Column; each step takes the value
// so far as a key of Node and goes on with its value at Column. Without steps it
// is the row's own value.
type Lookup struct {
	Column int
	Steps  []Step
}

// Step is one lookup in the path values.
type Step struct {
	Node   *Node
	Column int // position in Node.Columns
}
