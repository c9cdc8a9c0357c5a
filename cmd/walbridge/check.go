package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/walbridge/walbridge/internal/check"
	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
)

type checkCmd struct {
	Name string `help:"Name of the bridge: of its slot, publication and checkpoint." placeholder:"NAME"`
	JSON bool   `help:"Print JSON." name:"json"`
}

// Help implements kong.HelpProvider.
func (*checkCmd) Help() string {
	return `Looks at source, target and mapping, and says what would keep the bridge from working or
what it would do harm to, each with the SQL or the setting that mends it. It changes
nothing on either side, and may be run beside a running bridge. The settings are those
of run. Over Supabase's API it asks by the functions that walbridge schema target made,
and names what isn't visible that way. Example:

    export WALBRIDGE_SOURCE_URL=postgres://walbridge:…@db:5432/niochat
    export WALBRIDGE_TARGET_URL=postgres://postgres.ref:…@aws-0-sa-east-1.pooler.supabase.com:5432/postgres
    walbridge check

For a script: what must be mended before a start.

    walbridge check --json | jq '.findings[] | select(.severity == "error")'

Exit codes: 0 nothing to do, 1 failed while running, 2 usage or configuration, 3 there
are errors or warnings.`
}

// Run prints what is found.
func (c *checkCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.settings(map[string]string{"name": c.Name})
	if err != nil {
		return err
	}
	// What the URLs have to say about themselves is a finding of its side.
	warnings := slices.Clone(cfg.Warnings)
	if err := cfg.RequireListen(); err != nil {
		warnings = append(warnings, fmt.Sprintf("%v: %s", err, fault.HintOf(err)))
	}
	if err := requireReadable(cfg); err != nil {
		return err
	}
	opts := check.Options{
		Name:      cfg.Name,
		SourceURL: cfg.Source.URL.Reveal(), SourceOptions: cfg.SourceOptions(),
		TargetURL: cfg.Target.URL.Reveal(), TargetOptions: cfg.TargetOptions(),
		MappingName: cfg.Mapping.Name, Mapping: cfg.Mapping.Data, Compile: compileOptions(cfg),
		Manual:   cfg.Prepare == "manual",
		Warnings: warnings,
	}
	if cfg.ByAPI() {
		api := apiOptions(cfg)
		opts.API = &api
	}
	report, err := check.Run(ctx, opts)
	if err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(a.stdout)
		out.SetEscapeHTML(false)
		out.SetIndent("", "  ")
		err = out.Encode(report)
	} else {
		err = report.Print(a.stdout)
	}
	if err == nil && !report.Clean() {
		err = errFound
	}
	return err
}

// requireReadable lets URLs pass that can be read but lead where they must not, and
// an address and a key of the API that are of no use: these are findings, and no
// reason to leave the other side unchecked.
func requireReadable(cfg *config.Config) error {
	var refused *pg.RefusedError
	_, err := cfg.RequireSource()
	errs := []error{err}
	if !cfg.ByAPI() || cfg.Supabase.URL == "" || cfg.Supabase.Key.IsZero() {
		_, err := cfg.RequireTarget()
		errs = append(errs, err)
	}
	for _, err := range errs {
		if err != nil && !errors.As(err, &refused) {
			return err
		}
	}
	if refused != nil || cfg.ByAPI() {
		return nil
	}
	return cfg.RequireBoth()
}
