// Package pgoutput decodes what PostgreSQL's output plugin pgoutput sends under
// protocol version 1, from PostgreSQL 14 to 18.
//
// The stream comes from another machine, so every length in it is checked
// against what is there before anything is read or allocated: a damaged frame
// gives a DecodeError, never a panic.
//
// Formats are those of the chapter "Logical Replication Message Formats"
// (protocol-logicalrep-message-formats); where the chapter is silent, of
// src/backend/replication/logical/proto.c, which writes them.
package pgoutput

import (
	"fmt"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
)

// Kind is the first byte of a frame, which says what message it is.
type Kind byte

// The messages of protocol version 1. Those that stream open transactions and
// those of two-phase commit come only if they are asked for.
const (
	Begin          Kind = 'B'
	Commit         Kind = 'C'
	Origin         Kind = 'O'
	Relation       Kind = 'R'
	Type           Kind = 'Y'
	Insert         Kind = 'I'
	Update         Kind = 'U'
	Delete         Kind = 'D'
	Truncate       Kind = 'T'
	LogicalMessage Kind = 'M'
)

// Message is one decoded frame. It is one struct for all kinds, so that the
// caller can reuse it and a change costs no allocation beyond its row and text.
// Fields that Kind doesn't have are zero.
//
// All texts of one message are parts of one string. Who keeps a single value for
// long should clone it, or it keeps the whole row in memory.
type Message struct {
	Kind Kind

	// XID is the transaction's id (Begin).
	XID uint32
	// CommitLSN is the position of the commit record (Begin, Commit), or of the
	// commit at the server where the transaction came from (Origin).
	CommitLSN cdc.LSN
	// EndLSN is the position after the commit record (Commit): what a checkpoint
	// stores.
	EndLSN cdc.LSN
	// CommitTime is by the source's clock, in UTC (Begin, Commit).
	CommitTime time.Time

	// Relation is the table of a row change, as its latest Relation message
	// described it, or the description itself (Relation).
	Relation *cdc.Relation
	// Old, OldFull and New mean what they mean in cdc.Change:
	//
	//	identity        Insert   Update                          Delete
	//	default, index  New      New; Old if the key changed     Old, key columns
	//	full            New      New; Old, all columns           Old, all columns
	//	nothing         New      refused by the source           refused
	//
	// A value of Old is never Unchanged: the source inlines what it logs of an
	// old row. One of New may be, in an Insert too: a row filter turns an Update
	// of a row that matches only now into an Insert, and can't fetch the value.
	Old     cdc.Row
	OldFull bool
	New     cdc.Row

	// Relations are the truncated tables, those reached by CASCADE included.
	Relations                []*cdc.Relation
	Cascade, RestartIdentity bool

	// A logical message. One that isn't Transactional is sent when it is
	// decoded, whatever transaction is open at that time; LSN is its position.
	Transactional bool
	LSN           cdc.LSN
	Prefix        string
	Content       string

	// OID, Schema and Name are those of a type that isn't built in (Type). Of a
	// domain Schema and Name are its base type's. Name is also the Origin's.
	OID          uint32
	Schema, Name string
}

// DecodeError says where a frame departs from the protocol. It carries no value
// of a row.
type DecodeError struct {
	// Kind is the frame's first byte, 0 if it is empty.
	Kind byte
	// Offset is where in the frame decoding stopped.
	Offset int
	Reason string
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("decode pgoutput message %q at byte %d: %s", rune(e.Kind), e.Offset, e.Reason)
}
