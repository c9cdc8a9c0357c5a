package oracle

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pgtest"
)

var (
	nemesisSeed   = flag.Uint64("nemesis.seed", 0, "run this seed of the nemesis only")
	nemesisFaults = flag.Int("nemesis.faults", 6, "how many faults a seed has")
	nemesisEvery  = flag.Int("nemesis.every", 1, "compare after every so many faults, and after the last")
	nemesisOnly   = flag.String("nemesis.only", "", "only these faults, separated by commas")
)

// TestNemesis does to the bridge, both databases and the network between them
// what goes wrong in production, while an application writes without a pause.
// After each fault the tables and the audit log must be those of the journal.
//
//	go test ./internal/oracle -run Nemesis                         two seeds
//	go test ./internal/oracle -run Nemesis -nemesis.seed 7         one of them again
//	NEMESIS_SEEDS=100 go test -timeout 0 ./internal/oracle -run Nemesis -nemesis.faults 50
//	… -nemesis.only 'kill bridge,kill source'                      some faults only
//
// A seed fixes the variant, what each session writes, which faults strike in
// which order, and their sizes; not at which statement they strike. Odd seeds run
// the bridge within the test, even ones as a process of its own. The programs of
// the two servers come from NEMESIS_SOURCE_BIN and NEMESIS_TARGET_BIN, where set.
func TestNemesis(t *testing.T) {
	t.Parallel()
	from, n := number(t, "NEMESIS_FROM", 1), number(t, "NEMESIS_SEEDS", 2)
	if *nemesisSeed != 0 {
		from, n = *nemesisSeed, 1
	}
	total := map[string]int{}
	for seed := from; seed < from+n; seed++ {
		counts, err := runNemesis(t, seed)
		for name, n := range counts {
			total[name] += n
		}
		if err != nil {
			t.Fatalf("seed %d: %v\n\nagain: go test ./internal/oracle -run Nemesis -nemesis.seed %d -nemesis.faults %d -nemesis.only '%s' -oracle.log",
				seed, err, seed, *nemesisFaults, *nemesisOnly)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%4d %s", total[name], name)
	}
}

// sessions is how many sessions write at the same time.
const sessions = 3

// nemesis is one run.
type nemesis struct {
	w *world
	r *rand.Rand
	// source and target are what the bridge reaches the databases through.
	source, target *pgtest.Proxy
	// small is a directory on a small file system that holds the target's tables,
	// or "" where none can be mounted.
	small string
	// gate is closed while the two sides are compared.
	gate sync.RWMutex
	// written counts transactions.
	written [sessions]int
}

func runNemesis(t *testing.T, seed uint64) (counts map[string]int, err error) {
	start := time.Now()
	n := newNemesis(t, seed)
	pl := nemesisPlan(seed)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := n.w.pair.newWorld(ctx, pl)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("prepare: %w", err)
	}
	n.w = w
	w.bridgeSrc, w.bridgeDst = n.source.URL(w.src), n.target.URL(w.dst)
	watch := &watcher{w: w}
	var wg sync.WaitGroup
	wg.Go(func() { watch.run(ctx) })
	counts, err = n.run(ctx, &wg)
	cancel()
	wg.Wait()
	err = errors.Join(err, watch.err)
	w.close()
	if err == nil {
		total := 0
		for _, n := range n.written {
			total += n
		}
		t.Logf("seed %d: %s, %d transactions, %d looks at the positions, %v: %s", seed, time.Since(start).Round(time.Second), total, watch.looks, counts, pl.describe())
		return counts, nil
	}
	if *verbose {
		err = errors.Join(err, fmt.Errorf("log:\n%s", w.log.String()))
	}
	return counts, describe(pl, err)
}

