package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// instance is a bridge in a process of its own.
type instance struct {
	t      *testing.T
	listen string
	cmd    *exec.Cmd
	ended  chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

func (i *instance) Write(b []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.log.Write(b)
}

func (i *instance) says() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.log.String()
}

// launch starts "walbridge run"; env goes before the process's own.
func launch(t *testing.T, env ...string) *instance {
	t.Helper()
	listen, err := pgtest.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{t: t, listen: listen, cmd: exec.Command("walbridge", "run"), ended: make(chan struct{})}
	i.cmd.Env = append(os.Environ(), append(env, "WALBRIDGE_LISTEN="+listen)...)
	i.cmd.Stderr = i
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = i.cmd.Wait(); close(i.ended) }()
	t.Cleanup(func() {
		_ = i.cmd.Process.Kill() // a frozen one, too
		<-i.ended
		if t.Failed() {
			t.Logf("%s said:\n%s", listen, i.says())
		}
	})
	return i
}

func (i *instance) await(state string) {
	i.t.Helper()
	if err := eventually(func() error { return ready(i.t, i.listen, state) }); err != nil {
		i.t.Fatal(err)
	}
}

// get returns what the bridge answers at path.
func (i *instance) get(path string) string {
	i.t.Helper()
	res, err := http.Get("http://" + i.listen + path)
	if err != nil {
		i.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	return string(body)
}

func (i *instance) signal(s syscall.Signal) {
	i.t.Helper()
	if err := i.cmd.Process.Signal(s); err != nil {
		i.t.Fatal(err)
	}
}

// pair is a source, and a target behind a session pooler.
type pair struct {
	t              *testing.T
	source, target string
	env            []string
}

func newPair(t *testing.T, env ...string) *pair {
	t.Helper()
	source, target := pgtest.Start(t), pgtest.Start(t)
	p := &pair{t: t, source: source.URL("postgres"), target: target.URL("postgres")}
	pgtest.Exec(t, p.source, demo.SourceSchema, seed)
	pooler := pgtest.StartPooler(t, target, pgtest.Session)
	p.env = append(env, "WALBRIDGE_SOURCE_URL="+p.source, "WALBRIDGE_TARGET_URL="+pooler.URL(p.target))
	return p
}

// arrives checks that a change at the source comes to the target.
func (p *pair) arrives(id string) {
	p.t.Helper()
	pgtest.Exec(p.t, p.source, `SET session_replication_role = replica;
		INSERT INTO public.conversations_contact (id, name, phone, additional_attributes, provedor_id, created_at, updated_at)
		VALUES (`+id+`, 'contact', '`+id+`', '{}', 1, now(), now())`)
	err := eventually(func() error {
		if pgtest.QueryValue(p.t, p.target, "SELECT count(*) FROM public.contacts WHERE id = "+id) != "1" {
			return errors.New("the contact is not there")
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// The standby doesn't wait for the lease of an instance that is gone: it is far
// longer here than anybody waits.
func TestStandby_TakesOverFromTheKilled(t *testing.T) {
	t.Parallel()
	p := newPair(t, "WALBRIDGE_LEASE=1h")
	first := launch(t, p.env...)
	first.await("streaming")
	second := launch(t, p.env...)
	second.await("standby")
	p.arrives("100")
	// Of what the first has counted the standby says nothing, or its takeover would
	// look like all that work at once.
	if got := second.get("/metrics"); strings.Contains(got, "\nwalbridge_rows_applied_total") || !strings.Contains(got, "\nwalbridge_takeovers_total 0\n") {
		t.Errorf("as a standby it says %s", got)
	}
	first.signal(syscall.SIGKILL)
	killed := time.Now()
	second.await("streaming")
	t.Logf("took over after %s", time.Since(killed).Round(time.Millisecond))
	p.arrives("101")
	if got := second.get("/metrics"); !strings.Contains(got, "\nwalbridge_takeovers_total 1\n") || !strings.Contains(got, "\nwalbridge_lease_epoch ") {
		t.Errorf("after its takeover it says %s", got)
	}
}

// A frozen instance holds the slot and looks alive at the source. When its lease
// is over it is replaced, and when it wakes up it writes nothing any more.
func TestStandby_TakesOverFromTheFrozen(t *testing.T) {
	t.Parallel()
	p := newPair(t, "WALBRIDGE_LEASE=2s")
	first := launch(t, p.env...)
	first.await("streaming")
	second := launch(t, p.env...)
	second.await("standby")
	p.arrives("100")
	first.signal(syscall.SIGSTOP)
	second.await("streaming")
	p.arrives("101")
	first.signal(syscall.SIGCONT)
	select {
	case <-first.ended:
	case <-time.After(patience):
		t.Fatal("the frozen instance goes on")
	}
	if code := first.cmd.ProcessState.ExitCode(); code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	if !strings.Contains(first.says(), "another instance of the bridge has taken over") {
		t.Error("it doesn't say why it ends")
	}
	p.arrives("102")
}
