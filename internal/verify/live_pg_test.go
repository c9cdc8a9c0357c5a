package verify_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/verify"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// patience is the upper bound of every wait; nothing is expected to take it.
const patience = 8 * time.Minute

// binary builds the bridge's command, once.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "walbridge")
	out, err := osexec.Command("go", "build", "-o", path, "../../cmd/walbridge").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("build walbridge: %w\n%s", err, out)
	}
	return path, err
})

// live is NioChat's database with a bridge at work, in a process of its own.
type live struct {
	*testing.T
	source, target string
	bridge         *demo.Bridge
	m              *mapping.Mapping
	log            bytes.Buffer
	// begun has a value from the begin of a comparison until the next kill.
	begun  chan struct{}
	killed atomic.Int64
}

// newLive seeds a source and waits until its rows are at the target. onDelete goes
// before the mapping's policies.
func newLive(t *testing.T, onDelete mapping.Policy) *live {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	c := pgtest.Start(t)
	w := &live{T: t, source: pgtest.CreateDB(t, c, "source"), target: pgtest.CreateDB(t, c, "target"), begun: make(chan struct{}, 1)}
	pgtest.Exec(t, w.source, demo.SourceSchema)
	conn, err := pgx.Connect(t.Context(), w.source)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if err := demo.Seed(t.Context(), conn, demo.SeedOptions{Seed: 3}); err != nil {
		t.Fatal(err)
	}
	env := map[mapping.Policy]string{mapping.Keep: "keep", mapping.Delete: "delete"}[onDelete]
	w.bridge, err = demo.StartBridge(demo.BridgeOptions{Binary: path, Source: w.source, Target: w.target,
		Env: []string{"WALBRIDGE_ON_DELETE=" + env, "WALBRIDGE_SOURCE_HEARTBEAT=1s"}, Log: &w.log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.bridge.Kill()
		if t.Failed() {
			t.Logf("the bridge said:\n%s", w.log.Bytes())
		}
	})
	w.catchUp()
	text, err := configs.Read(configs.Default)
	if err != nil {
		t.Fatal(err)
	}
	f, err := mapping.Parse(configs.Default, text)
	if err != nil {
		t.Fatal(err)
	}
	w.conn(pg.Source, func(src *pgx.Conn) {
		w.conn(pg.Target, func(dst *pgx.Conn) {
			if w.m, err = verify.Compile(t.Context(), f, mapping.CompileOptions{OnDelete: &onDelete}, src, dst); err != nil {
				t.Fatal(err)
			}
		})
	})
	return w
}

func (w *live) url(side pg.Side) string {
	if side == pg.Target {
		return w.target
	}
	return w.source
}

// conn lends a connection.
func (w *live) conn(side pg.Side, use func(*pgx.Conn)) {
	w.Helper()
	conn, err := pg.Connect(w.Context(), w.url(side), pg.Options{Side: side})
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close(context.Background())
	use(conn)
}

// catchUp waits until all that the source has is at the target.
func (w *live) catchUp() {
	w.Helper()
	lsn, err := pglogrepl.ParseLSN(pgtest.QueryValue(w.T, w.source, `SELECT pg_current_wal_flush_lsn()`))
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	if err := w.bridge.WaitCaughtUp(ctx, lsn); err != nil {
		w.Fatal(err)
	}
}