// newNemesis starts two clusters with what the faults need: both make every
// commit durable, and have few connections to give away.
func newNemesis(t *testing.T, seed uint64) *nemesis {
	settings := func(bin string) []pgtest.Option {
		return []pgtest.Option{
			pgtest.WithSetting("deadlock_timeout", "50ms"), pgtest.WithSetting("autovacuum", "off"),
			pgtest.WithSetting("max_wal_size", "256MB"), pgtest.WithSetting("wal_sender_timeout", "20s"),
			pgtest.WithSetting("max_connections", "30"), pgtest.WithBin(os.Getenv(bin)),
		}
	}
	p := newPairOf(t, settings("NEMESIS_SOURCE_BIN"), settings("NEMESIS_TARGET_BIN"))
	n := &nemesis{
		w: &world{pair: p}, r: rand.New(rand.NewPCG(seed, 0x6e656d65736973)),
		source: pgtest.NewProxy(t, p.source.Addr()), target: pgtest.NewProxy(t, p.target.Addr()),
	}
	var err error
	if n.small, err = mountSmall(t, p.target); err != nil {
		t.Logf("no small file system, so the disk is never full: %v", err)
		return n
	}
	pgtest.Exec(t, p.target.URL("postgres"), "CREATE TABLESPACE small LOCATION '"+n.small+"'")
	p.targetOptions = " TABLESPACE small"
	return n
}

// nemesisPlan draws the variant. Its steps are made while it runs.
func nemesisPlan(seed uint64) *plan {
	p := &plan{seed: seed, spec: newSpec()}
	g := &generator{r: rand.New(rand.NewPCG(seed, 0x6f7261636c65)), big: 90}
	p.variant(g)
	p.opts.process = seed%2 == 0
	// A row that was dropped and comes back by an update without its large value
	// is read again from the source. Under this load it may be gone by then, which
	// the model can't know.
	p.spec.byName["log"].drop = false
	p.write(g, 10)
	return p
}

// run writes, harms and compares.
func (n *nemesis) run(ctx context.Context, wg *sync.WaitGroup) (map[string]int, error) {
	w, counts := n.w, map[string]int{}
	for _, s := range w.plan.steps {
		if err := w.write(ctx, s.scripts); err != nil {
			return nil, err
		}
	}
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	if !w.plan.opts.load {
		if err := n.settle(ctx); err != nil {
			return nil, fmt.Errorf("before the first fault: %w", err)
		}
	}
	for i := range sessions {
		wg.Go(func() { n.writeOn(ctx, i) })
	}
	faults, err := n.faults()
	if err != nil {
		return nil, err
	}
	for i := range *nemesisFaults {
		f := faults[n.r.IntN(len(faults))]
		if err := pause(ctx, n.between(50, 1500)); err != nil {
			return counts, err
		}
		if *verbose {
			fmt.Fprintf(&w.log, "fault %d: %s\n", i, f.name)
		}
		if err := f.strike(n, ctx); err != nil {
			return counts, fmt.Errorf("fault %d (%s): %w", i, f.name, err)
		}
		counts[f.name]++
		if (i+1)%*nemesisEvery != 0 && i+1 < *nemesisFaults {
			continue
		}
		if err := n.settle(ctx); err != nil {
			return counts, fmt.Errorf("after fault %d (%s): %w", i, f.name, err)
		}
	}
	b := w.bridge
	w.bridge = nil
	if err := b.stop(); err != nil {
		return counts, fmt.Errorf("stop: %w", err)
	}
	return counts, nil
}

// faults are those to choose from, often ones more than once.
func (n *nemesis) faults() ([]harm, error) {
	var list []harm
	for _, f := range allFaults {
		if *nemesisOnly != "" && !slices.Contains(strings.Split(*nemesisOnly, ","), f.name) || f.disk && n.small == "" {
			continue
		}
		for range f.weight {
			list = append(list, f)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("there is no fault %q", *nemesisOnly)
	}
	return list, nil
}

// settle closes the gate, waits until the target has everything, and compares.
func (n *nemesis) settle(ctx context.Context) error {
	n.gate.Lock()
	defer n.gate.Unlock()
	w := n.w
	if err := w.reconnect(ctx); err != nil {
		return err
	}
	if err := w.catchUp(ctx, true); err != nil {
		return err
	}
	if w.copied == 0 {
		if err := w.source.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&w.copied); err != nil {
			return err
		}
	}
	return w.compare(ctx)
}

