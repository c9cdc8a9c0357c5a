package oracle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
)

// pair is a source and a target cluster that many seeds use one after the other,
// each with databases of its own.
type pair struct {
	source, target *pgtest.Cluster
	n              int
	// targetOptions are of the target's databases.
	targetOptions string
}

// world is one run of a plan.
type world struct {
	plan     *plan
	pair     *pair
	name     string
	src, dst string
	// bridgeSrc and bridgeDst are how the bridge reaches them.
	bridgeSrc, bridgeDst string
	// source and target are connections of the oracle's own.
	source, target *pgx.Conn
	sessions       []*pgx.Conn
	bridge         *bridge
	starts         int
	log            logBuffer
	history        []*transaction

	// started and copied bound the first copy in the WAL.
	started, copied cdc.LSN
	checkpoint      cdc.LSN
	prepared        int
}

// newPair starts clusters and makes the source's template database.
func newPair(tb pgtest.TB) *pair {
	settings := []pgtest.Option{
		pgtest.WithSetting("deadlock_timeout", "50ms"), pgtest.WithSetting("autovacuum", "off"),
		pgtest.WithSetting("max_wal_size", "256MB"), pgtest.WithSetting("synchronous_commit", "off"),
		pgtest.WithSetting("wal_sender_timeout", "20s"),
	}
	return newPairOf(tb, settings, settings)
}

func newPairOf(tb pgtest.TB, source, target []pgtest.Option) *pair {
	p := &pair{source: pgtest.Start(tb, source...), target: pgtest.Start(tb, target...)}
	url := pgtest.CreateDB(tb, p.source, "app")
	s := newSpec()
	pgtest.Exec(tb, url, sourceSQL, s.journalSQL())
	return p
}

// newWorld makes the databases of one run.
func (p *pair) newWorld(ctx context.Context, pl *plan) (_ *world, err error) {
	p.n++
	w := &world{plan: pl, pair: p, name: fmt.Sprintf("run%d", p.n)}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if err := execute(ctx, p.source.URL("postgres"), "CREATE DATABASE "+w.name+" TEMPLATE app"); err != nil {
		return nil, err
	}
	if err := execute(ctx, p.target.URL("postgres"), "CREATE DATABASE "+w.name+p.targetOptions); err != nil {
		return nil, err
	}
	w.src, w.dst = p.source.URL(w.name), p.target.URL(w.name)
	w.bridgeSrc, w.bridgeDst = w.src, w.dst
	if w.source, err = connect(ctx, w.src); err != nil {
		return nil, err
	}
	if w.target, err = connect(ctx, w.dst); err != nil {
		return nil, err
	}
	for range 3 {
		conn, err := connect(ctx, w.src)
		if err != nil {
			return nil, err
		}
		w.sessions = append(w.sessions, conn)
	}
	for _, sql := range append(pl.spec.variantSQL(), "SELECT pg_create_logical_replication_slot('"+commitSlot+"', 'test_decoding')") {
		if _, err := w.source.Exec(ctx, sql); err != nil {
			return nil, fmt.Errorf("%s: %w", sql, err)
		}
	}
	return w, nil
}

// connect opens a connection whose values have the text of the stream's.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	return pg.Connect(ctx, url, pg.Options{Side: pg.Source, Application: "oracle",
		Settings: map[string]string{"search_path": "public", "lock_timeout": "3s", "statement_timeout": "0", "row_security": "on"}})
}

