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
	// consistent point after. A new incarnation has no heartbeat: the one of
	// before is forgotten. It returns ErrFenced under another epoch.
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

	// Held counts the rows that are held for this bridge, by table and reason. It
	// looks at HeldCountLimit of them at most: what it returns is for people to look
	// at, and must not become dear where many are held.
	Held(ctx context.Context) ([]HeldCount, error)

	// Tend does what the target needs beside the rows, from time to time and
	// between batches: it raises the alerts that are due (Schema.Alerts), unless
	// the target's own scheduler does, and keeps Realtime as t says. It returns
	// ErrFenced under another epoch, and needs Install as Begin does.
	Tend(ctx context.Context, epoch int64, t Tending) (Tended, error)

	// Close releases the connections. It never waits for the network for longer
	// than a second.
	Close(ctx context.Context) error
}

// TxOptions alter one batch.
type TxOptions struct {
	// Careful makes every Apply (and Recompute, ReleaseHeld, Truncate, EraseEntries) stand
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

	// EraseEntries removes the values from the bridge's entries about the rows of
	// r: "changed" goes from their details, with the salt of their place in the
	// chain, and "forgotten": true comes. The entries stay, with their numbers. It
	// returns those that still had to lose theirs.
	EraseEntries(ctx context.Context, r *Erase) ([]Erased, error)

	// Commit writes the checkpoint and commits. *UnknownError: the connection
	// broke around COMMIT, and only the checkpoint row can tell what happened;
	// the caller reads it and decides, and never sends the batch again blindly.
	Commit(ctx context.Context, p Progress) error

	// Rollback ends the batch without effect. It is safe after Commit and after
	// any error.
	Rollback(ctx context.Context) error
}
