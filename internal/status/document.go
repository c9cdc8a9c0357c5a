package status

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/walbridge/walbridge/internal/cdc"
)

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
	Chain         string           `json:"audit_chain,omitempty"`
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
	Transactions  int64            `json:"transactions,omitempty"`
	Written       int64            `json:"rows_written,omitempty"`
	TxRate        float64          `json:"transactions_per_second,omitempty"`
	RowRate       float64          `json:"rows_per_second,omitempty"`
	Tables        []Table          `json:"tables,omitempty"`
	Tenants       []Tenant         `json:"tenants,omitempty"`
	OtherTenants  int64            `json:"other_tenants_rows,omitempty"`
	HeldBy        []Held           `json:"held_by,omitempty"`
	Request       *Request         `json:"request,omitempty"`
	Problems      []problem        `json:"last_errors,omitempty"`
}

// problem is a Problem in status.json.
type problem struct {
	At      time.Time `json:"at"`
	Times   int64     `json:"times"`
	Class   string    `json:"class"`
	Message string    `json:"error"`
	Hint    string    `json:"hint,omitempty"`
}

// MarshalJSON renders status.json.
func (n Snapshot) MarshalJSON() ([]byte, error) {
	d := document{
		From: n.From, State: n.State, Since: n.Since.UTC(), Name: n.Name, Version: n.Version, Started: n.Started.UTC(),
		CheckpointLSN: n.Checkpoint.String(), SourceLSN: n.Source.String(), ConfirmedLSN: n.Confirmed.String(),
		LagBytes: n.LagBytes, LagSeconds: n.LagSeconds,
		Rows: n.Rows, Entries: n.Entries, Chain: n.Chain, Held: n.Held, Dropped: n.Dropped, Batches: n.Batches,
		Errors: n.Errors, Slot: n.Slot, Copy: n.Copy, CopyRate: n.CopyRate, CopyLeft: n.CopyLeft,
		Transactions: n.Transactions, Written: n.Written, TxRate: n.TxRate, RowRate: n.RowRate,
		Tables: n.Tables, Tenants: n.Tenants, OtherTenants: n.OtherTenants, HeldBy: n.HeldBy, Request: n.Request,
	}
	for _, p := range n.Problems {
		p.At = p.At.UTC()
		d.Problems = append(d.Problems, problem(p))
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
		Rows: d.Rows, Entries: d.Entries, Chain: d.Chain, Held: d.Held, Dropped: d.Dropped, Batches: d.Batches,
		Errors: d.Errors, Slot: d.Slot, Copy: d.Copy, CopyRate: d.CopyRate, CopyLeft: d.CopyLeft,
		Transactions: d.Transactions, Written: d.Written, TxRate: d.TxRate, RowRate: d.RowRate,
		Tables: d.Tables, Tenants: d.Tenants, OtherTenants: d.OtherTenants, HeldBy: d.HeldBy, Request: d.Request,
	}
	for _, p := range d.Problems {
		n.Problems = append(n.Problems, Problem(p))
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
