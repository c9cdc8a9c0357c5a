package oracle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// patience is the upper bound of every wait; nothing is expected to take it.
const patience = 5 * time.Minute

// bridge is one instance, in this process or in one of its own.
type bridge struct {
	done chan error
	// log is what it has said.
	log *logBuffer

	// In this process:
	cancel context.CancelFunc
	status *status.State
	faults *faults
	// In one of its own:
	cmd *exec.Cmd
	// said is how much the log had when it began.
	said int
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Len()
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startBridge starts an instance over the databases of w.
func (w *world) startBridge() (*bridge, error) {
	if w.plan.opts.process {
		return w.startProcess()
	}
	file, err := mapping.Parse("oracle.yaml", []byte(w.plan.spec.mapping()))
	if err != nil {
		return nil, fmt.Errorf("parse mapping: %w", err)
	}
	o := w.plan.opts
	b := &bridge{done: make(chan error, 1), log: &w.log, status: status.New("oracle"),
		faults: &faults{percent: o.faults, r: rand.New(rand.NewPCG(w.plan.seed, uint64(w.starts)))}}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: level})).With("instance", w.starts)
	opts := replicator.Options{
		Name: "walbridge", SourceURL: w.bridgeSrc, File: file, Compile: w.compileOptions(),
		OpenSink: func(ctx context.Context) (sink.Sink, error) {
			s, err := postgres.Open(ctx, postgres.Options{URL: w.bridgeDst, Name: "walbridge"}, log)
			if err != nil {
				return nil, err
			}
			return &faultySink{s, b.faults}, nil
		},
		TargetCatalog: func(ctx context.Context, tables []pg.TableName) (*pg.Catalog, error) {
			conn, err := pg.Connect(ctx, w.bridgeDst, pg.Options{Side: pg.Target})
			if err != nil {
				return nil, err
			}
			defer func() { _ = conn.Close(ctx) }()
			return pg.ReadCatalog(ctx, conn, tables)
		},
		Status: b.status, Log: log,
		Heartbeat: 200 * time.Millisecond, Lease: 500 * time.Millisecond,
		BatchRows: o.batchRows, BatchBytes: o.batchBytes, QueueBytes: o.queueBytes, CopyRows: o.copyRows, RejectLimit: 100,
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	go func() { b.done <- replicator.Run(ctx, opts) }()
	return b, nil
}

func (w *world) compileOptions() mapping.CompileOptions {
	a := w.plan.spec.audit
	return mapping.CompileOptions{Audit: mapping.Audit{Unchanged: a.unchanged, MaxValue: a.maxValue, Chain: a.chain,
		Values: map[string]mapping.AuditValues{"changed": mapping.AuditChanged, "all": mapping.AuditAll, "none": mapping.AuditNone}[a.values]}}
}

// binary builds the bridge once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "oracle")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "walbridge")
	out, err := exec.Command("go", "build", "-o", path, "../../cmd/walbridge").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the bridge: %w: %s", err, out)
	}
	return path, nil
})

func (w *world) startProcess() (*bridge, error) {
	path, err := binary()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(filepath.Dir(path), w.name+".yaml")
	if err := os.WriteFile(config, []byte(w.plan.spec.mapping()), 0o600); err != nil {
		return nil, err
	}
	o, a := w.plan.opts, w.plan.spec.audit
	b := &bridge{done: make(chan error, 1), log: &w.log, cmd: exec.Command(path, "run"), said: w.log.len()}
	b.cmd.Env = append(os.Environ(), "WALBRIDGE_CONFIG="+config, "WALBRIDGE_SOURCE_URL="+w.bridgeSrc, "WALBRIDGE_TARGET_URL="+w.bridgeDst,
		"WALBRIDGE_LISTEN=off", "WALBRIDGE_SOURCE_HEARTBEAT=1s", "WALBRIDGE_LEASE=1s", "WALBRIDGE_LOG_FORMAT=text",
		"WALBRIDGE_AUDIT_VALUES="+a.values, fmt.Sprintf("WALBRIDGE_AUDIT_UNCHANGED=%t", a.unchanged), fmt.Sprintf("WALBRIDGE_AUDIT_CHAIN=%t", a.chain),
		fmt.Sprintf("WALBRIDGE_AUDIT_MAX_VALUE=%d", a.maxValue), fmt.Sprintf("WALBRIDGE_BATCH_ROWS=%d", o.batchRows),
		fmt.Sprintf("WALBRIDGE_COPY_ROWS=%d", o.copyRows))
	b.cmd.Stderr, b.cmd.Stdout = b.log, b.log
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the bridge: %w", err)
	}
	go func() { b.done <- b.cmd.Wait() }()
	return b, nil
}

// stop ends the instance in good order.
func (b *bridge) stop() error {
	if b.cmd == nil {
		b.cancel()
		return b.wait()
	}
	if err := b.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	err := b.wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signal() == os.Interrupt && b.log.len() == b.said {
		return nil // it had not come to the point of listening for signals
	}
	return err
}

func (b *bridge) wait() error {
	select {
	case err := <-b.done:
		b.done <- err
		return err
	case <-time.After(patience):
		return errors.New("the bridge does not stop")
	}
}

// kill ends the instance as a power cut would: nothing that it does from now on
// has an effect, and its connections break.
func (b *bridge) kill(w *world) error {
	if b.cmd != nil {
		if err := b.cmd.Process.Kill(); err != nil {
			return err
		}
		if err := b.wait(); err != nil && b.cmd.ProcessState == nil {
			return err
		}
		return nil
	}
	b.faults.dead.Store(true)
	if err := w.cutTarget(); err != nil {
		return err
	}
	b.cancel()
	if err := b.wait(); err != nil {
		return fmt.Errorf("killed instance: %w", err)
	}
	return nil
}

// ended returns why the instance is no longer running.
func (b *bridge) ended() error {
	select {
	case err := <-b.done:
		b.done <- err
		return fmt.Errorf("the bridge has ended: %w", errors.Join(errEnded, err))
	default:
		return nil
	}
}

var errEnded = errors.New("nobody asked it to")
