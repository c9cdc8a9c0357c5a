// Package bench measures the bridge beside PostgreSQL's own subscription, on
// throwaway clusters of this machine.
//
// Every contestant decodes the same WAL: slots are made before the load, and each
// run drains a fresh copy of its slot into a fresh copy of its target, taken
// after the first copy and before the load. Contestants take turns within a
// round, and what counts is the ratio within the round: whatever else the machine
// does is then done to both. After each run the target is compared with the
// source, because what is wrong may well be fast.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
)

// Options say what is measured. All have to be set, unless their comment says
// otherwise.
type Options struct {
	// Workloads by name; all of them if empty.
	Workloads []string
	// Scale multiplies rows and transactions; 1 if zero.
	Scale float64
	// Repeats is the number of rounds; 5 if zero.
	Repeats int
	// Active is how many conversations are written to at a time; all of them if
	// zero, which leaves batches little to fold and caches little to find.
	Active int
	// Audit chooses the bridges: "off", "on" or "both", which is what empty means.
	Audit string
	// Sink chooses how the bridges write: "direct", which is what empty means, over
	// the API ("rest"), or "both".
	Sink string
	// Binary is the path of the walbridge executable.
	Binary string
	// Subscription holds further options of the native subscription, as in
	// "streaming = on".
	Subscription string
	// Profiles is a directory for CPU profiles of the bridge, none if empty.
	Profiles string
	// Statements lists, with the progress, what the target's server spent its
	// time on in each run. It needs pg_stat_statements, and costs a little.
	Statements bool
	// Progress gets a line for each step.
	Progress io.Writer
}

// runTimeout bounds one run of one contestant.
const runTimeout = 15 * time.Minute

// Run measures and returns what it found. Nothing stays behind.
func Run(ctx context.Context, opts Options) (*Report, error) {
	if opts.Scale == 0 {
		opts.Scale = 1
	}
	if opts.Repeats == 0 {
		opts.Repeats = 5
	}
	workloads, err := choose(opts.Workloads)
	if err != nil {
		return nil, err
	}
	if _, err := busyTime(); err != nil {
		return nil, err
	}
	report := &Report{Scale: opts.Scale, Active: opts.Active, Repeats: opts.Repeats, Settings: settingsText}
	for _, w := range workloads {
		result, err := measure(ctx, opts, w.scaled(opts.Scale), report)
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", w.Name, err)
		}
		report.Results = append(report.Results, *result)
	}
	return report, nil
}

// measure measures one workload on clusters of its own.
func measure(ctx context.Context, opts Options, w Workload, report *Report) (result *Result, err error) {
	a := &arena{opts: opts, workload: w}
	defer func() { err = errors.Join(err, a.close()) }()
	a.say("starting clusters")
	if err := a.open(ctx); err != nil {
		return nil, err
	}
	report.Server = a.version
	contestants, err := a.contestants()
	if err != nil {
		return nil, err
	}
	for _, c := range contestants {
		a.say("preparing %s", c.name())
		if err := c.prepare(ctx); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", c.name(), err)
		}
	}
	if err := a.load(ctx); err != nil {
		return nil, err
	}
	result = &Result{Workload: w.Name, What: w.What, Changes: w.load * w.changes}
	for _, c := range contestants {
		result.Contestants = append(result.Contestants, Contestant{Name: c.name()})
	}
	for round := range opts.Repeats {
		for i := range contestants {
			// Everybody is first once: the first finds another cache than the last.
			at := (i + round) % len(contestants)
			m, err := a.run(ctx, contestants[at], round)
			if err != nil {
				return nil, fmt.Errorf("round %d, %s: %w", round+1, contestants[at].name(), err)
			}
			result.Contestants[at].Runs = append(result.Contestants[at].Runs, *m)
			a.say("round %d  %-16s %s", round+1, contestants[at].name(), m)
			a.sayStatements(ctx)
		}
	}
	result.summarise()
	return result, nil
}

// contestant is one way to bring the source's changes to the target.
type contestant interface {
	name() string
	// prepare makes the template of the target, and the slot, before the load.
	prepare(ctx context.Context) error
	// reset makes the target's database and the slot anew.
	reset(ctx context.Context) error
	// start begins the work; label names the run.
	start(ctx context.Context, label string) error
	// done reports whether the first copy is finished, or the contact with this
	// id is visible.
	done(ctx context.Context, target *pgx.Conn, contact int) (bool, error)
	// visible is a query that finds a message by its id at the target.
	visible() string
	// pid is the contestant's own process while it works, 0 if it has none, apiPid
	// that of the API it writes over, and log what the first says, or nil.
	pid() int
	apiPid() int
	log() *logWatch
	// words are in the titles of the target's processes that work for it alone.
	words() []string
	// stop ends the work, verify compares the target with the source after it.
	stop(ctx context.Context) error
	verify(ctx context.Context, source digest) error
}
