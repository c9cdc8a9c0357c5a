package django

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// newCluster starts a cluster, also under -short, where pgtest.Start would skip:
// these tests then kill less often instead.
func newCluster(t *testing.T) *pgtest.Cluster {
	t.Helper()
	c, err := pgtest.New(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Logf("close cluster: %v", err)
		}
	})
	return c
}

// newApplication makes a database with NioChat's tables and a first stock of
// rows, as it is before the bridge is ever started.
func newApplication(t *testing.T, seed uint64) (url string) {
	t.Helper()
	url = pgtest.CreateDB(t, newCluster(t), "niochat")
	pgtest.Exec(t, url, demo.SourceSchema)
	if err := demo.Seed(t.Context(), pgtest.Connect(t, url), demo.SeedOptions{Seed: seed}); err != nil {
		t.Fatal(err)
	}
	return url
}

// work is one running "manage.py work".
type work struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	done           chan error
	stopped        bool
}

// startWork starts the application's process. It ends with the test at the
// latest.
func startWork(t *testing.T, url string, args ...string) *work {
	t.Helper()
	w := &work{done: make(chan error, 1)}
	w.cmd = exec.Command(python(t), append([]string{"manage.py", "work"}, args...)...)
	w.cmd.Dir = "project"
	w.cmd.Env = append(os.Environ(), "DATABASE_URL="+url, "PYTHONDONTWRITEBYTECODE=1", "PYTHONUTF8=1")
	w.cmd.Stdout, w.cmd.Stderr = &w.stdout, &w.stderr
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig is sent when the starting thread ends
		defer runtime.UnlockOSThread()
		err := w.cmd.Start()
		started <- err
		if err == nil {
			w.done <- w.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start the application: %v", err)
	}
	t.Cleanup(func() {
		if !w.stopped {
			_ = w.cmd.Process.Kill()
			<-w.done
		}
	})
	return w
}

// stop lets the application finish the requests under way and returns how often
// it served which.
func (w *work) stop(t *testing.T) map[string]int {
	t.Helper()
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("stop the application: %v", err)
	}
	return w.wait(t)
}

func (w *work) wait(t *testing.T) map[string]int {
	t.Helper()
	select {
	case err := <-w.done:
		w.stopped = true
		if err != nil {
			t.Fatalf("the application ended with %v:\n%s", err, &w.stderr)
		}
	case <-time.After(5 * time.Minute):
		t.Fatal("the application doesn't end")
	}
	counts := map[string]int{}
	if err := json.Unmarshal(w.stdout.Bytes(), &counts); err != nil {
		t.Fatalf("read what the application says: %v: %s", err, &w.stdout)
	}
	return counts
}

// python is an interpreter that has Django. Debian's own is tried first, because
// another one in the PATH often lacks Debian's packages.
func python(t *testing.T) string {
	t.Helper()
	tried := []string{"/usr/bin/python3", "python3"}
	if p := os.Getenv("TEST_PYTHON"); p != "" {
		tried = []string{p}
	}
	for _, p := range tried {
		if exec.Command(p, "-c", "import django, psycopg2").Run() == nil {
			return p
		}
	}
	t.Fatalf("no Python with Django and psycopg2 (tried %s): apt install python3-django python3-psycopg2, or set TEST_PYTHON",
		strings.Join(tried, ", "))
	return ""
}

// Every kind of request is served, from several threads and processes, and few
// are refused.
func TestApplication(t *testing.T) {
	t.Parallel()
	url := newApplication(t, 1)
	var workers []*work
	for seed := range 2 {
		workers = append(workers, startWork(t, url, "--threads=2", "--requests=600", "--seed="+strconv.Itoa(seed)))
	}
	total := map[string]int{}
	sum := 0
	for _, w := range workers {
		for name, n := range w.wait(t) {
			total[name] += n
			sum += n
		}
	}
	source, err := os.ReadFile("project/conversations/work.py")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(source), "REQUESTS = [")
	for _, part := range strings.Split(list, "(")[1:] {
		if name, _, _ := strings.Cut(part, ","); total[name] == 0 {
			t.Errorf("request %s was never served", name)
		}
	}
	if total["refused"]*10 > sum {
		t.Errorf("%d of %d requests were refused", total["refused"], sum)
	}
	t.Log(total)
}

// Nothing in the project knows about the bridge.
func TestApplication_KnowsNoBridge(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("grep", "-rilE", "walbridge|supabase|replication|logical|bridge", "project").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("files that mention it: %s (%v)", out, err)
	}
}
