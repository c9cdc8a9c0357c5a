package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/walbridge/walbridge/internal/held"
	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
)

type forgetCmd struct {
	Table          string        `help:"Target table of the row." required:"" placeholder:"TABLE"`
	Key            string        `help:"Key of the row at the source, as audit entries show it." required:"" placeholder:"KEY"`
	WithDependents bool          `help:"Forget the rows that depend on it, too: of a contact its conversations and their messages."`
	EvenIfPresent  bool          `help:"Go on although the source still has the row. Its next change brings it back."`
	Yes            bool          `help:"Don't ask." short:"y"`
	Timeout        time.Duration `help:"Exit with 1 after this long. A request that the bridge has begun goes on." placeholder:"DURATION"`
	Name           string        `help:"Name of the bridge." placeholder:"NAME"`
	JSON           bool          `help:"Print JSON." name:"json"`
}

// Help implements kong.HelpProvider.
func (*forgetCmd) Help() string {
	return `Asks the running bridge to erase one row at the target for good: the row, or what is held of
it, the audit entries that wait there, its deletion mark, the values that the bridge keeps
to find tenants, and the values in the audit entries about it. The entries themselves stay,
with their numbers and the key; one more says that the row was forgotten
(contact.forgotten). Example:

    walbridge forget --table contacts --key 49 --with-dependents

A row that the source still has is refused: delete it there first. Dependents are found
over the paths that the mapping uses. It needs a running bridge, and may be run from
anywhere that reaches the target.

Exit codes: 0 done, 1 failed while running, refused or not confirmed, 2 usage or
configuration.`
}

// Validate implements kong's hook.
func (c *forgetCmd) Validate() error {
	switch {
	case c.Table == "":
		return errors.New("--table must not be empty")
	case c.Key == "":
		return errors.New("--key must not be empty")
	case c.Timeout < 0:
		return errors.New("--timeout must be positive")
	}
	return nil
}

// Run asks the person, then the bridge, and waits.
func (c *forgetCmd) Run(ctx context.Context, a *app) error {
	if err := reachable(a, c.Yes, "walbridge forget … --yes"); err != nil {
		return err
	}
	cfg, conn, err := a.target(ctx, c.Name)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	table := (&held.Filter{Table: c.Table}).FullTable()
	if !c.Yes {
		along := ""
		if c.WithDependents {
			along = " and everything that depends on it"
		}
		question := fmt.Sprintf("Erase the row of %s with key %s%s for good, in the bridge %q?", table, c.Key, along, cfg.Name)
		if err := agree(ctx, a, question, "nothing was erased"); err != nil {
			return err
		}
	}
	ctx, cancel := bounded(ctx, c.Timeout)
	defer cancel()
	req, err := request.Ask(ctx, conn, cfg.Name, replicator.Forget, replicator.ForgetArgs{
		Table: table, Key: sink.Key(c.Key), Dependents: c.WithDependents, EvenIfPresent: c.EvenIfPresent})
	if err != nil {
		return err
	}
	log := newLogger(cfg.Log, a.environ, a.stderr)
	text, err := req.Wait(ctx, func(text string) {
		if p, err := readProgress[replicator.ForgetProgress](text); err == nil {
			log.InfoContext(ctx, "bridge at work", "rows", p.Rows+p.Held, "dependents", p.Dependents, "entries", p.Entries)
		}
	})
	p, perr := readProgress[replicator.ForgetProgress](text)
	if err = errors.Join(err, perr); err == nil || text != "" {
		// Of a request that has failed, too: what it did before stays done.
		err = errors.Join(c.print(a, &p), err)
	}
	return err
}

// print says what was erased.
func (c *forgetCmd) print(a *app, p *replicator.ForgetProgress) error {
	if c.JSON {
		if p.Tenants == nil {
			p.Tenants = []string{}
		}
		return json.NewEncoder(a.stdout).Encode(p)
	}
	_, err := fmt.Fprintf(a.stdout, "erased %d rows (%d held), path values of %d, values in %d entries; %d dependents, %d tenants concerned\n",
		p.Rows+p.Held, p.Held, p.Paths, p.Entries, p.Dependents, len(p.Tenants))
	return err
}
