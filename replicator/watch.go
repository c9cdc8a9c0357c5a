package replicator

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
)

// defaultRecheck is how often the start gate is passed again while streaming.
const defaultRecheck = time.Minute

// recheckLimit bounds one look, so that a table that somebody holds locked, or a
// target that hangs, doesn't keep the next look waiting.
const recheckLimit = 15 * time.Second

// watch passes the start gate again and again while the session streams, and
// ends it at the first refusal. What only a new connection can change (the
// cluster, its timeline, who has made the slot) is looked at when there is one;
// the publication's history is looked at with each heartbeat, see Pulse.look.
//
// then is what the checkpoint keeps of the publication; what it is to keep instead,
// once there are new partitions, is left in adopt for the applier.
func (b *bridge) watch(ctx context.Context, source *pgx.Conn, m *mapping.Mapping, then string, adopt *atomic.Pointer[string]) error {
	every := b.Recheck
	if every <= 0 {
		every = defaultRecheck
	}
	limit := fmt.Sprintf("SET lock_timeout = %d; SET statement_timeout = %[1]d", recheckLimit.Milliseconds())
	if err := exec(ctx, source.PgConn(), limit); err != nil {
		return fmt.Errorf("prepare to check again: %w", pg.Safe(err))
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		now, err := b.recheck(ctx, source, m, then)
		switch {
		case err == nil && now != then:
			then = now
			adopt.Store(&now)
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case fault.ClassOf(err) == fault.Retry && !source.IsClosed():
			// A lock, or the target is away. The next look is soon.
			b.Log.Debug("not checked again", "err", err)
		default:
			return fmt.Errorf("check again: %w", err)
		}
	}
}

func (b *bridge) recheck(ctx context.Context, source *pgx.Conn, m *mapping.Mapping, then string) (now string, err error) {
	if err := checkSettings(ctx, source, b.Name); err != nil {
		return "", err
	}
	if now, err = b.stillPublished(ctx, source, m, then); err != nil {
		return "", err
	}
	if err := readable(ctx, source, m); err != nil {
		return "", err
	}
	anew, dst, err := b.compile(ctx, source)
	if err != nil {
		return "", err
	}
	if err := stillFilled(anew, dst); err != nil {
		return "", err
	}
	if anew.Schema.Fingerprint != m.Schema.Fingerprint {
		// A new session says what that means.
		return "", fault.Errorf(fault.Retry, "", "the tables have changed so that the mapping means something else")
	}
	slot, err := ReadSlot(ctx, source, b.Name)
	if err != nil {
		return "", err
	}
	return now, slot.Usable(source.Config().Database)
}
