// Package mapping turns changes of the source into final rows of the target. A
// mapping file says, for each target table, which source table it comes from,
// which columns, and which values are reached over foreign keys; Compile checks
// it against both databases and makes a Mapping, and a Batch drives it over the
// transactions of one target transaction:
//
//	collect what must be known ─► sink Load ─► resolve · fold · diff · audit ─► sink Apply
//
// The package knows the sink only by its Load and Apply, and the source only by
// what the stream has said.
package mapping

import (
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// Mapping is a mapping file compiled against a source and a target. It never
// changes after Compile and may be shared.
type Mapping struct {
	// Schema is what the sink needs: tables, nodes, the audit table.
	Schema *sink.Schema
	// Sources are the followed source tables, parents before children: the
	// order of the first copy, and of the rows that one batch writes.
	Sources []*Source
	// Audit is nil when nothing is audited.
	Audit *Audit
	// Reads are the source tables that only initial expressions read: the first
	// copy needs SELECT on them, but they are not published.
	Reads []pg.TableName
	// Dashboard is nil when the file has no such section.
	Dashboard *Dashboard
	// Warnings are what Compile has noticed that will work, but perhaps not as
	// it was meant.
	Warnings []string
}

// Source is a source table that the bridge follows, because a target table comes
// from it or a path passes it.
type Source struct {
	Schema, Name string
	// OID is the table's at the source, 0 if unknown. Its rows come under the name
	// that it has at the time, which may be another one.
	OID uint32
	// Partitioned: its rows are those of its partitions.
	Partitioned bool
	// Key are the primary key's columns by name, from pg_index and never from
	// the relation's key flags.
	Key []KeyColumn
	// Inputs are the columns that the mapping reads, the key's first.
	Inputs []Input
	// Node is set when paths pass this table. Node.Columns are among Inputs;
	// NodeInputs are their positions.
	Node       *sink.Node
	NodeInputs []int
	// Target is set when a target table comes from this one.
	Target *Target
}

// FullName is the schema-qualified name, unquoted.
func (s *Source) FullName() string { return s.Schema + "." + s.Name }

// Input is a source column that the mapping reads.
type Input struct {
	Name string
	// Type is the type's OID at the source, TypeName its name with modifier for
	// messages.
	Type     uint32
	TypeName string
	// Carrier is the position of the target column that carries this input as
	// it is, or -1. An unchanged TOAST value is taken from there.
	Carrier int
}

// KeyColumn is a column of a source's primary key.
type KeyColumn struct {
	Name string
	// Type is the type's OID.
	Type uint32
	// Integer keys are ordered by value; all others by the bytes of their text
	// (COLLATE "C"), so that Go and PostgreSQL agree about the ranges of a copy.
	Integer bool
}

// Policy is what happens to a row that has to go.
type Policy uint8

const (
	// Delete removes the target row with the source's.
	Delete Policy = iota
	// Keep leaves it, with a deletion mark.
	Keep
	// Hold keeps a row without a tenant in walbridge.held.
	Hold
	// Drop counts a row without a tenant and forgets it.
	Drop
)

// Target says how the rows of one target table are made.
type Target struct {
	Table *sink.Table
	// Columns are parallel to Table.Columns.
	Columns []Column
	// OnDelete is Keep or Delete, WithoutTenant is Hold or Drop.
	OnDelete, WithoutTenant Policy
	// Realtime says that Supabase's Realtime is to carry the table's changes.
	Realtime bool
	// Audit is nil when changes of this table make no entries.
	Audit *TableAudit
}

// Column says where one target column comes from. Exactly one of Own, Const,
// Derived and Observed is set.
type Column struct {
	// Own are positions in Source.Inputs; the value is the first that is not
	// null, or Convert of all of them.
	Own []int
	// Convert makes the value of Own, nil for first-non-null. It is given no
	// unchanged values.
	Convert Convert
	// ConvertName is Convert's name in the mapping file.
	ConvertName string
	// Const is a fixed value.
	Const *cdc.Value
	// Derived columns are described by Table.Derived.
	Derived bool
	// Observed columns are set by the stream.
	Observed *Observed
}

// Convert makes one value of several. It is pure, so that the stream, the copy
// and verify agree. An error means that the value can't be converted; it never
// contains the value.
type Convert func(in []cdc.Value) (cdc.Value, error)

// Observed is a column that records when another one took certain values: the
// commit time of the change that brought Column into When, null when it leaves.
type Observed struct {
	// Column is the position in Target.Columns of the watched column.
	Column int
	When   map[string]bool
	// Initial is an SQL expression over the source row, aliased s, for the first
	// copy; empty for null. Compile builds it from quoted names only.
	Initial string
}

// Audit says how entries are made.
type Audit struct {
	// Values is All, Changed or None.
	Values AuditValues
	// Unchanged makes entries for updates that change nothing, too.
	Unchanged bool
	// MaxValue is the size in bytes above which a value is replaced by its size
	// and hash.
	MaxValue int
	// Chain links entries, so that nobody can alter the log unnoticed.
	Chain bool
}

// AuditValues says which values entries carry.
type AuditValues uint8

// The choices of audit.values.
const (
	AuditChanged AuditValues = iota
	AuditAll
	AuditNone
)

// TableAudit is a table's part of the audit.
type TableAudit struct {
	// Entity is the first half of an action: "conversation" in
	// "conversation.closed".
	Entity string
	// User is the position in Table.Columns of the column that holds the acting
	// user, or -1.
	User int
	// Transitions are tried in order; the first that fits names the action.
	Transitions []Transition
	// Hidden are columns whose values are left out of entries.
	Hidden map[int]bool
}

// Transition names the action of a change that has a meaning of its own.
type Transition struct {
	// Verb is the second half of the action: "closed".
	Verb string
	// OnInsert fits inserts, else updates.
	OnInsert bool
	// Column is the position in Table.Columns of the column that must have
	// changed (by an update), or -1 for an insert whatever its values.
	Column int
	// From and To, unless empty, are the texts that it must have had and must
	// have now. NotNull demands a value now.
	From, To map[string]bool
	NotNull  bool
	// Keys, unless empty, are top-level keys of a JSON object of which at least
	// one must have changed; a trailing * stands for any ending.
	Keys []string
}
