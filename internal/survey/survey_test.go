package survey

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
)

func TestSnapshot(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	row := func(lease time.Duration, state string) target {
		return target{exists: true, checkpoint: sink.Checkpoint{LSN: 0x10, LeaseLeft: lease, State: state, Age: time.Minute}}
	}
	slot := func(active bool) source {
		return source{flush: 0x30, slot: &replicator.Slot{Name: "n", Active: active, WALStatus: "reserved"}}
	}
	away := errors.New("away")
	lost := slot(false)
	lost.slot.WALStatus, lost.slot.Invalidation = "lost", "wal_removed"
	tests := []struct {
		name  string
		src   source
		dst   target
		state status.Phase
		lag   int64
		wrong string // separated by |
	}{
		{"at work", slot(true), row(time.Second, "streaming"), status.Streaming, 0x20, ""},
		{"took the lease just now", slot(false), row(time.Second, ""), status.Starting, 0x20, ""},
		{"stopped", slot(false), row(0, "streaming"), status.Stopped, 0x20, ""},
		{"large transaction", slot(true), row(-time.Minute, "streaming"), status.Unknown, 0x20, ""},
		{"target away", slot(true), target{err: away}, status.Unknown, 0, "away"},
		{"target away, nobody attached", slot(false), target{err: away}, status.Stopped, 0, "away"},
		{"source away", source{err: away}, row(time.Second, "copying"), status.Copying, 0, "away"},
		{"never run", source{flush: 0x30}, target{}, status.Stopped, 0, "no checkpoint"},
		{"slot gone", source{flush: 0x30}, row(0, "streaming"), status.Stopped, 0x20, "slot n is gone"},
		{"slot not made yet", source{flush: 0x30}, target{exists: true}, status.Stopped, 0, ""},
		{"slot lost", lost, row(0, "streaming"), status.Stopped, 0x20, "slot n is lost"},
		{"two at once", lost, target{err: away}, status.Stopped, 0, "away; |slot n is lost"},
		{"ahead of the source", source{flush: 0x8, slot: slot(false).slot}, row(0, "streaming"), status.Stopped, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := snapshot("n", tt.src, tt.dst, now)
			if n.State != tt.state || n.LagBytes != tt.lag || n.From != status.FromDatabases {
				t.Errorf("state %s, lag %d from %s, want %s and %d", n.State, n.LagBytes, n.From, tt.state, tt.lag)
			}
			if (n.LagSeconds > 0) != (tt.lag > 0) {
				t.Errorf("lag of %d bytes and %v seconds", n.LagBytes, n.LagSeconds)
			}
			message := ""
			if n.LastError != nil {
				message = n.LastError.Message
			}
			for part := range strings.SplitSeq(tt.wrong, "|") {
				if !strings.Contains(message, part) || part == "" && message != "" {
					t.Errorf("wrong = %q, want %q", message, part)
				}
			}
		})
	}
}

func TestSnapshot_Copy(t *testing.T) {
	t.Parallel()
	n := snapshot("n", source{estimates: map[string]int64{"public.b": 40, "public.a": 5}}, target{exists: true, copies: []sink.CopyProgress{
		{Source: "public.b", Rows: 10}, {Source: "public.a", Rows: 7, Done: true},
	}}, time.Now())
	want := []status.Copy{
		{Table: "public.a", Done: 7, Total: 7, Finished: true},
		{Table: "public.b", Done: 10, Total: 40, Estimated: true},
	}
	if diff := cmp.Diff(want, n.Copy); diff != "" {
		t.Errorf("copy (-want +got):\n%s", diff)
	}
}
