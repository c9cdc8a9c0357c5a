// Package check looks at source, target and mapping before a bridge starts, and
// says what would keep it from working or what it would do harm to, with what
// mends each. It changes nothing: its sessions are read-only, and a right is tried
// by EXPLAIN, which asks for it as the statement would and doesn't run it. Over an
// API it asks with statements that were made known there, see Statements.
package check

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
)

// Severity says how bad a finding is.
type Severity uint8

const (
	// Info is worth knowing, and nothing has to be done.
	Info Severity = iota
	// Warning works, but perhaps not as it was meant, or not for long.
	Warning
	// Error keeps the bridge from working, or loses changes.
	Error
)

func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Warning:
		return "warning"
	}
	return "error"
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Part is what a check is about.
type Part string

// The parts, in the order in which they are printed.
const (
	Settings Part = "settings"
	Mapping  Part = "mapping"
	Source   Part = "source"
	Target   Part = "target"
)

// Finding is one thing that was found. It holds names and settings, never a row's
// values or a password.
type Finding struct {
	Part     Part     `json:"part"`
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	// Why says what comes of it, Fix which SQL or setting mends it; both may be
	// empty.
	Why string `json:"why,omitempty"`
	Fix string `json:"fix,omitempty"`
}

// Need is what must be there for a check to be made.
type Need uint8

const (
	needSource Need = 1 << iota
	needTarget
	needFile    // the mapping file can be read
	needMapping // and fits the databases
	// needConnection leaves a check out where the target is reached over an API.
	needConnection
)

// Check is one thing to look at. Findings are not failures of the check: an error
// of Run is, and becomes a finding beside those that come with it.
type Check struct {
	Name  string
	Part  Part
	Needs Need
	Run   func(ctx context.Context, env *Env) ([]Finding, error)
}

// Report is what all checks together have found.
type Report struct {
	Findings []Finding `json:"findings"`
	// Passed are the checks without a finding.
	Passed []Passed `json:"passed"`
	// Skipped are the checks that could not be made.
	Skipped  []Skipped `json:"skipped"`
	Errors   int       `json:"errors"`
	Warnings int       `json:"warnings"`
	Infos    int       `json:"infos"`
}

// Passed is a check that found nothing.
type Passed struct {
	Part  Part   `json:"part"`
	Check string `json:"check"`
}

// Skipped is a check that could not be made, because of what another one found.
type Skipped struct {
	Part   Part   `json:"part"`
	Check  string `json:"check"`
	Reason string `json:"reason"`
}

// Clean reports that there is nothing to do.
func (r *Report) Clean() bool { return r.Errors == 0 && r.Warnings == 0 }

// checkTimeout bounds one check, so that a server that has stopped answering
// doesn't keep the others from being made.
const checkTimeout = 30 * time.Second

// Run makes all checks. Its error is only the end of ctx.
func Run(ctx context.Context, opts Options) (*Report, error) {
	env := newEnv(opts)
	defer env.close()
	return run(ctx, env, checks(opts.API != nil))
}

func run(ctx context.Context, env *Env, list []Check) (*Report, error) {
	r := &Report{Findings: []Finding{}, Passed: []Passed{}, Skipped: []Skipped{}}
	for _, c := range list {
		if reason := env.lacks(ctx, c.Needs); reason != "" {
			r.Skipped = append(r.Skipped, Skipped{c.Part, c.Name, reason})
			continue
		}
		found, err := env.make(ctx, c)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		var unmade unmadeError
		switch {
		case errors.As(err, &unmade):
			r.Skipped = append(r.Skipped, Skipped{c.Part, c.Name, string(unmade)})
			continue
		case err != nil:
			// What keeps a check from being made is a finding, too.
			found = append(found, failed(err))
		}
		if len(found) == 0 {
			r.Passed = append(r.Passed, Passed{c.Part, c.Name})
		}
		for _, f := range found {
			f.Part, f.Check = c.Part, c.Name
			r.add(f)
		}
	}
	return r, nil
}

func (e *Env) make(ctx context.Context, c Check) ([]Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return c.Run(ctx, e)
}

// unmadeError says why a check was not made, when an earlier one has reported
// what is the matter.
type unmadeError string

func (e unmadeError) Error() string { return string(e) }

func (r *Report) add(f Finding) {
	r.Findings = append(r.Findings, f)
	switch f.Severity {
	case Error:
		r.Errors++
	case Warning:
		r.Warnings++
	default:
		r.Infos++
	}
}

// failed makes a finding of an error.
func failed(err error) Finding {
	// Errors of the database may have come up without passing package pg.
	text := pg.Safe(err).Error()
	if errors.Is(err, context.DeadlineExceeded) {
		text = fmt.Sprintf("no answer within %s", checkTimeout)
	}
	return Finding{Severity: Error, What: text, Fix: fault.HintOf(err)}
}

// unjoin returns the errors that were joined into err.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, unjoin(e)...)
	}
	return all
}

// names lists at most a handful of names for a sentence.
func names[T fmt.Stringer](list []T) string {
	const most = 6
	var words []string
	for i, n := range list {
		if i == most {
			words = append(words, fmt.Sprintf("and %d more", len(list)-most))
			break
		}
		words = append(words, n.String())
	}
	return strings.Join(words, ", ")
}
