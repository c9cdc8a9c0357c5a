package replicator

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/replicator/pgoutput"
)

// assembler puts changes together into transactions. Protocol version 1 sends a
// transaction when it has committed, whole and without another in between:
// BEGIN, its changes in order, COMMIT.
type assembler struct {
	maxRows, maxBytes int

	open    bool
	tx      cdc.Transaction // what is gathered; First until a slice was cut
	ordinal uint32
	// upto is the last position handed over.
	upto cdc.LSN
	// Changes are cut from a larger array, because most transactions are small.
	changes []cdc.Change
	begin   int // where those of tx start in changes
	bytes   int // of all in changes
}

const (
	// changeBytes and valueBytes are what a change and a value take beside
	// their text.
	changeBytes = int(unsafe.Sizeof(cdc.Change{}))
	valueBytes  = int(unsafe.Sizeof(cdc.Value{}))
	// An array holds blockChanges changes, more if a transaction has more, and
	// takes no further transaction beyond blockBytes: each of them keeps the
	// rows of all others in memory.
	blockChanges = 256
	blockBytes   = 64 << 10
)

// errProtocol says that messages came in an order that the protocol excludes.
var errProtocol = errors.New("replication protocol violated")

// add takes one message that took size bytes on the wire. It returns an item when
// a transaction, or a slice of one, is complete.
func (a *assembler) add(msg *pgoutput.Message, size int) (item Item, ok bool, err error) {
	switch msg.Kind {
	case pgoutput.Begin:
		return Item{}, false, a.start(msg)
	case pgoutput.Commit:
		item, err = a.commit(msg)
		return item, err == nil, err
	case pgoutput.Insert, pgoutput.Update, pgoutput.Delete, pgoutput.Truncate:
	case pgoutput.LogicalMessage:
		if !msg.Transactional {
			return Item{}, false, nil
		}
	default:
		return Item{}, false, nil // relation, type and origin are the decoder's
	}
	if !a.open {
		return Item{}, false, fmt.Errorf("%w: change outside a transaction", errProtocol)
	}
	// Cutting when the next change arrives, and not when the slice is full,
	// leaves no empty slice at the end.
	if a.full() {
		item, ok = a.cut(0), true
	}
	a.change(msg, size)
	return item, ok, nil
}

func (a *assembler) start(msg *pgoutput.Message) error {
	if a.open {
		return fmt.Errorf("%w: BEGIN inside the transaction at %s", errProtocol, a.tx.Commit)
	}
	a.open, a.ordinal = true, 0
	a.tx = cdc.Transaction{XID: msg.XID, Commit: msg.CommitLSN, Time: msg.CommitTime, First: true}
	a.begin = len(a.changes)
	return nil
}

func (a *assembler) commit(msg *pgoutput.Message) (Item, error) {
	if !a.open {
		return Item{}, fmt.Errorf("%w: COMMIT at %s outside a transaction", errProtocol, msg.CommitLSN)
	}
	if msg.CommitLSN != a.tx.Commit {
		return Item{}, fmt.Errorf("%w: COMMIT at %s ends the transaction at %s", errProtocol, msg.CommitLSN, a.tx.Commit)
	}
	a.open = false
	a.upto = max(a.upto, msg.EndLSN)
	if a.tx.First && len(a.changes) == a.begin {
		// PostgreSQL 14 sends transactions that hold nothing for us.
		return Item{WALEnd: msg.EndLSN}, nil
	}
	return a.cut(msg.EndLSN), nil
}

// keepalive turns the server's position into an item if it says something new.
// Inside a transaction it is older than the transaction's end and is left out,
// so that slices follow each other; after a COMMIT it may still be.
func (a *assembler) keepalive(end cdc.LSN) (Item, bool) {
	if a.open || end <= a.upto {
		return Item{}, false
	}
	a.upto = end
	return Item{WALEnd: end}, true
}

func (a *assembler) full() bool {
	return len(a.changes)-a.begin >= a.maxRows || a.tx.Bytes >= a.maxBytes
}

// cut hands over what has been gathered; end is zero unless it is the rest of the
// transaction.
func (a *assembler) cut(end cdc.LSN) Item {
	tx := a.tx
	tx.End, tx.Last = end, end != 0
	tx.Changes = a.changes[a.begin:len(a.changes):len(a.changes)]
	a.tx.First, a.tx.Bytes = false, 0
	if a.begin = len(a.changes); a.bytes >= blockBytes {
		a.changes, a.begin, a.bytes = nil, 0, 0
	}
	return Item{Tx: &tx, WALEnd: end}
}

// change appends the changes of one message, one for each truncated relation.
func (a *assembler) change(msg *pgoutput.Message, size int) {
	size += changeBytes + valueBytes*(len(msg.Old)+len(msg.New))
	a.tx.Bytes += size
	a.bytes += size
	switch msg.Kind {
	case pgoutput.Truncate:
		for _, rel := range msg.Relations {
			a.ordinal++
			a.push(cdc.Change{Op: cdc.Truncate, Ordinal: a.ordinal, Relation: rel})
		}
	case pgoutput.LogicalMessage:
		// A message has no ordinal: whether messages are sent is an option, and
		// the ordinals of row changes must not depend on it.
		a.push(cdc.Change{Op: cdc.Message, Prefix: msg.Prefix, Content: msg.Content})
	default:
		a.ordinal++
		a.push(cdc.Change{Op: cdc.Op(msg.Kind), Ordinal: a.ordinal, Relation: msg.Relation,
			Old: msg.Old, OldFull: msg.OldFull, New: msg.New})
	}
}

func (a *assembler) push(c cdc.Change) {
	if len(a.changes) == cap(a.changes) {
		// The open transaction moves on to a new array; those before it keep
		// the old one for as long as somebody holds them.
		mine := a.changes[a.begin:]
		a.changes = append(make([]cdc.Change, 0, max(blockChanges, 2*len(mine))), mine...)
		a.begin, a.bytes = 0, a.tx.Bytes
	}
	a.changes = append(a.changes, c)
}
