package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/internal/status/web"
	"github.com/walbridge/walbridge/internal/survey"
	"github.com/walbridge/walbridge/sink"
)

type statusCmd struct {
	URL      string        `help:"Address of a bridge elsewhere, as http://host:8787. Without it the one that listens on this machine is asked." name:"url" placeholder:"URL"`
	Watch    bool          `help:"Go on until Ctrl-C: repaint a terminal, append lines elsewhere." short:"w"`
	Interval time.Duration `help:"With --watch: time between two looks; 1s by default." default:"1s" placeholder:"DURATION"`
	Probe    bool          `help:"Ask the bridge alone, not the databases when it is silent: for a container's health check."`
	JSON     bool          `help:"Print status.json, with who was asked in \"from\"." name:"json"`
	Name     string        `help:"Name of the bridge: of its slot, publication and checkpoint." placeholder:"NAME"`
}

// Help implements kong.HelpProvider.
func (*statusCmd) Help() string {
	return `Asks the bridge that runs on this machine (WALBRIDGE_LISTEN) or at --url. When none
answers, both databases are asked: the checkpoint at the target and the slot at the
source. The first line says whose word it is. From the databases, the lag is what the
WAL has grown since the checkpoint, whether or not it concerns the mapped tables.

Example:

    walbridge status
    walbridge status --watch
    walbridge status --json --url http://bridge.internal:8787
    walbridge status --probe

Exit codes: 0 the bridge is well, 1 nobody could be asked, 2 usage or configuration,
3 it isn't well, or no bridge runs, or one of the databases is out of reach. With
--watch it is 0.`
}

// Validate implements kong's hook.
func (c *statusCmd) Validate() error {
	if c.Interval <= 0 {
		return errors.New("--interval must be positive")
	}
	return nil
}

// Run prints the status.
func (c *statusCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.settings(map[string]string{"name": c.Name})
	if err != nil {
		return err
	}
	ask := &asker{cfg: cfg, log: newLogger(cfg.Log, a.environ, a.stderr), any: c.URL != "", alone: c.Probe}
	switch {
	case c.URL != "":
		if ask.address, err = web.ParseAddress(c.URL); err != nil {
			return err
		}
	case cfg.Listen != "off":
		ask.address = web.Address(cfg.Listen)
	}
	if c.Watch {
		w := &watcher{out: a.stdout, terminal: isTerminal(a.stdout) && !c.JSON, json: c.JSON, every: c.Interval, ask: ask.ask}
		return w.run(ctx)
	}
	n, whose, err := ask.ask(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		err = json.NewEncoder(a.stdout).Encode(n)
	} else {
		_, err = fmt.Fprintf(a.stdout, "%s\n%s", whose, n.Text(time.Now()))
	}
	if err == nil && !n.Healthy() {
		err = errFound
	}
	return err
}

// asker asks the bridge, else the databases.
type asker struct {
	cfg *config.Config
	log *slog.Logger
	// address is the bridge's, empty when there is none to ask. With any, a
	// bridge of another name is as good.
	address string
	any     bool
	// alone says not to turn to the databases when the bridge is silent.
	alone  bool
	warned bool
}

// ask returns a snapshot and a sentence about whose word it is.
func (k *asker) ask(ctx context.Context) (n status.Snapshot, whose string, err error) {
	silent := errors.New("no bridge was asked, because listen is off")
	if k.address != "" {
		n, err := web.Ask(ctx, k.address)
		if err == nil && !k.any && n.Name != k.cfg.Name {
			err = fmt.Errorf("the bridge at %s is %s, not %s", k.address, n.Name, k.cfg.Name)
		}
		if err == nil {
			return n, "The bridge at " + web.Show(k.address) + " says:", nil
		}
		silent = err
	}
	if err := ctx.Err(); err != nil {
		return n, "", err
	}
	if k.alone {
		return n, "", silent
	}
	if err := k.cfg.RequireBoth(); err != nil {
		return n, "", fault.Wrap(fault.Config, fault.HintOf(err), fmt.Errorf("%w; to ask the databases instead: %w", silent, err))
	}
	k.warn()
	n, err = survey.Read(ctx, survey.Options{
		Name: k.cfg.Name,
		OpenSource: func(ctx context.Context) (*pgx.Conn, error) {
			return connect(ctx, k.cfg, pg.Source, "walbridge status")
		},
		OpenTarget: func(ctx context.Context) (sink.Sink, error) {
			return openSink(ctx, k.cfg, k.log)
		},
	})
	if err != nil {
		return n, "", fault.Wrap(fault.Stop, fault.HintOf(err), fmt.Errorf("%w\nand neither database can be asked:\n%w", silent, err))
	}
	return n, fmt.Sprintf("No bridge answers (%s); the databases say:", silent), nil
}

// warn says once what is questionable about the settings.
func (k *asker) warn() {
	if !k.warned {
		k.warned = true
		for _, warning := range k.cfg.Warnings {
			k.log.Warn(warning)
		}
	}
	k.cfg.Warnings = nil // RequireBoth adds them again
}

// watcher shows the status again and again: on a terminal in place, elsewhere a
// line each time.
type watcher struct {
	out            io.Writer
	terminal, json bool
	every          time.Duration
	ask            func(ctx context.Context) (status.Snapshot, string, error)
}

// run shows until ctx ends, which is no error. That nobody can be asked is none
// either, because that may pass; a mistake in the settings doesn't.
func (w *watcher) run(ctx context.Context) error {
	for {
		n, whose, err := w.ask(ctx)
		if ctx.Err() != nil {
			break
		}
		if fault.ClassOf(err) == fault.Config {
			return err
		}
		if err := w.show(n, whose, err); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(w.every):
			continue
		}
		break
	}
	return nil
}

func (w *watcher) show(n status.Snapshot, whose string, failed error) error {
	now := time.Now()
	var text string
	switch {
	case w.json && failed != nil:
		data, err := json.Marshal(map[string]string{"error": failed.Error()})
		if err != nil {
			return err
		}
		text = string(data) + "\n"
	case w.json:
		data, err := json.Marshal(n)
		if err != nil {
			return err
		}
		text = string(data) + "\n"
	case !w.terminal && failed != nil:
		text = fmt.Sprintf("%s unreachable error=%q\n", now.UTC().Format(time.RFC3339), failed.Error())
	case !w.terminal:
		text = n.Line(now) + "\n"
	case failed != nil:
		text = repaint(fmt.Sprintf("%s\n\n%s", now.Format(time.TimeOnly), failed))
	default:
		text = repaint(fmt.Sprintf("%s  %s\n%s", now.Format(time.TimeOnly), whose, n.Text(now)))
	}
	_, err := io.WriteString(w.out, text)
	return err
}

// repaint goes to the top of the screen and clears what is left of each line and
// of the screen after text, which flickers less than clearing it first.
func repaint(text string) string {
	text = strings.TrimSuffix(text, "\n")
	return "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[K\n\x1b[J"
}
