package oracle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// harm is one kind of fault. strike does it and takes it back; what it breaks
// stays broken until somebody mends it.
type harm struct {
	name   string
	weight int
	disk   bool // needs a small file system
	strike func(n *nemesis, ctx context.Context) error
}

var allFaults = []harm{
	{name: "kill bridge", weight: 4, strike: (*nemesis).killBridge},
	{name: "kill target", weight: 2, strike: func(n *nemesis, ctx context.Context) error { return n.kill(ctx, n.w.pair.target) }},
	{name: "kill source", weight: 2, strike: func(n *nemesis, ctx context.Context) error { return n.kill(ctx, n.w.pair.source) }},
	{name: "kill both", weight: 1, strike: func(n *nemesis, ctx context.Context) error {
		return n.kill(ctx, n.w.pair.source, n.w.pair.target)
	}},
	{name: "kill target at commit", weight: 2, strike: (*nemesis).killAtCommit},
	{name: "restart both", weight: 1, strike: (*nemesis).restartBoth},
	{name: "lose reply to commit", weight: 2, strike: (*nemesis).loseReply},
	{name: "cut within a frame", weight: 4, strike: (*nemesis).cutWithin},
	{name: "cut all", weight: 1, strike: func(n *nemesis, ctx context.Context) error { n.side().Cut(); return nil }},
	{name: "stall", weight: 2, strike: (*nemesis).stall},
	{name: "half-open", weight: 1, strike: (*nemesis).halfOpen},
	{name: "refuse", weight: 1, strike: (*nemesis).refuse},
	{name: "latency", weight: 1, strike: (*nemesis).latency},
	{name: "exhaust connections", weight: 2, strike: (*nemesis).exhaust},
	{name: "lock table", weight: 2, strike: (*nemesis).lockTable},
	{name: "cancel statements", weight: 2, strike: (*nemesis).cancelStatements},
	{name: "statement timeout", weight: 1, strike: (*nemesis).statementTimeout},
	{name: "disk full", weight: 2, disk: true, strike: (*nemesis).diskFull},
}

func (n *nemesis) killBridge(ctx context.Context) error {
	b := n.w.bridge
	n.w.bridge = nil
	if err := n.w.reconnect(ctx); err != nil {
		return err
	}
	if err := b.kill(n.w); err != nil {
		return err
	}
	return n.w.start(ctx)
}

// kill ends servers as a power cut does, and starts them again.
func (n *nemesis) kill(ctx context.Context, servers ...*pgtest.Cluster) error {
	var errs []error
	for _, c := range servers {
		errs = append(errs, c.Kill())
	}
	errs = append(errs, pause(ctx, n.between(0, 400)))
	for _, c := range servers {
		errs = append(errs, c.Start())
	}
	return errors.Join(errs...)
}

// killAtCommit kills the target when it has just committed and the bridge
// doesn't know.
func (n *nemesis) killAtCommit(ctx context.Context) error {
	if err := n.loseReply(ctx); err != nil {
		return err
	}
	return n.kill(ctx, n.w.pair.target)
}

