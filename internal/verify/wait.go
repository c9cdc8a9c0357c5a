package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/sink"
)

const (
	// glance is the time between two looks at the checkpoint.
	glance = 25 * time.Millisecond
	// absence is how long nobody may be at work before there counts as no
	// bridge; one that was seen may be between two starts.
	absence, absenceOfSeen = 3 * time.Second, time.Minute
	// standstill is how long the checkpoint may stay where it is.
	standstill = 5 * time.Minute
)

// StuckError says that nothing could be settled, because the checkpoint doesn't
// move.
type StuckError struct{ Reason string }

func (e *StuckError) Error() string {
	return "what differs can't be settled: " + e.Reason
}

func stuck(hint, format string, args ...any) error {
	return fault.Wrap(fault.Stop, hint, &StuckError{Reason: fmt.Sprintf(format, args...)})
}

// ready refuses to compare what can't be equal yet.
func (c *comparison) ready(ctx context.Context) error {
	p, err := c.pairs[0].target.Position(ctx)
	switch {
	case errors.Is(err, sink.ErrNoCheckpoint):
		return fault.Errorf(fault.Stop, "run: walbridge run, against this target", "no bridge called %q has ever run against this target", c.opts.Name)
	case err != nil:
		return err
	case p.Origin.Fingerprint != "" && p.Origin.Fingerprint != c.m.Schema.Fingerprint:
		return fault.Errorf(fault.Config, "use the bridge's configuration file and environment",
			"the mapping isn't the one that the bridge has filled the tables with")
	}
	c.seen = p.AtWork
	if err := c.rightSource(ctx, p.Origin); err != nil {
		return err
	}
	return c.copied(ctx)
}

// copied refuses tables that are being copied: what they lack nobody has lost.
func (c *comparison) copied(ctx context.Context) error {
	copies, err := c.pairs[0].target.Copies(ctx)
	if err != nil {
		return err
	}
	done := map[string]bool{}
	for _, p := range copies {
		done[p.Source] = p.Done && len(p.Pending) == 0
	}
	for _, s := range c.m.Sources {
		if !done[s.FullName()] {
			return fault.Errorf(fault.Stop, "walbridge status says how far it is", "the copy of %s isn't finished, so there is nothing to compare yet", s.FullName())
		}
	}
	return nil
}

// rightSource refuses another database than the bridge's: its positions say
// nothing about that one.
func (c *comparison) rightSource(ctx context.Context, o sink.Origin) error {
	var database, system string
	err := c.pairs[0].source.rows(ctx, "SELECT pg_catalog.current_database(), s.system_identifier FROM pg_catalog.pg_control_system() AS s", nil, func(row cdc.Row) error {
		database, system = row[0].Text, row[1].Text
		return nil
	})
	switch {
	case err != nil && fault.Code(err) == "42501": // it is open to everybody, but can be closed
		return nil
	case err != nil:
		return fmt.Errorf("read the source's identity: %w", err)
	case o.SystemID != "" && (o.SystemID != system || o.Database != database):
		return fault.Errorf(fault.Config, "check WALBRIDGE_SOURCE_URL", "the source is another database than the one that the bridge %q follows", c.opts.Name)
	}
	return nil
}

// applied waits until the target has applied everything that is visible at the
// source now.
func (c *comparison) applied(ctx context.Context, p *pair) error {
	lsn, err := p.source.written(ctx)
	if err != nil {
		return err
	}
	pos, err := p.target.Position(ctx)
	if err != nil || pos.LSN >= lsn {
		return err
	}
	// The checkpoint is where the last transaction ended that concerned the
	// bridge. So there has to be one.
	if lsn, err = p.source.mark(ctx); err != nil {
		return err
	}
	return c.reach(ctx, p, lsn)
}

// reach waits until the checkpoint has come to lsn.
func (c *comparison) reach(ctx context.Context, p *pair, lsn cdc.LSN) error {
	tick := time.NewTicker(glance)
	defer tick.Stop()
	moved, present := time.Now(), time.Now()
	var last cdc.LSN
	for {
		pos, err := p.target.Position(ctx)
		switch {
		case err != nil:
			return err
		case pos.LSN >= lsn:
			return nil
		case pos.LSN != last:
			last, moved = pos.LSN, time.Now()
		}
		if pos.AtWork {
			present = time.Now()
			c.saw()
		}
		if err := c.hopeless(time.Since(present), time.Since(moved)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (c *comparison) saw() {
	c.mu.Lock()
	c.seen = true
	c.mu.Unlock()
}

// hopeless says why waiting has no sense any more.
func (c *comparison) hopeless(absent, still time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	bound := absence
	if c.seen {
		bound = absenceOfSeen
	}
	switch {
	case absent > bound:
		return stuck("walbridge status says how it is; start it with walbridge run", "no bridge called %q is at work, or it is blocked", c.opts.Name)
	case still > standstill:
		return stuck("walbridge status says what it does", "the checkpoint hasn't moved for %s", standstill)
	}
	return nil
}
