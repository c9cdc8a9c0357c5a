package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/sink"
)

// A request is executed in steps, between batches of the stream: each is a
// target transaction of its own that leaves the checkpoint where it is and
// records how far the request has come. So the stream waits for one step at
// most, and a crash neither loses nor repeats one.

// Kinds of requests.
const (
	HeldRetry = "held.retry"
	HeldDrop  = "held.drop"
)

// stepRows is how many rows a step takes; carefulRows how many of them where
// each costs some round trips, because the target has refused one.
const (
	stepRows    = 1000
	carefulRows = 100
)

// maxTries is how often a step is tried that fails for what should pass by
// itself. A request isn't worth more: each try may keep the stream waiting for a
// lock.
const maxTries = 3

// task is a request under way.
type task struct {
	request sink.Request
	// rows bounds a step.
	rows int
	// tries have failed in a row, the last one with err.
	tries int
	err   error
	// resync is set for a request that is executed over pieces.
	resync *resync
	// stale: what has become of the last step is in the table.
	stale bool
}

// due is ready while a step can be executed: not within a sliced transaction,
// which has the target's one transaction open.
func (a *applier) due() <-chan struct{} {
	if a.task == nil || a.task.stale || a.large != nil || a.task.resync != nil && !a.task.resync.due {
		return nil
	}
	ready := make(chan struct{})
	close(ready)
	return ready
}

// poll looks for requests, and takes the oldest up. Nothing is executed before
// the source has proven to be the one that the checkpoint belongs to.
func (a *applier) poll(ctx context.Context) {
	if a.large != nil || !a.proven() || a.task != nil && !a.task.stale {
		return
	}
	open, err := a.sink.Requests(ctx)
	if err != nil {
		// The next batch meets the same trouble and deals with it.
		a.log.Debug("requests not read", "err", err)
		return
	}
	last := a.task
	a.task = nil
	a.owed = slices.ContainsFunc(open, isResync)
	for _, r := range open {
		if r.Kind == Skip && a.stuck.at != 0 {
			continue // until the transaction comes again
		}
		if r.State == sink.RequestNew {
			r.State = sink.RequestRunning
			if err := a.sink.Report(ctx, a.cp.Epoch, r); err != nil {
				a.log.Debug("request not taken up", "request", r.ID, "err", err)
				continue
			}
		}
		a.task = &task{request: r, rows: stepRows}
		switch {
		case last == nil || last.request.ID != r.ID:
			a.log.Info("request taken up", "request", r.ID, "kind", r.Kind)
		case last.tries >= maxTries:
			a.fail(ctx, r, last.err)
			continue
		default:
			a.task.rows, a.task.tries = last.rows, last.tries
		}
		if r.Kind == request.Resync || r.Kind == request.Repair {
			if a.task.resync, err = a.newResync(&r); err != nil {
				a.fail(ctx, r, err)
				continue
			}
		}
		return
	}
}

// serve executes one step. It returns an error only when this session can't go
// on: a request that fails never stops the stream.
func (a *applier) serve(ctx, work context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t := a.task
	err := a.step(work, false)
	var reject *sink.RejectError
	if errors.As(err, &reject) {
		err = a.step(work, true)
	}
	var stale *sink.StaleError
	switch {
	case err == nil:
		t.tries = 0
		if t.request.State == sink.RequestDone {
			a.log.Info("request done", "request", t.request.ID, "kind", t.request.Kind)
			a.endTask()
		}
		a.overcome()
		return nil
	case errors.Is(err, sink.ErrFenced), errors.As(err, &stale):
		return err
	case ctx.Err() != nil && work.Err() != nil:
		return context.Cause(ctx)
	}
	// The step may have been committed all the same, and nothing goes to the
	// target before that is known: the counters number the entries.
	t.stale, t.err = true, err
	t.tries++
	if _, lost := a.outcome(work, a.cp.LSN); lost != nil {
		return lost
	}
	a.overcome()
	switch {
	case fault.TooLarge(err) && t.rows > 1:
		t.rows /= 2
		t.tries = 0
	case fault.ClassOf(err) != fault.Retry:
		a.fail(work, t.request, err)
		return nil
	}
	a.log.Debug("step of a request not applied", "request", t.request.ID, "err", err)
	return nil
}

// step executes one step in a target transaction.
func (a *applier) step(ctx context.Context, careful bool) (err error) {
	tx, b, err := a.begin(ctx, careful)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			a.rollback(tx)
		}
	}()
	rows := a.task.rows
	if careful {
		rows = min(rows, carefulRows)
	}
	r := a.task.request
	done := false
	after := func() {}
	switch r.Kind {
	case request.Resync, request.Repair:
		var next resyncProgress
		if next, done, err = a.closeStep(b, a.task.resync); err == nil {
			r.Progress, err = next.encode()
		}
		after = func() { a.task.resync.p, a.task.resync.due = next, false }
	case HeldRetry, HeldDrop:
		r.Progress, done, err = a.heldStep(ctx, b, &r, rows)
	case Forget:
		r.Progress, done, err = a.forgetStep(ctx, b, &r, rows)
	case Skip: // while nothing is blocked
		err = about(&r, 0)
	default:
		err = fault.Errorf(fault.Stop, "", "this release of the bridge knows no requests of kind %q", r.Kind)
	}
	if err != nil {
		return err
	}
	if done {
		r.State = sink.RequestDone
	}
	b.Request(r)
	if err := a.commit(ctx, tx, b, a.cp.LSN, a.cp.Heartbeat); err != nil {
		return err
	}
	a.task.request = r
	after()
	return nil
}

// fail marks a request as failed. What earlier steps have done stays done.
func (a *applier) fail(ctx context.Context, r sink.Request, why error) {
	a.log.Warn("request failed", "request", r.ID, "kind", r.Kind, "err", why, "hint", fault.HintOf(why))
	if a.task != nil && a.task.request.ID == r.ID {
		a.endTask()
	}
	a.opts.Status.Update(func(n *status.Snapshot) {
		if n.Request != nil && n.Request.ID == r.ID {
			n.Request = nil
		}
	})
	r.State, r.Error = sink.RequestFailed, why.Error()
	if err := a.sink.Report(ctx, a.cp.Epoch, r); err != nil && !errors.Is(err, sink.ErrNoRequest) {
		// It is still open, and is tried once more after the next poll.
		a.log.Debug("failure of a request not recorded", "request", r.ID, "err", err)
	}
}

// endTask drops the request that is worked on, and pieces that were read for it.
func (a *applier) endTask() {
	if a.task != nil && a.task.resync != nil {
		a.copy.untrack()
		a.voidPiece()
	}
	a.task = nil
}

func isResync(r sink.Request) bool { return r.Kind == request.Resync }

// badRequest says that a request can't be read.
func badRequest(what string, err error) error {
	return fault.Wrap(fault.Stop, "", fmt.Errorf("its %s can't be read: %w", what, err))
}
