package replicator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// OutOfStepError says that the bridge can't go on from where it was. Only what is
// at the source now can tell what the target should have, and a person has to ask
// for that.
type OutOfStepError struct {
	Reason string
	// SameStream: the slot still has every change, but what the tables have been
	// filled with means something else now.
	SameStream bool
	// SameSource: the source has proven to be the one of the checkpoint.
	SameSource bool
	// Cause, unless nil, is the error that it was found by.
	Cause error
}

func (e *OutOfStepError) Error() string { return e.Reason }
func (e *OutOfStepError) Unwrap() error { return e.Cause }

// outOfStep gives a refusal the command that is the way out.
func outOfStep(e *OutOfStepError) error { return fault.Wrap(fault.Stop, resyncHint, e) }

// resyncHint is the way out of every refusal of what the source's history has
// become. A bridge that is blocked, and a restart policy, take the request up by
// themselves.
const resyncHint = "walbridge resync --no-wait, then walbridge run (one that is up and blocked goes on by itself): it reads everything again, writes what differs, and notes the gap in the audit log"

// startable is what a session needs to begin anew.
type startable struct {
	source *pgx.Conn
	sink   sink.Sink
	m      *mapping.Mapping
	cp     sink.Checkpoint
	origin sink.Origin
	slot   Slot
	exists bool
}

// anew begins again with everything, if refused can be mended by that and an
// operator has asked for it. What it has begun outlives it: the request keeps what
// it is for, and the copy's progress begins anew.
//
// In this order, so that a crash at any point leaves either a refusal or a bridge
// that reads everything again: first no row counts as copied any more, then the
// history is another one.
func (b *bridge) anew(ctx context.Context, s *startable, refused error) (asked bool, err error) {
	var why *OutOfStepError
	if !errors.As(refused, &why) {
		return false, nil
	}
	req, err := s.consent(ctx, why)
	if err != nil || req == nil {
		return false, err
	}
	if b.Manual && !why.SameStream {
		if err := madeByHand(b.Name, s); err != nil {
			return false, err
		}
	}
	if err := b.uncover(ctx, s, why, req); err != nil {
		return false, fmt.Errorf("begin with everything again: %w", err)
	}
	b.Log.Info("reading everything again", "request", req.ID, "why", why.Reason)
	if _, err := EnsurePublication(ctx, s.source, b.Name, publishedOf(s.m), !b.Manual); err != nil {
		return false, err
	}
	b.astray = nil
	if !why.SameStream {
		s.cp, err = b.firstSlot(ctx, s.source, s.sink, s.m, s.cp, s.origin, s.slot, s.exists)
		return true, err
	}
	if s.origin.Publication, err = ReadPublished(ctx, s.source, b.Name, s.m); err != nil {
		return false, err
	}
	if err := s.sink.Store(ctx, s.cp.Epoch, s.origin, s.cp.LSN); err != nil {
		return false, err
	}
	s.cp.Origin = s.origin
	return true, nil
}

// asked reports whether an operator has asked to begin anew in spite of refused.
func (b *bridge) asked(ctx context.Context, snk sink.Sink, cp sink.Checkpoint, refused error) (bool, error) {
	var why *OutOfStepError
	if !errors.As(refused, &why) {
		return false, nil
	}
	req, err := (&startable{sink: snk, cp: cp, origin: cp.Origin}).consent(ctx, why)
	return req != nil, err
}

