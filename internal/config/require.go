package config

import (
	"fmt"
	"net"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
)

// RequireSource checks that there is a source and that its URL is sound, without
// connecting. What is questionable about it is added to c.Warnings.
func (c *Config) RequireSource() (pg.Endpoint, error) {
	if c.Source.URL.IsZero() {
		return pg.Endpoint{}, fault.Errorf(fault.Config,
			"export WALBRIDGE_SOURCE_URL=postgres://user:password@host:5432/database",
			"no source: set WALBRIDGE_SOURCE_URL, or DATABASE_URL, to the application's database")
	}
	return c.inspect(c.Source.URL, c.SourceOptions())
}

// RequireTarget does the same for the target. One that is reached over the API has
// no endpoint.
func (c *Config) RequireTarget() (pg.Endpoint, error) {
	const hint = "export WALBRIDGE_TARGET_URL=postgres://user:password@host:5432/postgres"
	switch {
	case !c.Target.URL.IsZero():
		return c.inspect(c.Target.URL, c.TargetOptions())
	case c.ByAPI():
		return pg.Endpoint{}, c.requireAPI()
	}
	return pg.Endpoint{}, fault.Errorf(fault.Config, hint,
		"no target: set WALBRIDGE_TARGET_URL, or SUPABASE_DB_URL, to the Supabase project's database, or SUPABASE_URL and SUPABASE_SECRET_KEY")
}

// RequireBoth checks source and target, and that they are two databases: a
// bridge into its own source would follow its own writes for ever.
func (c *Config) RequireBoth() error {
	source, err := c.RequireSource()
	if err != nil {
		return err
	}
	target, err := c.RequireTarget()
	if err != nil {
		return err
	}
	if source.Address() == target.Address() && source.Database == target.Database {
		return fault.Errorf(fault.Config, "check WALBRIDGE_SOURCE_URL and WALBRIDGE_TARGET_URL",
			"source and target are the same database: %s at %s", source.Database, source.Address())
	}
	return nil
}

// RequireListen checks that whoever lets other machines see the status page has
// said so: an address such as :8787, which looks harmless, is one that all of the
// network reaches.
func (c *Config) RequireListen() error {
	if c.Listen == "off" || c.Expose {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err == nil && pg.Loopback(host) {
		return nil
	}
	return fault.Errorf(fault.Config,
		"set WALBRIDGE_EXPOSE=true if the network is trusted, as that of a container is; else WALBRIDGE_LISTEN=127.0.0.1:8787",
		"listen is %s, where others than this machine see the status and the metrics", c.Listen)
}

// SourceOptions are what connections to the source take from the settings.
func (c *Config) SourceOptions() pg.Options {
	return pg.Options{Side: pg.Source, InsecureTLS: c.Source.InsecureTLS}
}

// TargetOptions are what connections to the target take from the settings.
func (c *Config) TargetOptions() pg.Options {
	return pg.Options{Side: pg.Target, InsecureTLS: c.Target.InsecureTLS}
}

func (c *Config) inspect(url Secret, opts pg.Options) (pg.Endpoint, error) {
	end, err := pg.Inspect(url.Reveal(), opts)
	if err != nil {
		if from := c.from[opts.Side.String()+".url"]; from != "" {
			err = fmt.Errorf("%s: %w", from, err)
		}
		return pg.Endpoint{}, err
	}
	for _, w := range end.Warnings {
		c.Warnings = append(c.Warnings, w.String())
	}
	return end, nil
}
