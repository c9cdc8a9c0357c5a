package replicator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// applier is the apply goroutine: it takes what the receiver has, brings it to
// the target batch by batch, and says what may be confirmed. It owns the sink,
// the engine and the state of the copy.
type applier struct {
	opts   *Options
	log    *slog.Logger
	engine *mapping.Engine
	sink   sink.Sink
	stream *Stream
	pulse  *Pulse
	copy   *copyState
	pieces *pieceExchange

	// cp is the checkpoint as the target has it.
	cp sink.Checkpoint
	// expect is the heartbeat that the source must send again before anything is
	// applied; zero once it has.
	expect sink.Heartbeat
	// landed: the transaction that the checkpoint is at the end of has come again.
	landed bool
	// waiting are stored heartbeats that have not been confirmed, oldest first.
	waiting []sink.Heartbeat
	// position is how far the stream has been applied, keepalives included.
	position cdc.LSN
	// large is the transaction that arrives in slices, if one is open.
	large *largeTx
	// carefulAt is the commit of a sliced transaction of which the target has
	// refused a row.
	carefulAt *cdc.LSN
	// promoted replaces the checkpoint's origin with the proof; nil if it is the
	// same source still.
	promoted *sink.Origin
	// published is what the checkpoint is to keep of the publication, nil if it does.
	published atomic.Pointer[string]
	// stuck is the one transaction that keeps the bridge blocked, if there is one.
	stuck *stuck
	// task is the operator's request that is being worked on, if there is one.
	task *task
	// owed: a resync was asked for when the session began, and hasn't ended.
	owed    bool
	mapping *mapping.Mapping

	tending tending
	trouble trouble
	// away: the lease could not be renewed when that was last tried.
	away bool
	// batches have been committed since they were last reported, and have done what
	// tally says.
	batches int64
	tally   mapping.Tally
	counted heldCount
	head    saidHead
}

// largeTx is a transaction that is applied slice by slice in one target
// transaction.
type largeTx struct {
	// skip: the target has it already.
	skip bool
	// pass is set while an operator's request to pass it is being executed.
	pass  *passing
	tx    sink.Tx
	batch *mapping.Batch
}

// errOnce ends a run that was to stop when everything is there.
var errOnce = errors.New("everything has arrived")

// run applies until ctx ends. What is being applied then may finish within a few
// seconds; else it is rolled back.
func (a *applier) run(ctx context.Context) error {
	work, cancel := graceful(ctx, 5*time.Second)
	defer cancel()
	defer a.dropLarge()
	defer func() { a.publishHead(true) }()
	tick := time.NewTicker(max(a.opts.Lease/3, 100*time.Millisecond))
	defer tick.Stop()
	for {
		if err := a.visit(work); err != nil {
			return err
		}
		a.publish()
		a.publishHead(false)
		if a.opts.Once && a.complete() {
			return errOnce
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			if err := a.renew(work); err != nil {
				return err
			}
			if !a.away {
				a.adopt(work)
				a.poll(work)
			}
		case <-a.due():
			if err := a.serve(ctx, work); err != nil {
				return err
			}
		case <-a.stream.Ready():
			if err := a.take(ctx, work); err != nil {
				return err
			}
		}
	}
}

// visit does what is to be done between batches. While the target doesn't even renew
// the lease it is asked for nothing else that can wait: each question may take as long
// as a connection that nobody answers, and the next batch, which says what is wrong,
// would come after all of them.
func (a *applier) visit(ctx context.Context) error {
	if !a.away {
		if err := a.tend(ctx); err != nil {
			return err
		}
	}
	a.confirm()
	if a.owed && a.task == nil {
		a.poll(ctx)
	}
	a.ask(ctx)
	if !a.away {
		a.countHeld(ctx)
	}
	return nil
}

// graceful returns a context that outlives ctx by grace.
func graceful(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-work.Done():
		}
		cancel()
	})
	return work, func() { stop(); cancel() }
}

// complete reports whether all that was there when the run began has arrived.
func (a *applier) complete() bool {
	return a.large == nil && !a.copy.active() && !a.owed && a.tending.quieted == 0 && a.pulse.Owns(a.cp.Heartbeat.Token)
}

func (a *applier) renew(ctx context.Context) error {
	if a.large != nil {
		return nil // its lock on the checkpoint says as much as a lease
	}
	err := a.sink.Renew(ctx, a.cp.Epoch, a.opts.Lease, a.state())
	a.away = err != nil
	if err == nil || errors.Is(err, sink.ErrFenced) {
		return err
	}
	// The next batch meets the same trouble and deals with it.
	a.log.Debug("lease not renewed", "err", err)
	return nil
}

// adopt keeps new partitions in mind, so that it is noticed when they are gone.
func (a *applier) adopt(ctx context.Context) {
	now := a.published.Load()
	if now == nil || a.large != nil || a.promoted != nil {
		return
	}
	origin := a.cp.Origin
	origin.Publication = *now
	if err := a.sink.Store(ctx, a.cp.Epoch, origin, a.cp.LSN); err != nil {
		// With the next batch it is dealt with.
		a.log.Debug("new partitions not noted", "err", err)
		return
	}
	a.cp.Origin = origin
	a.published.CompareAndSwap(now, nil)
	a.log.Info("new partitions of the mapped tables have been noted")
}