// consent is the request that asks for it, nil if there is none.
func (s *startable) consent(ctx context.Context, why *OutOfStepError) (*sink.Request, error) {
	open, err := s.sink.Requests(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(open, func(r sink.Request) bool { return s.consents(&r, why) })
	if i < 0 {
		return nil, nil
	}
	return &open[i], nil
}

// consents reports whether the request asks to bring everything in line in spite
// of why: it was made since, or for the same. One that was at work on something
// else says nothing about a source that turns out to be another one.
func (s *startable) consents(r *sink.Request, why *OutOfStepError) bool {
	var args request.ResyncArgs
	if !isResync(*r) || json.Unmarshal([]byte(r.Args), &args) != nil || !args.Everything() {
		return false
	}
	if r.State == sink.RequestNew {
		return true
	}
	var p resyncProgress
	if json.Unmarshal([]byte(r.Progress), &p) != nil || p.Anew == nil {
		return false
	}
	return why.SameStream || (why.SameSource || p.Anew.Lost) && p.Anew.System == s.system()
}

// unreadable makes a refusal of rows that can't be read with the mapping any more:
// they were written before, or after, a migration. Only what is in the tables can
// tell what became of them.
func unreadable(err error) error {
	var layout *mapping.LayoutError
	if !errors.As(err, &layout) {
		return nil
	}
	return outOfStep(&OutOfStepError{Reason: layout.Error(), SameSource: true, Cause: layout})
}

// askedForAll reports whether an operator has asked to read everything again, while
// failure keeps the bridge from reading on.
func (a *applier) askedForAll(ctx context.Context, failure error) (bool, error) {
	var why *OutOfStepError
	if !errors.As(unreadable(failure), &why) {
		return false, nil
	}
	req, err := (&startable{sink: a.sink, cp: a.cp, origin: a.cp.Origin}).consent(ctx, why)
	return req != nil, fenced(err)
}

func (s *startable) system() string { return s.origin.SystemID + "/" + s.origin.Database }

// madeByHand demands a slot that can be streamed from, where nobody but a person
// makes one.
func madeByHand(name string, s *startable) error {
	sql := "SELECT pg_create_logical_replication_slot('" + name + "', 'pgoutput')"
	if !s.exists {
		return fault.Errorf(fault.Config, "at the source: "+sql, "--prepare=manual creates nothing, and slot %s is missing", name)
	}
	if err := s.slot.Usable(s.origin.Database); err != nil {
		return fault.Wrap(fault.Config, "at the source: SELECT pg_drop_replication_slot('"+name+"'); "+sql, err)
	}
	return nil
}

// uncover has every row read again, and notes in the request why.
func (b *bridge) uncover(ctx context.Context, s *startable, why *OutOfStepError, req *sink.Request) error {
	stored, err := s.sink.Copies(ctx)
	if err != nil {
		return err
	}
	before, err := newCopyState(s.m, stored)
	if err != nil {
		return err
	}
	var p resyncProgress
	if req.Progress != "" {
		if err := json.Unmarshal([]byte(req.Progress), &p); err != nil {
			return badRequest("progress", err)
		}
	}
	// A crash may have come in between: what was noted first is what was true.
	next := &anew{From: s.cp.LSN, Why: why.Reason, Lost: !why.SameStream, System: s.system(),
		Fingerprint: s.m.Schema.Fingerprint, Highest: map[string]int64{}}
	relaid := s.cp.Origin.Fingerprint != "" && s.cp.Origin.Fingerprint != s.m.Schema.Fingerprint
	if p.Anew != nil {
		next.From, next.Why, next.Lost = p.Anew.From, p.Anew.Why, next.Lost || p.Anew.Lost
		relaid = relaid || p.Anew.Fingerprint != s.m.Schema.Fingerprint
		maps.Copy(next.Highest, p.Anew.Highest)
	}
	w := &sink.Writes{Anew: relaid}
	for _, t := range before.tables {
		if t.highest > 0 {
			next.Highest[t.p.Source] = max(next.Highest[t.p.Source], t.highest)
		}
		w.Copied = append(w.Copied, sink.CopyProgress{Source: t.p.Source})
	}
	p = resyncProgress{Anew: next}
	r := *req
	r.State = sink.RequestRunning
	if r.Progress, err = p.encode(); err != nil {
		return err
	}
	w.Requests = []sink.Request{r}
	tx, err := s.sink.Begin(ctx, s.cp.Epoch, s.cp.LSN, sink.TxOptions{Lease: b.Lease})
	if err != nil {
		return err
	}
	if err := tx.Apply(ctx, w); err != nil {
		return errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
	}
	return tx.Commit(ctx, sink.Progress{LSN: s.cp.LSN, Heartbeat: s.cp.Heartbeat, Counters: s.cp.Counters, State: s.cp.State})
}
