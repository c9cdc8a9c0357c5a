package replicator

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// A batch that asks for a row is rolled back and applied again. It must meet the
// row covered, as the first time, or the changes before it would be left out.
func TestCopyState_RereadsOfABatch(t *testing.T) {
	t.Parallel()
	s := &mapping.Source{Schema: "app", Name: "log", Key: []mapping.KeyColumn{{Name: "id", Integer: true}}}
	c, err := newCopyState(&mapping.Mapping{Sources: []*mapping.Source{s}}, []sink.CopyProgress{{Source: "app.log", Done: true, Pending: []sink.Key{"7"}}})
	if err != nil {
		t.Fatal(err)
	}
	covers := func(want string) {
		t.Helper()
		got := ""
		for _, key := range []sink.Key{"5", "6", "7"} {
			if c.Covers(99, s, key) {
				got += string(key)
			}
		}
		if got != want {
			t.Errorf("covers %q of 567, want %q", got, want)
		}
	}
	due := func(want ...sink.Key) {
		t.Helper()
		if got := c.progressDue(false); len(got) != 1 || !cmp.Equal(got[0].Pending, want) {
			t.Errorf("progress due: %+v, want %q pending", got, want)
		}
	}
	c.begin()
	covers("56")
	c.Reread(100, s, "5")
	c.Settled(s, "7")
	c.Settled(s, "6")
	covers("67")
	due("5")

	c.begin() // it was rolled back
	covers("56")
	due("7")
	c.Reread(100, s, "5")
	c.Reread(100, s, "6")
	due("5", "6", "7")
	c.progressStored()
	c.begin()
	covers("")
	if !c.active() {
		t.Error("three rows are to be read, and nothing is said to be left")
	}

	// A piece within the batch sees what the batch has asked for, and stores it.
	c.Settled(s, "6")
	table := c.by[s]
	k, ok := c.take(&pieceRead{request: &pieceRequest{table: table, keys: []sink.Key{"5", "6", "7"}},
		snap: snapshot{xmin: 101, xmax: 101}, rows: []mappingRow{{key: "5"}, {key: "6"}}})
	if !ok || len(k.rows) != 1 || k.rows[0].key != "5" || len(k.progress.Pending) != 0 {
		t.Errorf("taken %+v, want row 5 alone and nothing pending", k)
	}
	if got := c.progressDue(false); len(got) != 0 {
		t.Errorf("progress due: %+v, the piece stores it", got)
	}
	c.progressStored()
	c.keep(table, k)
	c.begin()
	covers("567")

	// A TRUNCATE leaves nothing to read.
	c.Reread(101, s, "5")
	c.Skipped(101, s, "", true)
	covers("567")
	c.progressStored()
	if c.active() {
		t.Error("something is said to be left to read of an empty table")
	}
}
