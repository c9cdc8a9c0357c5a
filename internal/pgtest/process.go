package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Mode is how a server is stopped; pg_ctl has the same three.
type Mode syscall.Signal

const (
	// Fast ends all sessions and shuts down cleanly.
	Fast = Mode(syscall.SIGINT)
	// Immediate ends all processes; the next start recovers.
	Immediate = Mode(syscall.SIGQUIT)
	// Smart waits for sessions to end.
	Smart = Mode(syscall.SIGTERM)
)

// process is one run of the server.
type process struct {
	cmd *exec.Cmd
	// done is closed when the postmaster has been waited for; err is set then.
	done chan struct{}
	err  error
	// alive is inherited by every process of the server: reading it gives EOF
	// once the last one is gone.
	alive *os.File
}

// launch starts the server and returns without waiting until it is ready.
func launch(bin, dataDir, logPath string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	defer log.Close()
	alive, inherited, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	defer inherited.Close()
	cmd := exec.Command(filepath.Join(bin, "postgres"), "-D", dataDir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{inherited}
	if err := asServer(cmd, dataDir); err != nil {
		return nil, errors.Join(err, alive.Close())
	}
	dieWithParent(cmd)

	p := &process{cmd: cmd, done: make(chan struct{}), alive: alive}
	started := make(chan error)
	go func() {
		// The signal of dieWithParent is sent when the thread that started the
		// server ends, so that thread must live as long as the server.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("start server: %w", err), alive.Close())
	}
	return p, nil
}

// wait returns when no process of the server is left.
func (p *process) wait() error {
	defer p.alive.Close()
	_ = p.alive.SetReadDeadline(time.Now().Add(stopWait))
	if _, err := io.Copy(io.Discard, p.alive); err != nil {
		return fmt.Errorf("wait for server %d to end: %w", p.cmd.Process.Pid, err)
	}
	<-p.done
	return nil
}

// asServer lets cmd run in dir with a clean environment, and as an unprivileged
// user where this process is root, because PostgreSQL refuses root.
func asServer(cmd *exec.Cmd, dir string) error {
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "PG") || strings.HasPrefix(kv, "LC_") || strings.HasPrefix(kv, "LANG")
	})
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	uid, gid, err := serverUser()
	if err != nil {
		return err
	}
	if uid >= 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return nil
}

// Start starts a stopped server and waits until it accepts connections.
func (c *Cluster) Start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc != nil {
		return errors.New("start server: it is running already")
	}
	p, err := launch(c.bin, c.DataDir(), c.logPath())
	if err != nil {
		return err
	}
	deadline := time.Now().Add(startWait)
	for !c.ready(p.cmd.Process.Pid) {
		select {
		case <-p.done:
			_ = p.wait()
			return fmt.Errorf("start server: it ended with %v; its log ends with:\n%s", p.err, tail(c.Log()))
		case <-time.After(poll):
		}
		if time.Now().After(deadline) {
			_ = p.cmd.Process.Signal(syscall.SIGQUIT)
			_ = p.wait()
			return fmt.Errorf("start server: not ready after %s; its log ends with:\n%s", startWait, tail(c.Log()))
		}
	}
	c.proc = p
	return nil
}

// ready reads the state that the postmaster writes into the last line of
// postmaster.pid (miscadmin.h, LOCK_FILE_LINE_PM_STATUS). A connection would not
// do: another server may have taken the port.
func (c *Cluster) ready(pid int) bool {
	b, err := os.ReadFile(filepath.Join(c.DataDir(), "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) < 8 || lines[0] != strconv.Itoa(pid) {
		return false
	}
	state := strings.TrimSpace(lines[7])
	return state == "ready" || state == "standby"
}

// Stop stops the server and waits until its last process is gone. Stopping a
// stopped server does nothing.
func (c *Cluster) Stop(mode Mode) error { return c.end(syscall.Signal(mode)) }

// Kill ends the postmaster without a chance to clean up, like a crash, and waits
// until its children have noticed and are gone.
func (c *Cluster) Kill() error { return c.end(syscall.SIGKILL) }

// Restart stops and starts the server.
func (c *Cluster) Restart(mode Mode) error {
	if err := c.Stop(mode); err != nil {
		return err
	}
	return c.Start()
}

func (c *Cluster) end(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.proc
	if p == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop server: %w", err)
	}
	c.proc = nil
	return p.wait()
}

// Signal sends sig to the postmaster alone and doesn't wait for what comes of it.
func (c *Cluster) Signal(sig os.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc == nil {
		return errors.New("signal server: it isn't running")
	}
	return c.proc.cmd.Process.Signal(sig)
}

// Pid is the postmaster's process id, or 0 if the server is stopped.
func (c *Cluster) Pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc == nil {
		return 0
	}
	return c.proc.cmd.Process.Pid
}

// tail is the end of a log, where the reason for a failed start is.
func tail(log string) string {
	lines := bytes.Split([]byte(strings.TrimSpace(log)), []byte("\n"))
	if len(lines) > 20 {
		lines = lines[len(lines)-20:]
	}
	return string(bytes.Join(lines, []byte("\n")))
}
