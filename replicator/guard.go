package replicator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/status"
)

// Retention says how much WAL, in bytes, the source may keep for the bridge. A
// zero switches its level off.
type Retention struct {
	Warning, Alarm int64
	// Max is where the slot is dropped, so that the application's disk doesn't
	// fill up. Everything is copied again after that.
	Max int64
}

// Level says how far a slot is from doing harm to its server, or from being lost,
// and why.
func (r Retention) Level(s Slot) (level status.Level, why string) {
	all := s.Retained
	if s.SafeBytes != nil {
		all += max(*s.SafeBytes, 0)
	}
	switch {
	case s.Lost():
		return status.LevelAlarm, "the slot is lost"
	case s.WALStatus == "unreserved":
		return status.LevelAlarm, "the source's next checkpoint may remove WAL that the bridge needs"
	case s.SafeBytes != nil && *s.SafeBytes <= all/10:
		return status.LevelAlarm, "max_slot_wal_keep_size is nearly used up"
	case r.Max > 0 && s.Retained >= r.Max/10*8:
		return status.LevelAlarm, "source.max_retained_wal is nearly reached"
	case r.Alarm > 0 && s.Retained >= r.Alarm:
		return status.LevelAlarm, "source.alarm_retained_wal is reached"
	case r.Warning > 0 && s.Retained >= r.Warning:
		return status.LevelWarning, "source.warn_retained_wal is reached"
	case s.SafeBytes != nil && *s.SafeBytes <= all/10*3:
		return status.LevelWarning, "most of max_slot_wal_keep_size is used up"
	case s.WALStatus == "extended":
		return status.LevelWarning, "the slot keeps more than max_wal_size"
	}
	return status.LevelOK, ""
}

// RetentionError says that the slot was dropped at its limit.
type RetentionError struct {
	Slot          string
	Retained, Max int64
}

func (e *RetentionError) Error() string {
	return fmt.Sprintf("resync needed: slot %s was dropped, because the source kept %s of WAL for it and source.max_retained_wal is %s; the changes since can't be had any more",
		e.Slot, status.Bytes(e.Retained), status.Bytes(e.Max))
}

// guard watches what the slot costs the source, for as long as the bridge runs:
// while the target is away, while the bridge is blocked, and as a standby. That
// is when WAL gathers. It has a connection of its own.
type guard struct {
	opts  *Options
	conn  *pgx.Conn
	level status.Level

	mu      sync.Mutex
	dropped error
}

func newGuard(opts *Options) *guard { return &guard{opts: opts, level: status.LevelOK} }

// run looks at the slot with every heartbeat until ctx ends. That the source
// can't be reached is the session's to report.
func (g *guard) run(ctx context.Context) {
	defer g.hangUp()
	every := g.opts.Heartbeat
	if every <= 0 {
		every = 10 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := g.look(ctx); err != nil && ctx.Err() == nil {
			g.opts.Log.Debug("slot not looked at", "err", err)
			g.hangUp()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (g *guard) hangUp() {
	if g.conn != nil {
		closeSoon(g.conn)
		g.conn = nil
	}
}

func (g *guard) look(ctx context.Context) (err error) {
	if g.conn == nil {
		g.conn, err = pg.Connect(ctx, g.opts.SourceURL, pg.Options{
			Side: pg.Source, Application: g.opts.Name, InsecureTLS: g.opts.SourceInsecureTLS,
			Settings: map[string]string{"statement_timeout": "30000", "idle_session_timeout": "0"},
		})
		if err != nil {
			return err
		}
	}
	flush, err := FlushLSN(ctx, g.conn)
	if err != nil {
		return err
	}
	slot, err := ReadSlot(ctx, g.conn, g.opts.Name)
	switch {
	case errors.Is(err, ErrNoSlot):
		g.none()
		return nil
	case err != nil:
		return err
	}
	level, why := g.opts.showSlot(slot)
	g.opts.Status.Update(func(n *status.Snapshot) {
		if n.State == status.Retrying || n.State == status.Blocked {
			// Nobody else says so while nothing is applied.
			n.Source = max(n.Source, flush)
			n.LagBytes = int64(max(n.Source, n.Checkpoint) - n.Checkpoint)
		}
	})
	g.say(slot, level, why)
	return g.limit(ctx, slot)
}

// showSlot puts what the source says of the slot into the status.
func (o *Options) showSlot(s Slot) (level status.Level, why string) {
	level, why = o.Retention.Level(s)
	o.Status.Update(func(n *status.Snapshot) {
		n.Slot = &status.Slot{WALStatus: s.WALStatus, Retained: s.Retained, Safe: s.SafeBytes, Level: level}
	})
	return level, why
}

// none is the state without a slot: not made yet, or gone.
func (g *guard) none() {
	gone := g.gone()
	g.opts.Status.Update(func(n *status.Snapshot) {
		if n.Slot = nil; gone != nil {
			n.Slot = &status.Slot{WALStatus: status.SlotDropped, Level: status.LevelAlarm}
		}
	})
}

// say logs a change of the level.
func (g *guard) say(slot Slot, level status.Level, why string) {
	if level == g.level {
		return
	}
	args := []any{"slot", slot.Name, "retained", status.Bytes(slot.Retained), "wal_status", slot.WALStatus}
	if slot.SafeBytes != nil {
		args = append(args, "safe", status.Bytes(max(*slot.SafeBytes, 0)))
	}
	g.level = level
	switch level {
	case status.LevelAlarm:
		g.opts.Log.Error("slot alarm: "+why, append(args, "hint", retentionHint)...)
	case status.LevelWarning:
		g.opts.Log.Warn("slot warning: "+why, append(args, "hint", retentionHint)...)
	default:
		g.opts.Log.Info("slot keeps little WAL again", args...)
	}
}

const retentionHint = "see that the target takes changes and that no transaction stays open at the source (walbridge status, walbridge check); if the bridge is not to come back: walbridge teardown"

// limit drops a slot that keeps more than it may. One of another plugin or
// database is not the bridge's to drop.
func (g *guard) limit(ctx context.Context, slot Slot) error {
	if g.opts.Retention.Max <= 0 || slot.Retained <= g.opts.Retention.Max || slot.Plugin != "pgoutput" || slot.Database != g.conn.Config().Database {
		return nil
	}
	err := &RetentionError{Slot: slot.Name, Retained: slot.Retained, Max: g.opts.Retention.Max}
	g.mu.Lock()
	g.dropped = outOfStep(&OutOfStepError{Reason: err.Error(), Cause: err})
	g.mu.Unlock()
	// A walsender that sleeps on a full socket ends at once when it is told to.
	if err := DropSlot(ctx, g.conn, slot.Name, true); err != nil {
		g.forget()
		return err
	}
	g.opts.Log.Error("slot dropped at its limit", "err", err, "hint", resyncHint)
	g.none()
	return nil
}

// gone is why there is no slot any more, if the guard has dropped it.
func (g *guard) gone() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dropped
}

// forget says that there is another slot now.
func (g *guard) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dropped = nil
}
