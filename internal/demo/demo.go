package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/internal/verify"
	"github.com/walbridge/walbridge/mapping"
)

// Options say how the demo runs. Zero fields take the defaults.
type Options struct {
	// For is how long the traffic lasts; 40 s.
	For time.Duration
	// Rate is the actions a second of the traffic; 250. Seed chooses them.
	Rate float64
	Seed uint64
	// Out gets what the demo shows. If it is a terminal, the numbers stay on one
	// line.
	Out io.Writer
	// Binary is the path of the walbridge executable; this process's own.
	Binary string
	// Mapping is the file that the bridge runs with when nothing else is said:
	// NioChat's.
	Mapping *mapping.File
	Log     *slog.Logger
}

// ErrDiffers says that the target is not what the source says it should be.
var ErrDiffers = errors.New("the target differs from the source")

const (
	defaultFor  = 40 * time.Second
	defaultRate = 250
	trafficTask = 3 // workers
	// killAt is when, as a part of the whole time, the bridge is killed.
	killAt, restartAt = 0.4, 0.5
	// caughtUpWithin bounds the wait for what is left when the traffic ends.
	caughtUpWithin = 2 * time.Minute
)

// Run shows the bridge at work: two throwaway clusters, NioChat's tables and
// traffic at one of them, the bridge between them, killed in the middle and
// started again. At the end it compares both sides; it returns nil only if they
// are equal, and ErrDiffers if they aren't. Nothing stays behind.
func Run(ctx context.Context, opts Options) error {
	if opts.For <= 0 {
		opts.For = defaultFor
	}
	if opts.Rate == 0 {
		opts.Rate = defaultRate
	}
	if opts.Binary == "" {
		path, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		opts.Binary = path
	}
	d := &demo{opts: opts, out: newScreen(opts.Out)}
	defer d.cleanup()
	for _, step := range []func(context.Context) error{d.startClusters, d.startBridge, d.run, d.catchUp, d.tell, d.compare} {
		if err := step(ctx); err != nil {
			return d.explain(err)
		}
	}
	return nil
}

// demo is one Run.
type demo struct {
	opts           Options
	out            *screen
	source, target *pgtest.Cluster
	bridge         *Bridge
	bridgeLog      tail
	traffic        *Traffic
}

// database is what both databases are called.
const database = "niochat"

func (d *demo) sourceURL() string { return d.source.URL(database) }
func (d *demo) targetURL() string { return d.target.URL(database) }

// cleanup ends the processes and removes their directories, in whatever state
// the demo is.
func (d *demo) cleanup() {
	if d.bridge != nil {
		if err := d.bridge.Kill(); err != nil {
			d.opts.Log.Warn("bridge not ended", "err", err)
		}
	}
	for _, c := range []*pgtest.Cluster{d.source, d.target} {
		if c == nil {
			continue
		}
		if err := c.Close(); err != nil {
			d.opts.Log.Warn("cluster not removed", "err", err)
		}
	}
}

// explain adds the end of the bridge's log to an error that it may be about.
func (d *demo) explain(err error) error {
	d.out.finish()
	if log := d.bridgeLog.String(); log != "" && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w\nthe bridge's log ends with:\n%s", err, log)
	}
	return err
}

func (d *demo) startClusters(ctx context.Context) error {
	d.out.say("starting two PostgreSQL clusters")
	var err error
	if d.source, err = pgtest.New(ctx, ""); err != nil {
		return fmt.Errorf("start the source: %w", err)
	}
	if d.target, err = pgtest.New(ctx, ""); err != nil {
		return fmt.Errorf("start the target: %w", err)
	}
	for _, c := range []*pgtest.Cluster{d.source, d.target} {
		if err := c.CreateDB(ctx, database); err != nil {
			return err
		}
	}
	conn, err := pgx.Connect(ctx, d.sourceURL())
	if err != nil {
		return fmt.Errorf("connect to the source: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := conn.PgConn().Exec(ctx, SourceSchema).Close(); err != nil {
		return fmt.Errorf("make the source's tables: %w", err)
	}
	if err := Seed(ctx, conn, SeedOptions{Seed: d.opts.Seed}); err != nil {
		return err
	}
	d.out.say("source  PostgreSQL %d at %s with NioChat's tables, 4 tenants", d.source.Version(), d.source.Addr())
	d.out.say("target  PostgreSQL %d at %s, empty", d.target.Version(), d.target.Addr())
	return nil
}

func (d *demo) startBridge(context.Context) error {
	var err error
	d.bridge, err = StartBridge(BridgeOptions{Binary: d.opts.Binary, Source: d.sourceURL(), Target: d.targetURL(),
		Log: &d.bridgeLog})
	if err != nil {
		return err
	}
	d.out.say("bridge  process %d, open %s while it runs", d.bridge.Pid(), d.bridge.URL())
	return nil
}

// run lets the traffic go on for its time, kills the bridge in the middle and
// starts it again.
func (d *demo) run(ctx context.Context) error {
	d.traffic = NewTraffic(d.sourceURL(), TrafficOptions{Seed: d.opts.Seed, Rate: d.opts.Rate, Workers: trafficTask}, d.opts.Log)
	tctx, stop := context.WithTimeout(ctx, d.opts.For)
	defer stop()
	d.out.say("traffic %.0f actions a second for %s", d.opts.Rate, d.opts.For)
	ended := make(chan error, 1)
	go func() { ended <- d.traffic.Run(tctx) }()

	start := time.Now()
	after := func(part float64) <-chan time.Time { return time.After(time.Duration(part * float64(d.opts.For))) }
	kill, restart := after(killAt), after(restartAt)
	show := time.NewTicker(d.out.every)
	defer show.Stop()
	for {
		var err error
		select {
		case err := <-ended:
			if err == nil {
				err = ctx.Err()
			}
			return cmp.Or(err, d.show(ctx, start))
		case <-show.C:
			err = cmp.Or(d.show(ctx, start), d.checkBridge())
		case <-kill:
			if err = d.bridge.Kill(); err == nil {
				d.out.say("%4s  kill -9 %d", elapsed(start), d.bridge.Pid())
			}
		case <-restart:
			if err = d.bridge.Restart(); err == nil {
				d.out.say("%4s  started again, process %d", elapsed(start), d.bridge.Pid())
			}
		}
		if err != nil {
			stop()
			return errors.Join(err, <-ended)
		}
	}
}

// show writes the numbers of this moment. A bridge that needs a person is an
// error: nobody is there.
func (d *demo) show(ctx context.Context, start time.Time) error {
	written := d.traffic.Counts().Rows
	s, err := d.bridge.Status(ctx)
	if err != nil {
		d.out.number("%4s  written %6d rows    bridge doesn't answer", elapsed(start), written)
		return nil
	}
	d.out.number("%4s  written %6d rows    bridge %-9s applied %6d  audited %6d  held %3d  behind %s", elapsed(start), written,
		s.State, s.Rows, s.Entries, s.Held, size(s.LagBytes))
	if s.State == status.Blocked {
		return blocked(s)
	}
	return nil
}

func elapsed(start time.Time) time.Duration { return time.Since(start).Round(time.Second) }

func size(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// catchUp waits for what is left, and stops the bridge.
func (d *demo) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, caughtUpWithin)
	defer cancel()
	d.out.say("traffic ended")
	start := time.Now()
	lsn, err := flushLSN(ctx, d.sourceURL())
	if err != nil {
		return err
	}
	if err := d.bridge.WaitCaughtUp(ctx, lsn); err != nil {
		return err
	}
	d.out.say("caught up %s later", time.Since(start).Round(10*time.Millisecond))
	return d.bridge.Stop()
}

