package main

import (
	"cmp"
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/schema"
	"github.com/walbridge/walbridge/mapping"
)

type schemaCmd struct {
	Source schemaSourceCmd `cmd:"" help:"SQL for the source: the bridge's role, its rights, the publication."`
	Target schemaTargetCmd `cmd:"" help:"SQL for the target: the bridge's role, its schema, the tables, rights and policies."`
}

// schemaFlags are those of both commands.
type schemaFlags struct {
	Apply        bool   `help:"Run the SQL, in one transaction, instead of printing it."`
	AdminURLFile string `help:"File with the URL of a role that may do all this, to be used in place of the ordinary one." placeholder:"FILE" name:"admin-url-file"`
	Name         string `help:"Name of the bridge: of its slot, publication and checkpoint." placeholder:"NAME"`
	JSON         bool   `help:"Print JSON." name:"json"`
}

type schemaSourceCmd struct {
	schemaFlags
	Role string `help:"The bridge's role at the source; walbridge_cdc by default." placeholder:"NAME"`
	Slot bool   `help:"Make the slot, too. Only for run --prepare=manual: otherwise the bridge makes it. From then on the source keeps WAL for it."`
}

type schemaTargetCmd struct {
	schemaFlags
	Role string `help:"The bridge's role at the target; walbridge_writer by default." placeholder:"NAME"`
}

// Help implements kong.HelpProvider.
func (*schemaSourceCmd) Help() string {
	return `Prints SQL that may run any number of times: a role that may replicate and read the
mapped tables, and the publication for exactly these. The tables must be there, because
the mapping's paths follow their foreign keys. The SQL holds no password; its last lines
say how to give the role one.

Example:

    walbridge schema source | less
    walbridge schema source --apply --admin-url-file /run/secrets/source_admin

Exit codes: 0 done, 1 failed and changed nothing, 2 usage or configuration.`
}

// Help implements kong.HelpProvider.
func (*schemaTargetCmd) Help() string {
	return `Prints SQL that may run any number of times: the bridge's private schema, the tables
that are missing, and a role that may read and write them and no more, with a policy
for it on each; on a Supabase project also how tenants read their rows, the views and
alerts of dashboards, and Realtime. Tables that are there keep their rights, policies
and row security, with notes about what leaks. The columns' types are taken from the
source, so both databases have to be reachable.

Where the bridge writes over Supabase's API it needs no role: the SQL makes a function
that only the service's key may call. It is printed without a look at the target, unless
--admin-url-file names a URL of its database, which also gives the SQL for tenants.

Example:

    walbridge schema target > target.sql
    walbridge schema target --apply --admin-url-file /run/secrets/target_admin

Exit codes: 0 done, 1 failed and changed nothing, 2 usage or configuration.`
}

// Run prints or applies the source's script.
func (c *schemaSourceCmd) Run(ctx context.Context, a *app) error {
	role := cmp.Or(c.Role, schema.SourceRole)
	cfg, opts, err := c.prepare(a, pg.Source, role)
	if err != nil {
		return err
	}
	if _, err := cfg.RequireSource(); err != nil {
		return err
	}
	warn(cfg, a)
	conn, err := connect(ctx, cfg, pg.Source, "walbridge schema")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	s, err := schema.Source(ctx, conn, opts)
	if err != nil {
		return err
	}
	if c.Slot {
		s.Slot = cfg.Name
	}
	return c.finish(ctx, a, s, cfg)
}

// Run prints or applies the target's script.
func (c *schemaTargetCmd) Run(ctx context.Context, a *app) error {
	role := cmp.Or(c.Role, schema.TargetRole)
	cfg, opts, err := c.prepare(a, pg.Target, role)
	if err != nil {
		return err
	}
	if err := cfg.RequireBoth(); err != nil {
		return err
	}
	warn(cfg, a)
	source, err := connect(ctx, cfg, pg.Source, "walbridge schema")
	if err != nil {
		return err
	}
	defer source.Close(context.WithoutCancel(ctx))
	var target *pgx.Conn
	if !cfg.ByAPI() || c.Apply { // over the API nothing can be made
		if target, err = connect(ctx, cfg, pg.Target, "walbridge schema"); err != nil {
			return err
		}
		defer target.Close(context.WithoutCancel(ctx))
	}
	script := schema.Target
	if cfg.ForAPI() {
		script = schema.API
	}
	s, err := script(ctx, source, target, sinkOptions(cfg), opts)
	if err != nil {
		return err
	}
	return c.finish(ctx, a, s, cfg)
}

// prepare loads the settings, with the administrator's URL on one side.
func (c *schemaFlags) prepare(a *app, side pg.Side, role string) (*config.Config, schema.Options, error) {
	var none schema.Options
	if err := schema.CheckRole(role); err != nil {
		return nil, none, err
	}
	cfg, err := a.settings(map[string]string{"name": c.Name})
	if err != nil {
		return nil, none, err
	}
	if c.AdminURLFile != "" {
		if err := cfg.UseAdmin(side, "--admin-url-file", c.AdminURLFile); err != nil {
			return nil, none, err
		}
	}
	file, err := mapping.Parse(cfg.Mapping.Name, cfg.Mapping.Data)
	if err != nil {
		return nil, none, fault.Wrap(fault.Config, "docs/mapping.md describes the file", err)
	}
	return cfg, schema.Options{Name: cfg.Name, Role: role, File: file, Compile: compileOptions(cfg)}, nil
}

func warn(cfg *config.Config, a *app) {
	log := newLogger(cfg.Log, a.environ, a.stderr)
	for _, warning := range cfg.Warnings {
		log.Warn(warning)
	}
}

// finish prints the script or runs it.
func (c *schemaFlags) finish(ctx context.Context, a *app, s *schema.Script, cfg *config.Config) error {
	if c.Apply {
		url, opts := endpoint(cfg, s.Side)
		if err := s.Apply(ctx, url, opts); err != nil {
			return err
		}
	}
	switch {
	case c.JSON:
		return json.NewEncoder(a.stdout).Encode(struct {
			Side     string   `json:"side"`
			Database string   `json:"database"`
			Role     string   `json:"role"`
			Applied  bool     `json:"applied"`
			Notes    []string `json:"notes"`
			SQL      []string `json:"sql"`
		}{s.Side.String(), s.Database, s.Role, c.Apply, append([]string{}, s.Notes...), s.SQL()})
	case c.Apply:
		return s.WriteApplied(a.stdout)
	}
	_, err := s.WriteTo(a.stdout)
	return err
}
