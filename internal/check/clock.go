package check

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/walbridge/walbridge/internal/pg"
)

// offset is how far a clock is ahead of this host's. The answer to when it was
// read is on its way for a while, so it may be off by up to half of that.
type offset struct{ ahead, unsure time.Duration }

// tolerance is what clocks may differ by without a word: clocks that are kept in
// step differ by milliseconds.
const tolerance = 2 * time.Second

func clockCheck(of func(*Env) *side) func(context.Context, *Env) ([]Finding, error) {
	return func(ctx context.Context, e *Env) ([]Finding, error) {
		s := of(e)
		o, err := readClock(ctx, s.ask, e.Now)
		if err != nil {
			return nil, err
		}
		s.offset = &o
		found := skew("the clock of the "+s.opts.Side.String(), "this host's", o)
		if s == e.target && e.source.offset != nil {
			between := offset{o.ahead - e.source.offset.ahead, o.unsure + e.source.offset.unsure}
			found = append(found, skew("the clock of the target", "the source's", between)...)
		}
		return found, nil
	}
}

// readClock asks a few times and takes the quickest answer.
func readClock(ctx context.Context, ask pg.Ask, now func() time.Time) (best offset, err error) {
	for i := range 3 {
		start := now()
		there, err := ask.One(ctx, selectClock)
		if err != nil {
			return best, fmt.Errorf("read clock: %w", err)
		}
		half := now().Sub(start) / 2
		micros, err := strconv.ParseInt(there[0], 10, 64)
		if err != nil {
			return best, fmt.Errorf("read clock: %w", err)
		}
		if i == 0 || half < best.unsure {
			best = offset{time.UnixMicro(micros).Sub(start.Add(half)), half}
		}
	}
	return best, nil
}

// selectClock is in microseconds since 1970.
const selectClock = "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::int8"

// skew compares what is surely the difference with the tolerance.
func skew(clock, other string, o offset) []Finding {
	word := "ahead of"
	if o.ahead < 0 {
		word, o.ahead = "behind", -o.ahead
	}
	if o.ahead-o.unsure < tolerance {
		return nil
	}
	return []Finding{{
		Severity: Warning,
		What:     fmt.Sprintf("%s is %s %s %s", clock, o.ahead.Round(100*time.Millisecond), word, other),
		Why:      "Nothing is lost by it, but lag_seconds is wrong by as much, and so are times that come from the one side when they are compared with those of the other.",
		Fix:      "have an NTP client (chrony, systemd-timesyncd) keep the clock of each host",
	}}
}
