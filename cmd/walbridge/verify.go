package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/verify"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

type verifyCmd struct {
	Table     []string `help:"Compare this target table only. May be given several times." placeholder:"TABLE" sep:"none"`
	Tenant    string   `help:"Compare the rows of this tenant only." placeholder:"TENANT"`
	Audit     bool     `help:"Check the audit log, too: that no entry is missing and none is there twice, and, where entries are linked (audit.chain), that none has been altered."`
	AuditFrom int64    `help:"With --audit: number of the oldest entry that must be there; those before it were removed on purpose." default:"1" placeholder:"N"`
	Head      []string `help:"With --audit: a head of the chain that the bridge's log or status once showed, kept elsewhere. May be given several times." placeholder:"N:LINK" sep:"none"`
	Repair    bool     `help:"Have the running bridge mend what differs, with an audit entry for each row, and compare it again."`
	Keys      int      `help:"Most keys that are named for each table and kind of difference; 5 by default." default:"5" placeholder:"N"`
	Name      string   `help:"Name of the bridge." placeholder:"NAME"`
	JSON      bool     `help:"Print JSON." name:"json"`

	heads []verify.Head
}

// Help implements kong.HelpProvider.
func (*verifyCmd) Help() string {
	return `Evaluates the mapping on the source and compares every row with the target's, while both
are in use. A row counts as different only when it is so although the bridge has applied
all that concerns it; one that changes whenever it is looked at is reported as unsettled.
The path values that the bridge keeps are compared, too, unless --table or --tenant says
what to compare. Columns that only the stream can know are checked for being null or not.

Held rows, rows that stay after their deletion and rows that somebody else has written are
counted and are no differences. Rows that differ are settled, and repaired, through the
running bridge. Example:

    walbridge verify
    walbridge verify --table messages --tenant 7 --repair
    walbridge verify --audit --head 1042:q3M0zBvxkEoXyZ8oP0Jt7m1Y5wYhJx2m6n4b9cVdE1g

Exit codes: 0 equal, 1 failed, or nothing can be settled because no bridge runs or it is
blocked, 2 usage or configuration, 3 there are differences.`
}

// Validate implements kong's hook.
func (c *verifyCmd) Validate() error {
	switch {
	case c.AuditFrom < 1:
		return errors.New("--audit-from must be 1 at least")
	case c.AuditFrom > 1 && !c.Audit:
		return errors.New("--audit-from goes with --audit")
	case len(c.Head) > 0 && !c.Audit:
		return errors.New("--head goes with --audit")
	}
	for _, text := range c.Head {
		h, err := verify.ParseHead(text)
		switch {
		case err != nil:
			return fmt.Errorf("--head: %w", err)
		case h.N < c.AuditFrom:
			return errors.New("--head is of an entry before --audit-from, about which nothing can be told any more")
		}
		c.heads = append(c.heads, h)
	}
	if c.Keys < 0 {
		return errors.New("--keys must not be negative")
	}
	return nil
}

// verified is what is printed as JSON.
type verified struct {
	Equal bool `json:"equal"`
	*verify.Report
	Total   verify.Counts         `json:"total"`
	Entries *verify.EntriesReport `json:"entries,omitempty"`
	Chain   *verify.ChainReport   `json:"chain,omitempty"`
}

// Run compares and prints what was found.
func (c *verifyCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.settings(map[string]string{"name": c.Name})
	if err != nil {
		return err
	}
	if err := cfg.RequireBoth(); err != nil {
		return err
	}
	file, err := mappingFile(cfg)
	if err != nil {
		return err
	}
	log := newLogger(cfg.Log, a.environ, a.stderr)
	for _, warning := range cfg.Warnings {
		log.Warn(warning)
	}
	limitMemory(cfg)
	m, err := compileMapping(ctx, cfg, file)
	if err != nil {
		return err
	}
	opts := verify.Options{Name: cfg.Name, Tenant: c.Tenant, Keys: c.Keys}
	if opts.Tables, err = targetTables(m, c.Table); err != nil {
		return err
	}
	bar := newMeter(a.stderr, nil)
	opts.Progress = func(p verify.Progress) { bar.show(p.Table, p.Rows, p.Estimate) }
	if c.Repair {
		target, err := openTarget(ctx, cfg, "walbridge verify")
		if err != nil {
			return err
		}
		defer func() { _ = target.Close(context.WithoutCancel(ctx)) }()
		opts.Repair = verify.Repairer(target, cfg.Name)
	}
	out := verified{}
	out.Report, err = verify.Run(ctx, m, access(cfg, m, log), opts)
	bar.clear()
	if err != nil {
		return err
	}
	if c.Audit {
		err := c.readLog(ctx, cfg, m, &out, log, opts.Progress)
		bar.clear()
		if err != nil {
			return err
		}
	}
	if out.Total = out.Report.Total(); c.Tenant != "" && out.Total == (verify.Counts{}) {
		return fault.Errorf(fault.Config, "", "neither side has rows of a tenant %s", c.Tenant)
	}
	return c.report(a, &out)
}

