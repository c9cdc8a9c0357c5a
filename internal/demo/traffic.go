package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// TrafficOptions say how Traffic writes. Zero fields take the defaults.
type TrafficOptions struct {
	Seed uint64
	// Rate is actions a second over all workers; 0 is as fast as they can.
	Rate float64
	// Workers write at the same time, each to inboxes of its own; 2 by default.
	// With one worker the statements depend on nothing but the seed, the clock
	// and the rows that are there at the start.
	Workers int
	// Actions ends each worker after so many attempts; 0 is never.
	Actions int
	// Now is the application host's clock; nil stands for time.Now.
	Now func() time.Time
}

// Counts are what a Traffic has done so far.
type Counts struct {
	// Actions are the committed and the deliberately rolled-back ones by name.
	Actions map[string]int64
	// Rows were inserted, updated or deleted and committed.
	Rows int64
	// Refused actions met a deadlock or a constraint, because workers share
	// contacts, and were rolled back.
	Refused int64
}

// Traffic writes to a seeded NioChat database as the application does.
type Traffic struct {
	url  string
	opts TrafficOptions
	log  *slog.Logger

	mu     sync.Mutex
	counts Counts
}

// NewTraffic returns a writer for the database at url.
func NewTraffic(url string, opts TrafficOptions, log *slog.Logger) *Traffic {
	if opts.Workers == 0 {
		opts.Workers = 2
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Traffic{url: url, opts: opts, log: log, counts: Counts{Actions: map[string]int64{}}}
}

// Run writes until ctx is done, which is no error, or the options end it. Actions that have begun are
// finished first, so nothing is under way when it returns.
func (t *Traffic) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for n := range t.opts.Workers {
		g.Go(func() error {
			if err := t.work(gctx, n); err != nil && ctx.Err() == nil {
				return fmt.Errorf("traffic worker %d: %w", n, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// Counts returns a copy of the counters.
func (t *Traffic) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts
	c.Actions = maps.Clone(c.Actions)
	return c
}

// count adds one action's outcome.
func (t *Traffic) count(name string, rows int64, refused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if refused {
		t.counts.Refused++
		return
	}
	t.counts.Actions[name]++
	t.counts.Rows += rows
}

// actionTimeout ends an action that hangs, for instance on a lock of somebody
// who looks at the source by hand.
const actionTimeout = time.Minute

// work is one worker's loop.
func (t *Traffic) work(ctx context.Context, n int) error {
	conn, err := pgx.Connect(ctx, t.url)
	if err != nil {
		return fmt.Errorf("connect to the source: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	w := &worker{conn: conn, content: content{rand.New(rand.NewPCG(t.opts.Seed, uint64(n)+1))}, now: t.opts.Now}
	if err := w.load(ctx, n, t.opts.Workers); err != nil {
		return err
	}
	t.log.Debug("traffic worker started", "worker", n)
	pace := newPace(t.opts.Rate / float64(t.opts.Workers))
	for i := 0; (t.opts.Actions == 0 || i < t.opts.Actions) && pace.wait(ctx); i++ {
		a := w.choose()
		w.rows = 0
		err := w.act(ctx, a)
		switch {
		case errors.Is(err, errNothing):
		case err == nil || isRefusal(err):
			t.count(a.name, w.rows, err != nil)
		default:
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	return nil
}

// act does one action to its end, even when ctx is over meanwhile.
func (w *worker) act(ctx context.Context, a action) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), actionTimeout)
	defer cancel()
	return a.do(w, ctx)
}

// isRefusal reports errors that the application would answer with a failed
// request: a deadlock, a constraint.
func isRefusal(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code[:2] == "23" || pg.Code == "40P01")
}

// pace spreads actions evenly.
type pace struct {
	every time.Duration
	next  time.Time
}

func newPace(rate float64) *pace {
	p := &pace{next: time.Now()}
	if rate > 0 {
		p.every = time.Duration(float64(time.Second) / rate)
	}
	return p
}

// wait returns when the next action is due, false when ctx is over.
func (p *pace) wait(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	if p.every == 0 {
		return true
	}
	now := time.Now()
	if p.next = p.next.Add(p.every); p.next.Before(now.Add(-time.Second)) {
		p.next = now // too slow for the rate: don't make up for all of it
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(p.next.Sub(now)):
		return true
	}
}
