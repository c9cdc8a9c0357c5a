// Package status holds what the bridge says about itself: one state, a few
// positions and counters, and the last error with its remedy. The replicator
// sets it, package status/web shows it. It never holds a row's values.
package status

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"

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

	// Rows, Entries and Dropped are totals since the first start of the bridge,
	// Batches since the start of the process. Held is how many rows are held now.
	Rows, Entries, Dropped, Batches, Held int64
	// Errors counts failed attempts since the start of the process, by class.
	Errors map[string]int64
	// LastError stays after the bridge has recovered; nil if there was none.
	LastError *Problem
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
	At            time.Time
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
	mu  sync.Mutex
	now Snapshot
}

// Healthy reports that the bridge does its work and, when the databases were
// asked, that they show nothing that is in its way.
func (n Snapshot) Healthy() bool {
	return n.State.Ready() && (n.From != FromDatabases || n.LastError == nil)
}

// New returns a state that is starting. version is the program's.
func New(version string) *State {
	t := time.Now()
	return &State{now: Snapshot{Version: version, State: Starting, Since: t, Started: t, Errors: map[string]int64{}}}
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
	p := &Problem{At: time.Now(), Class: class, Message: err.Error(), Hint: fault.HintOf(err)}
	s.Update(func(n *Snapshot) {
		n.LastError = p
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
	n.LagSeconds = 0
	if !n.Behind.IsZero() {
		// The commit time is by the source's clock, which may be ahead of ours.
		n.LagSeconds = max(0, time.Since(n.Behind).Seconds())
	}
	return n
}

// document is status.json: a contract, so it has its own names.
type document struct {
	From          From             `json:"from,omitempty"`
	State         Phase            `json:"state"`
	Since         time.Time        `json:"since,omitzero"`
	Name          string           `json:"name"`
	Version       string           `json:"version"`
	Started       time.Time        `json:"started_at,omitzero"`
	CheckpointLSN string           `json:"checkpoint_lsn"`
	SourceLSN     string           `json:"source_lsn"`
	ConfirmedLSN  string           `json:"confirmed_lsn"`
	BlockedLSN    string           `json:"blocked_lsn,omitempty"`
	LagBytes      int64            `json:"lag_bytes"`
	LagSeconds    float64          `json:"lag_seconds"`
	Rows          int64            `json:"rows_applied"`
	Entries       int64            `json:"audit_rows"`
	Held          int64            `json:"held_rows"`
	Dropped       int64            `json:"dropped_rows"`
	Batches       int64            `json:"batches"`
	Errors        map[string]int64 `json:"errors"`
	LastError     *string          `json:"last_error"`
	LastErrorHint string           `json:"last_error_hint,omitempty"`
	LastErrorKind string           `json:"last_error_class,omitempty"`
	LastErrorAt   *time.Time       `json:"last_error_at,omitempty"`
	Slot          *Slot            `json:"slot"`
	Copy          []Copy           `json:"copy"`
	CopyRate      float64          `json:"copy_rows_per_second,omitempty"`
	CopyLeft      float64          `json:"copy_seconds_left,omitempty"`
}

// MarshalJSON renders status.json.
func (n Snapshot) MarshalJSON() ([]byte, error) {
	d := document{
		From: n.From, State: n.State, Since: n.Since.UTC(), Name: n.Name, Version: n.Version, Started: n.Started.UTC(),
		CheckpointLSN: n.Checkpoint.String(), SourceLSN: n.Source.String(), ConfirmedLSN: n.Confirmed.String(),
		LagBytes: n.LagBytes, LagSeconds: n.LagSeconds,
		Rows: n.Rows, Entries: n.Entries, Held: n.Held, Dropped: n.Dropped, Batches: n.Batches,
		Errors: n.Errors, Slot: n.Slot, Copy: n.Copy, CopyRate: n.CopyRate, CopyLeft: n.CopyLeft,
	}
	if p := n.LastError; p != nil {
		at := p.At.UTC()
		d.LastError, d.LastErrorHint, d.LastErrorKind, d.LastErrorAt = &p.Message, p.Hint, p.Class, &at
	}
	if n.Blocked != 0 {
		d.BlockedLSN = n.Blocked.String()
	}
	if d.Copy == nil {
		d.Copy = []Copy{}
	}
	if d.Errors == nil {
		d.Errors = map[string]int64{}
	}
	return json.Marshal(d)
}

// UnmarshalJSON reads status.json, for commands that ask a running bridge.
func (n *Snapshot) UnmarshalJSON(data []byte) error {
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return fmt.Errorf("read status: %w", err)
	}
	*n = Snapshot{
		From: d.From, State: d.State, Since: d.Since, Name: d.Name, Version: d.Version, Started: d.Started,
		LagBytes: d.LagBytes, LagSeconds: d.LagSeconds,
		Rows: d.Rows, Entries: d.Entries, Held: d.Held, Dropped: d.Dropped, Batches: d.Batches,
		Errors: d.Errors, Slot: d.Slot, Copy: d.Copy, CopyRate: d.CopyRate, CopyLeft: d.CopyLeft,
	}
	if d.LastError != nil {
		n.LastError = &Problem{Message: *d.LastError, Hint: d.LastErrorHint, Class: d.LastErrorKind}
		if d.LastErrorAt != nil {
			n.LastError.At = *d.LastErrorAt
		}
	}
	for _, p := range []struct {
		text string
		lsn  *cdc.LSN
	}{{d.CheckpointLSN, &n.Checkpoint}, {d.SourceLSN, &n.Source}, {d.ConfirmedLSN, &n.Confirmed}, {d.BlockedLSN, &n.Blocked}} {
		if p.text == "" && p.lsn == &n.Blocked {
			continue
		}
		lsn, err := pglogrepl.ParseLSN(p.text)
		if err != nil {
			return fmt.Errorf("read status: %w", err)
		}
		*p.lsn = lsn
	}
	return nil
}
