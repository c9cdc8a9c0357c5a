package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/demo"
)

// bridge is walbridge, as the executable that is installed.
type bridge struct {
	arena *arena
	audit bool
	cmd   *demo.Bridge
	said  *logWatch
	// tables are published, as far as is known; they have to be copied.
	tables int
	// entries are in the audit log of the template.
	entries int
}

func newBridge(a *arena, audit bool) *bridge { return &bridge{arena: a, audit: audit} }

func (b *bridge) name() string {
	if b.audit {
		return "bridge, audit"
	}
	return "bridge, no audit"
}

// slot is the bridge's name too.
func (b *bridge) slot() string {
	if b.audit {
		return "bench_audit"
	}
	return "bench_plain"
}

func (b *bridge) template() string { return "template_" + b.slot() }

func (b *bridge) options(db string) demo.BridgeOptions {
	return demo.BridgeOptions{
		Binary: b.arena.opts.Binary,
		Source: b.arena.source.URL(sourceDB), Target: b.arena.target.URL(db),
		Env: []string{
			"WALBRIDGE_NAME=" + b.slot(),
			fmt.Sprintf("WALBRIDGE_AUDIT_ENABLED=%t", b.audit),
			"WALBRIDGE_SOURCE_INSECURE_TLS=true", "WALBRIDGE_TARGET_INSECURE_TLS=true",
		},
	}
}

// prepare has a bridge make the tables, copy what is there and store its
// checkpoint, and keeps its slot as it is then.
func (b *bridge) prepare(ctx context.Context) error {
	a := b.arena
	if err := a.target.CreateDB(ctx, b.template()); err != nil {
		return err
	}
	if a.workload.kind == copying {
		return nil
	}
	opts := b.options(b.template())
	opts.Args = []string{"--once"}
	log := &logWatch{}
	opts.Log = log
	cmd, err := demo.StartBridge(opts)
	if err != nil {
		return err
	}
	select {
	case <-cmd.Done():
	case <-ctx.Done():
		return errors.Join(ctx.Err(), cmd.Kill())
	}
	if err := cmd.Stop(); err != nil { // it has ended: this is its exit code
		return explain(err, log)
	}
	conn, err := pgx.Connect(ctx, a.target.URL(b.template()))
	if err != nil {
		return fmt.Errorf("connect to the target: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := exec(ctx, conn, "ANALYZE"); err != nil {
		return err
	}
	if b.entries, err = count(ctx, a.target.URL(b.template()), "SELECT count(*) FROM public.audit_logs"); err != nil {
		return err
	}
	if _, err := a.src.Exec(ctx, "SELECT pg_copy_logical_replication_slot($1, $2)", b.slot(), pristine(b.slot())); err != nil {
		return fmt.Errorf("copy slot: %w", err)
	}
	return nil
}

func (b *bridge) reset(ctx context.Context) error {
	if err := b.arena.freshTarget(ctx, b.template()); err != nil {
		return err
	}
	if b.arena.workload.kind == copying {
		if err := exec(ctx, b.arena.src, "DROP PUBLICATION IF EXISTS "+b.slot()); err != nil {
			return err
		}
		return b.arena.dropSlot(ctx, b.slot())
	}
	return b.arena.freshSlot(ctx, b.slot())
}

func (b *bridge) start(_ context.Context, label string) error {
	b.tables = 0
	b.said = &logWatch{since: time.Now()}
	opts := b.options(runDB)
	opts.Log = b.said
	if dir := b.arena.opts.Profiles; dir != "" {
		opts.Env = append(opts.Env, "WALBRIDGE_CPUPROFILE="+filepath.Join(dir, label+".pprof"))
	}
	var err error
	b.cmd, err = demo.StartBridge(opts)
	return err
}

func (b *bridge) done(ctx context.Context, target *pgx.Conn, contact int) (ok bool, err error) {
	select {
	case <-b.cmd.Done():
		return false, errors.New("the bridge has ended by itself")
	default:
	}
	if b.arena.workload.kind == copying {
		return b.copied(ctx, target)
	}
	err = target.QueryRow(ctx, "SELECT EXISTS (SELECT FROM public.contacts WHERE id = $1)", contact).Scan(&ok)
	return ok, err
}

// copied reports whether the progress at the target says that every published
// table is there. The bridge's own status would cost it what is measured.
func (b *bridge) copied(ctx context.Context, target *pgx.Conn) (ok bool, err error) {
	if b.tables == 0 {
		err := b.arena.src.QueryRow(ctx, "SELECT count(*) FROM pg_publication_tables WHERE pubname = $1", b.slot()).Scan(&b.tables)
		return false, err
	}
	// What has been published has been installed.
	err = target.QueryRow(ctx, "SELECT count(*) = $1 AND bool_and(done AND pending = '{}') FROM walbridge.copies", b.tables).Scan(&ok)
	return ok, err
}

func (b *bridge) visible() string { return "SELECT EXISTS (SELECT FROM public.messages WHERE id = $1)" }

func (b *bridge) pid() int {
	if b.cmd == nil {
		return 0
	}
	return b.cmd.Pid()
}

func (b *bridge) log() *logWatch { return b.said }

// words are in the titles of the sessions at the run's database; the one that
// looks for the end is left out by its process id.
func (b *bridge) words() []string { return []string{" " + runDB + " "} }

func (b *bridge) stop(context.Context) error {
	if b.cmd == nil {
		return nil
	}
	cmd := b.cmd
	b.cmd = nil
	return cmd.Stop()
}

func (b *bridge) verify(ctx context.Context, source digest) error {
	url := b.arena.target.URL(runDB)
	got, err := readDigest(ctx, url, digestTargetSQL)
	if err != nil {
		return err
	}
	if err := got.sameAs(source, "contacts", "conversations", "messages"); err != nil {
		return err
	}
	held, err := count(ctx, url, "SELECT count(*) FROM walbridge.held")
	if err != nil || held > 0 {
		return errors.Join(err, fmt.Errorf("%d rows are held at the target, want none", held))
	}
	entries, err := count(ctx, url, "SELECT count(*) FROM public.audit_logs")
	if err != nil {
		return err
	}
	return b.checkEntries(entries)
}

// checkEntries knows how many entries there must be where each change makes one.
func (b *bridge) checkEntries(entries int) error {
	w, want := b.arena.workload, b.entries
	switch {
	case !b.audit:
	case w.entries:
		want += w.load*w.changes + b.arena.markers
	default:
		if entries <= b.entries {
			return fmt.Errorf("the audit log has %d entries, want more than %d", entries, b.entries)
		}
		return nil
	}
	if entries != want {
		return fmt.Errorf("the audit log has %d entries, want %d", entries, want)
	}
	return nil
}
