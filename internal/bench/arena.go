package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pgtest"
)

const (
	// sourceDB is the application's database, runDB the target of one run.
	sourceDB = "niochat"
	runDB    = "run"
	// publication is the native subscription's, of what the bridge publishes too.
	publication = "bench_native"
	// donePoll is the pause between two looks for the end of a run.
	donePoll = 2 * time.Millisecond
)

// settings are the servers', the same on both sides: durable as in production,
// and without what would strike one run and spare the next.
var settings = []struct{ key, value, why string }{
	{"shared_buffers", "256MB", ""},
	{"max_wal_size", "16GB", "no checkpoint within a run; one before each"},
	{"checkpoint_timeout", "1h", ""},
	{"autovacuum", "off", "tables are analysed before the load"},
}

// settingsText says so in the report.
const settingsText = "fsync, full_page_writes and synchronous_commit on (the load alone is written with synchronous_commit off), " +
	"shared_buffers 256MB, no checkpoint within a run and one before each, autovacuum off"

// arena is where contestants meet: a source with its load, and a server for their
// targets.
type arena struct {
	opts           Options
	workload       Workload
	source, target *pgtest.Cluster
	// src is a session at the source, admin one at the target's server.
	src, admin *pgx.Conn
	version    string
	// markers counts the marker rows, messages the ids that are taken.
	markers, messages int
	// sum is the source's digest, nil until it is known.
	sum digest
}

func (a *arena) say(format string, args ...any) {
	if a.opts.Progress != nil {
		_, _ = fmt.Fprintf(a.opts.Progress, "%s %-8s %s\n", time.Now().Format(time.TimeOnly), a.workload.Name, fmt.Sprintf(format, args...))
	}
}

// open starts the clusters and fills the source.
func (a *arena) open(ctx context.Context) error {
	options := []pgtest.Option{pgtest.WithFsync()}
	for _, s := range settings {
		options = append(options, pgtest.WithSetting(s.key, s.value))
	}
	if a.opts.Statements {
		options = append(options, pgtest.WithSetting("shared_preload_libraries", "pg_stat_statements"),
			pgtest.WithSetting("pg_stat_statements.track", "all"))
	}
	var err error
	if a.source, err = pgtest.New(ctx, "", options...); err != nil {
		return fmt.Errorf("start the source: %w", err)
	}
	if a.target, err = pgtest.New(ctx, "", options...); err != nil {
		return fmt.Errorf("start the target: %w", err)
	}
	if err := a.source.CreateDB(ctx, sourceDB); err != nil {
		return err
	}
	if a.src, err = pgx.Connect(ctx, a.source.URL(sourceDB)); err != nil {
		return fmt.Errorf("connect to the source: %w", err)
	}
	if a.admin, err = pgx.Connect(ctx, a.target.URL("postgres")); err != nil {
		return fmt.Errorf("connect to the target: %w", err)
	}
	if err := a.src.QueryRow(ctx, "SHOW server_version").Scan(&a.version); err != nil {
		return fmt.Errorf("ask the source for its version: %w", err)
	}
	for key, value := range a.workload.settings(a.opts.Active) {
		if err := exec(ctx, a.src, fmt.Sprintf("SET %s = '%d'", key, value)); err != nil {
			return err
		}
	}
	a.say("seeding the source")
	return exec(ctx, a.src, demo.SourceSchema, seedSQL,
		"CREATE PUBLICATION "+publication+` FOR TABLE conversations_inbox, conversations_contact, conversations_conversation,
			conversations_message, csat_feedbacks, csat_requests, core_auditlog`)
}

