// Package sink is the contract between the bridge and the place that it writes
// to. There are two implementations (sink/postgres over a connection, sink/rest
// over one RPC a batch) and an in-memory one in sink/sinktest; all of them pass
// sinktest.Exercise. Nothing above this package knows which one is there.
//
// The flow of one batch is
//
//	tx := Begin(epoch, from)    compare the checkpoint, lock it
//	tx.Load, tx.Apply …         read, then write, any number of times
//	tx.Commit(progress)         rows, entries and checkpoint become visible at once
//
// A sink holds no logic of the mapping: it reads what it is asked for and writes
// final rows. The one thing that it computes by itself is Recompute, because a
// tenant move of a million rows must not travel.
package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
)

// Sink is one bridge's access to its target. It has one owner at a time and is
// not safe for concurrent use. While a batch is open, no other method than Close
// may be called; the lease need not be renewed then, because whoever wants it
// waits for the batch.
type Sink interface {
	// Install makes what is missing of the private schema and of the tables in
	// schema: additive and idempotent, it never drops or rewrites. With dry it
	// changes nothing and returns the statements that are missing. An existing
	// table whose columns have other types is a *SchemaError; all of them are
	// reported at once (errors.Join). The sink keeps schema: Entries and
	// Query.Waiting need it, so Install, dry or not, goes before the first batch.
	Install(ctx context.Context, schema *Schema, dry bool) (missing []string, err error)

	// Checkpoint reads the bridge's checkpoint row. It returns ErrNoCheckpoint
	// when there is none (a first start, or a target that was wiped).
	Checkpoint(ctx context.Context) (Checkpoint, error)

	// Acquire makes holder the one writer: where the lease is free, expired,
	// holder's own or force is set it raises the epoch, so that whoever held it before is
	// fenced, and makes the row if there is none. Else it returns ErrStandby,
	// and the row as it is.
	Acquire(ctx context.Context, holder string, lease time.Duration, force bool) (Checkpoint, error)

	// Store replaces the identity part of the checkpoint row (Checkpoint.Origin)
	// and its LSN outside any batch: the intent before a slot is made, its
	// consistent point after. It returns ErrFenced under another epoch.
	Store(ctx context.Context, epoch int64, origin Origin, lsn cdc.LSN) error

	// Renew prolongs the lease and records the state. It returns ErrFenced
	// under another epoch. Commit prolongs the lease too.
	Renew(ctx context.Context, epoch int64, lease time.Duration, state string) error

	// Release gives the lease back, so that a successor need not wait for it.
	Release(ctx context.Context, epoch int64) error

	// Begin starts a batch after the checkpoint from. ErrFenced: another epoch
	// holds the row. *StaleError: the checkpoint is elsewhere (an earlier commit
	// whose reply was lost has arrived, or the target was restored); it carries
	// the row as it is. Begin may defer its round trip to the first Load or
	// Apply or to Commit, which then return these errors.
	Begin(ctx context.Context, epoch int64, from cdc.LSN, opts TxOptions) (Tx, error)

	// Copies returns the progress of every first copy that was begun, in no
	// order.
	Copies(ctx context.Context) ([]CopyProgress, error)

	// Requests returns the requests of this bridge that are open (new or
	// running), oldest first.
	Requests(ctx context.Context) ([]Request, error)

	// Report records state, progress and error of an open request outside any
	// batch: that it has been taken up, or that it has failed. It returns
	// ErrNoRequest for one that is not open any more, and ErrFenced under
	// another epoch.
	Report(ctx context.Context, epoch int64, r Request) error

	// Close releases the connections. It never waits for the network for longer
	// than a second.
	Close(ctx context.Context) error
}

// TxOptions alter one batch.
type TxOptions struct {
	// Careful makes every Apply (and Recompute, ReleaseHeld, Truncate) stand
	// alone: it either takes effect or returns a *RejectError and leaves the
	// batch as it was before, still usable. It
	// costs a round trip an Apply, and is used to find the rows that a batch
	// failed on.
	Careful bool
	// Lease is how long the commit prolongs the lease.
	Lease time.Duration
}

