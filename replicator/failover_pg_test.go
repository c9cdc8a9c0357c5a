package replicator_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/replicator"
)

const itemMapping = `
tables:
  items:
    from: item
    tenant: [tenant]
    columns: [id, code]
    audit: {entity: item}
audit_log: {table: audit_logs}
`

// newFailover is a source that lets standbys keep the slot, and a standby that
// does. Without binaries of PostgreSQL 17 or later it skips the test.
func newFailover(t *testing.T) (w *world, standby *pgtest.Cluster) {
	t.Helper()
	w = newWorld(t, `CREATE TABLE item (id bigint PRIMARY KEY, tenant bigint, code text NOT NULL)`, itemMapping)
	if w.source.Version() < 17 {
		t.Skipf("PostgreSQL %d has no failover slots; TEST_POSTGRES_BIN chooses another one", w.source.Version())
	}
	w.tune = func(o *replicator.Options) { o.Failover, o.SourceURL = true, w.src }
	w.exec("SELECT pg_create_physical_replication_slot('standby')")
	return w, w.standby()
}

// standby makes one of the source that keeps its slots.
func (w *world) standby() *pgtest.Cluster {
	w.t.Helper()
	u := "host=127.0.0.1 user=postgres dbname=postgres port=" + fmt.Sprint(w.source.Port())
	settings := []pgtest.Option{
		pgtest.WithSetting("hot_standby_feedback", "on"), pgtest.WithSetting("sync_replication_slots", "on"),
		pgtest.WithSetting("primary_slot_name", "standby"), pgtest.WithSetting("primary_conninfo", u),
		pgtest.WithSetting("wal_receiver_status_interval", "1s"),
	}
	c := pgtest.Start(w.t, settings...)
	if err := c.Stop(pgtest.Fast); err != nil {
		w.t.Fatal(err)
	}
	w.copyData(c)
	if err := c.Start(); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// copyData brings the source's data into c's directory as pg_basebackup does
// (continuous-archiving, "Making a Base Backup Using the Low Level API"): the
// binaries that the tests install lack that program. c keeps its settings.
func (w *world) copyData(c *pgtest.Cluster) {
	w.t.Helper()
	conn := pgtest.Connect(w.t, w.src)
	ctx := w.t.Context()
	if _, err := conn.Exec(ctx, "SELECT pg_backup_start('standby', true)"); err != nil {
		w.t.Fatal(err)
	}
	keep := filepath.Join(c.DataDir(), "..", "kept")
	run := func(name string, args ...string) {
		w.t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			w.t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	run("mkdir", keep)
	run("sh", "-c", fmt.Sprintf(`cd %[1]s && mv postgresql.conf pg_hba.conf %[2]s && find . -mindepth 1 -delete && cp -a %[3]s/. . && rm -rf postmaster.pid pg_replslot/* pg_wal/* && mkdir -p pg_wal/archive_status && mv %[2]s/* . && touch standby.signal && chown -R --reference=PG_VERSION .`,
		c.DataDir(), keep, w.source.DataDir()))
	var label string
	if err := conn.QueryRow(ctx, "SELECT labelfile FROM pg_backup_stop(false)").Scan(&label); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.DataDir(), "backup_label"), []byte(label), 0o644); err != nil {
		w.t.Fatal(err)
	}
	run("sh", "-c", fmt.Sprintf("rm -rf %[2]s; chown -R --reference=%[1]s/PG_VERSION %[1]s", c.DataDir(), keep))
}

