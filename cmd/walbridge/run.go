package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/internal/status/web"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
)

type runCmd struct {
	Once    bool          `help:"Exit with 0 when everything that was there at the start, and a heartbeat after it, is durable at the target."`
	Timeout time.Duration `help:"With --once: exit with 1 after this long." placeholder:"DURATION"`
	Prepare string        `help:"auto creates what is missing (publication, slot, tables, private schema); manual says what is missing and stops." placeholder:"auto|manual"`
	Listen  string        `help:"Address of the status page, the probes and the metrics, or off." placeholder:"ADDRESS"`
	Name    string        `help:"Name of the bridge: of its slot, publication and checkpoint." placeholder:"NAME"`
}

// Help implements kong.HelpProvider.
func (*runCmd) Help() string {
	return `Settings come from flags, the environment, the configuration file and defaults, in
this order. For NioChat two of them are enough:

    export WALBRIDGE_SOURCE_URL=postgres://walbridge:…@db:5432/niochat
    export WALBRIDGE_TARGET_URL=postgres://postgres.ref:…@aws-0-sa-east-1.pooler.supabase.com:5432/postgres
    walbridge run

Without WALBRIDGE_SOURCE_URL, DATABASE_URL is used; without WALBRIDGE_TARGET_URL,
SUPABASE_DB_URL, else the project's API: SUPABASE_URL with SUPABASE_SECRET_KEY or
SUPABASE_SERVICE_ROLE_KEY. Secrets can stand in files: WALBRIDGE_SOURCE_URL_FILE=/run/secrets/source.

Wait until the target has everything, for a deployment script:

    walbridge run --once --timeout 10m

Exit codes: 0 stopped or done, 1 failed while running, 2 usage or configuration.`
}

// errTimeout is why --timeout ends the context.
var errTimeout = errors.New("the timeout has passed")

// Validate implements kong's hook.
func (c *runCmd) Validate() error {
	if c.Timeout != 0 && !c.Once {
		return errors.New("--timeout belongs to --once")
	}
	return nil
}

// Run bridges until ctx ends.
func (c *runCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.settings(map[string]string{"prepare": c.Prepare, "listen": c.Listen, "name": c.Name})
	if err != nil {
		return err
	}
	if err := cfg.RequireBoth(); err != nil {
		return err
	}
	if err := cfg.RequireListen(); err != nil {
		return err
	}
	file, err := mappingFile(cfg)
	if err != nil {
		return err
	}
	terminal := &screen{out: a.stderr}
	log := logTo(cfg.Log, a.environ, terminal, isTerminal(a.stderr))
	for _, warning := range cfg.Warnings {
		log.Warn(warning)
	}
	limitMemory(cfg)

	v, _ := versions()
	state := status.New(v)
	state.Update(func(n *status.Snapshot) { n.Name = cfg.Name })
	var server *web.Server
	if cfg.Listen != "off" {
		if server, err = web.Listen(ctx, cfg.Listen, state, log); err != nil {
			return err
		}
		log.Info("status served", "address", server.Addr())
	}
	log.Info("bridge started", "name", cfg.Name, "version", v, "mapping", cfg.Mapping.Name)
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, errTimeout)
		defer cancel()
	}
	bridge := func(ctx context.Context) error {
		return replicator.Run(ctx, c.options(cfg, file, state, log))
	}
	if isTerminal(a.stderr) {
		bridge = terminal.during(bridge, state)
	}
	err = serve(ctx, server, bridge)
	return c.ended(ctx, state, log, err)
}

// mappingFile reads the mapping that the settings name.
func mappingFile(cfg *config.Config) (*mapping.File, error) {
	file, err := mapping.Parse(cfg.Mapping.Name, cfg.Mapping.Data)
	if err != nil {
		return nil, fault.Wrap(fault.Config, "docs/mapping.md describes the file", err)
	}
	return file, nil
}

// serve runs the bridge, and the status server as long as the bridge.
func serve(ctx context.Context, server *web.Server, bridge func(context.Context) error) error {
	if server == nil {
		return bridge(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Serve(ctx) })
	g.Go(func() error {
		defer cancel()
		return bridge(ctx)
	})
	return g.Wait()
}

