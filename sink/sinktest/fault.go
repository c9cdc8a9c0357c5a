package sinktest

import (
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// Op is a call of a sink that can be made to fail.
type Op string

// The calls of a sink and of a batch.
const (
	OpInstall     Op = "install"
	OpCheckpoint  Op = "checkpoint"
	OpAcquire     Op = "acquire"
	OpStore       Op = "store"
	OpRenew       Op = "renew"
	OpRelease     Op = "release"
	OpCopies      Op = "copies"
	OpRequests    Op = "requests"
	OpReport      Op = "report"
	OpTend        Op = "tend"
	OpHeld        Op = "held"
	OpBegin       Op = "begin"
	OpLoad        Op = "load"
	OpApply       Op = "apply"
	OpRecompute   Op = "recompute"
	OpReleaseHeld Op = "release held"
	OpTruncate    Op = "truncate"
	OpErase       Op = "erase entries"
	OpCommit      Op = "commit"
)

type fault struct {
	err error
	// after lets the call take effect first.
	after bool
}

// Fail makes the next call of op return err without any effect. Several faults
// of one op strike in the order in which they were set.
func (m *Memory) Fail(op Op, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults[op] = append(m.faults[op], fault{err: err})
}

// LoseReply makes the next commit take effect and then return err as a
// *sink.UnknownError: what a client sees when the answer to COMMIT is lost.
func (m *Memory) LoseReply(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults[OpCommit] = append(m.faults[OpCommit], fault{err: &sink.UnknownError{Err: err}, after: true})
}

// RejectIf makes the target refuse rows for which f returns an SQLSTATE. Rows
// are given with all columns of the table, of updates as they would be. nil
// refuses nothing more than the columns' types do.
func (m *Memory) RejectIf(f func(table *sink.Table, row cdc.Row) (sqlstate string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reject = f
}

// strike returns the fault that is due for op before it takes effect.
func (m *Memory) strike(op Op) error {
	if f := m.faults[op]; len(f) > 0 && !f[0].after {
		m.faults[op] = f[1:]
		return f[0].err
	}
	return nil
}

// strikeAfter returns the fault that is due for op after it has taken effect.
func (m *Memory) strikeAfter(op Op) error {
	if f := m.faults[op]; len(f) > 0 && f[0].after {
		m.faults[op] = f[1:]
		return f[0].err
	}
	return nil
}