// synced waits until the standby has a copy of the slot that it would keep.
func (w *world) synced(standby *pgtest.Cluster) {
	w.t.Helper()
	pgtest.Eventually(w.t, "the slot's copy", patience, func() error {
		got := pgtest.QueryText(w.t, standby.URL("postgres"), "SELECT synced AND NOT temporary AND invalidation_reason IS NULL FROM pg_replication_slots WHERE slot_name = 'walbridge'")
		if len(got) != 1 || got[0][0] != "t" {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

// promote ends the source and makes the standby the one.
func (w *world) promote(standby *pgtest.Cluster) {
	w.t.Helper()
	if err := w.source.Kill(); err != nil {
		w.t.Fatal(err)
	}
	pgtest.Exec(w.t, standby.URL("postgres"), "SELECT pg_promote(true, 120)")
	w.src, w.source = standby.URL("postgres"), standby
}

func TestFailover_GoesOnFromTheStandby(t *testing.T) {
	t.Parallel()
	w, standby := newFailover(t)
	w.exec("ALTER SYSTEM SET synchronized_standby_slots = 'standby'", "SELECT pg_reload_conf()", "INSERT INTO item VALUES (1, 1, 'a')")
	r := w.start()
	w.catchUp(r)
	w.exec("INSERT INTO item VALUES (2, 1, 'b')")
	w.catchUp(r)
	w.synced(standby)
	incarnation := w.rows("SELECT incarnation FROM walbridge.checkpoint")
	// The application has written what the bridge has no time to take.
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.exec("INSERT INTO item VALUES (3, 2, 'c')")
	lsn := pgtest.QueryValue(t, w.src, "SELECT pg_current_wal_flush_lsn()")
	pgtest.Eventually(t, "the standby's WAL", patience, func() bool {
		return pgtest.QueryValue(t, standby.URL("postgres"), "SELECT pg_last_wal_replay_lsn() >= '"+lsn+"'") == "t"
	})
	w.promote(standby)
	w.exec("INSERT INTO item VALUES (4, 2, 'd')")
	r = w.start()
	w.catchUp(r)
	w.want("rows", "SELECT id, provedor_id, code FROM items ORDER BY id", "1 | 1 | a\n2 | 1 | b\n3 | 2 | c\n4 | 2 | d")
	w.want("checkpoint", "SELECT timeline FROM walbridge.checkpoint", "2")
	if got := w.rows("SELECT incarnation FROM walbridge.checkpoint"); got == incarnation {
		t.Error("the incarnation is that of the former source")
	}
	w.want("entries", "SELECT count(*), count(DISTINCT details->>'n'), max((details->>'n')::int) FROM audit_logs", "4 | 4 | 4")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	// Again, as any restart.
	w.exec("UPDATE item SET code = 'e' WHERE id = 4")
	r = w.start()
	w.catchUp(r)
	w.want("row", "SELECT code FROM items WHERE id = 4", "e")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// A target that is ahead of the standby has rows that the new source never had.
func TestFailover_RefusesToBeAhead(t *testing.T) {
	t.Parallel()
	w, standby := newFailover(t)
	w.exec("INSERT INTO item VALUES (1, 1, 'a')")
	r := w.start()
	w.catchUp(r)
	w.synced(standby)
	pgtest.Exec(t, standby.URL("postgres"), "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
	pgtest.Eventually(t, "the standby's being cut off", patience, func() bool {
		return pgtest.QueryValue(t, w.src, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'walreceiver'") == "0"
	})
	w.exec("INSERT INTO item VALUES (2, 1, 'lost')")
	w.catchUp(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.promote(standby)
	w.exec("INSERT INTO item SELECT n, 1, 'new' FROM generate_series(10, 20000) n")
	err := w.start().wait()
	if err == nil || !strings.Contains(err.Error(), "lacks what the target has") || fault.HintOf(err) == "" {
		t.Fatalf("Run = %v", err)
	}
	w.want("rows", "SELECT id FROM items ORDER BY id", "1\n2")
}

// An existing slot is altered; without the setting a promotion is refused as any
// other change of the timeline; before 17 the setting is refused.
func TestFailover_Setting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `CREATE TABLE item (id bigint PRIMARY KEY, tenant bigint, code text NOT NULL)`, itemMapping)
	r := w.start()
	w.catchUp(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.tune = func(o *replicator.Options) { o.Failover = true }
	r = w.start()
	if w.source.Version() < 17 {
		err := r.wait()
		if err == nil || !strings.Contains(err.Error(), "standbys keep copies of logical slots from 17 on") || fault.ClassOf(err) != fault.Config {
			t.Fatalf("Run = %v", err)
		}
		return
	}
	w.catchUp(r)
	if got := pgtest.QueryValue(t, w.src, "SELECT failover FROM pg_replication_slots WHERE slot_name = 'walbridge'"); got != "t" {
		t.Errorf("failover = %s", got)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}
