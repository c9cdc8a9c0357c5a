// Package verify proves the bridge's invariant: it evaluates the mapping on the
// source and compares the outcome, value by value, with what is at the target. It
// shares with the bridge what a mapping means, and nothing of how the bridge got
// there.
//
// Both sides are gone through in ranges of keys. Where the columns allow, each
// database digests a range by itself, and a range with equal digests is done:
//
//	source  sums ─┐                   ┌─ equal: counted by tenant
//	              ├─ compared ────────┤
//	target  sums ─┘                   └─ else key by key ─► suspects ─► settle
//
// Both sides may be in use meanwhile. What looks wrong is a suspect at first, and
// only settle calls it wrong.
package verify

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// Options narrow a comparison down.
type Options struct {
	// Name is the bridge's name in the private schema; "walbridge" if empty.
	Name string
	// Tables are the target tables to compare, schema-qualified; all of them, and
	// the path values, if empty.
	Tables []string
	// Tenant, unless empty, is the only tenant whose rows are compared.
	Tenant string
	// Keys is how many keys of wrong rows are named, for each table and kind of
	// mistake.
	Keys int
	// OthersWrite says that somebody else inserts rows into the tables. One
	// beside a held row of its key, or one that a move has taken to the held
	// rows, is then foreign and no mistake of the bridge.
	OthersWrite bool
	// Repair, unless nil, has the bridge mend rows of a target table. They are
	// compared again after it.
	Repair func(ctx context.Context, table string, keys []sink.Key) error
	// Progress, unless nil, is told how far the comparison has come. It is not
	// called by two goroutines at once.
	Progress func(Progress)
}

// Progress is how far the comparison of one table has come.
type Progress struct {
	Table string
	// Rows of the source have been compared, of about Estimate; 0 if unknown.
	Rows, Estimate int64
}

// DefaultName is the bridge's name where none is given.
const DefaultName = "walbridge"

// workers is how many ranges are compared at once. Each keeps one session of
// either database busy; more would take them from the application.
const workers = 2

// Access opens what a comparison reads. Every connection to the source must have
// the bridge's pinned settings (package pg).
type Access struct {
	Source func(ctx context.Context) (*pgx.Conn, error)
	Target func(ctx context.Context) (sink.Reader, error)
}

// Run compares every table of the mapping, and the path values that the bridge
// keeps beside them, while both sides are in use. A row is called wrong only when
// it is so in a moment in which the target has applied all that the source shows,
// and nothing else. What settles that needs a running bridge: without one, or
// while it is blocked, an error of *StuckError says so.
func Run(ctx context.Context, m *mapping.Mapping, access Access, opts Options) (*Report, error) {
	c := newComparison(m, opts)
	defer c.close()
	for range workers {
		if err := c.open(ctx, access); err != nil {
			return nil, err
		}
	}
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	r, err := c.run(ctx)
	if err != nil {
		return nil, err
	}
	return r, c.copied(ctx) // a copy may have begun anew meanwhile
}

// Compare compares as Run does, over two connections and without a bridge. Both
// databases must be quiet: the source since before the target caught up with it.
// The connections must have the bridge's pinned settings (package pg).
func Compare(ctx context.Context, m *mapping.Mapping, source, target *pgx.Conn, opts Options) (*Report, error) {
	c := newComparison(m, opts)
	c.quiet = true
	c.pairs = []*pair{{
		source: &reading{conn: source.PgConn()},
		target: postgres.NewReader(target.PgConn(), c.opts.Name, m.Schema),
	}}
	return c.run(ctx)
}

// pair is what one worker reads from.
type pair struct {
	source *reading
	target sink.Reader
	close  func()
}

// comparison is one Run or Compare.
type comparison struct {
	m     *mapping.Mapping
	opts  Options
	quiet bool
	pairs []*pair
	// seen says that a bridge has been at work since the start.
	seen bool

	mu     sync.Mutex // guards the report while ranges are compared
	report Report
}

func newComparison(m *mapping.Mapping, opts Options) *comparison {
	if opts.Name == "" {
		opts.Name = DefaultName
	}
	return &comparison{m: m, opts: opts}
}

func (c *comparison) open(ctx context.Context, access Access) error {
	conn, err := access.Source(ctx)
	if err != nil {
		return err
	}
	target, err := access.Target(ctx)
	if err != nil {
		_ = conn.Close(ctx)
		return err
	}
	c.pairs = append(c.pairs, &pair{source: &reading{conn: conn.PgConn()}, target: target, close: func() {
		_ = conn.Close(context.WithoutCancel(ctx))
		_ = target.Close(context.WithoutCancel(ctx))
	}})
	return nil
}

func (c *comparison) close() {
	for _, p := range c.pairs {
		p.close()
	}
}

// run compares the path values first: a repair of one may mend rows.
func (c *comparison) run(ctx context.Context) (*Report, error) {
	var paths []*Table
	if len(c.opts.Tables) == 0 && c.opts.Tenant == "" {
		for _, s := range c.m.Sources {
			if s.Node == nil {
				continue
			}
			table, err := c.comparePaths(ctx, s)
			if err != nil {
				return nil, fmt.Errorf("compare path values of %s: %w", s.FullName(), pg.Safe(err))
			}
			paths = append(paths, table)
		}
	}
	for _, s := range c.m.Sources {
		if s.Target == nil || !c.wanted(s.Target.Table) {
			continue
		}
		table, err := c.compareTable(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("compare %s: %w", s.Target.Table.FullName(), pg.Safe(err))
		}
		c.report.Tables = append(c.report.Tables, table)
	}
	c.report.Tables = append(c.report.Tables, paths...)
	return &c.report, nil
}

func (c *comparison) wanted(t *sink.Table) bool {
	return len(c.opts.Tables) == 0 || slices.Contains(c.opts.Tables, t.FullName())
}

// tenant is the filter of ranges.
func (c *comparison) tenant() *string {
	if c.opts.Tenant == "" {
		return nil
	}
	return &c.opts.Tenant
}

// each runs work once for every pair, at once.
func (c *comparison) each(ctx context.Context, work func(ctx context.Context, p *pair) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range c.pairs {
		g.Go(func() error { return work(ctx, p) })
	}
	return g.Wait()
}
