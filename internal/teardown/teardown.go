// Package teardown takes a bridge away: slot and publication from the source,
// and what the private schema has of it from the target. It never touches a
// table of the application, nor one that the bridge has filled.
package teardown

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink/postgres"
)

// Options say which bridge goes, and from where.
type Options struct {
	Name   string
	Source *pgx.Conn
	// Target is nil when the target is to be left as it is.
	Target *pgx.Conn
	// Force ends the walsender of a bridge that is attached to the slot.
	Force bool
}

// Plan is what there is to take away.
type Plan struct {
	opts Options
	// Slot and Publication are nil when there is none.
	Slot        *replicator.Slot
	Publication *replicator.Publication
	Remains     postgres.Remains
}

// Done is what has been taken away.
type Done struct {
	Name        string `json:"name"`
	Slot        bool   `json:"slot"`
	Publication bool   `json:"publication"`
	// Rows are those of the private schema, Schema says that it is gone itself.
	Rows   int64 `json:"rows"`
	Schema bool  `json:"schema"`
}

// Look finds out what is there and whether it may go. It changes nothing.
func Look(ctx context.Context, opts Options) (*Plan, error) {
	p := &Plan{opts: opts}
	slot, err := replicator.ReadSlot(ctx, opts.Source, opts.Name)
	switch {
	case err == nil:
		if err := p.mayDrop(ctx, slot); err != nil {
			return nil, err
		}
		p.Slot = &slot
	case !errors.Is(err, replicator.ErrNoSlot):
		return nil, err
	}
	publication, err := replicator.ReadPublication(ctx, opts.Source, opts.Name)
	switch {
	case err == nil:
		p.Publication = &publication
	case !errors.Is(err, replicator.ErrNoPublication):
		return nil, err
	}
	if opts.Target == nil {
		return p, nil
	}
	if p.Remains, err = postgres.FindRemains(ctx, opts.Target, opts.Name); err != nil {
		return nil, err
	}
	if p.Remains.LeaseLeft > 0 {
		return nil, atWork(&postgres.LeaseError{Name: opts.Name, Holder: p.Remains.Holder})
	}
	return p, nil
}

// mayDrop refuses a slot that is another program's or another database's, and
// one that a bridge streams from.
func (p *Plan) mayDrop(ctx context.Context, slot replicator.Slot) error {
	var database string
	if err := p.opts.Source.QueryRow(ctx, "SELECT pg_catalog.current_database()").Scan(&database); err != nil {
		return fmt.Errorf("read the source's name: %w", pg.Safe(err))
	}
	const hint = "give the name of the bridge (--name, WALBRIDGE_NAME) and the URL of its source"
	switch {
	case slot.Plugin != "pgoutput":
		return fault.Errorf(fault.Stop, hint, "slot %s is no bridge's: its plugin is %q", slot.Name, slot.Plugin)
	case slot.Database != database:
		return fault.Errorf(fault.Stop, hint, "slot %s belongs to database %s, not to %s", slot.Name, slot.Database, database)
	case slot.Active && !p.opts.Force:
		return active(&replicator.SlotActiveError{Slot: slot.Name, PID: slot.ActivePID})
	}
	return nil
}

func active(err error) error {
	return fault.Wrap(fault.Stop, "stop the bridge first; if it hangs or is out of reach: walbridge teardown --force", err)
}

func atWork(err error) error {
	return fault.Wrap(fault.Stop, "stop the bridge and try again; --force doesn't help, because a bridge that runs would begin anew", err)
}

// Empty reports that there is nothing to take away.
func (p *Plan) Empty() bool {
	return p.Slot == nil && p.Publication == nil && !p.removesTarget()
}

// removesTarget reports that the private schema has something of the bridge, or
// is there for nobody.
func (p *Plan) removesTarget() bool {
	return p.Remains.Rows > 0 || p.Remains.Installed && !p.Remains.Shared
}

// Lines say what Run will do, a line for each thing.
func (p *Plan) Lines() []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if s := p.Slot; s != nil {
		say("source: drop slot %s, for which %s of WAL are kept", s.Name, status.Bytes(s.Retained))
		if s.Active {
			say("source: end the walsender %d that streams from it", s.ActivePID)
		}
	}
	if b := p.Publication; b != nil {
		say("source: drop publication %s of %d tables", b.Name, len(b.Tables))
	}
	if r := p.Remains; r.Rows > 0 {
		say("target: remove %d rows of bridge %s from the schema walbridge, %d held rows among them", r.Rows, p.opts.Name, r.Held)
	}
	if r := p.Remains; r.Installed && !r.Shared {
		say("target: drop the schema walbridge, in which no other bridge has a row")
	}
	return lines
}

// Run does it: the slot first, because that is what fills the source's disk. say
// is told each thing that is done. What was done before an error stays done, and
// Run can be repeated.
func (p *Plan) Run(ctx context.Context, say func(line string)) (Done, error) {
	done := Done{Name: p.opts.Name}
	if p.Slot != nil {
		err := replicator.DropSlot(ctx, p.opts.Source, p.opts.Name, p.opts.Force)
		var busy *replicator.SlotActiveError
		if errors.As(err, &busy) {
			err = active(err)
		}
		if err != nil {
			return done, err
		}
		done.Slot = true
		say("dropped slot " + p.opts.Name)
	}
	if p.Publication != nil {
		if err := replicator.DropPublication(ctx, p.opts.Source, p.opts.Name); err != nil {
			return done, fault.Wrap(fault.ClassOf(err),
				"as "+p.Publication.Owner+", who owns it: DROP PUBLICATION "+pg.Quote(p.opts.Name)+";", err)
		}
		done.Publication = true
		say("dropped publication " + p.opts.Name)
	}
	if !p.removesTarget() {
		return done, nil
	}
	r, gone, err := postgres.RemoveRemains(ctx, p.opts.Target, p.opts.Name)
	var lease *postgres.LeaseError
	if errors.As(err, &lease) {
		err = atWork(err)
	}
	if err != nil {
		return done, err
	}
	done.Rows, done.Schema = r.Rows, gone
	switch {
	case gone:
		say(fmt.Sprintf("dropped schema walbridge with %d rows", r.Rows))
	case r.Shared:
		say(fmt.Sprintf("removed %d rows from the schema walbridge, which other bridges use", r.Rows))
	default:
		say(fmt.Sprintf("removed %d rows from the schema walbridge, which stays: it belongs to another role or something depends on it (as its owner: DROP SCHEMA walbridge CASCADE)", r.Rows))
	}
	return done, nil
}
