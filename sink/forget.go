package sink

// DependentQuery asks for rows that refer to others: those of Table (held ones
// among them) whose Column is one of Keys or, with Node, those whose path values
// are kept and have one of Keys at Column. Rows that are gone from the source are
// not left out.
type DependentQuery struct {
	Table *Table
	Node  *Node
	// Column is a position in Table.Columns or in Node.Columns.
	Column int
	Keys   []Key
	Limit  int
}

// Erase names rows of one source table whose values the audit log is to lose.
type Erase struct {
	// Source is the source table as details name it.
	Source string
	// Keys are the details' key objects, as JSON.
	Keys []string
}

// Erased are entries of one tenant that have lost their values.
type Erased struct {
	Tenant string
	// Numbers are those of the entries, in their order.
	Numbers []int64
}
