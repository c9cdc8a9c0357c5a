package replicator

import (
	"context"
	"errors"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/sink"
)

// tendInterval is how often the target is tended to. An alert may be that late.
const tendInterval = 30 * time.Second

// tending is what the applier knows of its last look after the target.
type tending struct {
	at    time.Time
	quiet bool
	// quieted tables are out of Realtime.
	quieted int64
	said    string
}

// quiet says whether Realtime is to be left out for now: of a first copy, because
// every row of it is new; of a resync, which writes what differs, only if asked to.
func (a *applier) quiet() bool {
	if a.owed || a.task != nil && isResync(a.task.request) {
		return a.opts.QuietResync
	}
	return a.opts.QuietCopy && a.copy.active()
}

// tend has the sink look after the target when it's time, and whenever a copy that
// is to be quiet begins or ends. What fails there keeps no row from its place, so it is said
// once and tried again.
func (a *applier) tend(ctx context.Context) error {
	quiet := a.quiet()
	every := a.opts.TendEvery
	if every == 0 {
		every = tendInterval
	}
	t := &a.tending
	if a.large != nil || !a.proven() || quiet == t.quiet && time.Since(t.at) < every {
		return nil
	}
	done, err := a.sink.Tend(ctx, a.cp.Epoch, sink.Tending{Quiet: quiet})
	t.at = time.Now()
	switch {
	case errors.Is(err, sink.ErrFenced):
		return err
	case err != nil:
		if err.Error() != t.said {
			t.said = err.Error()
			a.log.Warn("target not tended to", "err", err, "hint", fault.HintOf(err))
		}
		return nil
	}
	if quiet != t.quiet && (done.Quieted > 0 || t.quieted > 0) {
		a.log.Info("realtime changed", "tables_out", done.Quieted)
	}
	if done.Alerts > 0 {
		a.log.Info("alerts raised", "alerts", done.Alerts)
	}
	t.quiet, t.quieted, t.said = quiet, done.Quieted, ""
	return nil
}
