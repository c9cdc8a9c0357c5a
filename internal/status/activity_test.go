package status_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/status"
)

// However many tenants there are, few are kept, none of their rows is lost from the
// sum, and the busiest ones are right.
func TestState_Wrote(t *testing.T) {
	t.Parallel()
	s := status.New("v1")
	s.Update(func(n *status.Snapshot) {
		n.Copy = []status.Copy{{Table: "a.idle"}, {Table: "a.busy"}}
		n.HeldBy = []status.Held{{Table: "a.held", Reason: "tenant", Rows: 2}, {Table: "a.held", Reason: "rejected", Rows: 3}}
	})
	const tenants = 10_000
	for i := range tenants {
		s.Wrote(1, map[string]int64{"a.busy": 3}, map[string]int64{fmt.Sprint("t", i): 1, "loud": 2})
	}
	n := s.Snapshot()
	if n.Transactions != tenants || n.Written != 3*tenants {
		t.Errorf("%d transactions, %d rows", n.Transactions, n.Written)
	}
	want := []status.Table{{Name: "a.busy", Rows: 3 * tenants}, {Name: "a.held", Held: 5}, {Name: "a.idle"}}
	if diff := cmp.Diff(want, n.Tables); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	if len(n.Tenants) != 20 || n.Tenants[0] != (status.Tenant{ID: "loud", Rows: 2 * tenants}) {
		t.Errorf("tenants: %v", n.Tenants)
	}
	sum := n.OtherTenants
	for _, tenant := range n.Tenants {
		sum += tenant.Rows
	}
	if sum != 3*tenants {
		t.Errorf("the tenants and the rest have %d rows, want %d", sum, 3*tenants)
	}
}

func TestState_Problems(t *testing.T) {
	t.Parallel()
	s := status.New("v1")
	for i := range 30 {
		for range 3 {
			s.Fail(fault.Errorf(fault.Stop, "mend it", "problem %d", i))
		}
	}
	got := s.Snapshot().Problems
	if len(got) != 20 {
		t.Fatalf("%d problems are kept", len(got))
	}
	for i, p := range got {
		if want := fmt.Sprint("problem ", 29-i); p.Message != want || p.Times != 3 || p.Hint != "mend it" {
			t.Errorf("problem %d: %+v, want %s", i, p, want)
		}
	}
}

func TestState_Record(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := status.New("v1")
		s.SetState(status.Streaming)
		s.Record()
		time.Sleep(status.SampleEvery)
		s.Wrote(10, map[string]int64{"a.b": 50}, nil)
		s.Update(func(n *status.Snapshot) { n.LagBytes, n.Behind = 7, time.Now().Add(-time.Second) })
		s.Record()
		last := s.History().Recent[1]
		if last.RowRate != 10 || last.TxRate != 2 || last.LagBytes != 7 || last.LagSeconds != 1 {
			t.Errorf("sample: %+v", last)
		}
		time.Sleep(status.SampleEvery)
		if n := s.Snapshot(); n.RowRate != 5 || n.TxRate != 1 {
			t.Errorf("%v rows/s and %v transactions/s over 10 s", n.RowRate, n.TxRate)
		}
		// A peak that is short and long ago.
		s.Update(func(n *status.Snapshot) { n.Behind, n.LagBytes = time.Time{}, 1<<30 })
		s.Fail(errors.New("x"))
		s.SetState(status.Blocked)
		s.Record()
		s.SetState(status.Streaming)
		s.Update(func(n *status.Snapshot) { n.LagBytes = 0 })
		for range 30 * 60 / 5 {
			time.Sleep(status.SampleEvery)
			s.Record()
		}
		h := s.History()
		if n := len(h.Recent); n != 15*60/5 {
			t.Errorf("%d samples are kept", n)
		}
		for _, r := range h.Recent {
			if r.LagBytes != 0 || r.State != status.Streaming {
				t.Fatalf("a sample of half an hour ago is there: %+v", r)
			}
		}
		if first := h.Day[0]; first.LagBytes != 1<<30 || first.State != status.Blocked || len(h.Day) > 8 {
			t.Errorf("the day has %d samples, the first is %+v", len(h.Day), first)
		}
		for range 26 * 60 * 60 / 5 {
			time.Sleep(status.SampleEvery)
			s.Record()
		}
		if n := len(s.History().Day); n != 24*60/5 {
			t.Errorf("%d samples of a day are kept", n)
		}
	})
}