// ended says how the bridge has ended and returns what the exit code follows from.
func (c *runCmd) ended(ctx context.Context, state *status.State, log *slog.Logger, err error) error {
	if err == nil && context.Cause(ctx) == errTimeout {
		hint := ""
		if p := state.Snapshot().LastError; p != nil {
			err, hint = fmt.Errorf("not everything is at the target after %s: %s", c.Timeout, p.Message), p.Hint
		} else {
			err = fmt.Errorf("not everything is at the target after %s", c.Timeout)
		}
		err = fault.Wrap(fault.Stop, hint, err)
	}
	if err == nil {
		if cause := context.Cause(ctx); cause != nil {
			log.Info("bridge stopped", "reason", cause)
		} else {
			log.Info("everything is at the target")
		}
		return nil
	}
	if exitCode(err) == exitUsage {
		return err
	}
	log.Error("bridge failed", "err", err, "hint", fault.HintOf(err))
	return &loggedError{err}
}

// options translates the settings.
func (c *runCmd) options(cfg *config.Config, file *mapping.File, state *status.State, log *slog.Logger) replicator.Options {
	return replicator.Options{
		Name:              cfg.Name,
		SourceURL:         cfg.Source.URL.Reveal(),
		SourceInsecureTLS: cfg.Source.InsecureTLS,
		File:              file,
		Compile:           compileOptions(cfg),
		OpenSink: func(ctx context.Context) (sink.Sink, error) {
			return openSink(ctx, cfg, log)
		},
		TargetCatalog: func(ctx context.Context, tables []pg.TableName) (*pg.Catalog, error) {
			return targetCatalog(ctx, cfg, tables)
		},
		Status:        state,
		Log:           log,
		Heartbeat:     cfg.Source.Heartbeat.Std(),
		Lease:         cfg.Lease.Std(),
		Failover:      cfg.Source.Failover,
		DecodingBytes: int64(cfg.Source.DecodingWork),
		Retention: replicator.Retention{
			Warning: int64(cfg.Source.WarnRetained), Alarm: int64(cfg.Source.AlarmRetained), Max: int64(cfg.Source.MaxRetained),
		},
		BatchRows:   cfg.Batch.Rows,
		BatchBytes:  cfg.Batch.Bytes.Bytes(),
		QueueBytes:  cfg.Queue.Bytes.Bytes(),
		CopyRows:    copyRows(cfg),
		QuietCopy:   cfg.Copy.Realtime != "publish",
		QuietResync: cfg.Copy.Realtime == "pause_all",
		RejectLimit: cfg.Reject.Limit,
		Manual:      cfg.Prepare == "manual",
		Once:        c.Once,
	}
}

// apiCopyRows is the most that a piece of the first copy has over the API, where
// it has to be written within the time of one request.
const apiCopyRows = 2000

func copyRows(cfg *config.Config) int {
	if cfg.ByAPI() {
		return min(cfg.Copy.Rows, apiCopyRows)
	}
	return cfg.Copy.Rows
}

func compileOptions(cfg *config.Config) mapping.CompileOptions {
	opts := mapping.CompileOptions{HashKey: mapping.NewHashKey(cfg.Hash.Key.Reveal()), NoAudit: !cfg.Audit.Enabled, Audit: mapping.Audit{
		Unchanged: cfg.Audit.Unchanged,
		MaxValue:  cfg.Audit.MaxValue.Bytes(),
		Chain:     cfg.Audit.Chain,
		Values: map[string]mapping.AuditValues{
			"changed": mapping.AuditChanged, "all": mapping.AuditAll, "none": mapping.AuditNone,
		}[cfg.Audit.Values],
	}}
	switch cfg.OnDelete {
	case "keep":
		policy := mapping.Keep
		opts.OnDelete = &policy
	case "delete":
		policy := mapping.Delete
		opts.OnDelete = &policy
	}
	return opts
}

// limitMemory has the runtime collect before the heap grows beyond what the
// documentation promises. GOMEMLIMIT, which the runtime reads itself, wins.
func limitMemory(cfg *config.Config) {
	if os.Getenv("GOMEMLIMIT") == "" && cfg.Memory.Limit > 0 {
		debug.SetMemoryLimit(int64(cfg.Memory.Limit))
	}
}
