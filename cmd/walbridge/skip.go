package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/replicator"
)

type skipCmd struct {
	LSN     string        `help:"Commit LSN of the transaction that the bridge is blocked at, as walbridge status shows it." name:"lsn" required:"" placeholder:"LSN"`
	Yes     bool          `help:"Don't ask." short:"y"`
	Timeout time.Duration `help:"Exit with 1 after this long. A request that the bridge has begun goes on." placeholder:"DURATION"`
	Name    string        `help:"Name of the bridge." placeholder:"NAME"`
	JSON    bool          `help:"Print JSON." name:"json"`
}

// Help implements kong.HelpProvider.
func (*skipCmd) Help() string {
	return `Asks the running bridge to pass the one transaction that keeps it blocked. What the
transaction writes is left out for good and the checkpoint moves past it; it is the last
resort, for what can't be mended at the target. Tenants that it gives to rows count all
the same, so that nothing behind it goes to a tenant that it has taken away. The audit
log of every tenant that is known to be concerned gets an entry (transaction.skipped) with
the number of changes by table. Rows that differ afterwards are what walbridge verify
says; a later change of such a row brings it in line. Example:

    walbridge status
    walbridge skip --lsn 0/16B3748

It needs a running bridge that is blocked at this very transaction, and may be run from
anywhere that reaches the target.

Exit codes: 0 done, 1 failed while running, refused or not confirmed, 2 usage or
configuration.`
}

// Validate implements kong's hook.
func (c *skipCmd) Validate() error {
	lsn, err := pglogrepl.ParseLSN(c.LSN)
	switch {
	case err != nil || lsn == 0:
		return fmt.Errorf("--lsn %s is no LSN: it looks like 0/16B3748", c.LSN)
	case c.Timeout < 0:
		return errors.New("--timeout must be positive")
	}
	c.LSN = lsn.String()
	return nil
}

// Run asks the person, then the bridge, and waits.
func (c *skipCmd) Run(ctx context.Context, a *app) error {
	if err := reachable(a, c.Yes, "walbridge skip --lsn "+c.LSN+" --yes"); err != nil {
		return err
	}
	cfg, target, err := a.target(ctx, c.Name)
	if err != nil {
		return err
	}
	defer func() { _ = target.Close(context.WithoutCancel(ctx)) }()
	if !c.Yes {
		question := fmt.Sprintf("Leave out for good what the transaction at %s writes, in the bridge %q?", c.LSN, cfg.Name)
		if err := agree(ctx, a, question, "nothing was skipped"); err != nil {
			return err
		}
	}
	ctx, cancel := bounded(ctx, c.Timeout)
	defer cancel()
	req, err := request.Ask(ctx, target, cfg.Name, replicator.Skip, replicator.SkipArgs{LSN: c.LSN})
	if err != nil {
		return err
	}
	text, err := req.Wait(ctx, func(string) {})
	if err != nil {
		return err
	}
	var done replicator.SkipProgress
	if err := json.Unmarshal([]byte(text), &done); err != nil {
		return fmt.Errorf("read the request's result: %w", err)
	}
	return c.print(a, done)
}

// print says what was left out.
func (c *skipCmd) print(a *app, done replicator.SkipProgress) error {
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(done)
	}
	var parts []string
	for _, table := range slices.Sorted(maps.Keys(done.Tables)) {
		var ops []string
		for _, op := range slices.Sorted(maps.Keys(done.Tables[table])) {
			ops = append(ops, fmt.Sprintf("%d %s", done.Tables[table][op], op))
		}
		parts = append(parts, table+" "+strings.Join(ops, ", "))
	}
	if len(parts) == 0 {
		parts = []string{"no changes of mapped tables"}
	}
	_, err := fmt.Fprintf(a.stdout, "skipped the transaction at %s: %s; entries for %d tenants\n", done.LSN, strings.Join(parts, "; "), done.Tenants)
	switch done.Left {
	case replicator.LeftMoves:
		_, _ = fmt.Fprintln(a.stderr, "Rows that depend on it may still be under their former tenant: see walbridge verify.")
	case replicator.LeftPaths:
		_, _ = fmt.Fprintln(a.stderr, "Tenants that it changed are not known to the bridge: copy the tables again that hang on these.")
	}
	return err
}