// Tx is one batch. After any error other than a *RejectError of a Careful batch
// it is dead and must be rolled back.
type Tx interface {
	// Load answers q as the target is inside this batch, its earlier Applies
	// included. The maps of the answer hold only what exists.
	Load(ctx context.Context, q *Query) (*Loaded, error)

	// Apply writes w in the order of its fields, see Writes. A value or a row
	// that the target refuses is a *RejectError (SQLSTATE classes 22 and 23).
	// Apply may be deferred until the next Load, Recompute or Commit, except in
	// a Careful batch.
	Apply(ctx context.Context, w *Writes) error

	// Recompute brings the derived columns of every row of r.Table that is
	// reached over r.Keys in line with the path values as they are now: rows
	// change tenant, and rows whose tenant has become null leave for
	// walbridge.held. Rows that are right already are not written. Held rows
	// are not released; see ReleaseHeld.
	Recompute(ctx context.Context, r *Recompute) ([]Moved, error)

	// ReleaseHeld moves held rows (reason HeldTenant) of r.Table that are
	// reached over r.Keys and whose tenant is no longer null back into their
	// table, at most limit, and returns them with the entries that waited with
	// them, oldest first. Fewer than limit means there are no more.
	ReleaseHeld(ctx context.Context, r *Recompute, limit int) ([]HeldRow, error)

	// Truncate empties r.Table as its policy says: with Keep every row that has
	// no deletion mark gets one, else the rows go; held rows likewise. It
	// returns how many rows of each tenant that concerned (From and To are that
	// tenant, null for held rows). With r.Node instead, the path values of all of
	// its rows become those of rows that are gone.
	Truncate(ctx context.Context, r *Truncate) ([]Moved, error)

	// Commit writes the checkpoint and commits. *UnknownError: the connection
	// broke around COMMIT, and only the checkpoint row can tell what happened;
	// the caller reads it and decides, and never sends the batch again blindly.
	Commit(ctx context.Context, p Progress) error

	// Rollback ends the batch without effect. It is safe after Commit and after
	// any error.
	Rollback(ctx context.Context) error
}

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
}

// Table is a target table as the mapping writes it.
type Table struct {
	Schema, Name string
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

// Key identifies a row: the text of its key column, or for several columns
// their texts as EncodeKey joins them.
type Key string

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
	// Copied records the progress of a first copy.
	Copied []CopyProgress
	// Requests record how far requests have come, or that they are done. One
	// that is not open any more is an error (*MissingError).
	Requests []Request
}

// PathWrite sets the path values of one source row. Forget removes them (the
// row's key changed).
type PathWrite struct {
	Node   *Node
	Key    Key
	Row    PathRow
	Forget bool
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
)

