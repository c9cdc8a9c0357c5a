package mapping

import (
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
)

// apply applies one source transaction in a batch of its own.
func (n *notebook) apply(changes ...cdc.Change) {
	n.Helper()
	n.xid++
	end := n.cp.LSN + 16
	tx := &cdc.Transaction{XID: n.xid, Commit: end - 8, End: end, Time: time.Unix(int64(n.xid), 0), Changes: changes, First: true, Last: true}
	if err := n.batch(false, end, func(b *Batch) error { return b.Transactions(n.Context(), []*cdc.Transaction{tx}) }); err != nil {
		n.Fatal(err)
	}
}

// A held row is changed and then emptied away in one transaction. The entry of the
// change must not bring it back.
func TestBatch_TruncateAfterChangeOfHeldRow(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.note.Target.OnDelete = Delete
	n.apply(n.change(cdc.Insert, n.note, 1, 5, "text"))
	if n.cp.Counters.Held != 1 || n.stored("1").Held == nil {
		t.Fatalf("%d rows held, want the note", n.cp.Counters.Held)
	}
	n.apply(n.change(cdc.Update, n.note, 1, 5, "more"), n.change(cdc.Truncate, n.note))
	if got := n.stored("1"); n.cp.Counters.Held != 0 || got.Held != nil || got.Row != nil {
		t.Errorf("%d rows counted as held, stored %+v, want none", n.cp.Counters.Held, got)
	}
}

// The same where rows are kept, and the key comes back with a tenant: it is in the
// table, and nowhere else.
func TestBatch_TruncateThenInsertOfHeldRow(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.apply(n.change(cdc.Insert, n.note, 1, 5, "text"))
	n.apply(
		n.change(cdc.Update, n.note, 1, 5, "more"), n.change(cdc.Truncate, n.note),
		n.change(cdc.Insert, n.inbox, 6, 7), n.change(cdc.Insert, n.note, 1, 6, "again"),
	)
	if got := n.stored("1"); n.cp.Counters.Held != 0 || got.Held != nil || got.Row == nil || got.Deleted {
		t.Errorf("%d rows counted as held, stored %+v, want the row in its table", n.cp.Counters.Held, got)
	}
}

// A held row is deleted, and kept, in the transaction that gives it a tenant: the
// move releases it, and the entry of its deletion goes to that tenant.
func TestBatch_DeleteOfHeldRowThatIsReleased(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.apply(n.change(cdc.Insert, n.inbox, 5, nil), n.change(cdc.Insert, n.note, 1, 5, "text"))
	n.wantHeld(1)
	n.apply(n.change(cdc.Delete, n.note, 1), n.change(cdc.Update, n.inbox, 5, 7))
	n.wantHeld(0)
	if got := n.stored("1"); got.Held != nil || got.Row == nil || !got.Deleted {
		t.Errorf("stored %+v, want a kept row in its table", got)
	}
	n.wantEntries("7 note.created 1 insert", "7 note.deleted 1 delete", "7 inbox.moved 5 move")
}

// A note that gets a tenant and goes in one transaction had none at its end: the
// entries that waited for one have nobody to be shown to.
func TestBatch_TruncateAfterReleaseOfHeldRow(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.note.Target.OnDelete = Delete
	n.apply(n.change(cdc.Insert, n.inbox, 6, 7))
	n.apply(n.change(cdc.Insert, n.note, 1, 5, "nobody's"))
	n.apply(n.change(cdc.Update, n.note, 1, 6, "somebody's"), n.change(cdc.Truncate, n.note))
	n.wantHeld(0)
	n.wantEntries("7 note.updated 1 update", "7 note.truncated 0 truncate")
}
