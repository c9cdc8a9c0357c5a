package mapping

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
)

// A transaction comes in slices. What one has said of an inbox counts for the
// notes of the next, although the batch keeps nothing of a slice in memory; a
// batch that is given up leaves nothing behind either.
func TestBatch_Slices(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.streamAll([]cdc.Change{n.change(cdc.Insert, n.inbox, 1, 7)})

	slices := func(b *Batch, commit cdc.LSN) error {
		for i := range 4 {
			tx := &cdc.Transaction{XID: 9, Commit: commit, Time: time.Unix(9, 0), First: i == 0, Last: i == 3}
			if i == 0 {
				tx.Changes = append(tx.Changes, n.change(cdc.Update, n.inbox, 1, 8))
			}
			for k := range 50 {
				tx.Changes = append(tx.Changes, n.change(cdc.Insert, n.note, i*50+k, 1, "text"))
			}
			if err := b.Transactions(n.Context(), []*cdc.Transaction{tx}); err != nil {
				return err
			}
			if err := b.Flush(n.Context()); err != nil {
				return err
			}
			b.Shed()
			if kept := len(b.rows) + len(b.paths) + cap(b.touched) + cap(b.steps) + cap(b.passed) + len(b.slab); kept > 0 {
				return fmt.Errorf("%d things are kept of slice %d", kept, i)
			}
		}
		return nil
	}
	err := n.batch(false, 100, func(b *Batch) error {
		if err := slices(b, 90); err != nil {
			t.Error(err)
		}
		return context.Canceled
	})
	if err != context.Canceled {
		t.Fatal(err)
	}
	n.streamAll([]cdc.Change{n.change(cdc.Insert, n.note, 1000, 1, "text")})
	if err := n.batch(false, n.cp.LSN+100, func(b *Batch) error { return slices(b, n.cp.LSN+90) }); err != nil {
		t.Fatal(err)
	}
	// All of them have moved, and the first one with them.
	tenants := map[string]int{}
	for _, row := range n.memory.Rows(n.notes) {
		tenants[row[2].Text]++
	}
	if tenants["8"] != 201 || len(tenants) != 1 {
		t.Errorf("notes by tenant: %v, want 201 of tenant 8", tenants)
	}
}
