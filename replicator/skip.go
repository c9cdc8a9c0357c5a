package replicator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// Skip is the kind of request that passes the one transaction which keeps the
// bridge blocked: its rows are left out, the checkpoint moves past it. Unlike
// other requests it is executed in the place of the transaction.
const Skip = "skip"

// SkipArgs are the arguments of Skip.
type SkipArgs struct {
	// LSN is that of the transaction's commit record, as status shows it.
	LSN string `json:"lsn"`
}

// SkipProgress is the result of Skip.
type SkipProgress struct {
	LSN string `json:"lsn"`
	XID uint32 `json:"xid"`
	// Tables are the changes that were left out, by source table and operation.
	Tables mapping.Counts `json:"tables"`
	// Tenants is how many tenants' logs have an entry about it.
	Tenants int `json:"tenants"`
	// Left says what else could not be taken over: nothing, moves of dependent
	// rows, or path values as well.
	Left string `json:"left,omitempty"`
}

// What Left says.
const (
	LeftMoves = "moves"
	LeftPaths = "paths"
)

// BlockedError says that one transaction can't be applied and that a person has
// to decide.
type BlockedError struct {
	Commit cdc.LSN
	// Large: it is applied in slices.
	Large bool
	Err   error
}

func (e *BlockedError) Error() string {
	if e.Large {
		return fmt.Sprintf("large transaction at %s: %v", e.Commit, e.Err)
	}
	return fmt.Sprintf("transaction at %s: %v", e.Commit, e.Err)
}
func (e *BlockedError) Unwrap() error { return e.Err }

// blocked wraps the error of the transaction at commit, with the command that
// passes it.
func blocked(commit cdc.LSN, large bool, err error) error {
	inner := err
	var named *mapping.TransactionError
	if errors.As(err, &named) {
		inner = named.Err
	}
	hint := fault.HintOf(err)
	if unreadable(err) != nil {
		hint = "start the bridge again, with a mapping that follows the migration: it reads on where it can; if it is still refused, " + resyncHint
	}
	if hint == "" {
		hint = "mend what is in the way, and the bridge goes on by itself"
	}
	hint += "; or leave out what this transaction writes: walbridge skip --lsn " + commit.String()
	return fault.Wrap(fault.ClassOf(err), hint, &BlockedError{Commit: commit, Large: large, Err: inner})
}

// stuck is the transaction that keeps the bridge blocked, over sessions.
type stuck struct {
	at cdc.LSN // its commit; zero if there is none
	// depth is what the next attempt to pass it leaves out.
	depth mapping.SkipDepth
}

// getsStuck reports whether err needs a person, and is about what a batch writes.
func getsStuck(err error) bool {
	var stale *sink.StaleError
	class := fault.ClassOf(err)
	return err != nil && class != fault.Retry && class != fault.Canceled && !errors.As(err, &stale)
}

// blames reports whether err is the fault of the only transaction of group, and
// remembers it.
func (a *applier) blames(err error, group []*cdc.Transaction, p *pieceRead) bool {
	*a.stuck = stuck{}
	if len(group) > 1 || p != nil || !writesRows(group[0]) || !getsStuck(err) {
		return false
	}
	a.stuck.at = group[0].Commit
	return true
}

func writesRows(tx *cdc.Transaction) bool {
	for i := range tx.Changes {
		if tx.Changes[i].Relation != nil {
			return true
		}
	}
	return false
}

// passing is a request to pass a transaction that is being executed.
type passing struct {
	request sink.Request
	depth   mapping.SkipDepth
	skipped mapping.Skipped
}

