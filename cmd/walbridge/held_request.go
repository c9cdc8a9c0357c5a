package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/held"
	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
)

// heldChoice are the flags of retry and drop.
type heldChoice struct {
	Table   string        `help:"Rows of this target table." placeholder:"TABLE"`
	Key     []string      `help:"Rows with this key, as list shows it. Needs --table; may be given several times." placeholder:"KEY" sep:"none"`
	Reason  string        `help:"Rows held for this reason: tenant, rejected or incomplete." placeholder:"REASON"`
	All     bool          `help:"All held rows."`
	Timeout time.Duration `help:"Exit with 1 after this long. A request that the bridge has begun goes on." placeholder:"DURATION"`
	Name    string        `help:"Name of the bridge." placeholder:"NAME"`
	JSON    bool          `help:"Print JSON." name:"json"`
}

func (c *heldChoice) check() error {
	some := c.Table != "" || len(c.Key) > 0 || c.Reason != ""
	switch {
	case c.All && some:
		return errors.New("--all goes without --table, --key and --reason")
	case !c.All && !some:
		return errors.New("say which rows: --table, --key, --reason or --all")
	case len(c.Key) > 0 && c.Table == "":
		return errors.New("--key needs --table")
	case c.Timeout < 0:
		return errors.New("--timeout must be positive")
	}
	return checkReason(c.Reason)
}

func (c *heldChoice) filter() *held.Filter {
	f := &held.Filter{Table: c.Table, Reason: sink.HeldReason(c.Reason)}
	for _, k := range c.Key {
		f.Keys = append(f.Keys, sink.Key(k))
	}
	return f
}

type heldRetryCmd struct{ heldChoice }

// Help implements kong.HelpProvider.
func (*heldRetryCmd) Help() string {
	return `Asks the running bridge to write held rows again: each under the tenant that it has now,
with the audit entries that waited with it. A row that is refused again stays held, and
does the others no harm. Mend first what list shows: drop the constraint, widen the
column. Example:

    walbridge held retry --table contacts --reason rejected

It needs a running bridge, and may be run from anywhere that reaches the target.

Exit codes: 0 all of the rows are in their tables, 1 failed while running, 2 usage or
configuration, 3 some are still held.`
}

// Validate implements kong's hook.
func (c *heldRetryCmd) Validate() error { return c.check() }

// Run asks the bridge and waits.
func (c *heldRetryCmd) Run(ctx context.Context, a *app) error {
	return c.ask(ctx, a, replicator.HeldRetry, nil)
}

type heldDropCmd struct {
	heldChoice
	Yes bool `help:"Don't ask." short:"y"`
}

// Help implements kong.HelpProvider.
func (*heldDropCmd) Help() string {
	return `Asks the running bridge to give held rows up for good. Where a row's tenant is known, its
audit log says so in an entry (contact.dropped); the entries of a row without one are
counted as dropped. A later change of the row at the source brings it back. Example:

    walbridge held drop --table contacts --key 4711 --yes

It needs a running bridge, and may be run from anywhere that reaches the target.

Exit codes: 0 done, 1 failed while running or not confirmed, 2 usage or configuration.`
}

// Validate implements kong's hook.
func (c *heldDropCmd) Validate() error { return c.check() }

// Run asks the person, then the bridge, and waits.
func (c *heldDropCmd) Run(ctx context.Context, a *app) error {
	if err := reachable(a, c.Yes, "walbridge held drop … --yes"); err != nil {
		return err
	}
	return c.ask(ctx, a, replicator.HeldDrop, func(target request.Target, bridge string) error {
		if c.Yes {
			return nil
		}
		list, err := held.Read(ctx, target, bridge, c.filter(), 1)
		if err != nil {
			return err
		}
		return agree(ctx, a, fmt.Sprintf("Give up %s of the bridge %q for good?", heldRows(list.Total), bridge), "nothing was dropped")
	})
}

func heldRows(n int64) string {
	if n == 1 {
		return "1 held row"
	}
	return fmt.Sprintf("%d held rows", n)
}

// ask makes the request, waits for it and prints what has become of it.
func (c *heldChoice) ask(ctx context.Context, a *app, kind string, confirm func(target request.Target, bridge string) error) error {
	cfg, target, err := a.target(ctx, c.Name)
	if err != nil {
		return err
	}
	defer func() { _ = target.Close(context.WithoutCancel(ctx)) }()
	if confirm != nil {
		if err := confirm(target, cfg.Name); err != nil {
			return err
		}
	}
	ctx, cancel := bounded(ctx, c.Timeout)
	defer cancel()
	filter := c.filter()
	req, err := request.Ask(ctx, target, cfg.Name, kind, replicator.HeldArgs{Table: filter.FullTable(), Keys: filter.Keys, Reason: filter.Reason})
	if err != nil {
		return err
	}
	log := newLogger(cfg.Log, a.environ, a.stderr)
	text, err := req.Wait(ctx, func(text string) { logHeld(ctx, log, text) })
	p, perr := readProgress[replicator.HeldProgress](text)
	if err = errors.Join(err, perr); err == nil || p.Rows() > 0 {
		// Of a request that has failed, too: what it did before stays done.
		err = errors.Join(c.print(a, p), err)
	}
	if err == nil && p.StillHeld() > 0 {
		err = errFound
	}
	return err
}

func logHeld(ctx context.Context, log *slog.Logger, text string) {
	if p, err := readProgress[replicator.HeldProgress](text); err == nil {
		log.InfoContext(ctx, "bridge at work", "rows", p.Rows(), "released", p.Released, "still_held", p.StillHeld(), "dropped", p.Dropped)
	}
}

// print says what has become of the rows.
func (c *heldChoice) print(a *app, p replicator.HeldProgress) error {
	// Where the bridge stood is its own affair.
	p.Table, p.After = "", nil
	if c.JSON {
		if p.Refused == nil {
			p.Refused = map[string]int64{}
		}
		return json.NewEncoder(a.stdout).Encode(p)
	}
	var parts []string
	add := func(n int64, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(p.Released, "released")
	for _, code := range slices.Sorted(maps.Keys(p.Refused)) {
		add(p.Refused[code], "refused again (SQLSTATE "+code+")")
	}
	add(p.Waiting, "still waiting")
	add(p.Dropped, "dropped")
	if len(parts) == 0 {
		parts = []string{"no such rows are held"}
	}
	_, err := fmt.Fprintln(a.stdout, strings.Join(parts, ", "))
	return err
}