// writeOn writes on one session until ctx ends, over whatever happens to the
// source.
func (n *nemesis) writeOn(ctx context.Context, i int) {
	g := &generator{r: rand.New(rand.NewPCG(n.w.plan.seed, uint64(i)+1)), big: 90}
	prefix := fmt.Sprintf("%s_s%d_", n.w.name, i)
	var conn *pgx.Conn
	for ctx.Err() == nil {
		if conn == nil {
			var err error
			if conn, err = n.session(ctx, prefix); err != nil {
				_ = pause(ctx, 20*time.Millisecond)
				continue
			}
		}
		s := script{sql: g.transaction(), end: "COMMIT"}
		switch g.r.IntN(20) {
		case 0:
			s.end = "ROLLBACK"
		case 1:
			s.end = "PREPARE"
		}
		n.gate.RLock()
		err := n.w.transaction(ctx, conn, &s, fmt.Sprint(prefix, n.written[i]))
		n.gate.RUnlock()
		n.written[i]++
		if err != nil {
			_ = conn.Close(context.Background())
			conn = nil
		}
		// An application does something else, too.
		_ = pause(ctx, time.Duration(g.r.IntN(30))*time.Millisecond)
	}
	if conn != nil {
		_ = conn.Close(context.Background())
	}
}

// session opens a session, and rolls back what the one before it had prepared.
func (n *nemesis) session(ctx context.Context, prefix string) (*pgx.Conn, error) {
	conn, err := connect(ctx, n.w.src)
	if err != nil {
		return nil, err
	}
	rows, _ := conn.Query(ctx, "SELECT gid FROM pg_prepared_xacts WHERE starts_with(gid, $1) AND database = current_database()", prefix)
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, gid := range left {
		if err == nil {
			_, err = conn.Exec(ctx, "ROLLBACK PREPARED '"+gid+"'")
		}
	}
	if err != nil {
		_ = conn.Close(ctx)
		return nil, err
	}
	return conn, nil
}

// reconnect replaces the oracle's own connections, which a fault may have cost.
func (w *world) reconnect(ctx context.Context) error {
	for _, c := range []struct {
		conn **pgx.Conn
		url  string
	}{{&w.source, w.src}, {&w.target, w.dst}} {
		_ = (*c.conn).Close(ctx)
		deadline := time.Now().Add(patience)
		for {
			conn, err := connect(ctx, c.url)
			if err == nil {
				*c.conn = conn
				break
			}
			if time.Now().After(deadline) {
				return err
			}
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// between draws a number of milliseconds.
func (n *nemesis) between(least, most int) time.Duration {
	return time.Duration(least+n.r.IntN(most-least+1)) * time.Millisecond
}

// pause lets time pass for the load and the bridge.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// watcher looks at the positions all the time: the checkpoint never goes back,
// and nothing is ever confirmed to the source that the target hasn't got.
type watcher struct {
	w     *world
	looks int
	err   error
}

func (p *watcher) run(ctx context.Context) {
	var last cdc.LSN
	for ctx.Err() == nil {
		// Which is read first matters: the checkpoint may move on in between.
		var confirmed, checkpoint cdc.LSN
		err := p.read(ctx, p.w.src, "SELECT coalesce(max(confirmed_flush_lsn), '0/0')::text FROM pg_replication_slots WHERE database = current_database() AND slot_name = 'walbridge'", &confirmed)
		if err == nil {
			err = p.read(ctx, p.w.dst, "SELECT coalesce(max(lsn), '0/0')::text FROM walbridge.checkpoint", &checkpoint)
		}
		switch {
		case err != nil: // away, or nothing is installed yet
		case checkpoint < last:
			p.err = fmt.Errorf("the checkpoint went back from %s to %s", last, checkpoint)
			return
		case checkpoint != 0 && confirmed > checkpoint:
			p.err = fmt.Errorf("confirmed %s, but the checkpoint is at %s", confirmed, checkpoint)
			return
		default:
			last = checkpoint
			p.looks++
		}
		_ = pause(ctx, 25*time.Millisecond)
	}
}

func (p *watcher) read(ctx context.Context, url, sql string, lsn *cdc.LSN) error {
	conn, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	return conn.QueryRow(ctx, sql).Scan(lsn)
}
