package oracle

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/sink"
)

// faults make some of a sink's batches fail, and all of its calls once the
// bridge counts as dead.
type faults struct {
	percent int
	dead    atomic.Bool
	mu      sync.Mutex
	r       *rand.Rand
}

var (
	errCut  = fault.Wrap(fault.Retry, "", io.ErrUnexpectedEOF)
	errDead = fault.Errorf(fault.Retry, "", "this instance has been killed")
)

// moment is where a batch fails.
type moment int

const (
	never moment = iota
	atLoad
	atApply
	atSet // Recompute, ReleaseHeld or Truncate
	beforeCommit
	afterCommit // the reply is lost
)

func (f *faults) draw() moment {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.r.IntN(100) >= f.percent {
		return never
	}
	return atLoad + moment(f.r.IntN(5))
}

// faultySink wraps a real sink.
type faultySink struct {
	sink.Sink
	f *faults
}

func (s *faultySink) Begin(ctx context.Context, epoch int64, from cdc.LSN, opts sink.TxOptions) (sink.Tx, error) {
	if s.f.dead.Load() {
		return nil, errDead
	}
	tx, err := s.Sink.Begin(ctx, epoch, from, opts)
	if err != nil {
		return nil, err
	}
	return &faultyTx{Tx: tx, f: s.f, at: s.f.draw()}, nil
}

func (s *faultySink) Release(ctx context.Context, epoch int64) error {
	if s.f.dead.Load() {
		return errDead
	}
	return s.Sink.Release(ctx, epoch)
}

func (s *faultySink) Renew(ctx context.Context, epoch int64, lease time.Duration, state string) error {
	if s.f.dead.Load() {
		return errDead
	}
	return s.Sink.Renew(ctx, epoch, lease, state)
}

type faultyTx struct {
	sink.Tx
	f  *faults
	at moment
}

func (t *faultyTx) strike(m moment) error {
	switch {
	case t.f.dead.Load():
		return errDead
	case t.at == m:
		return errCut
	}
	return nil
}

func (t *faultyTx) Load(ctx context.Context, q *sink.Query) (*sink.Loaded, error) {
	if err := t.strike(atLoad); err != nil {
		return nil, err
	}
	return t.Tx.Load(ctx, q)
}

func (t *faultyTx) Apply(ctx context.Context, w *sink.Writes) error {
	if err := t.strike(atApply); err != nil {
		return err
	}
	return t.Tx.Apply(ctx, w)
}

func (t *faultyTx) Recompute(ctx context.Context, r *sink.Recompute) ([]sink.Moved, error) {
	if err := t.strike(atSet); err != nil {
		return nil, err
	}
	return t.Tx.Recompute(ctx, r)
}

func (t *faultyTx) ReleaseHeld(ctx context.Context, r *sink.Recompute, limit int) ([]sink.HeldRow, error) {
	if err := t.strike(atSet); err != nil {
		return nil, err
	}
	return t.Tx.ReleaseHeld(ctx, r, limit)
}

func (t *faultyTx) Truncate(ctx context.Context, r *sink.Truncate) ([]sink.Moved, error) {
	if err := t.strike(atSet); err != nil {
		return nil, err
	}
	return t.Tx.Truncate(ctx, r)
}

func (t *faultyTx) Commit(ctx context.Context, p sink.Progress) error {
	if err := t.strike(beforeCommit); err != nil {
		return err
	}
	if err := t.Tx.Commit(ctx, p); err != nil {
		return err
	}
	if t.at == afterCommit {
		return &sink.UnknownError{Err: io.ErrUnexpectedEOF}
	}
	return nil
}
