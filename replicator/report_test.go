package replicator

import (
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/sink"
)

func TestPace(t *testing.T) {
	t.Parallel()
	var p pace
	begin := time.Unix(1000, 0)
	for _, tt := range []struct {
		after       time.Duration
		done, total int64
		rate, left  float64
	}{
		{0, 500, 1000, 0, 0}, // done by an earlier session
		{500 * time.Millisecond, 510, 1000, 0, 0},
		{2 * time.Second, 500, 1000, 0, 0},
		{4 * time.Second, 700, 1000, 50, 6},
		{10 * time.Second, 1000, 1000, 50, 0},
	} {
		if rate, left := p.of(tt.done, tt.total, begin.Add(tt.after)); rate != tt.rate || left != tt.left {
			t.Errorf("after %s: %v rows/s, %v s left, want %v and %v", tt.after, rate, left, tt.rate, tt.left)
		}
	}
}

func TestShowRequest(t *testing.T) {
	t.Parallel()
	a := &applier{}
	if got := a.showRequest(); got != nil {
		t.Errorf("without a request: %+v", got)
	}
	a.task = &task{request: sink.Request{ID: 7, Kind: HeldRetry}}
	if got := a.showRequest(); *got != (status.Request{ID: 7, Kind: HeldRetry}) || got.Percent() != -1 {
		t.Errorf("a request without figures: %+v", got)
	}
	a.task.request.Progress = `{"released": 4, "refused": {"23505": 2}, "waiting": 1, "dropped": 0, "table": "public.messages"}`
	if got, want := a.showRequest(), (status.Request{ID: 7, Kind: HeldRetry, Table: "public.messages", Done: 7, Written: 4}); *got != want {
		t.Errorf("a retry of held rows: %+v, want %+v", got, want)
	}
	a.task.request.Kind, a.task.request.Progress = Forget, `{"rows": 5, "held": 1, "entries": 9, "dependents": 4, "tenants": ["1"]}`
	if got, want := a.showRequest(), (status.Request{ID: 7, Kind: Forget, Done: 6, Written: 6}); *got != want {
		t.Errorf("a row forgotten: %+v, want %+v", got, want)
	}
	a.task.request.Kind = request.Resync
	a.task.resync = &resync{p: resyncProgress{CompareProgress: request.CompareProgress{
		Table: "public.messages", Step: stepRange, Total: 200, Checked: 50, Written: 3, Gone: 2,
	}}}
	want := status.Request{ID: 7, Kind: request.Resync, Table: "public.messages", Step: "rows", Done: 50, Total: 200, Written: 5}
	if got := a.showRequest(); *got != want || got.Percent() != 25 {
		t.Errorf("a resync: %+v", got)
	}
}
