package pgtest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// bound ends a wait that hangs.
const bound = time.Minute

func TestMain(m *testing.M) {
	if os.Getenv("PGTEST_VICTIM") != "" {
		victim()
	}
	os.Exit(m.Run())
}

// needServer skips what Start doesn't skip by itself.
func needServer(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a PostgreSQL server; run without -short")
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	c := Start(t, WithSetting("work_mem", "1MB"))
	for name, want := range map[string]string{
		"wal_level": "logical", "fsync": "off", "work_mem": "1MB", "server_encoding": "UTF8",
		"data_directory": c.DataDir(), "port": strconv.Itoa(c.Port()),
	} {
		if got := QueryValue(t, c.URL("postgres"), "show "+name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if got := QueryValue(t, c.URL("postgres"), "select current_setting('server_version_num')::int / 10000"); got != strconv.Itoa(c.Version()) {
		t.Errorf("server says version %s, Version() = %d", got, c.Version())
	}
	Exec(t, c.URL("postgres"), "create role r login password 'p@ss/word'")
	if got := QueryValue(t, c.URLAs("r", "p@ss/word", "postgres"), "select current_user"); got != "r" {
		t.Errorf("URLAs connects as %q, want r", got)
	}
	url := CreateDB(t, c, `odd "name"`)
	if got := QueryValue(t, url, "select current_database()"); got != `odd "name"` {
		t.Errorf("CreateDB's URL leads to %q", got)
	}
}

func TestStart_Options(t *testing.T) {
	t.Parallel()
	c := Start(t, WithEncoding("LATIN1"), WithFsync(), WithInitdbArgs("--data-checksums"),
		WithHBA("host all secret 127.0.0.1/32 scram-sha-256"))
	for name, want := range map[string]string{"server_encoding": "LATIN1", "fsync": "on", "data_checksums": "on"} {
		if got := QueryValue(t, c.URL("postgres"), "show "+name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	Exec(t, c.URL("postgres"), "create role secret login password 'right'")
	if got := QueryValue(t, c.URLAs("secret", "right", "postgres"), "select 1"); got != "1" {
		t.Errorf("login with password gave %q", got)
	}
	if conn, err := pgx.Connect(t.Context(), c.URLAs("secret", "wrong", "postgres")); err == nil {
		_ = conn.Close(t.Context())
		t.Error("login with a wrong password worked")
	}
}

func TestStart_SystemIDs(t *testing.T) {
	t.Parallel()
	a, b := Start(t), Start(t)
	const query = "select system_identifier from pg_control_system()"
	idA, idB := QueryValue(t, a.URL("postgres"), query), QueryValue(t, b.SocketURL("postgres"), query)
	if idA == idB {
		t.Errorf("two clusters have the same system identifier %s", idA)
	}
}

func TestStart_BadSetting(t *testing.T) {
	t.Parallel()
	needServer(t)
	c, err := New(t.Context(), "", WithSetting("no_such_setting", "1"))
	if err == nil {
		_ = c.Close()
		t.Fatal("New accepted a setting that doesn't exist")
	}
	if !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("error doesn't quote the server's log: %v", err)
	}
}

func TestNew_Dir(t *testing.T) {
	t.Parallel()
	needServer(t)
	base, err := baseDir()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(base, "given-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "mine")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := New(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := QueryValue(t, c.URL("postgres"), "select 1"); got != "1" {
		t.Errorf("select 1 gave %q", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(left) != 1 || left[0] != other {
		t.Errorf("Close left %v, want only %s", left, other)
	}
}

func TestCluster_StopStart(t *testing.T) {
	t.Parallel()
	c := Start(t)
	url := c.URL("postgres")
	Exec(t, url, "create table t(n int)")
	for i, stop := range []func() error{
		func() error { return c.Stop(Fast) },
		func() error { return c.Stop(Smart) },
		func() error { return c.Stop(Immediate) },
		c.Kill,
	} {
		Exec(t, url, "insert into t values (1)")
		pid := c.Pid()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
			t.Errorf("postmaster %d is still there: %v", pid, err)
		}
		if c.Pid() != 0 {
			t.Errorf("Pid() = %d after stop", c.Pid())
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if got, want := QueryValue(t, url, "select count(*) from t"), strconv.Itoa(i+1); got != want {
			t.Errorf("%s rows after restart, want %s", got, want)
		}
	}
	if err := c.Restart(Fast); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err == nil {
		t.Error("Start of a running server worked")
	}
	if !strings.Contains(c.Log(), "database system is ready") {
		t.Error("Log() lacks what the server wrote")
	}
}

func TestCluster_SaveRestore(t *testing.T) {
	t.Parallel()
	c := Start(t)
	url := c.URL("postgres")
	Exec(t, url, "create table t as select 1 as n")
	if err := c.Save("one"); err == nil {
		t.Error("Save of a running server worked")
	}
	for _, step := range []func() error{
		func() error { return c.Stop(Fast) },
		func() error { return c.Save("one") },
		c.Start,
		func() error { Exec(t, url, "insert into t values (2)"); return c.Stop(Fast) },
		func() error { return c.Restore("one") },
		c.Start,
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if got := QueryValue(t, url, "select count(*) from t"); got != "1" {
		t.Errorf("%s rows after Restore, want 1", got)
	}
}

// victim is what the test binary does for TestCluster_DiesWithParent: run a
// cluster until killed.
func victim() {
	c, err := New(context.Background(), "")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(c.Pid(), c.dir)
	select {}
}

// Ensure that a killed test leaves neither a server nor, once the next one runs,
// its directory.
func TestCluster_DiesWithParent(t *testing.T) {
	t.Parallel()
	needServer(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PGTEST_VICTIM=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	var pid int
	var dir string
	if _, err := fmt.Sscan(line, &pid, &dir); err != nil {
		t.Fatalf("victim said %q: %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	Eventually(t, "the server to end with its parent", bound, func() bool {
		return syscall.Kill(pid, 0) == syscall.ESRCH
	})
	Eventually(t, "the directory to be swept", bound, func() bool {
		sweepDir(dir)
		_, err := os.Stat(dir)
		return os.IsNotExist(err)
	})
}

func TestQueryText(t *testing.T) {
	t.Parallel()
	c := Start(t)
	got := QueryText(t, c.URL("postgres"), "select n, null, '', $1::text from generate_series(1, 2) n", "x")
	want := [][]string{{"1", Null, "", "x"}, {"2", Null, "", "x"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := QueryValue(t, c.URL("postgres"), "select 1.50"); got != "1.50" {
		t.Errorf("got %q, want 1.50", got)
	}
}