func (n *nemesis) restartBoth(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, c := range []*pgtest.Cluster{n.w.pair.source, n.w.pair.target} {
		wg.Go(func() { errs[i] = c.Restart(pgtest.Fast) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (n *nemesis) side() *pgtest.Proxy {
	if n.r.IntN(2) == 0 {
		return n.source
	}
	return n.target
}

func (n *nemesis) loseReply(ctx context.Context) error {
	return struck(ctx, n.target.LoseReply("COMMIT"))
}

// cutWithin lets some bytes pass, so that the cut falls before, into or behind a
// frame.
func (n *nemesis) cutWithin(ctx context.Context) error {
	bytes := n.r.Int64N(1 << n.r.IntN(17))
	return struck(ctx, n.side().CutAfter(bytes, pgtest.Direction(n.r.IntN(2))))
}

// struck waits for a trap of a proxy.
func struck(ctx context.Context, trap <-chan struct{}) error {
	select {
	case <-trap:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(patience):
		return errors.New("nothing has run into the trap")
	}
}

func (n *nemesis) stall(ctx context.Context) error {
	p := n.side()
	p.Stall()
	defer p.Resume()
	return pause(ctx, n.between(100, 2500))
}

// halfOpen leaves both ends with a connection that is dead, for a while.
func (n *nemesis) halfOpen(ctx context.Context) error {
	p := n.side()
	p.Stall()
	err := pause(ctx, n.between(100, 2500))
	p.Cut()
	p.Resume()
	return err
}

func (n *nemesis) refuse(ctx context.Context) error {
	p := n.side()
	p.Refuse(true)
	defer p.Refuse(false)
	p.Cut()
	return pause(ctx, n.between(100, 1500))
}

func (n *nemesis) latency(ctx context.Context) error {
	p := n.side()
	p.Delay(n.between(5, 60))
	defer p.Delay(0)
	return pause(ctx, n.between(500, 2000))
}

// others ends or cancels, by function, what sessions of the bridge do.
const others = `SELECT %s(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'oracle'`

// database is one of the two, with a connection of the nemesis's own.
func (n *nemesis) database(ctx context.Context) (*pgx.Conn, string, error) {
	url := n.w.dst
	if n.r.IntN(2) == 0 {
		url = n.w.src
	}
	conn, err := connect(ctx, url)
	return conn, url, err
}

// exhaust takes all connections that a server has, those of the bridge too.
func (n *nemesis) exhaust(ctx context.Context) error {
	conn, url, err := n.database(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	var taken []*pgx.Conn
	defer func() {
		for _, c := range taken {
			_ = c.Close(context.Background())
		}
	}()
	until := time.Now().Add(n.between(300, 1500))
	for time.Now().Before(until) {
		c, err := connect(ctx, url)
		if err == nil {
			taken = append(taken, c)
			continue
		}
		if _, err := conn.Exec(ctx, fmt.Sprintf(others, "pg_terminate_backend")); err != nil {
			return err
		}
	}
	return nil
}

func (n *nemesis) lockTable(ctx context.Context) error {
	t := n.w.plan.spec.tables[n.r.IntN(len(n.w.plan.spec.tables))]
	if t.target == "" {
		t = n.w.plan.spec.byName["message"]
	}
	conn, err := connect(ctx, n.w.dst)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "LOCK TABLE public."+t.target+" IN ACCESS EXCLUSIVE MODE"); err != nil {
		return nil // the bridge was faster, or the table isn't there yet
	}
	return pause(ctx, n.between(300, 2000))
}

func (n *nemesis) cancelStatements(ctx context.Context) error {
	conn, _, err := n.database(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	for range 10 + n.r.IntN(40) {
		if _, err := conn.Exec(ctx, fmt.Sprintf(others, "pg_cancel_backend")); err != nil {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// statementTimeout makes a server give up on what takes a moment.
func (n *nemesis) statementTimeout(ctx context.Context) error {
	conn, _, err := n.database(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	reset := func() error {
		_, err := conn.Exec(context.WithoutCancel(ctx), "ALTER DATABASE "+n.w.name+" RESET ALL")
		return err
	}
	for _, sql := range []string{
		"ALTER DATABASE " + n.w.name + fmt.Sprintf(" SET statement_timeout = '%dms'", 1+n.r.IntN(5)),
		fmt.Sprintf(others, "pg_terminate_backend"),
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return errors.Join(err, reset())
		}
	}
	return errors.Join(pause(ctx, n.between(300, 1500)), reset())
}

// diskFull leaves the target's tables no room.
func (n *nemesis) diskFull(ctx context.Context) error {
	ballast := filepath.Join(n.small, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		return err
	}
	defer os.Remove(ballast)
	defer f.Close()
	block := make([]byte, 64<<10)
	until := time.Now().Add(n.between(500, 2500))
	for time.Now().Before(until) { // what somebody has freed meanwhile is taken, too
		if _, err := f.Write(block); err != nil {
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}