func execute(ctx context.Context, url string, sql ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	for _, s := range sql {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// close ends everything and drops the databases.
func (w *world) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if w.bridge != nil && w.bridge.ended() == nil {
		_ = w.bridge.kill(w)
	}
	for _, c := range append(w.sessions, w.source, w.target) {
		if c != nil {
			_ = c.Close(ctx)
		}
	}
	drop := `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = '` + w.name + `' AND active`
	_ = execute(ctx, w.pair.source.URL("postgres"), drop)
	for range 200 {
		err := execute(ctx, w.pair.source.URL("postgres"),
			`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '`+w.name+`'`,
			"DROP DATABASE IF EXISTS "+w.name+" WITH (FORCE)")
		if err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = execute(ctx, w.pair.target.URL("postgres"), "DROP DATABASE IF EXISTS "+w.name+" WITH (FORCE)")
}

// run goes through the plan and waits until the target has everything.
func (w *world) run(ctx context.Context) error {
	for i, s := range w.plan.steps {
		if err := w.step(ctx, &s); err != nil {
			return fmt.Errorf("step %d (%s): %w", i, s.kind, err)
		}
		if *verbose {
			fmt.Fprintf(&w.log, "step %d (%s) done\n", i, s.kind)
		}
	}
	if w.bridge == nil {
		if err := w.start(ctx); err != nil {
			return err
		}
	}
	if err := w.catchUp(ctx, true); err != nil {
		return err
	}
	if w.copied == 0 {
		w.copied = w.checkpoint
	}
	err := w.bridge.stop()
	w.bridge = nil
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return w.checkPositions(ctx)
}

func (w *world) step(ctx context.Context, s *planStep) error {
	switch s.kind {
	case stepWrite:
		if err := w.write(ctx, s.scripts); err != nil {
			return err
		}
		return w.running()
	case stepStart:
		return w.start(ctx)
	case stepCopied:
		if w.copied != 0 || w.bridge == nil {
			return nil
		}
		if err := w.catchUp(ctx, true); err != nil {
			return err
		}
		return w.source.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&w.copied)
	}
	if w.bridge == nil {
		return nil
	}
	b := w.bridge
	switch s.kind {
	case stepStop:
		w.bridge = nil
		return b.stop()
	case stepKill:
		w.bridge = nil
		return b.kill(w)
	case stepOverlap:
		// The next instance waits as a standby, or takes over, while this one
		// still runs.
		w.bridge = nil
		if err := w.start(ctx); err != nil {
			return err
		}
		return b.kill(w)
	case stepCutTarget:
		return w.cutTarget()
	case stepCutSource:
		_, err := w.source.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'oracle'`)
		return err
	case stepCatchUp:
		return w.catchUp(ctx, false)
	}
	return fmt.Errorf("unknown step")
}

func (w *world) start(ctx context.Context) (err error) {
	if w.bridge != nil {
		return nil
	}
	if w.starts++; w.started == 0 {
		if err := w.source.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&w.started); err != nil {
			return err
		}
	}
	w.bridge, err = w.startBridge()
	return err
}

// running fails when the bridge has given up.
func (w *world) running() error {
	if w.bridge == nil {
		return nil
	}
	return w.bridge.ended()
}

func (w *world) cutTarget() error {
	_, err := w.target.Exec(context.Background(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	return err
}

// write runs scripts at the same time. What the source refuses is as good a
// history as any other.
func (w *world) write(ctx context.Context, scripts [][]script) error {
	var wg sync.WaitGroup
	errs := make([]error, len(scripts))
	for i, list := range scripts {
		wg.Go(func() {
			for j := range list {
				if err := w.transaction(ctx, w.sessions[i], &list[j], fmt.Sprintf("%s_%d_%d", w.name, w.prepared+i, j)); err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	w.prepared += len(scripts)
	return errors.Join(errs...)
}

func (w *world) transaction(ctx context.Context, conn *pgx.Conn, s *script, name string) error {
	do := func(sql string) error {
		_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		return err
	}
	fatal := func(err error) error {
		var known *pgconn.PgError
		if err == nil || errors.As(err, &known) {
			return nil
		}
		return fmt.Errorf("write: %w", err)
	}
	if err := do("BEGIN"); err != nil {
		return err
	}
	for _, sql := range s.sql {
		err := do(sql)
		if err := fatal(err); err != nil {
			return err
		}
		if *verbose && err != nil {
			fmt.Fprintf(&w.log, "refused: %s: %v\n", sql, err)
		}
	}
	end := s.end
	if end == "PREPARE" {
		if err := do("PREPARE TRANSACTION '" + name + "'"); err != nil {
			_ = fatal(do("ROLLBACK"))
			return fatal(err)
		}
		// A transaction that had failed is rolled back by it without an error.
		return fatal(do("COMMIT PREPARED '" + name + "'"))
	}
	var xid string
	if *verbose {
		_ = conn.QueryRow(ctx, "SELECT coalesce(pg_current_xact_id_if_assigned()::text, 'none')").Scan(&xid)
	}
	err := do(end)
	if *verbose {
		fmt.Fprintf(&w.log, "xid %s: %s; %s: %v\n", xid, strings.Join(s.sql, "; "), end, err)
	}
	if err := fatal(err); err != nil {
		return err
	}
	if err != nil {
		_ = fatal(do("ROLLBACK"))
	}
	return nil
}

// catchUp waits until the checkpoint has passed what is committed now. With
// copied it waits for the end of the first copy, too.
func (w *world) catchUp(ctx context.Context, copied bool) error {
	if _, err := w.source.Exec(ctx, "SELECT pg_logical_emit_message(true, 'oracle', 'catch up')"); err != nil {
		return err
	}
	var upto cdc.LSN
	if err := w.source.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&upto); err != nil {
		return err
	}
	if _, err := w.source.Exec(ctx, "SELECT pg_logical_emit_message(true, 'oracle', 'catch up')"); err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	var blocked time.Time
	for {
		if err := w.running(); err != nil {
			return err
		}
		if err := w.checkPositions(ctx); err != nil {
			return err
		}
		if w.checkpoint >= upto && (!copied || w.isCopied(ctx)) {
			return nil
		}
		if s := w.blockedFor(&blocked); s != "" {
			return errors.New(s)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the checkpoint is at %s after %s, not at %s", w.checkpoint, patience, upto)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// blockedFor returns why the bridge waits for a person, if it has for a while.
func (w *world) blockedFor(since *time.Time) string {
	if w.bridge.status == nil {
		return ""
	}
	s := w.bridge.status.Snapshot()
	if s.State != status.Blocked {
		*since = time.Time{}
		return ""
	}
	if since.IsZero() {
		*since = time.Now()
	}
	if time.Since(*since) < 2*time.Second {
		return ""
	}
	return "the bridge is blocked: " + s.LastError.Message
}

func (w *world) isCopied(ctx context.Context) bool {
	var done int
	err := w.target.QueryRow(ctx, "SELECT count(*) FROM walbridge.copies WHERE done AND cardinality(pending) = 0").Scan(&done)
	return err == nil && done == len(w.plan.spec.tables)
}

// checkPositions holds that the checkpoint never goes back, and that nothing is
// confirmed that the target hasn't got.
func (w *world) checkPositions(ctx context.Context) error {
	var confirmed, checkpoint cdc.LSN
	err := w.source.QueryRow(ctx, "SELECT coalesce(max(confirmed_flush_lsn), '0/0')::text FROM pg_replication_slots WHERE database = current_database() AND slot_name = 'walbridge'").Scan(&confirmed)
	if err != nil {
		return err
	}
	err = w.target.QueryRow(ctx, "SELECT coalesce(max(lsn), '0/0')::text FROM walbridge.checkpoint").Scan(&checkpoint)
	var missing *pgconn.PgError
	if errors.As(err, &missing) && missing.Code == "42P01" {
		return nil // nothing is installed yet
	}
	if err != nil {
		return err
	}
	if checkpoint < w.checkpoint {
		return fmt.Errorf("the checkpoint went back from %s to %s", w.checkpoint, checkpoint)
	}
	w.checkpoint = checkpoint
	// A slot that has just been made is confirmed at its consistent point,
	// before that is stored.
	if checkpoint != 0 && confirmed > checkpoint {
		return fmt.Errorf("confirmed %s, but the checkpoint is at %s", confirmed, checkpoint)
	}
	return nil
}
