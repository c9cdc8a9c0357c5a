package replicator

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
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
	tally := a.tally
	a.batches, a.tally = 0, mapping.Tally{}
	request := a.showRequest()
	a.opts.Status.Wrote(tally.Transactions, tally.Tables, tally.Tenants)
	a.opts.Status.Update(func(n *status.Snapshot) {
		n.State, n.Blocked = a.phase(), 0
		n.Checkpoint, n.Confirmed = a.cp.LSN, a.stream.Confirmed()
		n.Source = max(beat.Flush, a.position)
		n.LagBytes = int64(n.Source - a.position)
		n.Behind = behind
		n.Batches += batches
		n.Request = request
		showCounters(n, &a.cp.Counters)
	})
}

func showCounters(n *status.Snapshot, c *sink.Counters) {
	n.Rows, n.Entries, n.Held, n.Dropped = c.Rows, c.Entries, c.Held, c.Dropped
	n.Chain = c.Chain.String()
}

// headLogEvery is how often the log says where the audit log's chain has come to.
// Whoever keeps the log elsewhere can hold the audit log against it.
const headLogEvery = time.Minute

// saidHead is the head of the chain that was logged last, and when.
type saidHead struct {
	at time.Time
	n  int64
}

// publishHead logs the head of the chain, if it has moved; at the end at any rate.
func (a *applier) publishHead(end bool) {
	c := &a.cp.Counters.Chain
	if c.Head == a.head.n || !end && time.Since(a.head.at) < headLogEvery {
		return
	}
	a.head = saidHead{at: time.Now(), n: c.Head}
	a.log.Info("audit log linked", "head", c.String())
}

// showRequest says which request is being worked on, and how far it is.
func (a *applier) showRequest() *status.Request {
	if a.large != nil && a.large.pass != nil {
		return a.large.pass.show()
	}
	if a.task == nil {
		return nil
	}
	r := &status.Request{ID: a.task.request.ID, Kind: a.task.request.Kind}
	// Before its first step it has no progress; one that can't be read fails the step.
	progress := []byte(a.task.request.Progress)
	switch at := a.task.resync; {
	case at != nil:
		r.Table, r.Step = at.p.Table, at.p.Step
		r.Done, r.Total, r.Written = at.p.Checked, at.p.Total, at.p.Written+at.p.Gone
	case r.Kind == HeldRetry || r.Kind == HeldDrop:
		var p HeldProgress
		_ = json.Unmarshal(progress, &p)
		r.Table, r.Done, r.Written = p.Table, p.Rows(), p.Released+p.Dropped
	case r.Kind == Forget:
		var p ForgetProgress
		_ = json.Unmarshal(progress, &p)
		r.Done = p.Rows + p.Held
		r.Written = r.Done
	}
	return r
}

func (p *passing) show() *status.Request {
	return &status.Request{ID: p.request.ID, Kind: p.request.Kind, Done: p.skipped.Total.Sum()}
}

// showPassing says at once how much of a transaction has been passed: publish may
// have nothing to say until all of it is.
func (a *applier) showPassing(p *passing) {
	r := p.show()
	a.opts.Status.Update(func(n *status.Snapshot) { n.Request = r })
}

// heldCountEvery is how often held rows are counted at most.
const heldCountEvery = 2 * time.Second

// heldCount is when held rows were last counted, and how many there were by the
// checkpoint.
type heldCount struct {
	at   time.Time
	rows int64
}

// countHeld tells the status which rows are held and why, when their number has
// changed and now and then: a row may be held for another reason than before.
func (a *applier) countHeld(ctx context.Context) {
	last, rows := a.counted, a.cp.Counters.Held
	if a.large != nil || rows == 0 && last.rows == 0 && !last.at.IsZero() {
		return
	}
	if past := time.Since(last.at); past < heldCountEvery || rows == last.rows && past < tendInterval {
		return
	}
	var counts []sink.HeldCount
	if rows > 0 {
		var err error
		if counts, err = a.sink.Held(ctx); err != nil {
			a.log.Debug("held rows not counted", "err", err)
		}
	}
	a.counted = heldCount{at: time.Now(), rows: rows}
	list := make([]status.Held, 0, len(counts))
	for _, c := range counts {
		list = append(list, status.Held{Table: a.sourceOf(c.Table), Reason: string(c.Reason), Rows: c.Rows})
	}
	a.opts.Status.Update(func(n *status.Snapshot) { n.HeldBy = list })
}

// sourceOf is the source table of a target table, which keeps its name where the
// mapping has left it behind.
func (a *applier) sourceOf(target string) string {
	for _, t := range a.copy.tables {
		if s := t.source; s.Target != nil && s.Target.Table.FullName() == target {
			return s.FullName()
		}
	}
	return target
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
		err := source.QueryRow(ctx, pg.EstimateSQL, pg.Quote(t.source.Schema, t.source.Name)).Scan(&t.estimate)
		if err != nil {
			b.Log.Debug("rows not estimated", "table", t.p.Source, "err", pg.Safe(err))
		}
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
