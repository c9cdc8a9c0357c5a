package replicator

import (
	"context"

	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// findFresh finds the tables that have no rows yet where their copy begins or goes
// on: those of its pieces needn't be compared. Of the keys of a copy that has begun
// only whole numbers are in the same order on both sides for sure.
func (b *bridge) findFresh(ctx context.Context, m *mapping.Mapping, snk sink.Sink, cp sink.Checkpoint, c *copyState) error {
	if !c.active() {
		return nil
	}
	tx, err := snk.Begin(ctx, cp.Epoch, cp.LSN, sink.TxOptions{Lease: b.Lease})
	if err != nil {
		return err
	}
	defer func() {
		if err := tx.Rollback(context.WithoutCancel(ctx)); err != nil {
			b.Log.Debug("rollback ended with an error", "err", err)
		}
	}()
	for _, t := range c.tables {
		if t.p.Done || t.source.Target == nil {
			continue
		}
		q := &sink.Query{Keys: &sink.KeyQuery{Table: t.source.Target.Table, Limit: 1}}
		if t.upto == nil {
			q.Held = &sink.HeldQuery{Table: t.source.Target.Table, Limit: 1}
		} else {
			if !t.numbered() || !m.View(t.source).Ranges() {
				continue
			}
			after := sink.EncodeKey(t.upto...)
			q.Keys.After = &after
		}
		l, err := tx.Load(ctx, q)
		if err != nil {
			return err
		}
		t.fresh = len(l.Keys)+len(l.Held) == 0
	}
	return nil
}
