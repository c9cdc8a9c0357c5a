package mapping

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// Piece is a part of a source table as it is at the point of the stream where it
// is applied.
type Piece struct {
	Source *Source
	// Rows are the source's inputs, followed by one value for each observed
	// column, in the order of the target's columns.
	Rows []cdc.Row
	// Progress is stored with the rows. Its Rows and Tenants are moved on here.
	Progress *sink.CopyProgress
	// Commit and Time name the point of the stream, for what is held and for the
	// entries at the end.
	Commit cdc.LSN
	Time   time.Time
	// Compare: the target may have the rows already, so that only what differs is
	// written, and observed columns keep what the stream has set.
	Compare bool
	// Found says what the comparison has found.
	Found Compared
	// Finish makes the entries of the whole copy: one for each tenant.
	Finish bool
}

// Piece takes a piece of a copy over. Its paths are those that the stream has
// left behind, so that they can't be older or newer than the rows.
func (b *Batch) Piece(ctx context.Context, p *Piece) error {
	if err := b.takeOver(ctx, p); err != nil {
		return err
	}
	p.Progress.Rows += int64(len(p.Rows))
	if p.Finish {
		p.Progress.Done = true
		b.copyEntries(p)
	}
	b.copied = append(b.copied, *p.Progress)
	return nil
}

func (b *Batch) takeOver(ctx context.Context, p *Piece) error {
	if !p.Compare {
		return b.takeNew(ctx, p)
	}
	found, err := b.Compare(ctx, &Comparison{Source: p.Source, Rows: p.Rows, Commit: p.Commit, Time: p.Time})
	if err != nil {
		return err
	}
	p.Found = *found
	for tenant, n := range found.Tenants {
		p.count(tenant, n.Rows)
	}
	return nil
}

func (p *Piece) count(tenant string, rows int64) {
	if rows == 0 {
		return
	}
	if p.Progress.Tenants == nil {
		p.Progress.Tenants = map[string]int64{}
	}
	p.Progress.Tenants[strings.Clone(tenant)] += rows // as in Tally.Merge
}

// takeNew writes rows that the target doesn't have.
func (b *Batch) takeNew(ctx context.Context, p *Piece) error {
	w := &work{b: b, t: &cdc.Transaction{Commit: p.Commit, Time: p.Time, First: true, Last: true}}
	if err := w.piecePaths(ctx, p); err != nil {
		return err
	}
	if p.Source.Target != nil {
		if err := w.newRows(ctx, p); err != nil {
			return fmt.Errorf("table %s: %w", p.Source.FullName(), err)
		}
	}
	if b.careful {
		if err := w.writeOneByOne(ctx); err != nil {
			return err
		}
	}
	for _, st := range w.released {
		if st.now.place != inTable {
			continue
		}
		if err := b.emitHeld(st, st.now.tenant(p.Source.Target.Table)); err != nil {
			return err
		}
	}
	_, _, err := w.move(ctx)
	return err
}

// copyEntries makes one entry for each tenant of a table that has been copied.
func (b *Batch) copyEntries(p *Piece) {
	t := p.Source.Target
	if b.e.m.Audit == nil || t == nil || t.Audit == nil {
		return
	}
	w := &work{b: b, t: &cdc.Transaction{Commit: p.Commit}}
	it := &item{source: p.Source, c: &cdc.Change{Ordinal: uint32(b.e.bySource[p.Source])}}
	for _, tenant := range sortedKeys(p.Progress.Tenants) {
		d := draft{Commit: p.Commit, Seq: it.c.Ordinal, Action: t.Audit.Entity + ".copied", Time: p.Time}
		d.Rest = w.copyRest(it, p.Progress.Tenants[tenant])
		b.emit(&d, tenant)
	}
}
