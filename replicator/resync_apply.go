package replicator

import (
	"context"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// applyStep holds a piece of a resync against the target.
func (a *applier) applyStep(ctx context.Context, b *mapping.Batch, p *pieceRead, at *cdc.Transaction) (settle func(), err error) {
	r := p.request.step.resync
	if a.task == nil || a.task.resync != r || a.task.stale || a.copy.lost {
		return a.voidPiece, nil
	}
	if p.err != nil {
		return nil, p.err
	}
	s := &settling{applier: a, resync: r, p: p, at: at, next: r.p.clone()}
	if ok, err := s.settleKeys(); err != nil || !ok {
		return a.voidPiece, err
	}
	for i := range p.parents {
		if ok, err := s.parent(ctx, b, &p.parents[i]); err != nil || !ok {
			return a.voidPiece, err
		}
	}
	found, err := b.Compare(ctx, &s.cmp)
	if err != nil {
		return nil, err
	}
	if p.request.step.name != stepRange {
		found.Rows = 0 // they have been counted
	}
	s.next.count(found)
	req := a.task.request
	if req.Progress, err = s.next.encode(); err != nil {
		return nil, err
	}
	b.Request(req)
	return func() {
		a.task.request, r.p = req, s.next
		a.tell(r)
	}, nil
}

// copiedAnew counts a piece of the copy that a resync began with.
func (a *applier) copiedAnew(b *mapping.Batch, piece *mapping.Piece, settle func()) (func(), error) {
	r := a.task.resync
	next := r.p.clone()
	found := piece.Found
	if !piece.Compare {
		found.Written = int64(len(piece.Rows))
	}
	found.Rows = int64(len(piece.Rows))
	found.Tenants = nil // the copy counts them
	next.count(&found)
	for tenant := range piece.Progress.Tenants {
		next.see(tenant)
	}
	if piece.Source.Target != nil {
		next.Table = piece.Source.Target.Table.FullName()
	}
	req := a.task.request
	var err error
	if req.Progress, err = next.encode(); err != nil {
		return nil, err
	}
	b.Request(req)
	return func() {
		settle()
		a.task.request, r.p = req, next
		a.tell(r)
	}, nil
}

// settling decides what of a piece counts: the stream has touched rows since that
// its snapshot doesn't see.
type settling struct {
	*applier
	resync *resync
	p      *pieceRead
	at     *cdc.Transaction
	next   resyncProgress
	cmp    mapping.Comparison
}

// settleKeys makes the comparison and the progress after it. It is false for a
// piece that has to be read again.
func (s *settling) settleKeys() (ok bool, err error) {
	t := s.p.request.table
	stale, all := s.copy.unsettled(t.source, s.p.snap)
	if all {
		return false, nil
	}
	s.cmp = mapping.Comparison{Source: t.source, Request: s.resync.id, Each: s.resync.repair != nil, Commit: s.at.Commit, Time: s.at.Time}
	for _, row := range s.p.rows {
		t.meet(row.key)
		if !stale[row.key] {
			s.cmp.Rows = append(s.cmp.Rows, row.row)
		}
	}
	switch s.p.request.step.name {
	case stepRange:
		s.settleRange(stale)
		return true, nil
	case stepPaths:
		for _, key := range s.p.request.keys {
			if !s.p.found[key] && !stale[key] {
				s.cmp.GonePaths = append(s.cmp.GonePaths, key)
			}
		}
		s.next.Page, s.next.Last = s.p.request.step.after, s.p.request.step.last
		return true, nil
	}
	return true, s.settleTargets(stale)
}

// settleRange notes which of the range's rows have to be read again.
func (s *settling) settleRange(stale map[sink.Key]bool) {
	req := s.p.request
	var again []sink.Key
	for _, row := range s.p.rows {
		if stale[row.key] {
			again = append(again, row.key)
		}
	}
	if req.keys != nil {
		s.next.Pending = append(again, s.next.Pending[len(req.keys):]...)
		return
	}
	s.next.Pending = append(s.next.Pending, again...)
	if last := s.p.last(); last != nil {
		s.next.After = last
	}
	s.next.Read = s.p.end
}

// settleTargets finds the target keys that the source has no rows of.
func (s *settling) settleTargets(stale map[sink.Key]bool) error {
	req := s.p.request
	t, step := req.table, req.step
	touched := map[sink.Key]bool{}
	for key := range stale {
		parts, err := key.Split(len(t.source.Key))
		if err != nil {
			return err
		}
		target, err := t.source.TargetKey(parts)
		if err != nil {
			return err
		}
		touched[target] = true
	}
	there := s.p.found
	if !step.exist {
		there = map[sink.Key]bool{}
		for _, row := range s.p.rows {
			key, err := t.source.TargetKey(row.parts(t.source))
			if err != nil {
				return err
			}
			there[key] = true
		}
	}
	s.next.Again = nil
	for _, key := range step.targets {
		switch {
		case touched[key]:
			// The stream has just said what is right, but only of the row itself.
			if !step.exist {
				s.next.Again = append(s.next.Again, key)
			}
		case !there[key]:
			s.gone(t, key)
		}
	}
	if step.name != stepRepair {
		s.next.Page, s.next.Last = step.after, step.last
		return nil
	}
	asked := len(step.targets) - len(s.next.Again)
	s.next.Checked += int64(asked)
	if len(s.resync.p.Again) == 0 {
		s.next.Next += len(step.targets)
	}
	return nil
}

func (s *settling) gone(t *tableCopy, key sink.Key) {
	g := mapping.GoneRow{Target: key, Ours: s.resync.repair != nil}
	if parts, ok := t.source.SourceKey(key); ok {
		g.Source = sink.EncodeKey(parts...)
		g.Ours = g.Ours || s.resync.ours(t, parts)
		if s.resync.repair != nil {
			s.cmp.GonePaths = append(s.cmp.GonePaths, g.Source)
		}
	} else {
		g.Ours = g.Ours || s.resync.ours(t, nil)
	}
	s.cmp.Gone = append(s.cmp.Gone, g)
}

// parent brings the path values in line that the piece's rows pass.
func (s *settling) parent(ctx context.Context, b *mapping.Batch, p *parentRead) (ok bool, err error) {
	stale, all := s.copy.unsettled(p.source, s.p.snap)
	if all {
		return false, nil
	}
	cmp := mapping.Comparison{Source: p.source, PathsOnly: true, Commit: s.at.Commit, Time: s.at.Time}
	for _, row := range p.rows {
		delete(p.keys, row.key)
		if !stale[row.key] {
			cmp.Rows = append(cmp.Rows, row.row)
		}
	}
	for key := range p.keys {
		if !stale[key] {
			cmp.GonePaths = append(cmp.GonePaths, key)
		}
	}
	_, err = b.Compare(ctx, &cmp)
	return true, err
}

// tell logs how far a resync has come, every now and then.
func (a *applier) tell(r *resync) {
	if time.Since(r.said) < 10*time.Second {
		return
	}
	r.said = time.Now()
	a.log.Info("request at work", "request", r.id, "table", r.p.Table, "step", r.p.Step,
		"checked", r.p.Checked, "total", r.p.Total, "written", r.p.Written, "gone", r.p.Gone)
}
