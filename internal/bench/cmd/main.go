// Command bench measures the bridge beside PostgreSQL's own subscription, on
// throwaway clusters of this machine. "make bench" runs it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/walbridge/walbridge/internal/bench"
)

type cli struct {
	Workloads    []string `arg:"" optional:"" name:"workload" help:"What to measure: small, large, mix, copy, move, latency. All of them without arguments."`
	Scale        float64  `help:"Multiplies rows and transactions." default:"1" placeholder:"FACTOR"`
	Repeats      int      `help:"Rounds, in each of which everybody runs once." default:"5" short:"n" placeholder:"N"`
	Active       int      `help:"How many conversations are written to at a time, 0 for all." default:"1000" placeholder:"N"`
	Audit        string   `help:"Which bridges take part: off, on or both." default:"both" enum:"off,on,both"`
	Sink         string   `help:"How the bridges write: direct, rest (over a stand-in for Supabase's API), or both." default:"direct" enum:"direct,rest,both"`
	Binary       string   `help:"The walbridge executable." default:"bin/walbridge" placeholder:"FILE"`
	Subscription string   `help:"Further options of the native subscription, as in \"streaming = on\"." placeholder:"OPTIONS"`
	Pprof        string   `help:"Directory for CPU profiles of the bridge, one for each run." placeholder:"DIR"`
	Statements   bool     `help:"Show what the target's server spent its time on (needs pg_stat_statements)."`
	JSON         bool     `help:"Print JSON with every run instead of the table." name:"json"`
}

func main() {
	bench.StandIn()
	var c cli
	kong.Parse(&c, kong.Name("bench"), kong.Description("Measures walbridge beside PostgreSQL's own subscription."))
	if err := run(&c); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(c *cli) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	binary, err := filepath.Abs(c.Binary)
	if err != nil {
		return fmt.Errorf("find %s: %w", c.Binary, err)
	}
	if c.Pprof != "" {
		if c.Pprof, err = filepath.Abs(c.Pprof); err != nil {
			return fmt.Errorf("find %s: %w", c.Pprof, err)
		}
		if err := os.MkdirAll(c.Pprof, 0o755); err != nil {
			return fmt.Errorf("make directory for profiles: %w", err)
		}
	}
	report, err := bench.Run(ctx, bench.Options{
		Workloads: c.Workloads, Scale: c.Scale, Repeats: c.Repeats, Active: c.Active, Audit: c.Audit, Sink: c.Sink, Binary: binary,
		Subscription: c.Subscription, Profiles: c.Pprof, Statements: c.Statements, Progress: os.Stderr,
	})
	if err != nil {
		return err
	}
	if c.JSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(report)
	}
	return report.Print(os.Stdout)
}
