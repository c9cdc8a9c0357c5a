package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/teardown"
)

type teardownCmd struct {
	Target bool   `help:"Remove what the target's private schema has of the bridge, too, and the schema when no other bridge uses it."`
	Force  bool   `help:"Go on while a bridge is attached to the slot, and end its walsender."`
	Yes    bool   `help:"Don't ask." short:"y"`
	JSON   bool   `help:"Print JSON." name:"json"`
	Name   string `help:"Name of the bridge: of its slot, publication and checkpoint." placeholder:"NAME"`
}

// Help implements kong.HelpProvider.
func (*teardownCmd) Help() string {
	return `Drops the bridge's slot and publication at the source, after which the source keeps no
WAL for it. Stop the bridge first. It asks before it does anything; without a terminal
it needs --yes. What isn't there any more is no error.

Tables are never touched, neither the application's nor those at the target. With
--target the rows of the private schema go, too: the position, the rows that are held
and the marks of deleted rows. A bridge of that name then begins from the start; after
a teardown without --target it refuses to, and says how to go on.

Example:

    walbridge teardown
    walbridge teardown --target --yes

Exit codes: 0 done or nothing to do, 1 failed or not confirmed, 2 usage or configuration.`
}

// Run takes the bridge away.
func (c *teardownCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.settings(map[string]string{"name": c.Name})
	if err != nil {
		return err
	}
	if c.Target {
		err = cfg.RequireBoth()
	} else {
		_, err = cfg.RequireSource()
	}
	if err != nil {
		return err
	}
	if !c.Yes && !isTerminal(a.stdin) {
		return fault.Errorf(fault.Config, "walbridge teardown --yes", "there is no terminal to ask at, and --yes is not given: nothing was changed")
	}
	log := newLogger(cfg.Log, a.environ, a.stderr)
	for _, warning := range cfg.Warnings {
		log.Warn(warning)
	}
	opts := teardown.Options{Name: cfg.Name, Force: c.Force}
	if opts.Source, err = connect(ctx, cfg, pg.Source, "walbridge teardown"); err != nil {
		return err
	}
	defer opts.Source.Close(context.WithoutCancel(ctx))
	if c.Target {
		if cfg.ByAPI() {
			return fault.Wrap(fault.Config, dropByHand, errNeedsDatabase)
		}
		if opts.Target, err = connect(ctx, cfg, pg.Target, "walbridge teardown"); err != nil {
			return err
		}
		defer opts.Target.Close(context.WithoutCancel(ctx))
	}
	plan, err := teardown.Look(ctx, opts)
	if err != nil {
		return err
	}
	return c.carryOut(ctx, a, plan, cfg.Name)
}

// dropByHand is what teardown would do at a target that it can't reach.
const dropByHand = "export WALBRIDGE_TARGET_URL=postgres://user:password@host:5432/postgres; or, if no other bridge uses the target, run in the project's SQL editor: " +
	"DROP FUNCTION public.walbridge(json), public.walbridge_read(json); DROP SCHEMA walbridge CASCADE; NOTIFY pgrst, 'reload schema';"

// carryOut asks and does it. Results go to stdout, talk to stderr.
func (c *teardownCmd) carryOut(ctx context.Context, a *app, plan *teardown.Plan, name string) error {
	say := func(line string) {
		if !c.JSON {
			_, _ = fmt.Fprintln(a.stdout, line)
		}
	}
	if plan.Empty() {
		say("nothing to do: there is no slot, no publication" + map[bool]string{true: " and no private schema"}[c.Target] + " of a bridge named " + name)
	} else {
		_, _ = fmt.Fprintln(a.stderr, "This will be done, and no table is touched:")
		for _, line := range plan.Lines() {
			_, _ = fmt.Fprintln(a.stderr, "  "+line)
		}
		if !c.Yes {
			if err := confirm(ctx, a, name); err != nil {
				return err
			}
		}
	}
	done, err := plan.Run(ctx, say)
	if c.JSON {
		err = errors.Join(json.NewEncoder(a.stdout).Encode(done), err)
	}
	if err == nil && done.Slot && !c.Target {
		_, _ = fmt.Fprintf(a.stderr, "A later run of bridge %s stops until walbridge resync is asked for, unless walbridge teardown --target makes the target forget it.\n", name)
	}
	return err
}

// confirm waits for the bridge's name on a line of its own.
func confirm(ctx context.Context, a *app, name string) error {
	if answer(ctx, a, fmt.Sprintf("Type the bridge's name (%s) to go on: ", name)) == name {
		return nil
	}
	return fault.Errorf(fault.Stop, "", "not confirmed: nothing was changed")
}
