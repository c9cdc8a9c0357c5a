package status_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/status"
)

func TestSnapshot_Text(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	safe := int64(3 << 30)
	tests := []struct {
		name string
		in   status.Snapshot
		want string
		line string
	}{
		{"copying", status.Snapshot{
			From: status.FromBridge, Name: "n", State: status.Copying, Since: now.Add(-4 * time.Minute),
			Checkpoint: 0x10, Source: 0x500010, LagBytes: 5 << 20, LagSeconds: 12.25, Rows: 1, Entries: 2, Held: 3, Dropped: 4,
			Slot: &status.Slot{WALStatus: "reserved", Retained: 16 << 20, Safe: &safe},
			Copy: []status.Copy{
				{Table: "public.contact", Done: 5, Total: 5, Finished: true},
				{Table: "public.m", Done: 120, Total: 300, Estimated: true},
				{Table: "public.new", Done: 7, Total: 7, Estimated: true},
			},
			Request:   &status.Request{ID: 9, Kind: "resync", Table: "public.m", Step: "rows", Done: 10, Total: 40, Written: 3},
			LastError: &status.Problem{At: now.Add(-2 * time.Minute), Message: "target is away\nand so on", Hint: "start it"},
		}, `n: copying for 4 min
Copying the rows that are there already; changes are followed meanwhile.

checkpoint  0/10
source      0/500010
lag         5.0 MiB, 12 s
rows        1 applied, 3 held, 4 without a tenant dropped
entries     2 in the audit log
slot        reserved, the source keeps 16.0 MiB of WAL for it, lost after 3.0 GiB more
copy        public.contact  100 %  5 rows
            public.m         40 %  120 of about 300 rows
            public.new       99 %  7 rows so far
request     9, resync of public.m: 25 %, 10 rows looked at, 3 changed
last error  2 min ago: target is away
            and so on
fix         start it
`, "2026-03-04T05:06:07Z copying from=bridge checkpoint=0/10 lag_bytes=5242880 lag_seconds=12.2 rows=1 entries=2 held=3 " +
			"retained_bytes=16777216 copy=public.m:40% copy=public.new:99%"},
		{"target away", status.Snapshot{
			From: status.FromDatabases, Name: "n", State: status.Unknown, Source: 0x10,
			LastError: &status.Problem{At: now, Message: "connect: refused"},
		}, `n: unknown
A bridge is attached to the slot, and its lease is over or can't be read: it may be at work on a large transaction, or hang.

checkpoint  unknown
source      0/10
lag         unknown
slot        none at the source
wrong       connect: refused
`, `2026-03-04T05:06:07Z unknown from=databases checkpoint=0/0 lag_bytes=0 lag_seconds=0.0 rows=0 entries=0 held=0 error="connect: refused"`},
		{"stopped", status.Snapshot{
			From: status.FromDatabases, Name: "n", State: status.Stopped, Since: now.Add(-3 * time.Hour),
			Checkpoint: 0x10, Source: 0x410, LagBytes: 0x400, LagSeconds: 10800, Chain: "7:link",
			Slot: &status.Slot{WALStatus: "extended", Retained: 1},
		}, `n: stopped, last written 3 h ago
No bridge is at work: none runs, or one is waiting and can't say for what.

checkpoint  0/10
source      0/410
lag         at most 1.0 KiB, about 3 h
rows        0 applied, 0 held, 0 without a tenant dropped
entries     0 in the audit log
chain       7:link
slot        extended, the source keeps 1 B of WAL for it
`, "2026-03-04T05:06:07Z stopped from=databases checkpoint=0/10 lag_bytes=1024 lag_seconds=10800.0 rows=0 entries=0 held=0 retained_bytes=1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, tt.in.Text(now)); diff != "" {
				t.Errorf("Text() (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.line, tt.in.Line(now)); diff != "" {
				t.Errorf("Line() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSnapshot_Healthy(t *testing.T) {
	t.Parallel()
	problem := &status.Problem{Message: "m"}
	tests := []struct {
		in   status.Snapshot
		want bool
	}{
		{status.Snapshot{From: status.FromBridge, State: status.Streaming}, true},
		// A bridge keeps an error that it has got over.
		{status.Snapshot{From: status.FromBridge, State: status.Streaming, LastError: problem}, true},
		{status.Snapshot{From: status.FromDatabases, State: status.Streaming, LastError: problem}, false},
		{status.Snapshot{From: status.FromDatabases, State: status.Streaming}, true},
		{status.Snapshot{From: status.FromBridge, State: status.Blocked}, false},
		{status.Snapshot{From: status.FromDatabases, State: status.Unknown}, false},
	}
	for _, tt := range tests {
		if got := tt.in.Healthy(); got != tt.want {
			t.Errorf("Healthy() of %s from %s, last error %v = %t", tt.in.State, tt.in.From, tt.in.LastError, got)
		}
	}
}
