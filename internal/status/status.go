// Package status holds what the bridge says about itself: one state, a few
// positions and counters, a short history, and the last errors with their remedies.
// The replicator sets it, package status/web shows it. Of rows it holds no values but
// the tenants' ids.
package status

import (
	"slices"
	"sync"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
)

// Phase is what the bridge is doing.
type Phase string

// The phases, as status.json and the metrics spell them.
const (
	// Starting: gate, preparation, first contact.
	Starting Phase = "starting"
	// Copying: the first copy is under way; the stream is followed, too.
	Copying Phase = "copying"
	// Streaming: everything is copied, changes are followed.
	Streaming Phase = "streaming"
	// Standby: another instance holds the lease.
	Standby Phase = "standby"
	// Retrying: source or target is away; it goes on by itself.
	Retrying Phase = "retrying"
	// Blocked: a person has to mend something; it goes on by itself after that.
	Blocked Phase = "blocked"
	// Stopped: the process is about to end. Asked from the databases: no bridge
	// is at work.
	Stopped Phase = "stopped"
	// Unknown is what the databases say of a bridge that is attached to the slot
	// and silent otherwise. No bridge says it of itself.
	Unknown Phase = "unknown"
)

// Phases lists those of a bridge, in the order of a life.
func Phases() []Phase {
	return []Phase{Starting, Copying, Streaming, Standby, Retrying, Blocked, Stopped}
}

// Ready reports that the bridge does its work, or waits to take it over.
func (p Phase) Ready() bool { return p == Copying || p == Streaming || p == Standby }

// From says whose word a snapshot is that a command got.
type From string

// Who can be asked.
const (
	// FromBridge: a running bridge has answered.
	FromBridge From = "bridge"
	// FromDatabases: the checkpoint row at the target and the slot at the source.
	FromDatabases From = "databases"
)

// Snapshot is the state at one moment. Its JSON form is status.json.
type Snapshot struct {
	// From is set by whoever asked; a bridge leaves it empty.
	From From
	// Name is the bridge's, Version the program's.
	Name    string
	Version string
	// State is the phase, Since when it began; Started is the process's start.
	State   Phase
	Since   time.Time
	Started time.Time

	// Checkpoint is the end LSN of the last transaction that the target has;
	// Source is the source's flush LSN, Confirmed what the source was told.
	Checkpoint, Source, Confirmed cdc.LSN
	// Blocked is the commit LSN of the one transaction that the bridge is blocked
	// at; zero if it isn't, or not by a single transaction.
	Blocked cdc.LSN
	// LagBytes is the WAL between the two, 0 when there is nothing to apply.
	LagBytes int64
	// Behind is the commit time of the oldest transaction that is not durable at
	// the target, zero if there is none. LagSeconds follows from it, so that the
	// lag grows by itself while nothing moves.
	Behind     time.Time
	LagSeconds float64

	// Epoch is that of the lease which this process had last, 0 before it had one;
	// Takeovers is how often it waited as a standby and took over. The metrics alone
	// show them.
	Epoch, Takeovers int64

	// Rows, Entries and Dropped are totals since the first start of the bridge,
	// Batches since the start of the process. Held is how many rows are held now.
	Rows, Entries, Dropped, Batches, Held int64
	// Chain is the head of the chain over the audit log, as sink.Chain writes it; empty
	// without one.
	Chain string
	// Errors counts failed attempts since the start of the process, by class.
	Errors map[string]int64
	// LastError stays after the bridge has recovered; nil if there was none. Problems
	// are the last ones since the start of the process, the newest first.
	LastError *Problem
	Problems  []Problem
	// Transactions and Written are how many transactions of the source with changes of
	// mapped tables, and how many rows, have been applied since the start of the
	// process; TxRate and RowRate are those a second over the last minute, while a
	// history is kept.
	Transactions, Written int64
	RowRate, TxRate       float64
	// Tables are all source tables, the busiest first; Tenants the busiest ones since
	// the start of the process, and OtherTenants the rows of all others.
	Tables       []Table
	Tenants      []Tenant
	OtherTenants int64
	// HeldBy counts held rows by table and reason. Where very many are held it counts
	// some of them, and the sum is less than Held.
	HeldBy []Held
	// Request is what an operator has asked for and is being worked on, or nil.
	Request *Request
	// Slot is what the source says about the slot, nil before that is known.
	Slot *Slot
	// Copy is the first copy's progress in its order, empty when nothing is to be
	// copied. CopyRate is in rows a second since this session began to copy, CopyLeft
	// about how many seconds the rest will take; 0 when nobody can tell, or nothing is
	// being copied.
	Copy               []Copy
	CopyRate, CopyLeft float64
}

