package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// trouble is what keeps the target from taking a batch: said once, and once when
// it is over.
type trouble struct {
	since time.Time
	tries int
	err   error
	wait  *backoff.ExponentialBackOff
}

// missingRetries is how often a batch is tried again when rows that it had just
// read were gone: another writer may have removed them in between.
const missingRetries = 3

// apply brings a group to the target, however long that takes: it retries what
// goes away by itself, splits what is too large, finds the row that is refused,
// and waits for a person where only a person can help. It returns an error only
// when this session can't go on.
func (a *applier) apply(ctx, work context.Context, group []*cdc.Transaction, p *pieceRead) error {
	if len(group) == 0 {
		return nil
	}
	a.opts.Status.Update(func(n *status.Snapshot) { n.Behind = group[0].Time })
	careful, missing := false, 0
	for {
		err := a.attempt(work, group, p, careful)
		if err == nil {
			a.overcome()
			return nil
		}
		var (
			reject *sink.RejectError
			gone   *sink.MissingError
			layout *HistoryError
			limit  *mapping.RejectLimitError
		)
		switch {
		case errors.Is(err, sink.ErrFenced), errors.As(err, &layout):
			return err
		case ctx.Err() != nil && work.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, sink.ErrExists) && p != nil && !p.met:
			p.met = true // another writer was faster: what differs is written
			continue
		case errors.As(err, &reject) && !careful:
			careful = true
			continue
		case errors.As(err, &gone) && missing < missingRetries:
			missing++
			continue
		case p != nil && p.request.step != nil && fault.ClassOf(err) != fault.Retry:
			// A request that fails never stops the stream.
			if a.task != nil && a.task.resync == p.request.step.resync {
				a.fail(work, a.task.request, err)
			}
			p, careful = nil, false
			continue
		case fault.TooLarge(err) && len(group) > 1:
			return a.halves(ctx, work, group, p)
		case getsStuck(err) && len(group) > 1 && !errors.As(err, &limit):
			// One of them is in the way. Those before it are not, and it has a
			// name then.
			return a.halves(ctx, work, group, p)
		}
		blame := a.blames(err, group, p)
		if blame {
			err = blocked(group[0].Commit, false, err)
		}
		failure := err
		if err := a.suffer(ctx, failure); err != nil {
			return err
		}
		done, err := a.outcome(work, group[len(group)-1].End)
		if err != nil {
			return err
		}
		if done {
			a.engine.Forget()
			if p != nil {
				// Whether its progress is there is in the table, not in memory.
				return fault.Wrap(fault.Retry, "", errors.New("a commit with a piece of the copy arrived late"))
			}
			a.overcome()
			return nil
		}
		// The next session begins with that.
		if asked, err := a.askedForAll(work, failure); err != nil || asked {
			return cmp.Or(err, failure)
		}
		passed, err := a.askToPass(work, group[0], blame, failure)
		if err != nil {
			return err
		}
		if passed {
			a.overcome()
			return nil
		}
	}
}

func (a *applier) halves(ctx, work context.Context, group []*cdc.Transaction, p *pieceRead) error {
	half := len(group) / 2
	if err := a.apply(ctx, work, group[:half], nil); err != nil {
		return err
	}
	return a.apply(ctx, work, group[half:], p)
}

// suffer says what is wrong, once, and waits before the next try.
func (a *applier) suffer(ctx context.Context, err error) error {
	t := &a.trouble
	state := status.Retrying
	if fault.ClassOf(err) != fault.Retry {
		state = status.Blocked
	}
	if t.tries == 0 {
		t.since = time.Now()
		t.wait = backoff.NewExponentialBackOff()
		t.wait.InitialInterval = 50 * time.Millisecond
		t.wait.MaxInterval = 5 * time.Second
	}
	if t.tries == 0 || t.err.Error() != err.Error() {
		a.log.Warn("batch not applied", "state", state, "err", err, "hint", fault.HintOf(err))
	}
	t.tries++
	t.err = err
	report(a.opts.Status, state, err)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(t.wait.NextBackOff()):
	}
	if state != status.Blocked {
		return nil
	}
	// Whoever asks the database has to see why nothing moves, and that somebody
	// is there.
	if err := a.sink.Renew(ctx, a.cp.Epoch, a.opts.Lease, string(state)); errors.Is(err, sink.ErrFenced) {
		return err
	} else if err != nil {
		a.log.Debug("lease not renewed", "err", err)
	}
	return nil
}

// overcome says that trouble is over.
func (a *applier) overcome() {
	t := &a.trouble
	if t.tries == 0 {
		return
	}
	a.log.Info("target takes batches again", "attempt", t.tries, "dur", time.Since(t.since).Round(time.Millisecond))
	*t = trouble{}
	a.publish()
}

// outcome reads the checkpoint to learn whether a batch that ended at end has
// been committed after all. The batch is never sent again before that is known.
// Work beside the stream ends where it began; of that only the counters tell.
func (a *applier) outcome(ctx context.Context, end cdc.LSN) (bool, error) {
	for {
		cp, err := a.sink.Checkpoint(ctx)
		switch {
		case err != nil && fault.ClassOf(err) == fault.Retry:
			if err := a.suffer(ctx, err); err != nil {
				return false, err
			}
		case err != nil:
			return false, err
		case cp.Epoch != a.cp.Epoch:
			return false, sink.ErrFenced
		case cp.LSN == a.cp.LSN:
			a.cp = cp
			return false, nil
		case cp.LSN == end:
			a.cp = cp
			a.position = cp.LSN
			a.durable(cp.Heartbeat)
			return true, nil
		default:
			return false, fmt.Errorf("look up the last batch: %w", &sink.StaleError{Want: a.cp.LSN, Got: cp})
		}
	}
}
