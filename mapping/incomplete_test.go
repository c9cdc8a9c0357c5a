package mapping

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// rereads is a Coverage that has copied everything but what it is asked to read
// again.
type rereads map[sink.Key]bool

func (r rereads) Covers(_ uint32, _ *Source, key sink.Key) bool { return !r[key] }
func (r rereads) Skipped(_ uint32, _ *Source, _ sink.Key, truncated bool) {
	if truncated {
		clear(r)
	}
}
func (r rereads) Reread(_ uint32, _ *Source, key sink.Key) { r[key] = true }
func (r rereads) Settled(_ *Source, key sink.Key)          { delete(r, key) }

// leftOut is a value that an update didn't touch and the stream doesn't send.
var leftOut = cdc.Value{Kind: cdc.Unchanged}

// dropping is a notebook that drops notes without a tenant. Note 1 has been
// dropped with a large text, and comes to tenant 7 without it.
func dropping(t *testing.T) (*notebook, rereads) {
	n, cov := newNotebook(t), rereads{}
	n.cov = cov
	n.note.Target.WithoutTenant = Drop
	n.apply(n.change(cdc.Insert, n.inbox, 5, nil), n.change(cdc.Insert, n.inbox, 6, 7), n.change(cdc.Insert, n.inbox, 8, 9))
	n.apply(n.change(cdc.Insert, n.note, 1, 5, "large"))
	n.wantRows()
	n.wantHeld(0)
	n.apply(n.change(cdc.Update, n.note, 1, 6, leftOut))
	n.wantEntries("7 note.updated 1 update")
	n.wantIncomplete(cov, "1")
	return n, cov
}

// wantIncomplete holds that these notes lack their text, and that those of cov,
// and no others, are going to be read.
func (n *notebook) wantIncomplete(cov rereads, want ...sink.Key) {
	n.Helper()
	n.wantHeld(int64(len(want)))
	for _, key := range want {
		if st := n.stored(key); st.Row != nil || st.Held == nil || st.Held.Reason != sink.HeldIncomplete || st.Held.Code != `["body"]` || !st.Held.Row[3].IsNull() {
			n.Errorf("note %s is stored as %+v, want it held without its text", key, st.Held)
		}
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(cov))); diff != "" {
		n.Errorf("rows to be read (-want +got):\n%s", diff)
	}
}

// read applies a piece that was read for notes.
func (n *notebook) read(cov rereads, rows ...cdc.Row) {
	n.Helper()
	clear(cov)
	err := n.batch(false, n.cp.LSN+16, func(b *Batch) error {
		return b.Piece(context.Background(), &Piece{Source: n.note, Rows: rows, Progress: &sink.CopyProgress{Source: "app.note", Done: true}, Time: time.Unix(99, 0)})
	})
	if err != nil {
		n.Fatal(err)
	}
}

// changedOf lists what entries say of changed texts.
func (n *notebook) changedOf() (list []string) {
	n.Helper()
	for _, e := range n.memory.Entries(&sink.EntryTable{Schema: "public", Name: "audit_logs"}) {
		var d struct {
			Changed map[string]json.RawMessage
		}
		if err := json.Unmarshal([]byte(e.Details), &d); err != nil {
			n.Fatal(err)
		}
		if text := d.Changed["body"]; text != nil {
			list = append(list, strings.ReplaceAll(fmt.Sprintf("%s %s", e.Action, text), " ", ""))
		}
	}
	return list
}

// It is read from the source. Until then its changes make entries all the same.
func TestIncomplete_Read(t *testing.T) {
	t.Parallel()
	n, cov := dropping(t)
	n.apply(n.change(cdc.Update, n.note, 1, 8, leftOut))
	n.wantIncomplete(cov, "1")
	n.read(cov, cdc.Row{cdc.TextValue("1"), cdc.TextValue("8"), cdc.TextValue("large")})
	n.wantRows("1/8/9/large")
	n.wantHeld(0)
	n.apply(n.change(cdc.Update, n.note, 1, 8, "small"))
	n.wantEntries("7 note.updated 1 update", "9 note.updated 1 update", "7 note.updated 1 update", "9 note.updated 1 update")
	if got := n.changedOf(); len(got) != 1 || got[0] != `note.updated["large","small"]` {
		t.Errorf("changed texts: %q", got)
	}
}

// An update brings what was missing, and nothing has to be read.
func TestIncomplete_Overwritten(t *testing.T) {
	t.Parallel()
	n, cov := dropping(t)
	n.apply(n.change(cdc.Update, n.note, 1, 6, "small"))
	n.wantRows("1/6/7/small")
	n.wantIncomplete(cov)
	n.wantEntries("7 note.updated 1 update", "7 note.updated 1 update")
	if got := n.changedOf(); len(got) != 1 || got[0] != `note.updated[{"unknown":true},"small"]` {
		t.Errorf("changed texts: %q", got)
	}
}

// It goes before it could be read. There is nothing to keep, but its tenant learns
// of it.
func TestIncomplete_Gone(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(n *notebook) []cdc.Change{
		"7 note.deleted 1 delete":     func(n *notebook) []cdc.Change { return []cdc.Change{n.change(cdc.Delete, n.note, 1)} },
		"7 note.updated 1 update":     func(n *notebook) []cdc.Change { return []cdc.Change{n.change(cdc.Update, n.note, 1, 5, leftOut)} },
		"7 note.truncated 0 truncate": func(n *notebook) []cdc.Change { return []cdc.Change{n.change(cdc.Truncate, n.note)} },
	} {
		n, cov := dropping(t)
		n.apply(f(n)...)
		n.wantRows()
		n.wantIncomplete(cov)
		if st := n.stored("1"); st.Held != nil || st.Deleted {
			t.Errorf("%s: stored %+v, want nothing", name, st)
		}
		n.wantEntries("7 note.updated 1 update", name)
		if n.cp.Counters.Dropped != 2 {
			t.Errorf("%s: %d dropped, want the note without a tenant, and that without its text", name, n.cp.Counters.Dropped)
		}
	}
}

// Its key changes: it is to be read under the new one.
func TestIncomplete_KeyChanges(t *testing.T) {
	t.Parallel()
	n, cov := dropping(t)
	n.apply(n.moveKey(n.note, 1, 2, 6, leftOut))
	n.wantIncomplete(cov, "2")
	n.wantEntries("7 note.updated 1 update", "7 note.updated 2 update")
	// An operator can't do anything about it.
	if got, err := n.held(true, false, 1); err != nil || got.Waiting != 1 {
		t.Errorf("retry: %+v, %v", got, err)
	}
	if got, err := n.held(false, true, 2); err != nil || got.Waiting != 1 || got.Dropped != 0 {
		t.Errorf("drop: %+v, %v", got, err)
	}
	n.wantIncomplete(cov, "2")
}

// A dropped note whose key changes is a new one, whether or not the batch has
// seen it go.
func TestDropped_KeyChanges(t *testing.T) {
	t.Parallel()
	n := newNotebook(t)
	n.note.Target.WithoutTenant = Drop
	n.streamAll(
		[]cdc.Change{n.change(cdc.Insert, n.inbox, 6, 7), n.change(cdc.Insert, n.note, 1, nil, "text")},
		[]cdc.Change{n.moveKey(n.note, 1, 2, 6, "text")},
	)
	n.wantRows("2/6/7/text")
	for _, e := range n.wantEntries("7 note.updated 2 update") {
		if strings.Contains(e.Details, "changed") {
			t.Errorf("details %s, want no values from before", e.Details)
		}
	}
}