// Problem is an error as an operator should see it.
type Problem struct {
	// At is when it happened last, Times how often in a row.
	At            time.Time
	Times         int64
	Class         string
	Message, Hint string
}

// Level says how near the slot is to doing harm, or to being lost.
type Level string

// The levels, as status.json spells them.
const (
	LevelOK      Level = "ok"
	LevelWarning Level = "warning"
	LevelAlarm   Level = "alarm"
)

// SlotDropped is the WALStatus of a slot that the bridge has dropped at its limit.
const SlotDropped = "dropped"

// Slot is the source's side of the bridge.
type Slot struct {
	// WALStatus is pg_replication_slots.wal_status, or SlotDropped.
	WALStatus string `json:"wal_status"`
	// Retained is how much WAL the source keeps for the bridge.
	Retained int64 `json:"retained_bytes"`
	// Safe is how much more may be written before the slot is lost; nil without a
	// limit.
	Safe *int64 `json:"safe_bytes"`
	// Level is empty when the databases were asked, which don't know the limits.
	Level Level `json:"level,omitempty"`
}

// Copy is the progress of one table's first copy.
type Copy struct {
	Table string `json:"table"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
	// Estimated says that Total is the planner's guess.
	Estimated bool `json:"estimated"`
	Finished  bool `json:"finished"`
}

// Percent is how much of the table is copied, 100 only at the end: until then
// the total is a guess.
func (c Copy) Percent() int64 {
	if c.Finished {
		return 100
	}
	return min(99, c.Done*100/max(1, c.Total))
}

// State holds the current snapshot. Its methods may be called from several
// goroutines.
type State struct {
	mu       sync.Mutex
	now      Snapshot
	activity activity
	history  History
}

// Healthy reports that the bridge does its work and, when the databases were
// asked, that they show nothing that is in its way.
func (n Snapshot) Healthy() bool {
	return n.State.Ready() && (n.From != FromDatabases || n.LastError == nil)
}

// New returns a state that is starting. version is the program's.
func New(version string) *State {
	t := time.Now()
	return &State{
		now:      Snapshot{Version: version, State: Starting, Since: t, Started: t, Errors: map[string]int64{}},
		activity: activity{tables: map[string]int64{}, tenants: map[string]int64{}},
	}
}

// SetState changes the phase.
func (s *State) SetState(p Phase) { s.Update(func(n *Snapshot) { n.State = p }) }

// Update changes several fields as one. change must not keep n, nor block.
func (s *State) Update(change func(n *Snapshot)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.now.State
	change(&s.now)
	if s.now.State != before {
		s.now.Since = time.Now()
	}
}

// Fail records err as the last error and counts it. err must be safe to print
// (pg.Safe). The phase is the caller's to change.
func (s *State) Fail(err error) {
	if err == nil {
		return
	}
	class := fault.ClassOf(err).String()
	p := &Problem{At: time.Now(), Times: 1, Class: class, Message: err.Error(), Hint: fault.HintOf(err)}
	s.Update(func(n *Snapshot) {
		n.LastError = p
		n.remember(*p)
		n.Errors[class]++
	})
}

// Snapshot returns a copy that nobody changes.
func (s *State) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.now
	n.Copy = slices.Clone(n.Copy)
	n.Errors = make(map[string]int64, len(s.now.Errors))
	for class, count := range s.now.Errors {
		n.Errors[class] = count
	}
	if n.LastError != nil {
		problem := *n.LastError
		n.LastError = &problem
	}
	if n.Slot != nil {
		slot := *n.Slot
		n.Slot = &slot
	}
	if n.Request != nil {
		request := *n.Request
		n.Request = &request
	}
	n.HeldBy, n.Problems = slices.Clone(n.HeldBy), slices.Clone(n.Problems)
	s.activity.show(&n)
	s.history.pace(&n, time.Now())
	n.LagSeconds = 0
	if !n.Behind.IsZero() {
		// The commit time is by the source's clock, which may be ahead of ours.
		n.LagSeconds = max(0, time.Since(n.Behind).Seconds())
	}
	return n
}
