package oracle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// large is one thing that is larger than what is held in memory.
type large struct {
	name string
	// statement makes it at the source, in size n; full is the size in the soak.
	statement func(n int) string
	n, full   int
	// env are settings of the bridge.
	env []string
	// rows is how many rows that are.
	rows func(n int) int
	// bound is what the bridge's resident memory may reach, in MiB.
	bound func(n int) int64
}

var larges = []large{
	{
		name: "transaction", n: 60_000, full: 2_000_000,
		statement: func(n int) string {
			return fmt.Sprintf("INSERT INTO item SELECT n, 1 + n %% 7, repeat(md5(n::text), 16) FROM generate_series(1, %d) n", n)
		},
		rows:  func(n int) int { return n },
		bound: func(int) int64 { return 128 },
	},
	{
		name: "row", n: 20, full: 60, // MB
		statement: func(n int) string {
			return fmt.Sprintf("INSERT INTO item VALUES (1, 1, repeat('0123456789abcdef', %d))", n*(1<<16))
		},
		rows:  func(int) int { return 1 },
		bound: func(n int) int64 { return 4*int64(n) + 64 },
	},
	{
		name: "savepoints", n: 20_000, full: 1_000_000,
		env: []string{"WALBRIDGE_SOURCE_DECODING_WORK_MEM=1GiB"},
		statement: func(n int) string {
			return fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
				BEGIN
					INSERT INTO item VALUES (i, 1 + i %% 7, 'v');
					IF i %% 2 = 0 THEN RAISE EXCEPTION 'back'; END IF;
				EXCEPTION WHEN raise_exception THEN NULL;
				END;
			END LOOP; END $$`, n)
		},
		rows:  func(n int) int { return n / 2 },
		bound: func(int) int64 { return 128 },
	},
}

// TestLarge holds the built binary to its bounds on memory with what doesn't fit
// into it. Each thing becomes visible at once, and also when the bridge is killed
// in its middle. LARGE=full takes the sizes of the soak.
func TestLarge(t *testing.T) {
	t.Parallel()
	for _, l := range larges {
		t.Run(l.name, func(t *testing.T) {
			if os.Getenv("LARGE") == "full" {
				l.n = l.full
			}
			l.test(t)
		})
	}
}

func (l *large) test(t *testing.T) {
	settings := []pgtest.Option{pgtest.WithSetting("max_wal_size", "2GB"), pgtest.WithSetting("wal_sender_timeout", "10min")}
	source, target := pgtest.Start(t, settings...), pgtest.Start(t, settings...)
	src, dst := source.URL("postgres"), target.URL("postgres")
	pgtest.Exec(t, src, "CREATE TABLE item (id bigint PRIMARY KEY, tenant bigint, body text)", "ALTER TABLE item ALTER body SET STORAGE EXTERNAL")
	b := startLarge(t, src, dst, l.env...)
	pgtest.Eventually(t, "the first copy", l.patience(), func() error {
		return want(t, dst, "SELECT count(*) FROM walbridge.copies WHERE done", "1")
	})
	pgtest.Exec(t, src, l.statement(l.n))
	end := pgtest.QueryValue(t, src, "SELECT pg_current_wal_insert_lsn()")
	// In its middle the target has its rows in an open transaction.
	if l.rows(l.n) > 1 {
		pgtest.Eventually(t, "the middle", l.patience(), func() error {
			return want(t, dst, "SELECT pg_relation_size('items') > 1000000 OR (SELECT lsn >= '"+end+"' FROM walbridge.checkpoint)", "t")
		})
	}
	seen := pgtest.QueryValue(t, dst, "SELECT count(*) FROM items")
	if got, _ := strconv.Atoi(seen); got != 0 && got != l.rows(l.n) {
		t.Errorf("%s rows are visible before the others", seen)
	}
	first := b.kill(t)
	b = startLarge(t, src, dst, l.env...)
	pgtest.Eventually(t, "all rows", l.patience(), func() error {
		got := pgtest.QueryValue(t, dst, "SELECT count(*) FROM items")
		if got != "0" && got != fmt.Sprint(l.rows(l.n)) {
			t.Fatalf("%s rows are visible before the others", got)
		}
		if got == "0" {
			return errors.New("none yet")
		}
		return nil
	})
	peak := max(first, b.kill(t))
	sum := "SELECT count(*), sum(hashtext(id || ' ' || %s || ' ' || md5(body))::int8), sum(length(body)) FROM "
	from, to := pgtest.QueryText(t, src, fmt.Sprintf(sum, "tenant")+"item"), pgtest.QueryText(t, dst, fmt.Sprintf(sum, "provedor_id")+"items")
	if fmt.Sprint(from) != fmt.Sprint(to) {
		t.Errorf("source %v, target %v", from, to)
	}
	if err := want(t, dst, "SELECT count(*) = count(DISTINCT details->>'n') AND count(*) = max((details->>'n')::int) AND count(*) = "+fmt.Sprint(l.rows(l.n))+" FROM audit_logs", "t"); err != nil {
		t.Error(err)
	}
	t.Logf("%d: resident memory at most %d MiB, killed with %s rows visible", l.n, peak>>20, seen)
	if peak>>20 > l.bound(l.n) {
		t.Errorf("resident memory reached %d MiB, more than %d", peak>>20, l.bound(l.n))
	}
}

// patience is a generous bound for what takes long by itself.
func (l *large) patience() time.Duration {
	if l.n == l.full {
		return time.Hour
	}
	return 5 * time.Minute
}

func want(t *testing.T, url, sql, want string) error {
	conn, err := connect(t.Context(), url)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	var got *string
	if err := conn.QueryRow(t.Context(), "SELECT ("+sql+")::text").Scan(&got); err != nil {
		return err
	}
	if got == nil || *got != want && *got != map[string]string{"t": "true"}[want] {
		return fmt.Errorf("%s: not %s", sql, want)
	}
	return nil
}

type largeBridge struct{ *exec.Cmd }

func startLarge(t *testing.T, src, dst string, env ...string) *largeBridge {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "large.yaml")
	if err := os.WriteFile(config, []byte(`
tables:
  items:
    from: item
    tenant: [tenant]
    columns: [id, body]
    audit: {entity: item}
audit_log: {table: audit_logs}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "run")
	cmd.Env = append(append(os.Environ(), env...), "WALBRIDGE_CONFIG="+config, "WALBRIDGE_SOURCE_URL="+src, "WALBRIDGE_TARGET_URL="+dst,
		"WALBRIDGE_LISTEN=off", "WALBRIDGE_SOURCE_HEARTBEAT=1s", "WALBRIDGE_LEASE=2s")
	var log logBuffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return &largeBridge{cmd}
}

// kill ends the bridge as a power cut does, and returns the largest resident
// memory that it has had (proc_pid_status(5), VmHWM).
func (b *largeBridge) kill(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.Process.Pid))
	if err != nil {
		t.Fatalf("the bridge's memory: %v", err)
	}
	var kb int64
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if _, err := fmt.Sscan(rest, &kb); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := b.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = b.Wait()
	return kb << 10
}
