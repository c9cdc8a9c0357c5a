package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/status"
)

// watch looks len(errs) times, each time with that error, and then ends as on
// Ctrl-C.
func watch(t *testing.T, w *watcher, errs ...error) (string, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out strings.Builder
	looks := 0
	w.out, w.every = &out, time.Nanosecond
	w.ask = func(context.Context) (status.Snapshot, string, error) {
		if looks == len(errs) {
			cancel()
			return status.Snapshot{}, "", ctx.Err()
		}
		looks++
		return status.Snapshot{Name: "n", State: status.Streaming, From: status.FromBridge}, "It says:", errs[looks-1]
	}
	err := w.run(ctx)
	return out.String(), err
}

func TestWatcher(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	tests := []struct {
		name string
		w    watcher
		want []string // of each line or picture
		sep  string
	}{
		{"terminal", watcher{terminal: true}, []string{"It says:\x1b[K\nn: streaming\x1b[K\n", "away\x1b[K\n\x1b[J", "It says:"}, "\x1b[H"},
		{"lines", watcher{}, []string{"streaming from=bridge", `unreachable error="away"`, "streaming"}, "\n"},
		{"json", watcher{json: true}, []string{`{"from":"bridge"`, `{"error":"away"}`, `{"from":"bridge"`}, "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out, err := watch(t, &tt.w, nil, away, nil)
			if err != nil {
				t.Fatalf("run() = %v", err)
			}
			parts := strings.Split(strings.Trim(out, tt.sep), tt.sep)
			if len(parts) != len(tt.want) {
				t.Fatalf("%d pictures, want %d: %q", len(parts), len(tt.want), out)
			}
			for i, want := range tt.want {
				if !strings.Contains(parts[i], want) {
					t.Errorf("picture %d is %q, want %q", i, parts[i], want)
				}
			}
		})
	}

	mistake := fault.Errorf(fault.Config, "", "no source")
	if _, err := watch(t, &watcher{}, mistake); !errors.Is(err, mistake) {
		t.Errorf("run() with a mistake in the settings = %v", err)
	}
}
