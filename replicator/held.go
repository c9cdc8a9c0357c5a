package replicator

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// HeldArgs are the arguments of HeldRetry and HeldDrop: which held rows. What is
// empty leaves none out.
type HeldArgs struct {
	// Table is a target table, schema-qualified.
	Table  string          `json:"table,omitempty"`
	Keys   []sink.Key      `json:"keys,omitempty"`
	Reason sink.HeldReason `json:"reason,omitempty"`
}

// HeldProgress is the progress of HeldRetry and HeldDrop, and their result.
type HeldProgress struct {
	Released int64            `json:"released"`
	Refused  map[string]int64 `json:"refused"` // by SQLSTATE
	Waiting  int64            `json:"waiting"` // still without a tenant, or incomplete
	Dropped  int64            `json:"dropped"`
	// Table and After are where the next step begins.
	Table string    `json:"table,omitempty"`
	After *sink.Key `json:"after,omitempty"`
}

// Rows is how many rows have been looked at.
func (p *HeldProgress) Rows() int64 { return p.Released + p.StillHeld() + p.Dropped }

// StillHeld is how many of them are held as before.
func (p *HeldProgress) StillHeld() int64 {
	n := p.Waiting
	for _, refused := range p.Refused {
		n += refused
	}
	return n
}

func (p *HeldProgress) add(n *mapping.HeldCounts) {
	p.Released += n.Released
	p.Waiting += n.Waiting
	p.Dropped += n.Dropped
	for code, rows := range n.Refused {
		p.Refused[code] += rows
	}
}

// heldStep works on one page of held rows of one table, and looks whether there
// are more: parents go before children, which may hang on them.
func (a *applier) heldStep(ctx context.Context, b *mapping.Batch, r *sink.Request, rows int) (progress string, done bool, err error) {
	var args HeldArgs
	if err := json.Unmarshal([]byte(r.Args), &args); err != nil {
		return "", false, badRequest("arguments", err)
	}
	p := HeldProgress{Refused: map[string]int64{}}
	if r.Progress != "" {
		if err := json.Unmarshal([]byte(r.Progress), &p); err != nil {
			return "", false, badRequest("progress", err)
		}
	}
	sources, err := a.heldSources(args.Table)
	if err != nil {
		return "", false, err
	}
	if i := slices.IndexFunc(sources, func(s *mapping.Source) bool { return s.Target.Table.FullName() == p.Table }); i > 0 {
		sources = sources[i:]
	}
	if done, err = a.heldPage(ctx, b, r, &args, &p, sources, rows); err != nil {
		return "", false, err
	}
	if done {
		p.Table, p.After = "", nil
	}
	text, err := json.Marshal(p)
	return string(text), done, err
}

// heldSources are the sources of the target table of that name, or of all.
func (a *applier) heldSources(table string) ([]*mapping.Source, error) {
	var found []*mapping.Source
	for _, t := range a.copy.tables {
		if s := t.source; s.Target != nil && (table == "" || s.Target.Table.FullName() == table) {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		return nil, fault.Errorf(fault.Stop, "", "the bridge's mapping has no target table %s", table)
	}
	return found, nil
}

func (a *applier) heldPage(ctx context.Context, b *mapping.Batch, r *sink.Request, args *HeldArgs, p *HeldProgress, sources []*mapping.Source, rows int) (done bool, err error) {
	worked := false
	for _, s := range sources {
		q := &sink.HeldQuery{Table: s.Target.Table, Reason: args.Reason, Keys: args.Keys, Limit: rows}
		if p.Table == s.Target.Table.FullName() {
			q.After = p.After
		}
		keys, more, err := b.HeldKeys(ctx, q)
		if err != nil {
			return false, err
		}
		switch {
		case len(keys) == 0:
			continue
		case worked: // one page is enough for a transaction
			return false, nil
		}
		work := b.RetryHeld
		if r.Kind == HeldDrop {
			work = b.DropHeld
		}
		n, err := work(ctx, &mapping.HeldPage{Source: s, Keys: keys, Request: r.ID, LSN: a.cp.LSN, Time: time.Now()})
		if err != nil {
			return false, err
		}
		p.add(n)
		p.Table, p.After = s.Target.Table.FullName(), &keys[len(keys)-1]
		if more {
			return false, nil
		}
		worked = true
	}
	return true, nil
}
