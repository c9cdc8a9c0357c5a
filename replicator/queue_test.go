package replicator

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/walbridge/walbridge/internal/cdc"
)

// testTx makes a transaction of n changes whose end is lsn.
func testTx(lsn cdc.LSN, n int) Item {
	return Item{WALEnd: lsn, Tx: &cdc.Transaction{
		Commit: lsn - 1, End: lsn, First: true, Last: true, Bytes: 100 * n,
		Time: time.Unix(int64(lsn), 0), Changes: make([]cdc.Change, n),
	}}
}

// testSlice makes a slice; lsn is zero unless it is the last.
func testSlice(lsn cdc.LSN, n int, first bool) Item {
	it := testTx(lsn, n)
	it.Tx.First, it.Tx.Last = first, lsn != 0
	return it
}

func ends(items []Item) (lsns []cdc.LSN) {
	for _, it := range items {
		lsns = append(lsns, it.WALEnd)
	}
	return lsns
}

func TestQueue_Take(t *testing.T) {
	t.Parallel()
	alive := func(lsn cdc.LSN) Item { return Item{WALEnd: lsn} }
	tests := []struct {
		name     string
		push     []Item
		rows     int
		bytes    int
		want     [][]cdc.LSN
		wantLeft int
	}{
		{"Empty", nil, 10, 1 << 20, [][]cdc.LSN{nil}, 0},
		{"All", []Item{testTx(1, 2), testTx(2, 3)}, 10, 1 << 20, [][]cdc.LSN{{1, 2}, nil}, 0},
		{"Rows", []Item{testTx(1, 2), testTx(2, 3), testTx(3, 1)}, 5, 1 << 20, [][]cdc.LSN{{1, 2}, {3}}, 0},
		{"Bytes", []Item{testTx(1, 2), testTx(2, 3), testTx(3, 1)}, 100, 500, [][]cdc.LSN{{1}, {2}, {3}}, 0},
		{"AtLeastOne", []Item{testTx(1, 20), testTx(2, 20)}, 10, 10, [][]cdc.LSN{{1}, {2}}, 0},
		{"SliceAlone", []Item{testTx(1, 1), testSlice(0, 1, true), testSlice(0, 1, false), testSlice(5, 1, false), testTx(6, 1)},
			100, 1 << 20, [][]cdc.LSN{{1}, {0}, {0}, {5}, {6}}, 0},
		{"KeepalivesMerge", []Item{alive(1), alive(2), testTx(3, 1), alive(4), alive(5)}, 10, 1 << 20, [][]cdc.LSN{{2, 3, 5}}, 0},
		{"KeepaliveAfterSlice", []Item{testSlice(5, 1, false), alive(6), alive(7)}, 10, 1 << 20, [][]cdc.LSN{{5}, {7}}, 0},
		{"Left", []Item{testTx(1, 1), testTx(2, 1)}, 1, 1 << 20, [][]cdc.LSN{{1}}, itemBytes + 100},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := newQueue(1 << 20)
			q.push(tt.push)
			var got [][]cdc.LSN
			for range tt.want {
				got = append(got, ends(q.take(tt.rows, tt.bytes)))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("take (-want +got):\n%s", diff)
			}
			if got := q.depth(); got != tt.wantLeft {
				t.Errorf("depth=%d, want %d", got, tt.wantLeft)
			}
		})
	}
}

// A consumer that only takes when Ready says so must never miss an item.
func TestQueue_Ready(t *testing.T) {
	t.Parallel()
	q := newQueue(1 << 20)
	q.push([]Item{testTx(1, 1)})
	q.push([]Item{testTx(2, 1)})
	q.push([]Item{testTx(3, 1)})
	for lsn := cdc.LSN(1); lsn <= 3; lsn++ {
		select {
		case <-q.ready:
		default:
			t.Fatalf("no token before item %d", lsn)
		}
		if got := ends(q.take(1, 1)); !cmp.Equal(got, []cdc.LSN{lsn}) {
			t.Fatalf("take=%v, want %d", got, lsn)
		}
	}
	select {
	case <-q.ready:
		t.Error("token although nothing is left")
	default:
	}
}

func TestQueue_Bound(t *testing.T) {
	t.Parallel()
	q := newQueue(2 * (itemBytes + 100))
	q.push([]Item{testTx(1, 1)})
	if q.full() {
		t.Error("full below its limit")
	}
	q.push([]Item{testTx(2, 1)})
	if !q.full() {
		t.Error("not full at its limit")
	}
	if got, want := q.oldest(), time.Unix(1, 0); !got.Equal(want) {
		t.Errorf("oldest=%v, want %v", got, want)
	}
	q.take(1, 1)
	if q.full() {
		t.Error("full after something was taken")
	}
	select {
	case <-q.room:
	default:
		t.Error("no word that there is room")
	}
}

// Whatever is pushed and taken in between comes out once, in order, and the
// position never moves back.
func TestQueue_Model(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue(1000)
		var next, last cdc.LSN
		var pushed, taken []cdc.LSN // transactions only
		check := func(items []Item) {
			for _, it := range items {
				if it.WALEnd <= last {
					t.Fatalf("position %d after %d", it.WALEnd, last)
				}
				if last = it.WALEnd; it.Tx != nil {
					taken = append(taken, it.WALEnd)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				var items []Item
				for range rapid.IntRange(0, 5).Draw(t, "n") {
					next++
					if rapid.Bool().Draw(t, "keepalive") {
						items = append(items, Item{WALEnd: next})
						continue
					}
					items = append(items, testTx(next, rapid.IntRange(1, 4).Draw(t, "rows")))
					pushed = append(pushed, next)
				}
				q.push(items)
			},
			"take": func(t *rapid.T) {
				check(q.take(rapid.IntRange(1, 10).Draw(t, "rows"), rapid.IntRange(1, 2000).Draw(t, "bytes")))
			},
		})
		for q.depth() > 0 {
			check(q.take(3, 1000))
		}
		if !cmp.Equal(pushed, taken) {
			t.Fatalf("taken %v, pushed %v", taken, pushed)
		}
		if last != next {
			t.Fatalf("position %d, want %d", last, next)
		}
	})
}
