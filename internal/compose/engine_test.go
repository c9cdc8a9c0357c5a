package compose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// engine is the Docker engine that the tests use. All fields are set once, by
// TestMain.
type engine struct {
	// own says that the tests have started it, and that all of it is theirs.
	own bool
	// env are the variables that docker and Compose need to find it.
	env  []string
	cmd  *exec.Cmd
	done chan struct{}
	log  string
	lock *os.File
}

// docker is the engine; why says why there is none, for tests to skip with.
var (
	docker *engine
	why    string
)

// isolated is set for a process that has a network of its own.
const isolated = "TEST_COMPOSE_ISOLATED"

// TestMain starts an engine where none runs, and ends it.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		if os.Getenv("TEST_COMPOSE") == "" {
			why = "runs by make test-compose, because it takes a Docker engine and makes images"
			return m.Run()
		}
		e, err := openEngine()
		var rights *rightsError
		switch {
		case errors.As(err, &rights):
			why = "the compose stack can't be tested here: " + err.Error()
			fmt.Fprintln(os.Stderr, why)
			return m.Run()
		case err != nil:
			fmt.Fprintln(os.Stderr, "compose tests:", err)
			return 1
		case e == nil:
			return isolate()
		}
		docker = e
		code := m.Run()
		if err := errors.Join(docker.removeImages(), docker.close()); err != nil {
			fmt.Fprintln(os.Stderr, "compose tests: not all is cleaned up:", err)
			code = 1
		}
		return code
	}())
}

// require skips a test that has no engine.
func require(t *testing.T) {
	t.Helper()
	if docker == nil {
		t.Skip(why)
	}
}

// rightsError says that this process or machine may not run containers, which no
// installation mends.
type rightsError struct{ err error }

func (e *rightsError) Error() string { return e.err.Error() }

// isolate runs the tests in a network of their own. An engine that they start there
// leaves nothing in that of the machine: no bridge, no firewall rule, no port.
func isolate() int {
	cmd := exec.Command("unshare", append([]string{"--net", "sh", "-c", `ip link set lo up && exec "$@"`, "sh"}, os.Args...)...)
	cmd.Env = append(os.Environ(), isolated+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// A test that is ended from outside ends with all that it has started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "compose tests:", err)
	}
	if err != nil {
		return 1
	}
	return 0
}

// openEngine returns the engine that runs, or starts one with a directory of its
// own. It returns none where it has to be started in an isolated process.
func openEngine() (*engine, error) {
	if err := checkRights(); err != nil {
		return nil, err
	}
	for _, program := range []string{"docker", "debootstrap", "nsenter", "iptables", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%w: make test-compose installs it on Debian, as root", err)
		}
	}
	e := &engine{env: []string{"DOCKER_BUILDKIT=0", "COMPOSE_DOCKER_CLI_BUILD=0"}}
	if os.Getenv(isolated) == "" {
		if e.answers() == nil {
			return e, nil
		}
		return nil, nil
	}
	if _, err := exec.LookPath("dockerd"); err != nil {
		return nil, fmt.Errorf("no Docker engine runs, and %w: make test-compose installs it on Debian, as root", err)
	}
	e.own = true
	if err := e.start(); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// checkRights reports what containers need and no package brings: to be root, with
// the right to make namespaces, and control groups.
func checkRights() error {
	if os.Geteuid() != 0 {
		return &rightsError{errors.New("images are made by debootstrap, which needs root: sudo make test-compose")}
	}
	if out, err := exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "true").CombinedOutput(); err != nil {
		return &rightsError{fmt.Errorf("this process may not make namespaces (%s): it runs in a chroot, or in a container without CAP_SYS_ADMIN",
			strings.TrimSpace(string(out)))}
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil || !strings.Contains(string(mounts), " cgroup") {
		return &rightsError{errors.New("no control groups are mounted: this is a chroot, or a container without /sys/fs/cgroup")}
	}
	return nil
}

// answers asks the engine whether it is there.
func (e *engine) answers() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", "info")
	cmd.Env = append(os.Environ(), e.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("docker info: %w\n%s", err, out)
	}
	return nil
}

// start starts dockerd. It waits for the end of another test's, because they share
// the directory, and with it the cache.
func (e *engine) start() error {
	dir := "/var/tmp/walbridge-docker-" + strconv.Itoa(os.Getuid())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	if e.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := syscall.Flock(int(e.lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	// The machine's own settings may contradict the flags.
	settings := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(settings, []byte("{}"), 0o600); err != nil {
		return err
	}
	socket := "unix://" + filepath.Join(dir, "docker.sock")
	e.env = append(e.env, "DOCKER_HOST="+socket, "DOCKER_CONTEXT=")
	e.log = filepath.Join(dir, "dockerd.log")
	log, err := os.Create(e.log)
	if err != nil {
		return err
	}
	defer log.Close()
	e.cmd = exec.Command("dockerd", "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "dockerd.pid"), "--host", socket, "--config-file", settings,
		"--bridge", "none")
	e.cmd.Stdout, e.cmd.Stderr = log, log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	e.done = make(chan struct{})
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig is sent when the starting thread ends
		defer runtime.UnlockOSThread()
		err := e.cmd.Start()
		started <- err
		if err == nil {
			_ = e.cmd.Wait()
			close(e.done)
		}
	}()
	if err := <-started; err != nil {
		e.cmd = nil
		return fmt.Errorf("start dockerd: %w", err)
	}
	return e.wait()
}

// wait waits until the engine answers, and removes what a run that was killed has
// left in it.
func (e *engine) wait() error {
	deadline := time.After(2 * time.Minute)
	for {
		err := e.answers()
		if err == nil {
			break
		}
		select {
		case <-e.done:
			return fmt.Errorf("dockerd has ended:\n%s", e.tail())
		case <-deadline:
			return fmt.Errorf("dockerd doesn't answer: %w\n%s", err, e.tail())
		case <-time.After(100 * time.Millisecond):
		}
	}
	for _, kind := range []string{"container", "volume", "network"} {
		list := []string{kind, "ls", "--quiet"}
		switch kind {
		case "container":
			list = append(list, "--all")
		case "network":
			list = append(list, "--filter", "type=custom")
		}
		out, err := e.run(context.Background(), list...)
		if err != nil {
			return err
		}
		if ids := strings.Fields(out); len(ids) > 0 {
			if _, err := e.run(context.Background(), append([]string{kind, "rm", "--force"}, ids...)...); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *engine) tail() string {
	text, err := os.ReadFile(e.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}

// close ends an engine that the tests have started, and its containers with it.
func (e *engine) close() error {
	if e.cmd != nil {
		_ = e.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-e.done:
		case <-time.After(time.Minute):
			fmt.Fprintf(os.Stderr, "dockerd doesn't end, so it is killed:\n%s\n", e.tail())
			_ = e.cmd.Process.Kill()
			<-e.done
		}
	}
	if e.lock != nil {
		return e.lock.Close()
	}
	return nil
}

// outside runs a program that needs packages from outside, in the network that the
// tests were started in: the parent process is there still.
func (e *engine) outside(ctx context.Context, dir, name string, args ...string) (string, error) {
	if e.own {
		name, args = "nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", os.Getppid()), name}, args...)
	}
	return e.command(ctx, nil, dir, name, args...)
}

// run runs docker and returns what it prints, without the last line break.
func (e *engine) run(ctx context.Context, args ...string) (string, error) {
	return e.command(ctx, nil, "", "docker", args...)
}

// command runs a program that talks to the engine. Its error has what the program
// said.
func (e *engine) command(ctx context.Context, env []string, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), e.env...), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}
