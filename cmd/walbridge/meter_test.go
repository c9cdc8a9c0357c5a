package main

import (
	"testing"
	"time"
)

func TestMeter_Line(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		done, total, before int64
		took                time.Duration
		want                string
	}{
		{0, 0, 0, 0, "t: 0 rows"},
		{10, 0, 0, 10 * time.Second, "t: 10 rows, 1 rows/s"},
		{2500, 10_000, 0, 500 * time.Millisecond, "t: 2500 of about 10000 rows (25%)"},
		{2500, 10_000, 500, 2 * time.Second, "t: 2500 of about 10000 rows (25%), 1000 rows/s, 8s left"},
		{11_000, 10_000, 1000, 10 * time.Second, "t: 11000 of about 11000 rows (100%), 1000 rows/s"},
	} {
		rate, left := pace(tt.done-tt.before, tt.total-tt.done, tt.took)
		if got := meterLine("t", tt.done, tt.total, rate, left); got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}
