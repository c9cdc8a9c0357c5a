package main

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink/postgres"
)

// endpoint is where one side is, and how to connect.
func endpoint(cfg *config.Config, side pg.Side) (url string, opts pg.Options) {
	if side == pg.Target {
		return cfg.Target.URL.Reveal(), cfg.TargetOptions()
	}
	return cfg.Source.URL.Reveal(), cfg.SourceOptions()
}

// sinkOptions are those of the sink over a connection.
func sinkOptions(cfg *config.Config) postgres.Options {
	return postgres.Options{URL: cfg.Target.URL.Reveal(), Name: cfg.Name, InsecureTLS: cfg.Target.InsecureTLS}
}

// connect opens an ordinary session on one side. application is what it is called
// in pg_stat_activity.
func connect(ctx context.Context, cfg *config.Config, side pg.Side, application string) (*pgx.Conn, error) {
	url, opts := endpoint(cfg, side)
	opts.Application = application
	return pg.Connect(ctx, url, opts)
}
