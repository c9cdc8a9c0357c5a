package main

import (
	"context"
	"errors"

	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/internal/held"
	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/sink"
)

type heldCmd struct {
	List  heldListCmd  `cmd:"" help:"List rows that could not be written, and why."`
	Retry heldRetryCmd `cmd:"" help:"Try to write held rows again, when what the target refused has been mended."`
	Drop  heldDropCmd  `cmd:"" help:"Give held rows up for good."`
}

// Help implements kong.HelpProvider.
func (*heldCmd) Help() string {
	return `A row is held when no tenant can be resolved for it, or when the target refuses it. See
which, mend what keeps them, and have them written:

    walbridge held list
    walbridge held retry --all`
}

type heldListCmd struct {
	Table  string `help:"Rows of this target table only." placeholder:"TABLE"`
	Reason string `help:"Rows held for this reason only: tenant, rejected or incomplete." placeholder:"REASON"`
	Limit  int    `help:"Most rows that are listed; 100 by default. The counts are of all." default:"100" placeholder:"N"`
	Name   string `help:"Name of the bridge." placeholder:"NAME"`
	JSON   bool   `help:"Print JSON." name:"json"`
}

// Help implements kong.HelpProvider.
func (*heldListCmd) Help() string {
	return `Lists the rows that the bridge could not write, from the target's database: their table
and key, why and since when they are held, and how many audit entries wait with them. A
row is held for the reason tenant while no tenant can be resolved; the change that names
one releases it. It is held for the reason rejected when the target refused it, and for
the reason incomplete while values that the stream left out are read from the source.
Values are not shown. Example:

    walbridge held list --table messages --reason rejected

Exit codes: 0 no rows are held, 1 failed while running, 2 usage or configuration, 3 there
are held rows.`
}

// Validate implements kong's hook.
func (c *heldListCmd) Validate() error {
	if c.Limit < 1 {
		return errors.New("--limit must be positive")
	}
	return checkReason(c.Reason)
}

func checkReason(reason string) error {
	switch sink.HeldReason(reason) {
	case "", sink.HeldTenant, sink.HeldRejected, sink.HeldIncomplete:
		return nil
	}
	return errors.New("--reason must be tenant, rejected or incomplete")
}

// Run prints the list.
func (c *heldListCmd) Run(ctx context.Context, a *app) error {
	cfg, target, err := a.target(ctx, c.Name)
	if err != nil {
		return err
	}
	defer func() { _ = target.Close(context.WithoutCancel(ctx)) }()
	filter := &held.Filter{Table: c.Table, Reason: sink.HeldReason(c.Reason)}
	list, err := held.Read(ctx, target, cfg.Name, filter, c.Limit)
	if err != nil {
		return err
	}
	if c.JSON {
		err = list.PrintJSON(a.stdout)
	} else {
		err = list.Print(a.stdout)
	}
	if err == nil && list.Total > 0 {
		err = errFound
	}
	return err
}

// target loads the settings and opens the target, for commands that need
// nothing of the source.
func (a *app) target(ctx context.Context, name string) (*config.Config, request.Target, error) {
	cfg, err := a.settings(map[string]string{"name": name})
	if err != nil {
		return nil, nil, err
	}
	if _, err := cfg.RequireTarget(); err != nil {
		return nil, nil, err
	}
	target, err := openTarget(ctx, cfg, "walbridge")
	return cfg, target, err
}
