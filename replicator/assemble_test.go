package replicator

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/replicator/pgoutput"
)

var (
	relA = &cdc.Relation{OID: 1, Schema: "public", Name: "a"}
	relB = &cdc.Relation{OID: 2, Schema: "public", Name: "b"}
	at   = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
)

func begin(commit cdc.LSN) pgoutput.Message {
	return pgoutput.Message{Kind: pgoutput.Begin, XID: uint32(commit), CommitLSN: commit, CommitTime: at}
}

func commit(commit cdc.LSN) pgoutput.Message {
	return pgoutput.Message{Kind: pgoutput.Commit, CommitLSN: commit, EndLSN: commit + 5, CommitTime: at}
}

func insert(text string) pgoutput.Message {
	return pgoutput.Message{Kind: pgoutput.Insert, Relation: relA, New: cdc.Row{cdc.TextValue(text)}}
}

// assemble feeds messages and returns the items.
func assemble(t *testing.T, a *assembler, msgs ...pgoutput.Message) []Item {
	t.Helper()
	var items []Item
	for i := range msgs {
		it, ok, err := a.add(&msgs[i], 50)
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if ok {
			items = append(items, it)
		}
	}
	return items
}

func TestAssembler_Transaction(t *testing.T) {
	t.Parallel()
	a := &assembler{maxRows: 100, maxBytes: 1 << 20}
	got := assemble(t, a,
		begin(100),
		pgoutput.Message{Kind: pgoutput.Relation, Relation: relA},
		pgoutput.Message{Kind: pgoutput.LogicalMessage, Transactional: true, Prefix: "p", Content: "c"},
		insert("1"),
		pgoutput.Message{Kind: pgoutput.LogicalMessage, Prefix: "not", Content: "transactional"},
		pgoutput.Message{Kind: pgoutput.Truncate, Relations: []*cdc.Relation{relA, relB}},
		pgoutput.Message{Kind: pgoutput.Delete, Relation: relB, Old: cdc.Row{cdc.TextValue("9")}, OldFull: true},
		commit(100),
	)
	want := []Item{{WALEnd: 105, Tx: &cdc.Transaction{
		XID: 100, Commit: 100, End: 105, Time: at, First: true, Last: true,
		Bytes: 4*50 + 4*changeBytes + 2*valueBytes,
		Changes: []cdc.Change{
			{Op: cdc.Message, Prefix: "p", Content: "c"},
			{Op: cdc.Insert, Ordinal: 1, Relation: relA, New: cdc.Row{cdc.TextValue("1")}},
			{Op: cdc.Truncate, Ordinal: 2, Relation: relA},
			{Op: cdc.Truncate, Ordinal: 3, Relation: relB},
			{Op: cdc.Delete, Ordinal: 4, Relation: relB, Old: cdc.Row{cdc.TextValue("9")}, OldFull: true},
		},
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}

func TestAssembler_Slices(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		rows     int
		maxRows  int
		maxBytes int
		want     []int // changes in each slice
	}{
		{"AtTheLimit", 3, 3, 1 << 20, []int{3}},
		{"OneMore", 4, 3, 1 << 20, []int{3, 1}},
		{"Twice", 6, 3, 1 << 20, []int{3, 3}},
		{"Bytes", 5, 100, 2 * (50 + changeBytes + valueBytes), []int{2, 2, 1}},
		{"Large", 1000, 300, 1 << 20, []int{300, 300, 300, 100}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := &assembler{maxRows: tt.maxRows, maxBytes: tt.maxBytes}
			items := assemble(t, a, begin(7), insert("0"), commit(7)) // something before it in the array
			items = items[:0]
			items = append(items, assemble(t, a, begin(100))...)
			for i := range tt.rows {
				items = append(items, assemble(t, a, insert(string(rune('a'+i%26))))...)
				if _, ok := a.keepalive(1000); ok {
					t.Fatal("a keepalive came between slices")
				}
			}
			items = append(items, assemble(t, a, commit(100))...)

			var sizes []int
			ordinal := uint32(0)
			for i, it := range items {
				sizes = append(sizes, len(it.Tx.Changes))
				last := i == len(items)-1
				if it.Tx.First != (i == 0) || it.Tx.Last != last {
					t.Errorf("slice %d: First=%v Last=%v", i, it.Tx.First, it.Tx.Last)
				}
				if wantEnd := map[bool]cdc.LSN{true: 105}[last]; it.Tx.End != wantEnd || it.WALEnd != wantEnd {
					t.Errorf("slice %d: End=%s WALEnd=%s, want %s", i, it.Tx.End, it.WALEnd, wantEnd)
				}
				if it.Tx.Commit != 100 || it.Tx.XID != 100 || !it.Tx.Time.Equal(at) {
					t.Errorf("slice %d has lost its head: %+v", i, it.Tx)
				}
				for _, c := range it.Tx.Changes {
					if ordinal++; c.Ordinal != ordinal {
						t.Fatalf("slice %d: ordinal %d, want %d", i, c.Ordinal, ordinal)
					}
					if want := string(rune('a' + int(ordinal-1)%26)); c.New[0].Text != want {
						t.Fatalf("change %d is %q, want %q", ordinal, c.New[0].Text, want)
					}
				}
			}
			if diff := cmp.Diff(tt.want, sizes); diff != "" {
				t.Errorf("slices (-want +got):\n%s", diff)
			}
		})
	}
}

// PostgreSQL 14 sends BEGIN and COMMIT for transactions that hold nothing for us.
// They still move the position.
func TestAssembler_Empty(t *testing.T) {
	t.Parallel()
	a := &assembler{maxRows: 3, maxBytes: 1 << 20}
	got := assemble(t, a, begin(100), commit(100))
	if diff := cmp.Diff([]Item{{WALEnd: 105}}, got); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}

// Transactions share arrays; none may see another one's changes or be changed by
// a later one.
func TestAssembler_Sharing(t *testing.T) {
	t.Parallel()
	a := &assembler{maxRows: 1000, maxBytes: 1 << 20}
	var items []Item
	for i := range cdc.LSN(1000) {
		items = append(items, assemble(t, a, begin(10*i+10), insert("x"), insert("y"), commit(10*i+10))...)
	}
	for i, it := range items {
		if len(it.Tx.Changes) != 2 || it.Tx.Changes[0].New[0].Text != "x" || it.Tx.Changes[1].Ordinal != 2 {
			t.Fatalf("transaction %d: %+v", i, it.Tx.Changes)
		}
		if cap(it.Tx.Changes) != 2 {
			t.Fatalf("transaction %d: an append would overwrite the next one", i)
		}
	}
}

func TestAssembler_Keepalive(t *testing.T) {
	t.Parallel()
	a := &assembler{maxRows: 3, maxBytes: 1 << 20}
	steps := []struct {
		name string
		lsn  cdc.LSN
		want bool
	}{{"First", 50, true}, {"Same", 50, false}, {"Older", 40, false}, {"Newer", 60, true}}
	for _, s := range steps {
		if it, ok := a.keepalive(s.lsn); ok != s.want || ok && it.WALEnd != s.lsn {
			t.Errorf("%s: %v %v, want %v", s.name, it, ok, s.want)
		}
	}
	assemble(t, a, begin(100), insert("1"))
	if _, ok := a.keepalive(200); ok {
		t.Error("a keepalive inside a transaction was handed over")
	}
	assemble(t, a, commit(100))
	// Sent while COMMIT was on its way, it still has the position before it.
	if _, ok := a.keepalive(99); ok {
		t.Error("a keepalive moved the position back")
	}
	if _, ok := a.keepalive(106); !ok {
		t.Error("a keepalive after the transaction was left out")
	}
}

func TestAssembler_Protocol(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		msgs []pgoutput.Message
	}{
		{"ChangeOutside", []pgoutput.Message{insert("1")}},
		{"CommitOutside", []pgoutput.Message{commit(1)}},
		{"BeginInside", []pgoutput.Message{begin(1), begin(2)}},
		{"OtherCommit", []pgoutput.Message{begin(1), insert("1"), commit(2)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := &assembler{maxRows: 3, maxBytes: 1 << 20}
			var err error
			for i := range tt.msgs {
				_, _, err = a.add(&tt.msgs[i], 1)
			}
			if !errors.Is(err, errProtocol) {
				t.Errorf("error %v, want a violated protocol", err)
			}
		})
	}
}
