package sink

import (
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
)

// Writes are final rows. The parts are written in the order of the fields; a key
// occurs at most once in each of them, so no statement touches a row twice.
// Deletes go before Rows, because a unique value may pass from one to the other.
type Writes struct {
	Paths  []PathWrite
	Unhold []Ref // leave walbridge.held
	Delete []RowSet
	Rows   []RowSet
	Mark   []Ref // deletion marks set; LSN says at which commit
	Unmark []Ref
	Hold   []HeldRow
	// Entries go to the audit table. Their ids are new; a duplicate is an error
	// that stops the bridge and never a row to be skipped.
	Entries []Entry
	// Anew says that private rows are laid out under another mapping: the bridge's
	// path values go, and its held rows of the mapping's tables keep their entries
	// and lose their values, until they are read again.
	Anew bool
	// Copied records the progress of a first copy.
	Copied []CopyProgress
	// Requests record how far requests have come, or that they are done. One
	// that is not open any more is an error (*MissingError).
	Requests []Request
}

// PathWrite sets the path values of one source row. Forget removes them (the
// row's key changed). New is as in RowSet.
type PathWrite struct {
	Node   *Node
	Key    Key
	Row    PathRow
	Forget bool
	New    bool
}

// Ref names a row of a table.
type Ref struct {
	Table *Table
	Key   Key
	LSN   cdc.LSN
}

// RowSet is rows of one table that are written by one statement.
type RowSet struct {
	Table *Table
	Mode  Mode
	// New says that no row of an Insert is believed to be there. The sink may then
	// take a shorter way, on which one that is there after all is ErrExists.
	New bool
	// Columns are the positions in Table.Columns that Rows carry, in this
	// order; for Update the key columns come first, as in Table.Key, and for
	// Remove there are only those.
	Columns []int
	Rows    []cdc.Row
}

// Mode is how a RowSet is written.
type Mode uint8

const (
	// Insert expects rows that aren't there, and overwrites the given columns
	// where they are after all: another writer, a kept row that lives again.
	// Their deletion marks go.
	Insert Mode = iota + 1
	// Update expects rows that are there; one that isn't is an error
	// (*MissingError), because an UPDATE that meets a policy or a foreign
	// delete affects no row silently.
	Update
	// Remove deletes rows; one that isn't there is no error.
	Remove
)

// HeldReason says why a row is held.
type HeldReason string

const (
	// HeldTenant: no tenant can be resolved.
	HeldTenant HeldReason = "tenant"
	// HeldRejected: the target refused the row.
	HeldRejected HeldReason = "rejected"
	// HeldIncomplete: the row has values that the stream left out and the target
	// never had. They are being read from the source. Row has null for them, and
	// Code their names.
	HeldIncomplete HeldReason = "incomplete"
)

// HeldRow is a row that could not be written. It carries the whole row as its
// table would have it, so that it can be released without asking the source.
type HeldRow struct {
	Table  *Table
	Key    Key
	Row    cdc.Row
	Reason HeldReason
	// Code is the SQLSTATE that the target refused the row with, if it did, or a
	// JSON array of the columns that an incomplete row lacks.
	Code string
	// Since is the commit that made the row held.
	Since cdc.LSN
	// Waiting are the audit entries of the row's changes while it had no
	// tenant, encoded by the mapping, oldest first. The sink only keeps them.
	Waiting []string
}

// Recompute names the rows of Table whose derived columns pass one of Keys of
// Node.
type Recompute struct {
	Table *Table
	Node  *Node
	Keys  []Key
	// LSN is the commit that changed the path values: Since of the rows that
	// become held.
	LSN cdc.LSN
}

// Truncate empties one table or one node. LSN is the commit that the deletion
// marks name.
type Truncate struct {
	Table *Table
	Node  *Node
	Keep  bool
	LSN   cdc.LSN
}

// Moved counts rows that a Recompute took from one tenant to another. From or To
// is null for rows that had no tenant or have none any more. Rows whose tenant
// stayed and of which only other derived columns changed have From equal to To.
type Moved struct {
	Table *Table
	// Key is the key of Recompute.Node that the rows were reached over.
	Key      Key
	From, To cdc.Value
	Rows     int64
}

// EntryTable is where audit entries go, with the names of its columns.
type EntryTable struct {
	Schema, Name                            string
	ID, Tenant, User, Action, Details, Time string
	// Chained says that entries are linked, so that they have to be found by their
	// numbers.
	Chained bool
}

// Entry is one row of the audit log.
type Entry struct {
	ID      string // UUID
	Tenant  string
	User    cdc.Value
	Action  string
	Details string // a JSON object
	Time    time.Time
}

// CopyProgress is how far the first copy of a source table has come.
type CopyProgress struct {
	// Source is the source table, schema-qualified.
	Source string
	// Upto is the last key that was copied, as a JSON array of texts; empty
	// before the first piece.
	Upto string
	// Pending are keys up to Upto that a transaction touched while their piece
	// was being read. They count as not copied until they have been read again.
	Pending []Key
	Done    bool
	Rows    int64
	// Tenants counts the rows per tenant, for the entry at the end.
	Tenants map[string]int64
}