// verify compares while everything goes on.
func (w *live) verify(opts verify.Options) *verify.Report {
	w.Helper()
	opts.Keys = 5
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	r, err := verify.Run(ctx, w.m, w.access(), opts)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

func (w *live) access() verify.Access {
	return verify.Access{
		Source: func(ctx context.Context) (*pgx.Conn, error) {
			return pg.Connect(ctx, w.source, pg.Options{Side: pg.Source})
		},
		Target: func(ctx context.Context) (sink.Reader, error) {
			return postgres.OpenReader(ctx, postgres.Options{URL: w.target, Name: verify.DefaultName}, w.m.Schema, slog.New(slog.DiscardHandler))
		},
	}
}

// background runs f until the test stops it.
func (w *live) background(f func(ctx context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(w.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f(ctx); err != nil && ctx.Err() == nil {
			w.Error(err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	w.Cleanup(stop)
	return stop
}

// traffic writes as the application does.
func (w *live) traffic(ctx context.Context) error {
	return demo.NewTraffic(w.source, demo.TrafficOptions{Seed: 3, Workers: 3, Rate: 60}, slog.New(slog.DiscardHandler)).Run(ctx)
}

// flips change a row there and back, and another comes and goes: a look before and
// one after see the same, and one in between does not.
func (w *live) flips(ctx context.Context) error {
	conn, err := pg.Connect(ctx, w.source, pg.Options{Side: pg.Source})
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		<-pace.C
		sql := fmt.Sprintf("UPDATE public.conversations_contact SET name = 'flip %d' WHERE id = (SELECT min(id) FROM public.conversations_contact)", n%2)
		switch n % 4 {
		case 1:
			sql = `INSERT INTO public.conversations_contact (id, name, phone, additional_attributes, provedor_id, created_at, updated_at)
				SELECT 5000000, 'guest', '5', '{}', min(id), now(), now() FROM public.core_provedor`
		case 3:
			sql = "DELETE FROM public.conversations_contact WHERE id = 5000000"
		}
		// The application may have taken the guest up.
		if _, err := conn.Exec(ctx, sql); err != nil && !strings.HasPrefix(pg.Code(err), "23") {
			return err
		}
	}
	return nil
}

// kills ends the bridge without a warning once in each comparison, at some moment
// after its begin. More kills than that would keep a slow machine's bridge from
// ever coming as far as a comparison waits for.
func (w *live) kills(ctx context.Context) error {
	r := rand.New(rand.NewPCG(3, 3))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.begun:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(r.Int64N(int64(2 * time.Second)))): // the moment of the kill
		}
		if err := w.bridge.Kill(); err != nil {
			return err
		}
		if err := w.bridge.Restart(); err != nil {
			return err
		}
		w.killed.Add(1)
	}
}

// The application writes, rows flip, the bridge is killed again and again, and no
// comparison ever finds a difference that isn't one.
func TestRun_NeverAFalseDifference(t *testing.T) {
	t.Parallel()
	for name, onDelete := range map[string]mapping.Policy{"keep": mapping.Keep, "delete": mapping.Delete} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newLive(t, onDelete)
			stops := []func(){w.background(w.kills), w.background(w.traffic), w.background(w.flips)}
			var rows, unsettled int64
			n := 0
			for ; n < *liveRuns || w.killed.Load() < int64(*liveRuns)/4; n++ {
				select {
				case w.begun <- struct{}{}:
				default: // the last kill is still to come
				}
				r := w.verify(verify.Options{})
				total := r.Total()
				if !r.Equal() || total.Foreign > 0 {
					t.Fatalf("comparison %d finds what isn't there:\n%s", n, r)
				}
				rows, unsettled = total.Compared, unsettled+total.Unsettled
			}
			t.Logf("%d comparisons, %d kills; %d rows in the last one; unsettled in all: %d", n, w.killed.Load(), rows, unsettled)
			for _, stop := range stops {
				stop()
			}
			w.catchUp()
			pgtest.Exec(t, w.target, "UPDATE public.messages SET content = content || '!' WHERE id = (SELECT max(id) FROM public.messages AS m WHERE NOT EXISTS (SELECT FROM walbridge.deleted AS d WHERE d.key = m.id::text))")
			if got := w.verify(verify.Options{}).Total(); got.Different != 1 || got.Missing+got.Extra+got.Unsettled > 0 {
				t.Errorf("of one wrong row the comparison says %+v", got)
			}
		})
	}
}
