// Package survey finds out from both databases how a bridge is that can't be
// asked itself: from its checkpoint row at the target, and from its slot at the
// source.
package survey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
)

// patience bounds each side, so that one that hangs doesn't hide the other.
const patience = 15 * time.Second

// Options say which bridge is meant and how to reach its databases.
type Options struct {
	Name       string
	OpenSource func(ctx context.Context) (*pgx.Conn, error)
	OpenTarget func(ctx context.Context) (sink.Sink, error)
}

// target is what the target has of the bridge.
type target struct {
	checkpoint sink.Checkpoint
	copies     []sink.CopyProgress
	exists     bool
	err        error
}

// source is what the source has of the bridge.
type source struct {
	flush cdc.LSN
	slot  *replicator.Slot
	// estimates are the rows of its tables by the planner's count.
	estimates map[string]int64
	err       error
}

// Read asks both sides at once. What is wrong, an unreachable side above all, is
// the snapshot's LastError; only when no side answers Read returns an error.
func Read(ctx context.Context, opts Options) (status.Snapshot, error) {
	var (
		src source
		dst target
		wg  sync.WaitGroup
	)
	wg.Go(func() { src = readSource(ctx, opts) })
	wg.Go(func() { dst = readTarget(ctx, opts) })
	wg.Wait()
	if src.err != nil && dst.err != nil {
		return status.Snapshot{}, errors.Join(src.err, dst.err)
	}
	return snapshot(opts.Name, src, dst, time.Now()), nil
}

func readTarget(ctx context.Context, opts Options) (t target) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	snk, err := opts.OpenTarget(ctx)
	if err != nil {
		return target{err: err}
	}
	defer func() { _ = snk.Close(context.WithoutCancel(ctx)) }()
	t.checkpoint, err = snk.Checkpoint(ctx)
	if errors.Is(err, sink.ErrNoCheckpoint) {
		return target{}
	}
	if err == nil {
		t.exists = true
		t.copies, err = snk.Copies(ctx)
	}
	if err != nil {
		return target{err: fmt.Errorf("ask the target: %w", err)}
	}
	return t
}

func readSource(ctx context.Context, opts Options) (s source) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := opts.OpenSource(ctx)
	if err != nil {
		return source{err: err}
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	slot, err := replicator.ReadSlot(ctx, conn, opts.Name)
	if err == nil {
		s.slot = &slot
	} else if !errors.Is(err, replicator.ErrNoSlot) {
		return source{err: fmt.Errorf("ask the source: %w", err)}
	}
	if s.flush, err = replicator.FlushLSN(ctx, conn); err == nil {
		s.estimates, err = estimates(ctx, conn)
	}
	if err != nil {
		return source{err: fmt.Errorf("ask the source: %w", pg.Safe(err))}
	}
	return s
}

// estimates reads how many rows each table has by the planner's count, which is
// good enough for a progress bar.
func estimates(ctx context.Context, conn *pgx.Conn) (map[string]int64, error) {
	rows, err := conn.Query(ctx, `
		SELECT n.nspname || '.' || c.relname, coalesce(CASE WHEN c.relkind <> 'p' THEN greatest(c.reltuples, 0)::float8 ELSE (
		  SELECT sum(greatest(l.reltuples, 0)::float8) FROM pg_catalog.pg_partition_tree(c.oid) t
		  JOIN pg_catalog.pg_class l ON l.oid = t.relid WHERE t.isleaf) END, 0)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')`)
	if err != nil {
		return nil, err
	}
	list := map[string]int64{}
	var table string
	var n float64
	_, err = pgx.ForEachRow(rows, []any{&table, &n}, func() error {
		list[table] = int64(n)
		return nil
	})
	return list, err
}

// snapshot puts together what both sides say.
func snapshot(name string, src source, dst target, now time.Time) status.Snapshot {
	n := status.Snapshot{From: status.FromDatabases, Name: name, State: phase(src, dst), Source: src.flush}
	if s := src.slot; s != nil {
		n.Confirmed = s.Confirmed
		n.Slot = &status.Slot{WALStatus: s.WALStatus, Retained: s.Retained, Safe: s.SafeBytes}
	}
	if cp := dst.checkpoint; dst.exists {
		n.Checkpoint, n.Since = cp.LSN, now.Add(-cp.Age)
		n.Chain = cp.Counters.Chain.String()
		n.Rows, n.Entries, n.Held, n.Dropped = cp.Counters.Rows, cp.Counters.Entries, cp.Counters.Held, cp.Counters.Dropped
		if src.err == nil && cp.LSN != 0 && src.flush > cp.LSN {
			n.LagBytes, n.LagSeconds = int64(src.flush-cp.LSN), cp.Age.Seconds()
		}
	}
	for _, c := range dst.copies {
		n.Copy = append(n.Copy, status.Copy{
			Table: c.Source, Done: c.Rows, Total: max(src.estimates[c.Source], c.Rows), Estimated: !c.Done, Finished: c.Done,
		})
	}
	slices.SortFunc(n.Copy, func(a, b status.Copy) int { return strings.Compare(a.Table, b.Table) })
	if problems := problems(name, src, dst); len(problems) > 0 {
		n.LastError = together(problems, now)
	}
	return n
}

// phase follows from the lease, which a bridge at work prolongs, and from the
// slot, which only one that is attached makes active. While a large transaction
// is written the lease isn't prolonged.
func phase(src source, dst target) status.Phase {
	attached := src.slot != nil && src.slot.Active
	switch {
	case dst.exists && dst.checkpoint.LeaseLeft > 0 && dst.checkpoint.State == "":
		return status.Starting
	case dst.exists && dst.checkpoint.LeaseLeft > 0:
		return status.Phase(dst.checkpoint.State)
	case attached:
		return status.Unknown
	}
	return status.Stopped
}

// problems are what a person has to look at, each with its remedy.
func problems(name string, src source, dst target) (list []error) {
	for _, err := range []error{src.err, dst.err} {
		if err != nil {
			list = append(list, err)
		}
	}
	if dst.err == nil && !dst.exists {
		list = append(list, fault.Errorf(fault.Stop, "walbridge run",
			"the target has no checkpoint of a bridge named %s: none has run, or the name or the target is another one", name))
	}
	started := dst.exists && dst.checkpoint.LSN != 0
	switch {
	case src.err != nil:
	case src.slot == nil && started:
		list = append(list, fault.Errorf(fault.Stop, "walbridge resync --no-wait, then walbridge run",
			"slot %s is gone from the source; the changes since %s can't be had any more", name, dst.checkpoint.LSN))
	case src.slot != nil && src.slot.Lost():
		list = append(list, fault.Wrap(fault.Stop, "walbridge resync --no-wait, then walbridge run",
			&replicator.SlotLostError{Slot: name, Reason: src.slot.Invalidation}))
	}
	return list
}

// together makes one problem of several, as status.json has one.
func together(list []error, now time.Time) *status.Problem {
	var messages, hints []string
	for _, err := range list {
		messages = append(messages, err.Error())
		if hint := fault.HintOf(err); hint != "" {
			hints = append(hints, hint)
		}
	}
	return &status.Problem{
		At: now, Class: fault.ClassOf(list[0]).String(),
		Message: strings.Join(messages, "; "), Hint: strings.Join(hints, "; "),
	}
}