// report prints what was found, and returns what the exit code follows from.
func (c *verifyCmd) report(a *app, out *verified) error {
	whole := (out.Entries == nil || out.Entries.OK()) && (out.Chain == nil || out.Chain.OK())
	out.Equal = out.Report.Equal() && out.Total.Unsettled == 0 && whole
	var err error
	if c.JSON {
		enc := json.NewEncoder(a.stdout)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		err = enc.Encode(out)
	} else {
		err = c.print(a, out)
	}
	switch {
	case err != nil || out.Equal:
		return err
	case out.Report.Equal() && whole:
		return fault.Errorf(fault.Stop, "run it again when less is written", "some rows could not be settled")
	}
	return errFound
}

func (c *verifyCmd) print(a *app, out *verified) error {
	if err := out.Report.Print(a.stdout); err != nil {
		return err
	}
	text := ""
	switch {
	case c.Audit && out.Entries == nil:
		text = "The mapping keeps no audit log.\n"
	case c.Audit:
		text = "Audit log: " + out.Entries.String() + ".\n"
	}
	if out.Chain != nil {
		text += "Chain: " + out.Chain.String() + ".\n"
	}
	switch {
	case out.Report.Equal():
	case c.Repair:
		text += "What a repair of rows can't mend, a copy beside the stream may: walbridge resync\n"
	default:
		text += "To have the running bridge mend the rows that differ: walbridge verify --repair\n"
	}
	_, err := fmt.Fprint(a.stdout, text)
	return err
}

// compileMapping reads the catalogs of both databases and compiles the mapping, as
// the bridge does when it starts.
func compileMapping(ctx context.Context, cfg *config.Config, file *mapping.File) (*mapping.Mapping, error) {
	source, err := connect(ctx, cfg, pg.Source, "walbridge verify")
	if err != nil {
		return nil, err
	}
	defer source.Close(context.WithoutCancel(ctx))
	src, err := pg.ReadCatalog(ctx, source, file.SourceTables())
	if err != nil {
		return nil, fmt.Errorf("read the source's catalog: %w", err)
	}
	dst, err := targetCatalog(ctx, cfg, file.TargetTables())
	if err != nil {
		return nil, fmt.Errorf("read the target's catalog: %w", err)
	}
	return mapping.Compile(file, src, dst, compileOptions(cfg))
}

// access opens what is compared.
func access(cfg *config.Config, m *mapping.Mapping, log *slog.Logger) verify.Access {
	return verify.Access{
		Source: func(ctx context.Context) (*pgx.Conn, error) {
			return connect(ctx, cfg, pg.Source, "walbridge verify")
		},
		Target: func(ctx context.Context) (sink.Reader, error) {
			return openReader(ctx, cfg, m.Schema, log)
		},
	}
}

// readLog checks the audit log.
func (c *verifyCmd) readLog(ctx context.Context, cfg *config.Config, m *mapping.Mapping, out *verified, log *slog.Logger, progress func(verify.Progress)) error {
	target, err := openReader(ctx, cfg, m.Schema, log)
	if err != nil {
		return err
	}
	defer target.Close(context.WithoutCancel(ctx))
	if out.Entries, err = verify.ReadEntries(ctx, m, target, c.AuditFrom); err != nil {
		return err
	}
	out.Chain, err = verify.ReadChain(ctx, m, target, verify.ChainOptions{First: c.AuditFrom, Heads: c.heads, Progress: progress})
	return err
}

// targetTables are the full names of the target tables that names mean; a name
// without a schema is one of public.
func targetTables(m *mapping.Mapping, names []string) ([]string, error) {
	known := make([]string, len(m.Schema.Tables))
	for i, t := range m.Schema.Tables {
		known[i] = t.FullName()
	}
	var full []string
	for _, name := range names {
		switch {
		case slices.Contains(known, name):
			full = append(full, name)
		case slices.Contains(known, "public."+name):
			full = append(full, "public."+name)
		default:
			return nil, fault.Errorf(fault.Config, "the mapping's target tables are "+strings.Join(known, ", "), "the mapping has no target table %s", name)
		}
	}
	return full, nil
}
