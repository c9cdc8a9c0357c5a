package main

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
	"github.com/walbridge/walbridge/sink/rest"
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

// openSink opens the sink that the settings say: over a connection, else over the
// project's API.
func openSink(ctx context.Context, cfg *config.Config, log *slog.Logger) (sink.Sink, error) {
	if cfg.ByAPI() {
		return openAPI(ctx, cfg, log)
	}
	return postgres.Open(ctx, sinkOptions(cfg), log)
}

func openAPI(ctx context.Context, cfg *config.Config, log *slog.Logger) (*rest.Sink, error) {
	return rest.Open(ctx, apiOptions(cfg), log)
}

func apiOptions(cfg *config.Config) rest.Options {
	v, _ := versions()
	return rest.Options{URL: cfg.Supabase.URL, Key: cfg.APIKey, Name: cfg.Name, MaxBody: cfg.Supabase.MaxBody.Bytes(), Version: v}
}

// openReader reads what the bridge has written, the way that the bridge writes it.
func openReader(ctx context.Context, cfg *config.Config, schema *sink.Schema, log *slog.Logger) (sink.Reader, error) {
	if cfg.ByAPI() {
		return rest.OpenReader(ctx, apiOptions(cfg), schema, log)
	}
	return postgres.OpenReader(ctx, sinkOptions(cfg), schema, log)
}

// openTarget opens the target for an operator's command.
func openTarget(ctx context.Context, cfg *config.Config, application string) (request.Target, error) {
	if cfg.ByAPI() {
		return openAPI(ctx, cfg, slog.New(slog.DiscardHandler))
	}
	conn, err := connect(ctx, cfg, pg.Target, application)
	if err != nil {
		return nil, err
	}
	return request.Over(conn), nil
}

// targetCatalog reads what the target says about tables.
func targetCatalog(ctx context.Context, cfg *config.Config, tables []pg.TableName) (*pg.Catalog, error) {
	if cfg.ByAPI() {
		s, err := openAPI(ctx, cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return nil, err
		}
		defer func() { _ = s.Close(ctx) }()
		return s.Catalog(ctx, tables)
	}
	conn, err := connect(ctx, cfg, pg.Target, "walbridge catalog")
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return pg.ReadCatalog(ctx, conn, tables)
}

// errNeedsDatabase: the command does more at the target than the API allows.
var errNeedsDatabase = fault.Errorf(fault.Config, "export WALBRIDGE_TARGET_URL=postgres://user:password@host:5432/postgres",
	"this needs a connection to the target's database, which the API can't replace")

// connect opens an ordinary session on one side. application is what it is called
// in pg_stat_activity.
func connect(ctx context.Context, cfg *config.Config, side pg.Side, application string) (*pgx.Conn, error) {
	if side == pg.Target && cfg.ByAPI() {
		return nil, errNeedsDatabase
	}
	url, opts := endpoint(cfg, side)
	opts.Application = application
	return pg.Connect(ctx, url, opts)
}