// take works through what has arrived.
func (a *applier) take(ctx, work context.Context) error {
	var group []*cdc.Transaction
	for _, it := range a.stream.Take(a.bound(), a.opts.BatchBytes) {
		switch {
		case it.Tx == nil:
			if len(group) == 0 && a.large == nil {
				a.position = it.WALEnd
			}
			continue
		case it.sliced():
			if err := a.apply(ctx, work, group, nil); err != nil {
				return err
			}
			group = nil
			if err := a.slice(ctx, work, it.Tx); err != nil {
				return err
			}
			continue
		}
		skip, err := a.replayed(work, it.Tx)
		if err != nil {
			return err
		}
		if skip {
			continue
		}
		group = append(group, it.Tx)
		if token := marker(it.Tx); a.pieces.expects(token) {
			p, err := a.pieces.receive(ctx, a.copy, a.opts.CopyRows)
			if err != nil {
				return err
			}
			if err := a.apply(ctx, work, group, p); err != nil {
				return err
			}
			group = nil
		}
	}
	return a.apply(ctx, work, group, nil)
}

// bound is the most row changes of a batch.
func (a *applier) bound() int {
	if b, ok := a.sink.(sink.Bounded); ok {
		return min(a.opts.BatchRows, b.Bound())
	}
	return a.opts.BatchRows
}

// replayed reports whether the target has tx already. It also watches for the
// heartbeat that proves that this is the history which the checkpoint belongs
// to.
func (a *applier) replayed(ctx context.Context, tx *cdc.Transaction) (bool, error) {
	if a.expect.Token != "" {
		if err := a.recognise(ctx, tx); err != nil {
			return false, err
		}
	}
	if err := a.land(tx); err != nil {
		return false, err
	}
	// A commit record of what has not been applied begins at the checkpoint or
	// behind it, because the checkpoint is where the last one ended.
	return tx.Commit < a.cp.LSN, nil
}

func (a *applier) recognise(ctx context.Context, tx *cdc.Transaction) error {
	token := heartbeat(tx, a.opts.Name)
	switch {
	case tx.Commit == a.expect.Commit && token == a.expect.Token:
		return a.recognised(ctx)
	case tx.Commit >= a.expect.Commit, token != "" && a.pulse.Owns(token):
		other := &HistoryError{Want: a.expect.Commit, Got: tx.Commit}
		return outOfStep(&OutOfStepError{Reason: other.Error(), Cause: other})
	}
	return nil
}

// marker returns the token of a piece's marker.
func marker(tx *cdc.Transaction) string {
	if len(tx.Changes) == 1 && tx.Changes[0].Op == cdc.Message && tx.Changes[0].Prefix == piecePrefix {
		return tx.Changes[0].Content
	}
	return ""
}

// heartbeat returns the token of a heartbeat of the bridge called name.
func heartbeat(tx *cdc.Transaction, name string) string {
	if len(tx.Changes) != 1 || tx.Changes[0].Op != cdc.Message || tx.Changes[0].Prefix != HeartbeatPrefix {
		return ""
	}
	if h, ok := ParseHeartbeat(tx.Changes[0].Content); ok && h.Bridge == name {
		return h.Token
	}
	return ""
}

// lastHeartbeat returns the last heartbeat among txs, or the one before.
func (a *applier) lastHeartbeat(txs []*cdc.Transaction) sink.Heartbeat {
	for i := len(txs) - 1; i >= 0; i-- {
		if token := heartbeat(txs[i], a.opts.Name); token != "" {
			return sink.Heartbeat{Token: token, Commit: txs[i].Commit}
		}
	}
	return a.cp.Heartbeat
}

// begin starts a batch behind the checkpoint.
func (a *applier) begin(ctx context.Context, careful bool) (sink.Tx, *mapping.Batch, error) {
	tx, err := a.sink.Begin(ctx, a.cp.Epoch, a.cp.LSN, sink.TxOptions{Careful: careful, Lease: a.opts.Lease})
	if err != nil {
		return nil, nil, err
	}
	a.copy.begin()
	return tx, a.engine.Begin(tx, mapping.BatchOptions{
		Coverage: a.copy, Incarnation: a.cp.Origin.Incarnation, Counters: a.cp.Counters, Careful: careful,
	}), nil
}

// attempt applies a group, and a piece at its end, in one target transaction.
func (a *applier) attempt(ctx context.Context, group []*cdc.Transaction, p *pieceRead, careful bool) (err error) {
	tx, b, err := a.begin(ctx, careful)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			a.rollback(tx)
		}
	}()
	if err := b.Transactions(ctx, group); err != nil {
		return err
	}
	last := group[len(group)-1]
	settle := func() {}
	if p != nil {
		if settle, err = a.applyPiece(ctx, b, p, last); err != nil {
			return err
		}
	}
	if err := a.commit(ctx, tx, b, last.End, a.lastHeartbeat(group)); err != nil {
		return err
	}
	settle()
	return nil
}