// flushLSN is how far the source's log is durable.
func flushLSN(ctx context.Context, url string) (pglogrepl.LSN, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, fmt.Errorf("connect to the source: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var text string
	if err := conn.QueryRow(ctx, `SELECT pg_current_wal_flush_lsn()::text`).Scan(&text); err != nil {
		return 0, fmt.Errorf("read the source's position: %w", err)
	}
	return pglogrepl.ParseLSN(text)
}

// tell says what the application has done. How many rows its tenant moves took
// along is what the bridge says of it in the audit log.
func (d *demo) tell(ctx context.Context) error {
	rows, err := movedRows(ctx, d.targetURL())
	if err != nil {
		return err
	}
	c := d.traffic.Counts()
	d.out.say("wrote   %s", c.summary())
	d.out.say("moved   %s %d, which took %d rows along", tenantMoves, c.byKind()[tenantMoves], rows)
	return nil
}

// movedRows sums the rows that changes of other rows gave to another tenant. Both
// tenants have an entry about them; that of the new one counts, and that of the
// old one where they came to have none.
func movedRows(ctx context.Context, url string) (n int64, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, fmt.Errorf("connect to the target: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, `
		SELECT coalesce(sum((m->>'rows')::bigint), 0)::bigint
		FROM public.audit_logs, jsonb_array_elements(details->'moved') m
		WHERE details->>'by' = 'walbridge' AND provedor_id::text = coalesce(m->>'to', m->>'from')`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count the moved rows: %w", err)
	}
	return n, nil
}

// compare evaluates the mapping on the source and compares.
func (d *demo) compare(ctx context.Context) error {
	rows, entries, err := Compare(ctx, d.opts.Mapping, d.sourceURL(), d.targetURL(), verify.Options{})
	if err != nil {
		return err
	}
	d.out.say("\n%s\naudit log: %s\n", rows, entries)
	if !rows.Equal() || entries != nil && !entries.OK() {
		return ErrDiffers
	}
	d.out.say("equal")
	return nil
}

// Compare compares two databases by URL under a mapping file: the rows and the
// audit entries.
func Compare(ctx context.Context, f *mapping.File, source, target string, opts verify.Options) (*verify.Report, *verify.EntriesReport, error) {
	src, err := pg.Connect(ctx, source, pg.Options{Side: pg.Source})
	if err != nil {
		return nil, nil, err
	}
	defer src.Close(context.WithoutCancel(ctx))
	dst, err := pg.Connect(ctx, target, pg.Options{Side: pg.Target})
	if err != nil {
		return nil, nil, err
	}
	defer dst.Close(context.WithoutCancel(ctx))
	m, err := verify.Compile(ctx, f, mapping.CompileOptions{}, src, dst)
	if err != nil {
		return nil, nil, err
	}
	rows, err := verify.Compare(ctx, m, src, dst, opts)
	if err != nil {
		return nil, nil, err
	}
	entries, err := verify.Entries(ctx, m, dst, opts.Name)
	return rows, entries, err
}

// checkBridge reports a bridge that has ended by itself.
func (d *demo) checkBridge() error {
	if d.bridge.ended {
		return nil
	}
	select {
	case <-d.bridge.Done():
		return errors.New("the bridge has ended by itself")
	default:
		return nil
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > tailBytes {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-tailBytes:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
