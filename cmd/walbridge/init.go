package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/propose"
)

type initCmd struct {
	Tenant string   `help:"Column that says whose a row is, as provedor_id. Without it one is guessed." placeholder:"COLUMN"`
	Schema []string `help:"Schema of the source to look at; may be given several times. All of them without it." placeholder:"NAME"`
	Output string   `help:"File to write, which must not exist. Without it the mapping goes to stdout." short:"o" placeholder:"FILE"`
}

// Help implements kong.HelpProvider.
func (*initCmd) Help() string {
	return `Reads the tables and foreign keys of the source and proposes a mapping for them: which
tables, which columns, and over which foreign keys each row finds its tenant. It reads the
catalog, never a row, and changes nothing. What is left out stands at the end of the file
with the reason. Read the file before the first start: it says what leaves the database.
Example:

    export WALBRIDGE_SOURCE_URL=postgres://app:…@localhost:5432/app
    walbridge init --tenant organization_id --output walbridge.yaml

Then check it, with walbridge check --config walbridge.yaml.

Exit codes: 0 done, 1 failed while running, 2 usage or configuration, or no tenant found.`
}

// Run writes the proposal.
func (c *initCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.settings(nil)
	if err != nil {
		return err
	}
	if _, err := cfg.RequireSource(); err != nil {
		return err
	}
	warn(cfg, a)
	conn, err := connect(ctx, cfg, pg.Source, "walbridge init")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	p, err := propose.Read(ctx, conn, propose.Options{Tenant: c.Tenant, Schemas: c.Schema})
	if err != nil {
		return err
	}
	if c.Output == "" {
		return p.Write(a.stdout)
	}
	if err := writeNew(c.Output, p.Write); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stderr, "wrote %s: %d tables by %s, %d left out; read it, then: walbridge check --config %s\n",
		c.Output, len(p.Tables), p.Tenant, len(p.Left), c.Output)
	return err
}

// writeNew writes a file that isn't there yet, whole or not at all.
func writeNew(name string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	switch {
	case errors.Is(err, fs.ErrExist):
		return fault.Wrap(fault.Config, "choose another name, or remove it", err)
	case err != nil:
		return fault.Wrap(fault.Config, "name a file in a directory that is there and that this user may write to, or leave --output out: the mapping then goes to stdout", err)
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			_ = os.Remove(name) // half a mapping would look like a whole one
		}
	}()
	return write(f)
}