// asked returns the request to pass the transaction at commit, if there is one.
// Requests about others are refused.
func (a *applier) asked(ctx context.Context, commit cdc.LSN) (*passing, error) {
	open, err := a.sink.Requests(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range open {
		if r.Kind != Skip {
			continue
		}
		if err := about(&r, commit); err != nil {
			a.fail(ctx, r, err)
			continue
		}
		// From here on nobody withdraws it.
		r.State = sink.RequestRunning
		switch err := a.sink.Report(ctx, a.cp.Epoch, r); {
		case errors.Is(err, sink.ErrNoRequest):
			continue
		case err != nil:
			return nil, err
		}
		a.log.Info("request taken up", "request", r.ID, "kind", r.Kind)
		p := &passing{request: r, depth: a.stuck.depth}
		a.showPassing(p)
		return p, nil
	}
	return nil, nil
}

// about holds the arguments of a request to skip against the transaction that
// the bridge is blocked at.
func about(r *sink.Request, commit cdc.LSN) error {
	var args SkipArgs
	if err := json.Unmarshal([]byte(r.Args), &args); err != nil {
		return badRequest("arguments", err)
	}
	lsn, err := pglogrepl.ParseLSN(args.LSN)
	if err != nil {
		return badRequest("LSN", err)
	}
	switch {
	case commit == 0:
		return fault.Errorf(fault.Stop, "walbridge status shows what the bridge is blocked at", "the bridge isn't blocked at a transaction, so there is none to skip")
	case lsn != commit:
		return fault.Errorf(fault.Stop, "walbridge skip --lsn "+commit.String(), "the bridge is blocked at the transaction at %s, not at %s", commit, lsn)
	}
	return nil
}

// askToPass looks for a request about what keeps the bridge blocked. One that
// comes while no single transaction does is refused.
func (a *applier) askToPass(ctx context.Context, tx *cdc.Transaction, blame bool, failure error) (bool, error) {
	switch {
	case blame:
		return a.pass(ctx, tx)
	case getsStuck(failure):
		_, err := a.asked(ctx, 0)
		return false, fenced(err)
	}
	return false, nil
}

// fenced leaves only the error that ends an instance; others are met again.
func fenced(err error) error {
	if errors.Is(err, sink.ErrFenced) {
		return err
	}
	return nil
}

// pass leaves the transaction out if an operator has asked for it, in a target
// transaction that takes the checkpoint past it. Whatever else goes wrong, the
// caller's next attempt meets it, too.
func (a *applier) pass(ctx context.Context, tx *cdc.Transaction) (bool, error) {
	p, err := a.asked(ctx, tx.Commit)
	if err != nil || p == nil {
		return false, fenced(err)
	}
	for {
		err := a.passOnce(ctx, tx, p)
		switch {
		case err == nil:
			a.hasPassed(p)
			return true, nil
		case errors.Is(err, sink.ErrFenced):
			return false, err
		case !getsStuck(err):
			a.log.Debug("transaction not skipped", "lsn", tx.Commit.String(), "err", err)
			return false, nil
		case p.depth == mapping.SkipAll:
			a.fail(ctx, p.request, err)
			return false, nil
		}
		p.deeper()
	}
}

// deeper leaves out more, because the target has refused what was to be taken
// over.
func (p *passing) deeper() {
	p.depth++
	p.skipped = mapping.Skipped{}
}

func (a *applier) passOnce(ctx context.Context, tx *cdc.Transaction, p *passing) (err error) {
	t, b, err := a.begin(ctx, false)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			a.rollback(t)
		}
	}()
	if err := p.slice(ctx, b, tx); err != nil {
		return err
	}
	return a.commit(ctx, t, b, tx.End, a.cp.Heartbeat)
}

// slice passes over a transaction, or a slice of it. The last one makes the
// entries and records the request as done.
func (p *passing) slice(ctx context.Context, b *mapping.Batch, tx *cdc.Transaction) error {
	if err := b.Skip(ctx, tx, &p.skipped, p.depth); err != nil {
		return err
	}
	if !tx.Last {
		return nil
	}
	b.SkipEntries(&p.skipped, p.request.ID, time.Now())
	text, err := json.Marshal(p.progress())
	if err != nil {
		return err
	}
	r := p.request
	r.Progress, r.State = string(text), sink.RequestDone
	b.Request(r)
	return nil
}

func (p *passing) progress() SkipProgress {
	return SkipProgress{
		LSN: p.skipped.Commit.String(), XID: p.skipped.XID, Tables: p.skipped.Total, Tenants: len(p.skipped.Tenants),
		Left: map[mapping.SkipDepth]string{mapping.SkipMoves: LeftMoves, mapping.SkipAll: LeftPaths}[p.depth],
	}
}

// hasPassed says so in the log, which is all that is left of it where no tenant
// is known.
func (a *applier) hasPassed(p *passing) {
	n := p.progress()
	a.log.Warn("transaction skipped", "lsn", n.LSN, "xid", n.XID, "request", p.request.ID, "changes", fmt.Sprint(n.Tables),
		"tenants", n.Tenants, "hint", "walbridge verify says which rows differ now")
}
