package sink

import "github.com/walbridge/walbridge/internal/cdc"

// Query is what a segment of a batch needs to know.
type Query struct {
	// Rows asks for target rows, their deletion marks and their held rows.
	Rows map[*Table][]Key
	// Paths asks for path values, and for all that can be reached from them
	// over Node.Next.
	Paths map[*Node][]Key
	// Waiting asks which of these keys a row held for want of a tenant is
	// reached over.
	Waiting map[*Node][]Key
	// Held asks for the keys of one page of held rows.
	Held *HeldQuery
	// Keys asks for one page of the keys that the target has.
	Keys *KeyQuery
	// Dependents asks for keys of rows that refer to others.
	Dependents *DependentQuery
}

// KeyQuery asks for keys of a table's rows or, with Node, of the rows whose path
// values are kept and which aren't gone. Entries of the bridge, where the table is
// the audit log too, are left out.
type KeyQuery struct {
	Table *Table
	Node  *Node
	// Tenant, unless nil, leaves out the table's rows of other tenants.
	Tenant *string
	// After is the key behind which the page begins, nil for the first one. Keys
	// are in an order of the target's own.
	After *Key
	Limit int
}

// HeldCountLimit is how many held rows Sink.Held looks at.
const HeldCountLimit = 10_000

// HeldCount is how many rows of a target table are held for one reason.
type HeldCount struct {
	Table  string // schema-qualified
	Reason HeldReason
	Rows   int64
}

// HeldQuery chooses held rows of one table.
type HeldQuery struct {
	Table *Table
	// Reason and Keys leave out other rows, unless they are empty.
	Reason HeldReason
	Keys   []Key
	// After is the key behind which the page begins, nil for the first one. Keys
	// are in the order of their bytes.
	After *Key
	// Limit is how many keys the page has at most. It has fewer where the rows
	// are large: they are going to be loaded.
	Limit int
}

// Loaded answers a Query.
type Loaded struct {
	Rows    map[*Table]map[Key]Stored
	Paths   map[*Node]map[Key]PathRow
	Waiting map[*Node]map[Key]bool
	// Held is the page that Query.Held asks for, in order; MoreHeld says that
	// there are rows behind it.
	Held     []Key
	MoreHeld bool
	// Keys is the page that Query.Keys asks for, in order; MoreKeys says that
	// there are rows behind it.
	Keys     []Key
	MoreKeys bool
	// Dependents are the keys that Query.Dependents asks for, in no order.
	Dependents []Key
}

// Stored is what the target has for one key. A key that has nothing is not in
// the map.
type Stored struct {
	// Row is the row in the table, nil when it isn't there.
	Row cdc.Row
	// Deleted reports a deletion mark: the row was kept when the source's went,
	// with the commit DeletedAt.
	Deleted   bool
	DeletedAt cdc.LSN
	// Held is the row in walbridge.held, nil when it isn't there. A row is
	// never in both.
	Held *HeldRow
}

// PathRow is a source row's values in the order of Node.Columns. It stays after
// the source row is gone (Gone), for those that still depend on it.
type PathRow struct {
	Values cdc.Row
	Gone   bool
}
