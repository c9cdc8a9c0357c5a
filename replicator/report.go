package replicator

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/status"
)

// state is what the bridge does while nothing is wrong.
func (a *applier) state() string { return string(a.phase()) }

func (a *applier) phase() status.Phase {
	if a.copy.active() {
		return status.Copying
	}
	return status.Streaming
}

// publish tells the status where things stand.
func (a *applier) publish() {
	beat := a.pulse.Last()
	behind := a.stream.Oldest()
	batches := a.batches
	a.batches = 0
	a.opts.Status.Update(func(n *status.Snapshot) {
		n.State, n.Blocked = a.phase(), 0
		n.Checkpoint, n.Confirmed = a.cp.LSN, a.stream.Confirmed()
		n.Source = max(beat.Flush, a.position)
		n.LagBytes = int64(n.Source - a.position)
		n.Behind = behind
		n.Batches += batches
		c := a.cp.Counters
		n.Rows, n.Entries, n.Held, n.Dropped = c.Rows, c.Entries, c.Held, c.Dropped
	})
}

// pace measures the copy from when this session began with it: what an earlier one
// did says nothing about time.
type pace struct {
	since time.Time
	rows  int64
	said  time.Time
}

// copyLogEvery is how often the log says how far the copy is.
const copyLogEvery = 10 * time.Second

// of returns the rate in rows a second and how many seconds the rest will take, 0
// while nobody can tell.
func (p *pace) of(done, total int64, now time.Time) (rate, left float64) {
	if p.since.IsZero() {
		*p = pace{since: now, rows: done, said: now}
	}
	took := now.Sub(p.since).Seconds()
	if took < 1 || done == p.rows {
		return 0, 0
	}
	rate = float64(done-p.rows) / took
	return rate, float64(total-done) / rate
}

// publishCopy tells the status how far the copy is, and now and then the log.
func (a *applier) publishCopy() {
	list := make([]status.Copy, 0, len(a.copy.tables))
	var done, total int64
	for _, t := range a.copy.tables {
		c := status.Copy{Table: t.p.Source, Done: t.p.Rows, Total: t.total(), Estimated: !t.p.Done, Finished: t.p.Done}
		done += c.Done
		total += c.Total
		list = append(list, c)
	}
	var rate, left float64
	if now := time.Now(); a.copy.active() {
		rate, left = a.copy.pace.of(done, total, now)
		if now.Sub(a.copy.pace.said) >= copyLogEvery {
			a.copy.pace.said = now
			a.log.Info("copying", "rows", done, "total", total, "rows_per_second", int64(rate), "left", time.Duration(left)*time.Second)
		}
	}
	a.opts.Status.Update(func(n *status.Snapshot) { n.Copy, n.CopyRate, n.CopyLeft = list, rate, left })
}

// total is about how many rows there are to copy.
func (t *tableCopy) total() int64 {
	if t.p.Done {
		return t.p.Rows
	}
	return max(t.estimate, t.p.Rows)
}

// estimate asks the source how many rows there may be to copy: pg_class is good
// enough for a progress bar.
func (b *bridge) estimate(ctx context.Context, source *pgx.Conn, c *copyState) {
	for _, t := range c.tables {
		var n float64
		err := source.QueryRow(ctx, "SELECT greatest(reltuples, 0)::float8 FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass($1)",
			pg.Quote(t.source.Schema, t.source.Name)).Scan(&n)
		if err != nil {
			b.Log.Debug("rows not estimated", "table", t.p.Source, "err", pg.Safe(err))
		}
		t.estimate = int64(n)
	}
}

// report tells the status that the bridge is held up.
func report(s *status.State, phase status.Phase, err error) {
	s.Fail(err)
	var at *BlockedError
	errors.As(err, &at)
	s.Update(func(n *status.Snapshot) {
		n.State, n.Blocked = phase, 0
		if at != nil {
			n.Blocked = at.Commit
		}
	})
}
