package sink

import (
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
)

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
	// Publication is that of the publication's catalog rows when the slot was
	// made. A publication that was altered and altered back looks as it did
	// before, and the stream lacks what was written in between.
	Publication string
}

// Counters are totals since the first start, kept with the checkpoint.
type Counters struct {
	Rows    int64 // rows written to mapped tables
	Entries int64 // entries written
	Held    int64 // rows held now
	Dropped int64 // rows without a tenant that the mapping drops
	// AuditHead is n of the newest entry.
	AuditHead int64
	// Chain is where the chain over the entries stands.
	Chain Chain
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
