// Package cdc holds the words that every part of the bridge shares: what a
// value, a row, a change and a transaction of the source are once they have
// left the wire and before they have become rows of the target.
package cdc

import (
	"time"

	"github.com/jackc/pglogrepl"
)

// LSN is a byte position in the source's write-ahead log.
type LSN = pglogrepl.LSN

// Kind says how a Value is to be read. The zero Kind is Null.
type Kind uint8

const (
	// Null is SQL NULL. In an old key image it means "not sent", see Change.Old.
	Null Kind = iota
	// Text is a value in PostgreSQL's text form under the pinned settings.
	Text
	// Unchanged marks a TOASTed value that an UPDATE did not touch and that
	// pgoutput therefore left out (kind 'u', protocol-logicalrep-message-formats).
	// It is neither NULL nor empty: whoever writes it as either loses data.
	Unchanged
)

// Value is one column of one row, carried as PostgreSQL's own text from end to
// end, because Go's time and float types cannot hold every value (infinity, BC
// dates, NaN, numerics of any length). Values compare with ==.
type Value struct {
	Text string
	Kind Kind
}

// TextValue returns s as a value that is not NULL.
func TextValue(s string) Value { return Value{Text: s, Kind: Text} }

// IsNull reports whether v is SQL NULL. An unchanged value is not NULL.
func (v Value) IsNull() bool { return v.Kind == Null }

// Row is the values of one row in the column order of its relation or table.
type Row []Value

// Identity is a table's replica identity, pg_class.relreplident.
type Identity byte

// The four replica identities.
const (
	IdentityDefault Identity = 'd'
	IdentityNothing Identity = 'n'
	IdentityFull    Identity = 'f'
	IdentityIndex   Identity = 'i'
)

// Relation is a source table as one Relation message described it. A later
// message for the same OID makes a new Relation; the layout of a Relation never
// changes, so it may be compared and cached by pointer.
type Relation struct {
	OID      uint32
	Schema   string
	Name     string
	Identity Identity
	Columns  []Column
}

// Column is one published column of a Relation.
type Column struct {
	Name string
	// Type is the type's OID at the source, Mod its modifier or -1.
	Type uint32
	Mod  int32
	// Key reports that the column is part of the replica identity. With
	// REPLICA IDENTITY FULL that is every column, so it does not name the
	// primary key; that comes from pg_index.
	Key bool
}

// Op is what a change did.
type Op byte

// The operations of pgoutput that carry data, by their message byte.
const (
	Insert   Op = 'I'
	Update   Op = 'U'
	Delete   Op = 'D'
	Truncate Op = 'T'
	Message  Op = 'M'
)

// Change is one change of one source transaction.
type Change struct {
	Op Op
	// Ordinal counts the changes of the transaction that are row changes or
	// truncated relations, from 1, whether or not they are mapped. Together
	// with the commit LSN it names a change for ever.
	Ordinal uint32
	// Relation is nil for a logical message. A TRUNCATE of several relations is
	// one Change for each.
	Relation *Relation
	// Old is the former row as far as the replica identity sends it: nil for an
	// UPDATE under the default identity whose key did not change. Unless
	// OldFull, only key columns are known; its other columns are Null and mean
	// "not sent".
	Old     Row
	OldFull bool
	// New is the row after an INSERT or UPDATE, else nil.
	New Row
	// Prefix and Content are those of a logical message
	// (pg_logical_emit_message); empty for row changes.
	Prefix  string
	Content string
}

// Transaction is a source transaction, or a slice of one that is too large to
// be held at once. Slices of one transaction follow each other without another
// transaction between them; only the last one knows the end LSN.
type Transaction struct {
	XID uint32
	// Commit is the LSN of the commit record. It orders transactions, and it
	// is known from the first slice on, because BEGIN carries it.
	Commit LSN
	// End is the LSN after the commit record: what a checkpoint stores and what
	// is confirmed. Confirming Commit instead makes the server send the
	// transaction again. Zero unless Last.
	End LSN
	// Time is the commit time by the source's clock. It may go backwards from
	// one transaction to the next.
	Time    time.Time
	Changes []Change
	// First and Last bound the slices; both are true for a whole transaction.
	First, Last bool
	// Bytes is about what the slice takes in memory.
	Bytes int
}