// close ends both clusters, and with them all that runs there.
func (a *arena) close() error {
	var errs []error
	for _, conn := range []*pgx.Conn{a.src, a.admin} {
		if conn != nil {
			_ = conn.Close(context.Background())
		}
	}
	for _, c := range []*pgtest.Cluster{a.source, a.target} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// exec runs scripts, each in one message, so that their blocks may commit.
func exec(ctx context.Context, conn *pgx.Conn, scripts ...string) error {
	for _, sql := range scripts {
		if err := conn.PgConn().Exec(ctx, sql).Close(); err != nil {
			first, _, _ := strings.Cut(strings.TrimSpace(sql), "\n")
			return fmt.Errorf("execute %s …: %w", first, err)
		}
	}
	return nil
}

// contestants lists who takes part.
func (a *arena) contestants() ([]contestant, error) {
	audits, ok := map[string][]bool{"off": {false}, "on": {true}, "both": {false, true}, "": {false, true}}[a.opts.Audit]
	if !ok {
		return nil, fmt.Errorf("audit is %q: it must be off, on or both", a.opts.Audit)
	}
	apis, ok := map[string][]bool{"direct": {false}, "rest": {true}, "both": {false, true}, "": {false}}[a.opts.Sink]
	if !ok {
		return nil, fmt.Errorf("sink is %q: it must be direct, rest or both", a.opts.Sink)
	}
	var list []contestant
	if a.workload.kind != moving {
		list = append(list, &native{arena: a})
	}
	for _, api := range apis {
		for _, audit := range audits {
			list = append(list, &bridge{arena: a, audit: audit, byAPI: api})
		}
	}
	if a.workload.kind == moving {
		// Its template is the first bridge's, which is prepared before it.
		first := list[0].(*bridge)
		list = append([]contestant{&update{arena: a, template: first.template()}}, list...)
		list[0], list[1] = list[1], list[0]
	}
	return list, nil
}

// load writes the backlog, with the marker behind it.
func (a *arena) load(ctx context.Context) error {
	a.messages = a.workload.messages
	if a.workload.sql != "" {
		start := time.Now()
		// The writer needn't wait for the disk; what is measured comes after.
		if err := exec(ctx, a.src, "SET synchronous_commit = off", a.workload.sql, "RESET synchronous_commit"); err != nil {
			return err
		}
		a.say("load written in %.1f s", time.Since(start).Seconds())
	}
	if a.workload.kind == copying {
		return nil
	}
	if err := a.mark(ctx); err != nil {
		return err
	}
	return exec(ctx, a.src, "VACUUM ANALYZE")
}

// mark writes a marker row.
func (a *arena) mark(ctx context.Context) error {
	a.markers++
	a.sum = nil
	if _, err := a.src.Exec(ctx, markerSQL, a.marker()); err != nil {
		return fmt.Errorf("write the marker: %w", err)
	}
	return nil
}

// marker is the id of the last marker row.
func (a *arena) marker() int { return marker + a.markers }

// freshTarget makes the target of a run from a template.
func (a *arena) freshTarget(ctx context.Context, template string) error {
	create := "CREATE DATABASE " + runDB + " TEMPLATE " + template
	if a.target.Version() >= 15 {
		create += " STRATEGY file_copy" // as before 15: nothing of it is in the caches
	}
	return exec(ctx, a.admin, "DROP DATABASE IF EXISTS "+runDB+" WITH (FORCE)", create)
}

// pristine is the name of the slot that stays where it was made.
func pristine(slot string) string { return slot + "_0" }

// freshSlot makes slot a copy of its pristine one.
func (a *arena) freshSlot(ctx context.Context, slot string) error {
	if err := a.dropSlot(ctx, slot); err != nil {
		return err
	}
	if _, err := a.src.Exec(ctx, "SELECT pg_copy_logical_replication_slot($1, $2)", pristine(slot), slot); err != nil {
		return fmt.Errorf("copy slot: %w", err)
	}
	return nil
}

// dropSlot drops a slot, once its walsender has noticed that it is alone.
func (a *arena) dropSlot(ctx context.Context, slot string) error {
	return wait(ctx, "slot "+slot+" to be free", func() (bool, error) {
		_, err := a.src.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND NOT active`, slot)
		if err != nil {
			return false, fmt.Errorf("drop slot: %w", err)
		}
		var there bool
		err = a.src.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)", slot).Scan(&there)
		return !there, err
	})
}

// wait polls until done. ctx bounds it.
func wait(ctx context.Context, what string, done func() (bool, error)) error {
	for {
		ok, err := done()
		if err == nil && ok {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		time.Sleep(donePoll)
	}
}

// digest says how many rows a table has, and the sum of their hashes.
type digest map[string]string

func readDigest(ctx context.Context, url, sql string) (digest, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	d := digest{}
	var table, count string
	var sum *string
	_, err = pgx.ForEachRow(rows, []any{&table, &count, &sum}, func() error {
		d[table] = count + " rows, sum " + *cmp.Or(sum, new(string))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	return d, nil
}

// sourceDigest is what every target must have.
func (a *arena) sourceDigest(ctx context.Context) (digest, error) {
	if a.sum != nil && a.workload.kind != delay {
		return a.sum, nil
	}
	var err error
	a.sum, err = readDigest(ctx, a.source.URL(sourceDB), digestSourceSQL)
	return a.sum, err
}

// sameAs returns an error if the tables differ from what is wanted.
func (d digest) sameAs(want digest, tables ...string) error {
	for _, t := range tables {
		if d[t] != want[t] {
			return fmt.Errorf("the target is wrong: %s has %s, the source %s", t, d[t], want[t])
		}
	}
	return nil
}

// count returns the only number of a query.
func count(ctx context.Context, url, sql string) (int, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, fmt.Errorf("count: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var n int
	if err := conn.QueryRow(ctx, sql).Scan(&n); err != nil {
		return 0, fmt.Errorf("count: %w", err)
	}
	return n, nil
}

// label names one run in file names.
func label(workload, contestant string, round int) string {
	return strings.NewReplacer(" ", "-", ",", "").Replace(workload+"-"+contestant) + "-" + strconv.Itoa(round+1)
}
