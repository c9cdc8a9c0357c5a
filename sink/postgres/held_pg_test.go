package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// A page of held rows is bounded by what its rows take in memory, and always has
// one: else nobody would get past a row that is too large.
func TestSink_HeldPageBytes(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	b := newBridge(t, url, admin)
	value := func(s string) cdc.Value { return cdc.TextValue(s) }
	var hold []sink.HeldRow
	for i, size := range []int{1 << 20, 2 << 20, 5 << 20, 3 << 20, 10} {
		id := fmt.Sprint(i)
		row := make(cdc.Row, len(b.contacts.Columns))
		row[0], row[1], row[2] = value(id), value("1"), value(strings.Repeat("x", size))
		hold = append(hold, sink.HeldRow{Table: b.contacts, Key: sink.Key(id), Row: row, Reason: sink.HeldRejected})
	}
	b.must(&sink.Writes{Hold: hold})

	tx := b.begin(sink.TxOptions{})
	defer tx.Rollback(t.Context())
	q := &sink.HeldQuery{Table: b.contacts, Limit: 10}
	for n, want := range [][]sink.Key{{"0", "1"}, {"2"}, {"3", "4"}} {
		l, err := tx.Load(t.Context(), &sink.Query{Held: q})
		if err != nil {
			t.Fatal(err)
		}
		if more := n < 2; !slices.Equal(l.Held, want) || l.MoreHeld != more {
			t.Fatalf("page %d is %v (more: %t), want %v (more: %t)", n, l.Held, l.MoreHeld, want, more)
		}
		q.After = &l.Held[len(l.Held)-1]
	}
}
