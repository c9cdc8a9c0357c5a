// Command walbridge keeps Supabase tables in step with a Django application's
// PostgreSQL database by following its write-ahead log.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	// The authorities of the public web, for where the system has none: an image
	// that holds nothing but this program. Those of the system go before them.
	_ "golang.org/x/crypto/x509roots/fallback"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapping"
)

// The exit codes are a contract: scripts depend on them.
const (
	exitDone   = 0
	exitFailed = 1 // failed while running
	exitUsage  = 2 // a mistake in the arguments or the configuration
	exitFound  = 3 // worked, and found something
)

// errFound ends a command that worked and found something. By itself it means
// that all has been printed; an error that wraps it is printed like any other.
var errFound = errors.New("something was found")

// cli is the command line. Each command is in a file of its own.
type cli struct {
	globals

	Run      runCmd      `cmd:"" help:"Copy what is there, then follow the source until stopped."`
	Check    checkCmd    `cmd:"" help:"Look at source, target and mapping, and say what to mend before a start. Changes nothing."`
	Init     initCmd     `cmd:"" help:"Propose a mapping file for the source's tables. Changes nothing."`
	Schema   schemaCmd   `cmd:"" help:"Print the SQL that prepares source or target for roles with no more rights than needed, or run it."`
	Status   statusCmd   `cmd:"" help:"Say how the bridge is: it is asked itself, else both databases are."`
	Verify   verifyCmd   `cmd:"" help:"Compare the target with the source while both are in use, and say or mend what differs."`
	Held     heldCmd     `cmd:"" help:"List, retry or drop rows that could not be written."`
	Forget   forgetCmd   `cmd:"" help:"Erase one row and its values everywhere at the target."`
	Skip     skipCmd     `cmd:"" help:"Pass one transaction that can't be applied: its rows are left out."`
	Resync   resyncCmd   `cmd:"" help:"Have the bridge read the source again, all of it or one table or tenant, and bring the target in line."`
	Teardown teardownCmd `cmd:"" help:"Drop the bridge's slot and publication at the source."`
	Demo     demoCmd     `cmd:"" help:"Show everything on two throwaway PostgreSQL clusters on this machine."`
	Version  versionCmd  `cmd:"" help:"Print version, commit and Go version."`

	Completion completionCmd `cmd:"" help:"Print what makes a shell complete commands and flags."`
	Man        manCmd        `cmd:"" hidden:"" help:"Print the manual page, as packages bring it."`
}

// globals are the flags that every command has.
type globals struct {
	Config    string `help:"Configuration file. Without it the settings come from the environment, and the mapping is that of NioChat." placeholder:"FILE" short:"c"`
	LogLevel  string `help:"Least severe level that is logged: debug, info, warn or error." placeholder:"LEVEL"`
	LogFormat string `help:"How logs look on stderr: text, json, or auto, which is text on a terminal and JSON elsewhere." placeholder:"FORMAT"`
}

// app is what commands get from the process.
type app struct {
	globals
	environ               []string
	stdin, stdout, stderr *os.File
}

func main() {
	os.Exit(profiled(os.Environ(), os.Stderr, func(environ []string) int {
		return execute(os.Args[1:], &app{environ: environ, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr})
	}))
}

// execute parses args, runs the command and returns the exit code.
func execute(args []string, a *app) int {
	var c cli
	parser, err := kong.New(&c,
		kong.Name("walbridge"),
		kong.Description("Keeps Supabase tables in step with a Django application's PostgreSQL database: every row tagged with its tenant, every change audited, nothing lost, nothing twice."),
		kong.ConfigureHelp(kong.HelpOptions{NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.Writers(a.stdout, a.stderr),
	)
	if err != nil {
		return report(a.stderr, fmt.Errorf("build command line: %w", err))
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return report(a.stderr, fault.Wrap(fault.Config, usageHint(err), err))
	}
	a.globals = c.globals
	ctx, stop := withSignals(context.Background(), a.stderr)
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	return report(a.stderr, parsed.Run(a))
}

// usageHint names the help that belongs to a mistake in the arguments.
func usageHint(err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil && parse.Context.Command() != "" {
		return "walbridge " + parse.Context.Command() + " --help"
	}
	return "walbridge --help"
}

// withSignals returns a context that ends with the first SIGINT or SIGTERM. The
// second ends the process at once, for when the first doesn't.
func withSignals(parent context.Context, stderr io.Writer) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for n := 1; ; n++ {
			select {
			case s := <-signals:
				if n > 1 {
					_, _ = fmt.Fprintln(stderr, "walbridge: stopped at once by a second signal")
					os.Exit(exitFailed)
				}
				cancel(fmt.Errorf("got signal %s", s))
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}

// report prints err for a person and returns the exit code that goes with it.
func report(stderr io.Writer, err error) int {
	code := exitCode(err)
	var logged *loggedError
	// kong joins errors, so that this one is never itself.
	quiet := errors.Is(err, errFound) && err.Error() == errFound.Error()
	if err == nil || quiet || errors.As(err, &logged) {
		return code
	}
	_, _ = fmt.Fprintf(stderr, "walbridge: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n           "))
	if hint := fault.HintOf(err); hint != "" {
		_, _ = fmt.Fprintf(stderr, "     hint: %s\n", hint)
	}
	return code
}

func exitCode(err error) int {
	var problem *mapping.Problem
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errFound):
		return exitFound
	case fault.ClassOf(err) == fault.Config, errors.As(err, &problem):
		return exitUsage
	}
	return exitFailed
}

// loggedError is an error that a log line has said already.
type loggedError struct{ err error }

func (e *loggedError) Error() string { return e.err.Error() }
func (e *loggedError) Unwrap() error { return e.err }

// settings loads the configuration. flags are the settings that the command has
// flags for; empty ones count as not given.
func (a *app) settings(flags map[string]string) (*config.Config, error) {
	given := map[string]string{}
	for key, value := range flags {
		if value != "" {
			given[key] = value
		}
	}
	for key, value := range map[string]string{"log.level": a.LogLevel, "log.format": a.LogFormat} {
		if value != "" {
			given[key] = value
		}
	}
	preset, err := configs.Read(configs.Default)
	if err != nil {
		return nil, fmt.Errorf("read built-in mapping: %w", err)
	}
	return config.Load(config.Input{
		File:    a.Config,
		Flags:   given,
		Environ: a.environ,
		Mapping: config.Mapping{Name: "configs/" + configs.Default, Data: preset},
	})
}
