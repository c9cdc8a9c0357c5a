package status_test

import (
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/status"
)

func TestState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := status.New("v1")
		time.Sleep(time.Second)
		s.SetState(status.Streaming)
		time.Sleep(time.Second)
		s.SetState(status.Streaming) // no change of phase
		s.Update(func(n *status.Snapshot) {
			n.Name, n.Checkpoint, n.Source, n.LagBytes = "a", 0x16B3748, 0x2_0000_0010, 17
			n.Behind = time.Now()
			n.Copy = []status.Copy{{Table: "public.contacts", Done: 1, Total: 2, Estimated: true}}
		})
		s.Fail(fault.Wrap(fault.Retry, "start it", errors.New("target is away")))
		s.Fail(nil)
		failed := time.Now()
		time.Sleep(1500 * time.Millisecond)

		got := s.Snapshot()
		want := status.Snapshot{
			Name: "a", Version: "v1", State: status.Streaming, Since: start.Add(time.Second), Started: start,
			Checkpoint: 0x16B3748, Source: 0x2_0000_0010, LagBytes: 17, Behind: failed, LagSeconds: 1.5,
			Errors:    map[string]int64{"retry": 1},
			LastError: &status.Problem{At: failed, Times: 1, Class: "retry", Message: "target is away", Hint: "start it"},
			Problems:  []status.Problem{{At: failed, Times: 1, Class: "retry", Message: "target is away", Hint: "start it"}},
			Copy:      []status.Copy{{Table: "public.contacts", Done: 1, Total: 2, Estimated: true}},
			Tables:    []status.Table{{Name: "public.contacts"}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Snapshot() (-want +got):\n%s", diff)
		}

		// A snapshot is the reader's own.
		got.Copy[0].Done, got.Errors["retry"], got.LastError.Message = 9, 9, "x"
		if diff := cmp.Diff(want, s.Snapshot()); diff != "" {
			t.Errorf("changing a snapshot changed the state:\n%s", diff)
		}

		s.Update(func(n *status.Snapshot) { n.Behind = time.Now().Add(time.Hour) })
		if got := s.Snapshot().LagSeconds; got != 0 {
			t.Errorf("LagSeconds = %v with a source whose clock is ahead, want 0", got)
		}
		s.Update(func(n *status.Snapshot) { n.Behind = time.Time{} })
		if got := s.Snapshot().LagSeconds; got != 0 {
			t.Errorf("LagSeconds = %v when idle, want 0", got)
		}
	})
}

func TestSnapshot_JSON(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	safe := int64(99)
	tests := []struct {
		name string
		in   status.Snapshot
		want string
	}{
		{"starting", status.Snapshot{State: status.Starting, Since: at, Started: at, Version: "v1"},
			`{"state":"starting","since":"2026-03-04T05:06:07Z","name":"","version":"v1","started_at":"2026-03-04T05:06:07Z",` +
				`"checkpoint_lsn":"0/0","source_lsn":"0/0","confirmed_lsn":"0/0","lag_bytes":0,"lag_seconds":0,` +
				`"rows_applied":0,"audit_rows":0,"held_rows":0,"dropped_rows":0,"batches":0,"errors":{},"last_error":null,"slot":null,"copy":[]}`},
		{"full", status.Snapshot{
			State: status.Blocked, Since: at, Started: at, Name: "n", Version: "v1",
			Checkpoint: 0x16B3748, Source: 0x1_0000_0000, Confirmed: 0x16B3700, LagBytes: 5, LagSeconds: 1.5,
			Rows: 1, Entries: 2, Chain: "2:l", Held: 3, Dropped: 4, Batches: 5, Errors: map[string]int64{"stop": 1},
			LastError:    &status.Problem{At: at, Class: "stop", Message: "m", Hint: "h"},
			Slot:         &status.Slot{WALStatus: "extended", Retained: 7, Safe: &safe},
			Copy:         []status.Copy{{Table: "a.b", Done: 1, Total: 2, Finished: true}},
			Transactions: 6, Written: 7, TxRate: 0.5, RowRate: 1.5,
			Tables:  []status.Table{{Name: "a.b", Rows: 7, Held: 3}},
			Tenants: []status.Tenant{{ID: "t", Rows: 7}}, OtherTenants: 8,
			HeldBy:   []status.Held{{Table: "a.b", Reason: "tenant", Rows: 3}},
			Request:  &status.Request{ID: 9, Kind: "resync", Table: "a.c", Step: "rows", Done: 10, Total: 11, Written: 12},
			Problems: []status.Problem{{At: at, Times: 2, Class: "stop", Message: "m", Hint: "h"}}},
			`{"state":"blocked","since":"2026-03-04T05:06:07Z","name":"n","version":"v1","started_at":"2026-03-04T05:06:07Z",` +
				`"checkpoint_lsn":"0/16B3748","source_lsn":"1/0","confirmed_lsn":"0/16B3700","lag_bytes":5,"lag_seconds":1.5,` +
				`"rows_applied":1,"audit_rows":2,"audit_chain":"2:l","held_rows":3,"dropped_rows":4,"batches":5,"errors":{"stop":1},` +
				`"last_error":"m","last_error_hint":"h","last_error_class":"stop","last_error_at":"2026-03-04T05:06:07Z",` +
				`"slot":{"wal_status":"extended","retained_bytes":7,"safe_bytes":99},` +
				`"copy":[{"table":"a.b","done":1,"total":2,"estimated":false,"finished":true}],` +
				`"transactions":6,"rows_written":7,"transactions_per_second":0.5,"rows_per_second":1.5,` +
				`"tables":[{"table":"a.b","rows_applied":7,"held_rows":3}],"tenants":[{"tenant":"t","rows_applied":7}],"other_tenants_rows":8,` +
				`"held_by":[{"table":"a.b","reason":"tenant","rows":3}],` +
				`"request":{"id":9,"kind":"resync","table":"a.c","step":"rows","done":10,"total":11,"written":12},` +
				`"last_errors":[{"at":"2026-03-04T05:06:07Z","times":2,"class":"stop","error":"m","hint":"h"}]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := json.Marshal(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("JSON (-want +got):\n%s", diff)
			}
			var back status.Snapshot
			if err := json.Unmarshal(got, &back); err != nil {
				t.Fatal(err)
			}
			again, err := json.Marshal(back)
			if err != nil || string(again) != string(got) {
				t.Errorf("read and written again: %s, %v", again, err)
			}
		})
	}
	var n status.Snapshot
	if err := json.Unmarshal([]byte(`{"checkpoint_lsn":"x"}`), &n); err == nil {
		t.Error("a status without positions is accepted")
	}
}

func TestPhase_Ready(t *testing.T) {
	t.Parallel()
	want := map[status.Phase]bool{status.Copying: true, status.Streaming: true, status.Standby: true}
	for _, p := range status.Phases() {
		if got := p.Ready(); got != want[p] {
			t.Errorf("%s.Ready() = %t, want %t", p, got, want[p])
		}
	}
}
