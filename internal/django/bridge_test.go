package django

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/verify"
	"github.com/walbridge/walbridge/mapping"
)

// binary is the built command, one for all tests. TestMain removes it.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "walbridge-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "walbridge")
	if out, err := exec.Command("go", "build", "-o", path, "../../cmd/walbridge").CombinedOutput(); err != nil {
		return dir, fmt.Errorf("build walbridge: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// startBridge starts the built command between two databases. What it logs is
// shown if the test fails.
func startBridge(t *testing.T, source, target string, env ...string) *demo.Bridge {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "bridge.log"))
	if err != nil {
		t.Fatal(err)
	}
	// A bridge that was killed leaves a lease; the next one waits for its end.
	env = append([]string{"WALBRIDGE_LEASE=1s", "WALBRIDGE_SOURCE_HEARTBEAT=1s"}, env...)
	b, err := demo.StartBridge(demo.BridgeOptions{Binary: path, Source: source, Target: target, Env: env, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			b.Dump() // what it is doing, if it hangs
		}
		if err := b.Kill(); err != nil {
			t.Log(err)
		}
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("the bridge's log:\n%s", essence(string(text)))
		}
		_ = log.Close()
	})
	return b
}

// essence is the end of a log, or of what comes before the stacks of a crash.
func essence(log string) string {
	lines := strings.Split(log, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.HasPrefix(line, "SIG") {
			lines = lines[:min(len(lines), i+40)]
			break
		}
	}
	return strings.Join(lines[max(0, len(lines)-80):], "\n")
}

// kills is how often a test kills the bridge.
func kills() int {
	if testing.Short() {
		return 5
	}
	return 50
}

// nemesis kills and restarts the bridge n times, at moments that the seed gives.
// Every third time it waits until the bridge has moved its checkpoint, so that
// there is progress to interrupt and not only starts.
func nemesis(t *testing.T, b *demo.Bridge, target string, seed uint64, n int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range n {
		if i%3 == 0 {
			before := checkpoint(t, target)
			pgtest.Eventually(t, "the bridge to move on", 10*time.Minute, func() error {
				select {
				case <-b.Done():
					return errors.New("the bridge has ended by itself")
				default:
				}
				if checkpoint(t, target) == before {
					return errors.New("its checkpoint stands still")
				}
				return nil
			})
		}
		time.Sleep(time.Duration(rng.Int64N(int64(600 * time.Millisecond)))) // the moment of the kill
		if err := b.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := b.Restart(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkpoint is the bridge's position at the target, "" before there is one.
func checkpoint(t *testing.T, target string) string {
	t.Helper()
	if pgtest.QueryValue(t, target, `SELECT to_regclass('walbridge.checkpoint') IS NULL`) == "t" {
		return ""
	}
	var lsns []string
	for _, row := range pgtest.QueryText(t, target, `SELECT lsn FROM walbridge.checkpoint`) {
		lsns = append(lsns, row[0])
	}
	return strings.Join(lsns, " ")
}

// waitForWork waits until the application has made so many messages that it has
// done everything else, too.
func waitForWork(t *testing.T, source string) {
	t.Helper()
	want := 6000
	if testing.Short() {
		want = 3000
	}
	pgtest.Eventually(t, "the application's work", 20*time.Minute, func() bool {
		n, err := strconv.Atoi(pgtest.QueryValue(t, source, `SELECT max(id) FROM conversations_message`))
		return err == nil && n > want
	})
}

// catchUp waits until the target has all that the source has, and stops the
// bridge.
func catchUp(t *testing.T, b *demo.Bridge, source string) {
	t.Helper()
	lsn, err := pglogrepl.ParseLSN(pgtest.QueryValue(t, source, `SELECT pg_current_wal_flush_lsn()`))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := b.WaitCaughtUp(ctx, lsn); err != nil {
		t.Fatal(err)
	}
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
}

// requireEqual compares the rows tenant by tenant and checks the audit entries.
func requireEqual(t *testing.T, source, target string, opts verify.Options) *verify.Report {
	t.Helper()
	opts.Keys = 5
	text, err := configs.Read(configs.Default)
	if err != nil {
		t.Fatal(err)
	}
	f, err := mapping.Parse(configs.Default, text)
	if err != nil {
		t.Fatal(err)
	}
	rows, entries, err := demo.Compare(t.Context(), f, source, target, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s\naudit log: %s", rows, entries)
	if !rows.Equal() {
		t.Error("the target differs from the source")
	}
	if entries == nil || !entries.OK() {
		t.Errorf("the audit log is not whole: %s", entries)
	}
	return rows
}

// The application writes from several processes and threads through its ORM, the
// bridge is killed again and again, and in the end the target is what the source
// says, tenant by tenant, with every change audited once.
func TestBridge_EqualThroughKills(t *testing.T) {
	t.Parallel()
	const seed = 11
	source := newApplication(t, seed)
	target := pgtest.CreateDB(t, newCluster(t), "supabase")
	b := startBridge(t, source, target)
	var workers []*work
	for n := range 2 {
		workers = append(workers, startWork(t, source, "--threads=2", "--rate=60", "--seed="+strconv.Itoa(seed+n)))
	}
	nemesis(t, b, target, seed, kills())
	waitForWork(t, source)
	for _, w := range workers {
		w.stop(t)
	}
	catchUp(t, b, source)
	total := requireEqual(t, source, target, verify.Options{}).Total()
	if total.Foreign > 0 {
		t.Errorf("%d rows at the target come from nowhere", total.Foreign)
	}
	if total.Kept == 0 || total.Held == 0 {
		t.Errorf("the run proves little: %d kept and %d held rows", total.Kept, total.Held)
	}
}
