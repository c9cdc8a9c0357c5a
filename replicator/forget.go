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

// Forget is the kind of request that erases one row everywhere at the target. Its
// arguments are ForgetArgs, its progress and result ForgetProgress.
const Forget = "forget"

// ForgetArgs are the arguments of a request of kind Forget.
type ForgetArgs struct {
	// Table is a target table, schema-qualified.
	Table string `json:"table"`
	// Key is the row's at the source, which is what entries name it by.
	Key sink.Key `json:"key"`
	// Dependents are to be forgotten, too.
	Dependents bool `json:"dependents,omitempty"`
	// EvenIfPresent goes on while the source has the row.
	EvenIfPresent bool `json:"even_if_present,omitempty"`
}

// ForgetProgress is what has been erased so far.
type ForgetProgress struct {
	mapping.ForgetCounts
	// Dependents is how many of the rows were dependents.
	Dependents int64 `json:"dependents"`
	// Tenants are those concerned.
	Tenants []string `json:"tenants"`
}

// note adds a tenant to those concerned.
func (p *ForgetProgress) note(tenant string) {
	if !slices.Contains(p.Tenants, tenant) {
		p.Tenants = append(p.Tenants, tenant)
	}
}

// forgetStep erases a page of what depends on the row, or the row itself when
// nothing does any more. Nothing has to be remembered between steps but counts:
// what has been erased isn't found again.
func (a *applier) forgetStep(ctx context.Context, b *mapping.Batch, r *sink.Request, rows int) (progress string, done bool, err error) {
	var args ForgetArgs
	if err := json.Unmarshal([]byte(r.Args), &args); err != nil {
		return "", false, badRequest("arguments", err)
	}
	var p ForgetProgress
	if r.Progress != "" {
		if err := json.Unmarshal([]byte(r.Progress), &p); err != nil {
			return "", false, badRequest("progress", err)
		}
	}
	s, err := a.forgetSource(args.Table)
	if err != nil {
		return "", false, err
	}
	page := &mapping.ForgetPage{Source: s, Keys: []sink.Key{args.Key}, EvenIfPresent: args.EvenIfPresent, Dependents: args.Dependents, LSN: a.cp.LSN, Request: r.ID, Time: time.Now()}
	if err := a.forgettable(ctx, b, page); err != nil {
		return "", false, err
	}
	if args.Dependents {
		of, keys, err := b.Dependents(ctx, s, args.Key, rows)
		if err != nil {
			return "", false, err
		}
		if len(keys) > 0 {
			if err := a.forgetDependents(ctx, b, page, of, keys, &p); err != nil {
				return "", false, err
			}
			text, err := json.Marshal(p)
			return string(text), false, err
		}
	}
	n, tenants, err := b.Forget(ctx, page)
	if err != nil {
		return "", false, err
	}
	p.Add(&n)
	for _, tenant := range tenants {
		p.note(tenant)
	}
	if err := b.ForgetEntries(s, args.Key, p.Tenants, &p.ForgetCounts, r.ID, a.cp.LSN, page.Time); err != nil {
		return "", false, err
	}
	text, err := json.Marshal(p)
	return string(text), true, err
}

// forgetDependents erases a page of rows that depend on page's.
func (a *applier) forgetDependents(ctx context.Context, b *mapping.Batch, page *mapping.ForgetPage, of *mapping.Source, keys []sink.Key, p *ForgetProgress) error {
	dependents := *page
	dependents.Source, dependents.Keys = of, keys
	if err := a.forgettable(ctx, b, &dependents); err != nil {
		return err
	}
	n, tenants, err := b.Forget(ctx, &dependents)
	if err != nil {
		return err
	}
	p.Add(&n)
	p.Dependents += int64(len(keys))
	for _, tenant := range tenants {
		p.note(tenant)
	}
	return nil
}

// forgettable says why the rows of a page can't be forgotten, or nil. Before its
// first copy is done a table may hold rows that the bridge hasn't seen yet.
func (a *applier) forgettable(ctx context.Context, b *mapping.Batch, page *mapping.ForgetPage) error {
	s := page.Source
	if err := s.Forgettable(); err != nil {
		return err
	}
	if !a.copy.by[s].p.Done {
		return fault.Errorf(fault.Stop, "ask again when it is done: walbridge status", "the first copy of %s is still under way", s.FullName())
	}
	if page.EvenIfPresent {
		return nil
	}
	present, err := b.Present(ctx, page)
	if err == nil && present {
		err = fault.Errorf(fault.Stop, "delete it in the application first",
			"the source still has a row of %s that is to be forgotten, or its deletion has not come through yet; --even-if-present erases it until its next change", s.FullName())
	}
	return err
}

// forgetSource is the source of a target table.
func (a *applier) forgetSource(table string) (*mapping.Source, error) {
	i := slices.IndexFunc(a.copy.tables, func(t *tableCopy) bool {
		return t.source.Target != nil && t.source.Target.Table.FullName() == table
	})
	if i < 0 {
		return nil, fault.Errorf(fault.Stop, "", "the bridge's mapping has no target table %s", table)
	}
	return a.copy.tables[i].source, nil
}