// HeldRow is a row that could not be written. It carries the whole row as its
// table would have it, so that it can be released without asking the source.
type HeldRow struct {
	Table  *Table
	Key    Key
	Row    cdc.Row
	Reason HeldReason
	// Code is the SQLSTATE that the target refused the row with, if it did.
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

// Origin is the part of the checkpoint that says which history the LSN belongs
// to. LSNs and system identifiers repeat after a restore; Incarnation does not.
type Origin struct {
	// Incarnation is a random id, new whenever the slot is made anew.
	Incarnation string
	SystemID    string
	Timeline    int32
	Database    string
	Slot        string
	// Fingerprint is that of the mapping that the tables were filled with.
	Fingerprint string
}

// Counters are totals since the first start, kept with the checkpoint.
type Counters struct {
	Rows    int64 // rows written to mapped tables
	Entries int64 // entries written
	Held    int64 // rows held now
	Dropped int64 // rows without a tenant that the mapping drops
	// AuditHead is n of the newest entry.
	AuditHead int64
}

// Checkpoint is the bridge's row in walbridge.checkpoint.
type Checkpoint struct {
	Name  string
	Epoch int64
	// Holder and LeaseLeft describe the lease; LeaseLeft is by the target's
	// clock and negative when it has expired. A lease that was given back has no
	// Holder and 0 left.
	Holder    string
	LeaseLeft time.Duration
	Origin    Origin
	// LSN is the end LSN of the last transaction that is in the tables; zero
	// before the slot's consistent point is known.
	LSN           cdc.LSN
	Heartbeat     Heartbeat
	Counters      Counters
	State         string
	SchemaVersion int
	// Age is how long ago the row was written, by the target's clock; what a
	// batch has written is as old as its begin.
	Age time.Duration
}

// Heartbeat is the last heartbeat of the bridge that has passed through the
// stream and is stored at the target. A source that was restored from an older
// copy of itself can't produce the token at that LSN again.
type Heartbeat struct {
	Token string
	// Commit is the LSN of the commit record of its transaction: confirming it
	// makes the server send the heartbeat again.
	Commit cdc.LSN
}

// Progress is what Commit stores.
type Progress struct {
	// LSN is the end LSN of the last transaction of the batch.
	LSN       cdc.LSN
	Heartbeat Heartbeat
	Counters  Counters
	State     string
}

// Errors that decide what the caller does next.
var (
	// ErrNoCheckpoint: the target has no row for this bridge.
	ErrNoCheckpoint = errors.New("the target has no checkpoint of this bridge")
	// ErrStandby: another instance holds the lease.
	ErrStandby = errors.New("another instance of the bridge holds the lease")
	// ErrFenced: another instance has taken over; this one must exit.
	ErrFenced = errors.New("another instance of the bridge has taken over")
	// ErrNoRequest: the request has ended or was withdrawn.
	ErrNoRequest = errors.New("the request is not open any more")
)

// StaleError says that the checkpoint is not where the batch expected it.
type StaleError struct {
	Want cdc.LSN
	Got  Checkpoint
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("the target's checkpoint is at %s, not at %s", e.Got.LSN, e.Want)
}

// RejectError says that the target refused a row or a value. It names rows by
// table only; keys and values stay out of errors and logs.
type RejectError struct {
	Table string
	// Code is the SQLSTATE, Constraint the constraint's name if there is one.
	Code       string
	Constraint string
}

func (e *RejectError) Error() string {
	if e.Constraint != "" {
		return fmt.Sprintf("table %s refuses a row: SQLSTATE %s, constraint %s", e.Table, e.Code, e.Constraint)
	}
	return fmt.Sprintf("table %s refuses a row: SQLSTATE %s", e.Table, e.Code)
}

// MissingError says that rows which the bridge had read were gone, or out of its
// reach, when it updated them.
type MissingError struct {
	Table     string
	Want, Got int64
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("table %s: %d rows should have been written, %d were: another writer removes rows, or row security hides them from the bridge's role", e.Table, e.Want, e.Got)
}

// SQLState returns the SQLSTATE, for those that sort errors by it.
func (e *RejectError) SQLState() string { return e.Code }

// UnknownError says that a commit may or may not have happened.
type UnknownError struct{ Err error }

func (e *UnknownError) Error() string { return "the outcome of a commit is unknown: " + e.Err.Error() }
func (e *UnknownError) Unwrap() error { return e.Err }

// SchemaError says that a target table can't take what the mapping writes.
type SchemaError struct {
	Table, Column string
	Reason        string
	// Fix is what mends it, mostly SQL; it may be empty.
	Fix string
}

func (e *SchemaError) Error() string {
	text := "target table " + e.Table
	if e.Column != "" {
		text += ", column " + e.Column
	}
	text += ": " + e.Reason
	if e.Fix != "" {
		text += ": " + e.Fix
	}
	return text
}
