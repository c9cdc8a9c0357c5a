package sinktest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/sinktest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	sinktest.Exercise(t, func(*testing.T) sinktest.Target { return sinktest.NewMemory().Target() })
}

var words = &sink.Table{Schema: "public", Name: "words", Key: []int{0}, Tenant: 1, Columns: []sink.Column{
	{Name: "id", Type: `"pg_catalog"."int8"`}, {Name: "tenant", Type: `"pg_catalog"."int8"`}, {Name: "word", Type: `"pg_catalog"."text"`}}}

func write(word string) *sink.Writes {
	return &sink.Writes{Rows: []sink.RowSet{{Table: words, Mode: sink.Insert, Columns: []int{0, 1, 2},
		Rows: []cdc.Row{{cdc.TextValue("1"), cdc.TextValue("1"), cdc.TextValue(word)}}}}}
}

// ready returns a target with a sink that holds the lease.
func ready(t *testing.T) (*sinktest.Memory, sink.Sink, int64) {
	t.Helper()
	m := sinktest.NewMemory()
	s := m.Open("bridge")
	if _, err := s.Install(t.Context(), &sink.Schema{Tables: []*sink.Table{words}}, false); err != nil {
		t.Fatal(err)
	}
	c, err := s.Acquire(t.Context(), "me", time.Minute, false)
	if err != nil {
		t.Fatal(err)
	}
	return m, s, c.Epoch
}

// batch writes a word and commits at lsn.
func batch(t *testing.T, s sink.Sink, epoch int64, from, to cdc.LSN, word string) error {
	t.Helper()
	tx, err := s.Begin(t.Context(), epoch, from, sink.TxOptions{})
	if err != nil {
		return err
	}
	defer tx.Rollback(t.Context())
	if err := tx.Apply(t.Context(), write(word)); err != nil {
		return err
	}
	return tx.Commit(t.Context(), sink.Progress{LSN: to})
}

func TestMemory_Fail(t *testing.T) {
	t.Parallel()
	one, two := errors.New("one"), errors.New("two")
	for _, op := range []sinktest.Op{sinktest.OpBegin, sinktest.OpApply, sinktest.OpCommit} {
		m, s, epoch := ready(t)
		m.Fail(op, one)
		m.Fail(op, two)
		for _, want := range []error{one, two, nil} {
			if got := len(m.Rows(words)); got != 0 {
				t.Fatalf("%s: %d rows before a batch has passed", op, got)
			}
			if err := batch(t, s, epoch, 0, 10, "a"); !errors.Is(err, want) {
				t.Fatalf("%s: batch = %v, want %v", op, err, want)
			}
		}
		if got := len(m.Rows(words)); got != 1 {
			t.Fatalf("%s: %d rows, want 1", op, got)
		}
	}
}

func TestMemory_LoseReply(t *testing.T) {
	t.Parallel()
	m, s, epoch := ready(t)
	m.Fail(sinktest.OpCommit, errors.New("first"))
	m.LoseReply(errors.New("gone"))
	if err := batch(t, s, epoch, 0, 10, "a"); err == nil || len(m.Rows(words)) != 0 {
		t.Fatalf("a commit that fails before: %v, %d rows", err, len(m.Rows(words)))
	}
	var unknown *sink.UnknownError
	if err := batch(t, s, epoch, 0, 10, "a"); !errors.As(err, &unknown) {
		t.Fatalf("a commit without a reply: %v, want *sink.UnknownError", err)
	}
	if c, err := s.Checkpoint(t.Context()); err != nil || c.LSN != 10 || len(m.Rows(words)) != 1 {
		t.Fatalf("checkpoint %v, %v, %d rows: the commit should have taken effect", c.LSN, err, len(m.Rows(words)))
	}
}

func TestMemory_RejectIf(t *testing.T) {
	t.Parallel()
	m, s, epoch := ready(t)
	m.RejectIf(func(table *sink.Table, row cdc.Row) string {
		if table == words && row[2].Text == "bad" {
			return "23514"
		}
		return ""
	})
	var reject *sink.RejectError
	if err := batch(t, s, epoch, 0, 10, "bad"); !errors.As(err, &reject) || reject.Code != "23514" {
		t.Fatalf("a bad row: %v, want *sink.RejectError", err)
	}
	if err := batch(t, s, epoch, 0, 10, "good"); err != nil {
		t.Fatal(err)
	}
}

func TestMemory_Wipe(t *testing.T) {
	t.Parallel()
	m, s, epoch := ready(t)
	if err := batch(t, s, epoch, 0, 10, "a"); err != nil {
		t.Fatal(err)
	}
	m.Wipe()
	if err := batch(t, s, epoch, 10, 20, "b"); !errors.Is(err, sink.ErrNoCheckpoint) {
		t.Fatalf("a batch on a wiped target: %v, want ErrNoCheckpoint", err)
	}
}
