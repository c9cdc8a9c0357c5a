package replicator

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// failoverVersion is the first server_version_num whose standbys keep copies of
// logical slots.
const failoverVersion = 170000

// failoverPossible refuses the setting where the source can't do it, because an
// operator who relies on it has to know before the day.
func (b *bridge) failoverPossible(id System) error {
	if b.Failover && id.Version < failoverVersion {
		return fault.Errorf(fault.Config, "leave source.failover (WALBRIDGE_SOURCE_FAILOVER) out, or upgrade the source",
			"the source runs PostgreSQL %d, and standbys keep copies of logical slots from 17 on", id.Version/10000)
	}
	return nil
}

// alterFailover lets standbys keep a copy of the slot that is there. Nobody may
// stream from it meanwhile.
func (b *bridge) alterFailover(ctx context.Context) error {
	str, err := OpenStream(ctx, b.streamConfig(), b.Log)
	if err != nil {
		return err
	}
	defer func() { _ = str.Close() }()
	if _, err := str.conn.Exec(ctx, "ALTER_REPLICATION_SLOT "+b.Name+" (FAILOVER true)").ReadAll(); err != nil {
		return fmt.Errorf("have standbys keep slot %s: %w", b.Name, pg.Safe(err))
	}
	b.Log.Info("standbys may keep the slot from now on", "slot", b.Name)
	return nil
}

// switches reads where the timelines ended that lead to timeline
// (TIMELINE_HISTORY, protocol-replication; the lines are those of
// writeTimeLineHistory in timeline.c: a timeline, a tab, its end, a tab, why).
func (s *Stream) switches(ctx context.Context, timeline int32) (map[int32]cdc.LSN, error) {
	results, err := s.conn.Exec(ctx, fmt.Sprintf("TIMELINE_HISTORY %d", timeline)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read the history of timeline %d: %w", timeline, pg.Safe(err))
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 2 {
		return nil, fmt.Errorf("read the history of timeline %d: the server returned no row", timeline)
	}
	return parseSwitches(string(results[0].Rows[0][1]))
}

func parseSwitches(text string) (map[int32]cdc.LSN, error) {
	ends := map[int32]cdc.LSN{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		timeline, err := strconv.ParseInt(fields[0], 10, 32)
		lsn, err2 := parseLSN(fields[1])
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("read the history of a timeline: %w", err)
		}
		ends[int32(timeline)] = lsn
	}
	return ends, nil
}

// recognised takes over that the source has sent the last heartbeat again. If it was
// a standby when the bridge last saw it, it is the checkpoint's source from here
// on, with an incarnation of its own: positions behind the promotion may repeat
// those that the former source has had.
func (a *applier) recognised(ctx context.Context) error {
	if a.promoted != nil {
		if err := a.sink.Store(ctx, a.cp.Epoch, *a.promoted, a.cp.LSN); err != nil {
			return fmt.Errorf("take over the promoted source: %w", err)
		}
		a.cp.Origin, a.promoted = *a.promoted, nil
		a.log.Info("the promoted standby is the same source, and goes on", "timeline", a.cp.Origin.Timeline)
	}
	a.expect = sink.Heartbeat{}
	a.durable(a.cp.Heartbeat)
	return nil
}
