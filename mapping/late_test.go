package mapping

import (
	"fmt"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// moveKey is a change of a row's key.
func (n *notebook) moveKey(s *Source, from any, values ...any) cdc.Change {
	c := n.change(cdc.Update, s, values...)
	c.Old = n.change(cdc.Delete, s, from).Old
	n.ordinal--
	return c
}

// A note is written under a tenant that counts only for as long as its inbox
// isn't there. Its inbox comes later: in another transaction, because the source
// has no foreign key, or in a later slice.
func TestBatch_ParentComesLate(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.notes.Derived[0].From = append(n.notes.Derived[0].From, sink.Lookup{Column: 3})
	n.apply(n.change(cdc.Insert, n.note, 1, 5, "9"), n.change(cdc.Insert, n.note, 2, 6, "9"))
	n.wantRows("1/5/9/9", "2/6/9/9")
	n.apply(n.change(cdc.Insert, n.inbox, 5, 7))
	n.wantRows("1/5/7/9", "2/6/9/9")
	// It has none itself, and then one.
	n.apply(n.change(cdc.Insert, n.inbox, 6, nil))
	n.apply(n.change(cdc.Update, n.inbox, 6, 8))
	n.wantRows("1/5/7/9", "2/6/8/9")
	n.wantEntries("9 note.created 1 insert", "9 note.created 2 insert", "9 inbox.moved 5 move", "7 inbox.moved 5 move",
		"9 inbox.moved 6 move", "8 inbox.moved 6 move")
}

// A kept note that never had a tenant leaves entries behind. Another note that
// comes to its key is no reason to show them to that one's tenant.
func TestBatch_WaitingEntriesOfAnotherNote(t *testing.T) {
	t.Parallel()
	for name, arrive := range map[string]func(n *notebook) cdc.Change{
		"update": func(n *notebook) cdc.Change { return n.moveKey(n.note, 2, 1, 6, "other") },
		"insert": func(n *notebook) cdc.Change { return n.change(cdc.Insert, n.note, 1, 6, "other") },
	} {
		n := newNotebook(t)
		n.apply(n.change(cdc.Insert, n.note, 1, 5, "nobody's"))
		n.apply(n.change(cdc.Delete, n.note, 1))
		n.apply(n.change(cdc.Insert, n.inbox, 6, 7), n.change(cdc.Insert, n.note, 2, 6, "other"))
		n.wantHeld(1)
		n.apply(arrive(n))
		n.wantHeld(0)
		entries := n.memory.Entries(&sink.EntryTable{Schema: "public", Name: "audit_logs"})
		if len(entries) != 2 || n.cp.Counters.Dropped != 2 {
			t.Errorf("%s: %d entries and %d dropped, want 2 of the other note and 2: %v", name, len(entries), n.cp.Counters.Dropped, entries)
		}
	}
}

// An inbox gets another key, and another inbox its old one. Each change tells of
// the notes that it moved.
func TestBatch_MovesOverBothKeys(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.apply(n.change(cdc.Insert, n.inbox, 1, 7), n.change(cdc.Insert, n.inbox, 2, 8),
		n.change(cdc.Insert, n.note, 1, 1, "a"), n.change(cdc.Insert, n.note, 2, 2, "b"))
	n.apply(n.change(cdc.Delete, n.inbox, 2))
	n.apply(n.moveKey(n.inbox, 1, 2, 7), n.change(cdc.Insert, n.inbox, 1, 9))
	n.wantRows("1/1/9/a", "2/2/7/b")
	n.wantEntries("7 note.created 1 insert", "8 note.created 2 insert",
		"8 inbox.moved 2 move", "7 inbox.moved 2 move", "7 inbox.moved 1 move", "9 inbox.moved 1 move")
}

// Of two changes of an inbox the first makes no difference. What moves belongs to
// the second: the entry of the first may be left out.
func TestBatch_MovesWithTheChangeThatMadeADifference(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.apply(n.change(cdc.Insert, n.inbox, 1, 7), n.change(cdc.Insert, n.note, 1, 1, "a"))
	same, other := n.change(cdc.Update, n.inbox, 1, 7), n.change(cdc.Update, n.inbox, 1, 8)
	n.apply(same, other)
	entries := n.wantEntries("7 note.created 1 insert", "7 inbox.moved 1 move", "8 inbox.moved 1 move")
	if want := fmt.Sprintf(`"seq":%d,`, other.Ordinal); !strings.Contains(entries[1].Details, want) {
		t.Errorf("details %s, want them of the second change, %s", entries[1].Details, want)
	}
}

// A held note is changed before its key changes. The entries of both wait with it
// under its new key.
func TestBatch_EntriesFollowTheKey(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.apply(n.change(cdc.Insert, n.note, 3, 5, "c"))
	n.apply(n.change(cdc.Insert, n.note, 1, 5, "a"), n.moveKey(n.note, 1, 2, 5, "a"),
		n.change(cdc.Update, n.note, 3, 5, "d"), n.moveKey(n.note, 3, 4, 5, "d"))
	n.wantHeld(2)
	n.wantEntries()
	n.apply(n.change(cdc.Insert, n.inbox, 5, 7))
	n.wantRows("2/5/7/a", "4/5/7/d")
	if entries := n.memory.Entries(&sink.EntryTable{Schema: "public", Name: "audit_logs"}); len(entries) != 5+1 {
		t.Errorf("%d entries, want 2 and 3 of the notes, and 1 of the inbox: %v", len(entries), entries)
	}
}

// A note comes to a tenant and goes within a transaction, and another that is
// dropped takes its key. The changes of the first one were its tenant's.
func TestBatch_DroppedUnderTheKeyOfAnother(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.note.Target.WithoutTenant = Drop
	n.apply(n.change(cdc.Insert, n.inbox, 6, 7), n.change(cdc.Insert, n.note, 1, 6, "a"), n.change(cdc.Delete, n.note, 1),
		n.change(cdc.Insert, n.note, 1, nil, "b"), n.change(cdc.Delete, n.note, 1))
	n.wantRows()
	n.wantEntries("7 note.created 1 insert", "7 note.deleted 1 delete")
}
