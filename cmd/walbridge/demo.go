package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/mapping"
)

type demoCmd struct {
	For  time.Duration `help:"How long the application writes; 40s by default." default:"40s" placeholder:"DURATION"`
	Rate float64       `help:"What the application does in a second; 250 by default." default:"250" placeholder:"ACTIONS"`
	Seed uint64        `help:"Chooses what the application does." placeholder:"NUMBER"`
}

// Help implements kong.HelpProvider.
func (*demoCmd) Help() string {
	return `Starts two PostgreSQL clusters in a temporary directory, fills one with NioChat's
tables, lets an application write to it, runs the bridge between them, kills the bridge
and starts it again, and compares both sides at the end. Nothing stays behind.
It needs PostgreSQL 14 or newer (initdb and postgres) on this machine.

Example:

    walbridge demo --for 1m

Exit codes: 0 both sides are equal, 1 failed while running, 3 they differ.`
}

// Validate implements kong's hook.
func (c *demoCmd) Validate() error {
	if c.For <= 0 || c.Rate <= 0 {
		return errors.New("--for and --rate must be positive")
	}
	return nil
}

// Run shows the demo. Settings of the environment and of a configuration file
// are left aside: they are about other databases.
func (c *demoCmd) Run(ctx context.Context, a *app) error {
	cfg, err := (&app{globals: globals{LogLevel: a.LogLevel, LogFormat: a.LogFormat}}).settings(nil)
	if err != nil {
		return err
	}
	file, err := mapping.Parse(cfg.Mapping.Name, cfg.Mapping.Data)
	if err != nil {
		return fmt.Errorf("read the built-in mapping: %w", err)
	}
	err = demo.Run(ctx, demo.Options{
		For: c.For, Rate: c.Rate, Seed: c.Seed,
		Out:     a.stdout,
		Mapping: file,
		Log:     newLogger(cfg.Log, a.environ, a.stderr),
	})
	if errors.Is(err, demo.ErrDiffers) {
		return fmt.Errorf("%w: %w", errFound, err)
	}
	return err
}
