package bench

import (
	"context"
	"errors"
	"fmt"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/postgrest"
)

// bridge is walbridge, as the executable that is installed.
type bridge struct {
	arena *arena
	audit bool
	// byAPI: it writes over the API of a Supabase project, which api is.
	byAPI bool
	api   *standIn
	cmd   *demo.Bridge
	said  *logWatch
	// tables are published, as far as is known; they have to be copied.
	tables int
	// entries are in the audit log of the template.
	entries int
}

func (b *bridge) name() string {
	name := "bridge"
	if b.byAPI {
		name = "API"
	}
	if b.audit {
		return name + ", audit"
	}
	return name + ", no audit"
}

// slot is the bridge's name too.
func (b *bridge) slot() string {
	return "bench_" + strings.NewReplacer(", ", "_", " ", "_").Replace(strings.ToLower(b.name()))
}

func (b *bridge) template() string { return "template_" + b.slot() }

// connect finds the way to the target's database db, and starts the API if it leads
// over that.
func (b *bridge) connect(db, profile string) (opts demo.BridgeOptions, err error) {
	a := b.arena
	opts = demo.BridgeOptions{Binary: a.opts.Binary, Source: a.source.URL(sourceDB), Env: b.env()}
	if !b.byAPI {
		opts.Target = a.target.URL(db)
		return opts, nil
	}
	if b.api, err = startStandIn(a.target.URLAs("authenticator", "", db), profile); err != nil {
		return opts, err
	}
	opts.Env = append(opts.Env, "SUPABASE_URL="+b.api.url, "SUPABASE_SECRET_KEY="+b.api.key())
	return opts, nil
}

func (b *bridge) env() []string {
	return []string{
		"WALBRIDGE_NAME=" + b.slot(),
		fmt.Sprintf("WALBRIDGE_AUDIT_ENABLED=%t", b.audit),
		"WALBRIDGE_SOURCE_INSECURE_TLS=true", "WALBRIDGE_TARGET_INSECURE_TLS=true",
	}
}

// functions does what somebody does in a project's SQL editor.
func (b *bridge) functions(ctx context.Context) error {
	a := b.arena
	conn, err := pgx.Connect(ctx, a.target.URL(b.template()))
	if err != nil {
		return fmt.Errorf("connect to the target: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	cmd := osexec.CommandContext(ctx, a.opts.Binary, "schema", "target")
	cmd.Env = append(b.env(), "WALBRIDGE_SOURCE_URL="+a.source.URL(sourceDB), "SUPABASE_URL=http://127.0.0.1", "SUPABASE_SECRET_KEY=sb_secret_none")
	script, err := cmd.Output()
	if err != nil {
		var exit *osexec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return fmt.Errorf("print the target's script: %w", err)
	}
	return exec(ctx, conn, postgrest.Roles, string(script))
}

// prepare has a bridge make the tables, copy what is there and store its
// checkpoint, and keeps its slot as it is then.
func (b *bridge) prepare(ctx context.Context) error {
	a := b.arena
	if err := a.target.CreateDB(ctx, b.template()); err != nil {
		return err
	}
	if b.byAPI {
		if err := b.functions(ctx); err != nil {
			return err
		}
	}
	if a.workload.kind == copying {
		return nil
	}
	if err := b.once(ctx); err != nil {
		return err
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

// once runs the bridge into the template until it has copied what is there.
func (b *bridge) once(ctx context.Context) error {
	opts, err := b.connect(b.template(), "")
	if err != nil {
		return err
	}
	opts.Args = []string{"--once"}
	log := &logWatch{}
	opts.Log = log
	if b.cmd, err = demo.StartBridge(opts); err == nil {
		select {
		case <-b.cmd.Done():
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err = errors.Join(err, b.stop(ctx)); err != nil { // it has ended: this is its exit code
		return explain(err, log)
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
	profile, dir := "", b.arena.opts.Profiles
	if dir != "" {
		profile = filepath.Join(dir, label+"-API.pprof")
	}
	opts, err := b.connect(runDB, profile)
	if err != nil {
		return err
	}
	opts.Log = b.said
	if dir != "" {
		opts.Env = append(opts.Env, "WALBRIDGE_CPUPROFILE="+filepath.Join(dir, label+".pprof"))
	}
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

// apiPid is the process of the API, 0 if it writes without one.
func (b *bridge) apiPid() int {
	if b.api == nil {
		return 0
	}
	return b.api.cmd.Process.Pid
}

func (b *bridge) stop(context.Context) (err error) {
	if b.cmd != nil {
		err = b.cmd.Stop()
	}
	if b.api != nil {
		err = errors.Join(err, b.api.stop())
	}
	b.cmd, b.api = nil, nil
	return err
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
