package main

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/internal/pg"
)

// connect opens an ordinary session on one side.
func connect(ctx context.Context, cfg *config.Config, side pg.Side, application string) (*pgx.Conn, error) {
	opts, url := cfg.SourceOptions(), cfg.Source.URL
	if side == pg.Target {
		opts, url = cfg.TargetOptions(), cfg.Target.URL
	}
	opts.Application = application
	return pg.Connect(ctx, url.Reveal(), opts)
}
