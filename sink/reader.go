package sink

import (
	"context"

	"github.com/walbridge/walbridge/internal/cdc"
)

// Reader reads what a bridge has written while the bridge goes on writing: it
// takes no lease, locks nothing and changes nothing. Every method is one snapshot
// of the target (one statement or transaction, one RPC); two calls are two
// snapshots. A Reader knows the Schema that the mapping was compiled to and has
// one owner at a time.
//
// An answer that would take the target too long is an error that
// fault.TooLarge reports, and the caller asks for less.
type Reader interface {
	// Position returns the bridge's checkpoint, and whether a bridge is at work.
	// It returns ErrNoCheckpoint when the target has no row of it.
	Position(ctx context.Context) (Position, error)

	// Copies is Sink.Copies.
	Copies(ctx context.Context) ([]CopyProgress, error)

	// Load answers q as Tx.Load does.
	Load(ctx context.Context, q *Query) (*Loaded, error)

	// Sums digests the rows of a range, by tenant. Tenants without a row are left
	// out.
	Sums(ctx context.Context, r *Range) ([]Sum, error)

	// Hashes returns the rows of a range one by one, in the order of the key, at
	// most r.Limit of them.
	Hashes(ctx context.Context, r *Range) ([]RowHash, error)

	// Keys returns one page of keys, in the order of their bytes.
	Keys(ctx context.Context, l *Listing) ([]Key, error)

	// Written returns texts as the type writes them once it has read them, or
	// nil if it refuses one of them. typ is a Column's.
	Written(ctx context.Context, typ string, texts []string) ([]string, error)

	// Entries looks at the audit log by itself, from the entry with number first
	// on, which is 1 unless somebody has removed those before it. It must not be
	// called where the Schema has no Entries.
	Entries(ctx context.Context, first int64) (EntryCounts, error)

	// Numbered returns a page of the bridge's entries in the order of their numbers:
	// those beyond after, upto at most. next is the number that the page has come
	// to, from which the following one goes on; an entry that isn't there leaves no
	// trace. A value that an entry must have and has not is "", its time then
	// 1970's beginning. It must not be called where the Schema has no Entries, and
	// is only fast where they are Chained.
	Numbered(ctx context.Context, after, upto int64) (entries []Entry, next int64, err error)

	// Close releases the connections. It never waits for the network for longer
	// than a second.
	Close(ctx context.Context) error
}

// Position is how far a bridge has come.
type Position struct {
	Checkpoint
	// AtWork reports that somebody holds the lease, or the checkpoint's lock, as
	// a bridge does within a long transaction.
	AtWork bool
}

// Range is a part of a table's rows. Rows with a deletion mark are no part of
// any, nor are the bridge's own entries, where the table is the audit table.
type Range struct {
	Table *Table
	// After and Upto, unless nil, bound the key: beyond After, and Upto at most.
	// They are texts in the order of Table.Key. Integers and UUIDs are compared
	// by value, and every other type by the bytes of its text, whatever its
	// collation (Column.ByValue).
	After, Upto []string
	// Tenant, unless nil, is the only tenant whose rows are meant.
	Tenant *string
	// Parts are what is hashed of each row.
	Parts []Part
	// Limit is the most rows that Hashes returns.
	Limit int
}

// Part is what of a column goes into a row's hash: its value's text. Only of an
// observed column may it be less than the value.
type Part struct {
	// Column is the position in Table.Columns.
	Column int
	// Presence says that only whether the value is null counts.
	Presence bool
	// Nothing goes in, as if the value were null, where column Unless has one of
	// the texts Values. Without Values that is nowhere.
	Unless int
	Values []string
}

// ByValue reports how the column's values are ordered as a key: integers and
// UUIDs by value, all else by the bytes of its text.
func (c *Column) ByValue() bool {
	switch c.Type {
	case `"pg_catalog"."int2"`, `"pg_catalog"."int4"`, `"pg_catalog"."int8"`, `"pg_catalog"."uuid"`:
		return true
	}
	return false
}

// Sum digests the rows of one tenant in a Range.
type Sum struct {
	Tenant cdc.Value
	Rows   int64
	// Hash is the sum of the rows' hashes, in decimal digits.
	Hash string
}

// RowHash is one row of a Range. Its hash is the signed 64-bit
//
//	hashtextextended(ROW(parts …)::text, 0)
//
// of the parts as the types' output functions write them under the settings that
// package pg pins, so that two databases agree on it. Were it another one, equal
// rows would be compared value by value, which is slower and no less right.
type RowHash struct {
	Key    Key
	Tenant cdc.Value
	Hash   int64
}

// Listing chooses a page of keys. Of is one of the Listed constants.
type Listing struct {
	Of Listed
	// Table has the marks or held rows, Node the path values.
	Table *Table
	Node  *Node
	// After is the key behind which the page begins, nil for the first one.
	After *Key
	Limit int
}

// Listed says what a Listing lists.
type Listed uint8

const (
	// ListMarks lists the keys of Table with a deletion mark.
	ListMarks Listed = iota + 1
	// ListHeld lists the keys of Table that are held.
	ListHeld
	// ListPaths lists the keys of Node whose path values are kept, except for
	// those of rows that are gone.
	ListPaths
)

// EntryCounts are what is to be known about the bridge's entries by themselves.
// Entries that the application wrote are not among them.
type EntryCounts struct {
	// Head is the number of the newest entry by the checkpoint, Rows how many
	// entries there are.
	Head int64 `json:"head"`
	Rows int64 `json:"rows"`
	// Removed are the numbers before the first that was asked for: nothing is
	// known about their entries.
	Removed int64 `json:"removed"`
	// Lost are numbers from there up to Head that no entry has, FirstLost the first of
	// them.
	Lost      int64 `json:"lost"`
	FirstLost int64 `json:"first_lost"`
	// Beyond are entries whose number is above Head or no number from 1 on.
	Beyond int64 `json:"beyond"`
	// Doubled are entries that share their number with another one, Repeated
	// those that share their change and tenant.
	Doubled  int64 `json:"doubled"`
	Repeated int64 `json:"repeated"`
	// Tenantless entries belong to nobody.
	Tenantless int64 `json:"tenantless"`
}
