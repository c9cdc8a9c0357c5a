package demo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
)

// BridgeOptions say how to run the bridge's command.
type BridgeOptions struct {
	// Binary is the path of the walbridge executable.
	Binary string
	// Args follow the command "run".
	Args []string
	// Source and Target are connection strings.
	Source, Target string
	// Env are further settings as KEY=value.
	Env []string
	// Log gets what the process writes to stdout and stderr.
	Log io.Writer
}

// Bridge is the bridge's command as a child process, which ends with this one.
// It is used by one goroutine, except for Done.
type Bridge struct {
	opts   BridgeOptions
	listen string
	cmd    *exec.Cmd
	done   chan struct{}
	err    error
	// ended says that the process was ended on purpose.
	ended bool
}

// StartBridge starts the bridge with a status server on a free port.
func StartBridge(opts BridgeOptions) (*Bridge, error) {
	listen, err := pgtest.FreeAddress()
	if err != nil {
		return nil, err
	}
	b := &Bridge{opts: opts, listen: listen}
	return b, b.start()
}

func (b *Bridge) start() error {
	b.ended = false
	b.cmd = exec.Command(b.opts.Binary, append([]string{"run"}, b.opts.Args...)...)
	// Settings of the caller's own environment would point the bridge elsewhere.
	b.cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "WALBRIDGE_") || strings.HasPrefix(kv, "SUPABASE_") ||
			strings.HasPrefix(kv, "DATABASE_URL") || strings.HasPrefix(kv, "PG")
	})
	b.cmd.Env = append(b.cmd.Env, "WALBRIDGE_SOURCE_URL="+b.opts.Source, "WALBRIDGE_TARGET_URL="+b.opts.Target,
		"WALBRIDGE_LISTEN="+b.listen)
	b.cmd.Env = append(b.cmd.Env, b.opts.Env...)
	b.cmd.Stdout, b.cmd.Stderr = b.opts.Log, b.opts.Log
	b.cmd.SysProcAttr = ownGroup()
	b.done = make(chan struct{})
	started := make(chan error)
	go func() {
		// The kernel's promise to end the child is bound to the thread that
		// started it, so that thread must live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := b.cmd.Start()
		started <- err
		if err == nil {
			b.err = b.cmd.Wait()
			close(b.done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start the bridge: %w", err)
	}
	return nil
}

// Restart starts the bridge again, on the same port, after Kill or Stop.
func (b *Bridge) Restart() error { return b.start() }

// Pid is the process id.
func (b *Bridge) Pid() int { return b.cmd.Process.Pid }

// URL is the address of its status server.
func (b *Bridge) URL() string { return "http://" + b.listen }

// Done is closed when the process has ended.
func (b *Bridge) Done() <-chan struct{} { return b.done }

// Kill ends the process without a chance to clean up, kill -9, and waits for it.
func (b *Bridge) Kill() error {
	b.ended = true
	if err := b.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the bridge: %w", err)
	}
	<-b.done
	return nil
}

// Dump ends the process as SIGQUIT ends a Go program: it writes the stacks of its
// goroutines to the log. It doesn't wait longer than a moment.
func (b *Bridge) Dump() {
	if b.cmd.Process.Signal(syscall.SIGQUIT) != nil {
		return
	}
	select {
	case <-b.done:
	case <-time.After(5 * time.Second):
	}
}

// stopTimeout is how long a bridge may take to stop; it promises five seconds.
const stopTimeout = 30 * time.Second

// Stop asks the process to end and waits until it has. Anything but exit code 0
// is an error.
func (b *Bridge) Stop() error {
	b.ended = true
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the bridge: %w", err)
	}
	select {
	case <-b.done:
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("stop the bridge: it still runs after %s", stopTimeout), b.Kill())
	}
	if b.err != nil {
		return fmt.Errorf("stop the bridge: %w", b.err)
	}
	return nil
}

// Status asks the bridge how it is. It fails while the bridge is starting.
func (b *Bridge) Status(ctx context.Context) (status.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var s status.Snapshot
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.URL()+"/status.json", nil)
	if err != nil {
		return s, fmt.Errorf("ask for the status: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, fmt.Errorf("ask for the status: %w", err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil {
		return s, fmt.Errorf("read the status: %w", err)
	}
	return s, nil
}

// WaitCaughtUp waits until everything that was in the source's WAL up to lsn, a
// flush position, is durable at the target. It fails when the bridge ends or
// needs a person.
func (b *Bridge) WaitCaughtUp(ctx context.Context, lsn pglogrepl.LSN) error {
	for {
		s, err := b.Status(ctx)
		if err == nil && s.State == status.Streaming && s.LagBytes == 0 && s.Source >= lsn {
			return nil
		}
		if err == nil && s.State == status.Blocked {
			return blocked(s)
		}
		select {
		case <-b.done:
			return fmt.Errorf("wait for the bridge: it ended: %w", cmp.Or(b.err, errEnded))
		case <-ctx.Done():
			if s.LastError != nil {
				err = errors.Join(err, errors.New(s.LastError.Message))
			}
			return fmt.Errorf("wait for the bridge, which is %q at %s of %s: %w", s.State, s.Checkpoint, lsn, cmp.Or(err, ctx.Err()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

var errEnded = errors.New("exit code 0")

// blocked is the error of a bridge that waits for a person, in a place where
// nobody will come.
func blocked(s status.Snapshot) error {
	if s.LastError == nil {
		return errors.New("the bridge is blocked")
	}
	return fmt.Errorf("the bridge is blocked: %s (%s)", s.LastError.Message, s.LastError.Hint)
}
