package sink

import (
	"errors"
	"fmt"

	"github.com/walbridge/walbridge/internal/cdc"
)

// Errors that decide what the caller does next.
var (
	// ErrNoCheckpoint: the target has no row for this bridge.
	ErrNoCheckpoint = errors.New("the target has no checkpoint of this bridge")
	// ErrStandby: another instance holds the lease.
	ErrStandby = errors.New("another instance of the bridge holds the lease")
	// ErrFenced: another instance has taken over; this one must exit.
	ErrFenced = errors.New("another instance of the bridge has taken over")
	// ErrExists: the target has a row that was to be a new one (RowSet.New).
	ErrExists = errors.New("the target has a row that was to be new")
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
