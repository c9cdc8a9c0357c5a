package replicator

import (
	"testing"
	"time"
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
