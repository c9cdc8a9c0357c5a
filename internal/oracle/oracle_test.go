package oracle

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seedFlag = flag.Uint64("oracle.seed", 0, "run this seed only")
	repeat   = flag.Int("oracle.repeat", 1, "run each seed this often")
	only     = flag.String("oracle.only", "", "keep only these steps, as in 0-12,17")
	shrink   = flag.Bool("oracle.shrink", false, "leave steps out of a seed that fails for as long as it fails")
	match    = flag.String("oracle.match", "", "with -oracle.shrink: only an error that has this text counts as failing")
	verbose  = flag.Bool("oracle.log", false, "show the statements and the bridge's log of seeds that fail")
	keepOn   = flag.Bool("oracle.all", false, "go on after a seed that fails")
)

// workers run seeds side by side, each on clusters of its own.
const workers = 2

// TestOracle runs seeds 1 to ORACLE_SEEDS (20), or from ORACLE_FROM on, or the
// one of -oracle.seed or ORACLE_SEED.
func TestOracle(t *testing.T) {
	from, n := number(t, "ORACLE_FROM", 1), number(t, "ORACLE_SEEDS", 20)
	seed := *seedFlag
	if seed == 0 {
		seed = number(t, "ORACLE_SEED", 0)
	}
	if seed != 0 {
		from, n = seed, 1
	}
	var next, failed atomic.Uint64
	var wg sync.WaitGroup
	for range min(workers, int(n)) {
		pair := newPair(t)
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= n || failed.Load() > 0 && !*keepOn {
					return
				}
				if err := runSeed(t, pair, from+i); err != nil {
					failed.Add(1)
					t.Errorf("seed %d: %v\n\nagain: go test ./internal/oracle -oracle.seed %d -oracle.log", from+i, err, from+i)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds from %d, %d failed", min(next.Load(), n), from, failed.Load())
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func runSeed(t *testing.T, pair *pair, seed uint64) error {
	p := newPlan(seed)
	if *only != "" {
		if err := p.keepOnly(*only); err != nil {
			return err
		}
	}
	var err error
	for range *repeat {
		start := time.Now()
		if err = pair.try(t.Context(), p); err != nil {
			break
		}
		if *verbose {
			t.Logf("seed %d: %s: %s", seed, time.Since(start).Round(time.Millisecond), p.describe())
		}
	}
	if err == nil || !*shrink {
		return describe(p, err)
	}
	return describe(p, shrinkPlan(t, pair, p, err))
}

func describe(p *plan, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\n\nvariant: %s", err, p.describe())
}

// try runs a plan once.
func (p *pair) try(ctx context.Context, pl *plan) error {
	w, err := p.newWorld(ctx, pl)
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	defer w.close()
	if err = w.run(ctx); err == nil {
		err = w.compare(ctx)
	}
	if err != nil && *verbose {
		err = errors.Join(err, fmt.Errorf("log:\n%s", w.log.String()))
	}
	return err
}

// shrinkPlan leaves out steps, half of them, a quarter and so on, for as long as
// what remains still fails.
func shrinkPlan(t *testing.T, pair *pair, p *plan, err error) error {
	fails := func(less *plan) bool {
		e := pair.try(t.Context(), less)
		if e == nil || !strings.Contains(e.Error(), *match) {
			return false
		}
		err, p.steps = e, less.steps
		return true
	}
	for size := len(p.steps) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(p.steps); {
			less := *p
			less.steps = p.without(at, at+size)
			if len(less.steps) == len(p.steps) || !fails(&less) {
				at += size
				continue
			}
			t.Logf("%d steps fail: %.200s", len(p.steps), err)
		}
	}
	p.narrow(fails)
	for i, s := range p.steps {
		err = fmt.Errorf("%w\nstep %d: %s", err, i, s.text())
	}
	return err
}