// commit writes what is due of the batch and makes it durable, with the
// checkpoint at lsn.
func (a *applier) commit(ctx context.Context, tx sink.Tx, b *mapping.Batch, lsn cdc.LSN, beat sink.Heartbeat) error {
	for _, progress := range a.copy.progressDue(beat.Token != a.cp.Heartbeat.Token) {
		b.Progress(progress)
	}
	if err := b.Flush(ctx); err != nil {
		return err
	}
	p := sink.Progress{LSN: lsn, Heartbeat: beat, Counters: b.Counters, State: a.state()}
	if err := tx.Commit(ctx, p); err != nil {
		return err
	}
	a.committed(b, p)
	return nil
}

// committed takes over what the target has made durable, and confirms.
func (a *applier) committed(b *mapping.Batch, p sink.Progress) {
	b.Committed()
	a.copy.progressStored()
	a.cp.LSN, a.cp.Heartbeat, a.cp.Counters = p.LSN, p.Heartbeat, p.Counters
	a.position = max(a.position, p.LSN) // keepalives may have brought it further
	a.batches++
	a.tally.Merge(&b.Tally)
	if p.LSN > a.stuck.at {
		*a.stuck = stuck{}
	}
	a.durable(p.Heartbeat)
}

func (a *applier) rollback(tx sink.Tx) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := tx.Rollback(ctx); err != nil {
		a.log.Debug("rollback ended with an error", "err", err)
	}
}

// slice applies one slice of a large transaction. The target transaction stays
// open between slices. Any error ends the session, because earlier slices can
// only be had again from the source.
func (a *applier) slice(ctx, work context.Context, tx *cdc.Transaction) error {
	if tx.First {
		if err := a.openLarge(ctx, work, tx); err != nil {
			return err
		}
	}
	l := a.large
	if !l.skip {
		if err := l.bring(work, tx); err != nil {
			return a.sliceError(l, tx, err)
		}
		if l.pass != nil {
			a.showPassing(l.pass)
		}
	}
	if !tx.Last {
		return nil
	}
	a.large = nil
	if l.skip {
		return a.land(tx)
	}
	if err := a.commit(work, l.tx, l.batch, tx.End, a.cp.Heartbeat); err != nil {
		a.rollback(l.tx)
		return a.sliceError(l, tx, err)
	}
	if l.pass != nil {
		a.hasPassed(l.pass)
	}
	*a.carefulAt = 0
	return nil
}

// bring takes one slice to the target, or what is left of it.
func (l *largeTx) bring(ctx context.Context, tx *cdc.Transaction) error {
	var err error
	if l.pass != nil {
		err = l.pass.slice(ctx, l.batch, tx)
	} else {
		err = l.batch.Transactions(ctx, []*cdc.Transaction{tx})
	}
	if err != nil {
		return err
	}
	if err := l.batch.Flush(ctx); err != nil {
		return err
	}
	l.batch.Shed()
	return nil
}

func (a *applier) openLarge(ctx, work context.Context, tx *cdc.Transaction) error {
	skip, err := a.replayed(work, tx)
	if err != nil {
		return err
	}
	a.large = &largeTx{skip: skip}
	if skip {
		return nil
	}
	if a.stuck.at == tx.Commit {
		if a.large.pass, err = a.asked(work, tx.Commit); err != nil {
			a.large = nil
			return err
		}
	}
	careful := *a.carefulAt == tx.Commit
	if a.large.tx, a.large.batch, err = a.begin(work, careful); err != nil {
		a.large = nil
	}
	return err
}

// sliceError is why the session ends. The next one goes on with what is left in
// a.carefulAt and a.stuck.
func (a *applier) sliceError(l *largeTx, tx *cdc.Transaction, err error) error {
	again := func() error {
		return fault.Wrap(fault.Retry, "", fmt.Errorf("large transaction at %s: %w", tx.Commit, err))
	}
	var reject *sink.RejectError
	switch {
	case l.pass == nil && errors.As(err, &reject) && *a.carefulAt != tx.Commit:
		*a.carefulAt = tx.Commit
		return again()
	case !getsStuck(err) || errors.Is(err, sink.ErrFenced):
		return fmt.Errorf("large transaction at %s: %w", tx.Commit, err)
	case l.pass == nil:
		*a.stuck = stuck{at: tx.Commit}
	case l.pass.depth < mapping.SkipAll:
		a.stuck.depth++
		return again()
	default:
		a.stuck.depth = 0
		a.dropLarge() // the sink takes no report while a batch is open
		a.fail(context.Background(), l.pass.request, err)
	}
	return blocked(tx.Commit, true, err)
}

func (a *applier) dropLarge() {
	if a.large != nil && a.large.tx != nil {
		a.rollback(a.large.tx)
	}
	a.large = nil
}
