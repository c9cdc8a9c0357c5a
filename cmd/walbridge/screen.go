package main

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/walbridge/walbridge/internal/status"
)

// screen is a terminal with a log and, below it, one line that changes.
type screen struct {
	mu   sync.Mutex
	out  io.Writer
	line string
}

// Write writes a record of the log above the line.
func (s *screen) Write(record []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.line == "" {
		return s.out.Write(record)
	}
	// In one piece: a kill in between leaves no half of the line behind.
	b := append([]byte(wipe), record...)
	if _, err := s.out.Write(append(b, s.line...)); err != nil {
		return 0, err
	}
	return len(record), nil
}

// show replaces the line; an empty one takes it away.
func (s *screen) show(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if line != s.line {
		s.line = line
		_, _ = io.WriteString(s.out, wipe+line) // what can't be shown is in the status, too
	}
}

// during shows the first copy while the bridge runs.
func (s *screen) during(bridge func(context.Context) error, state *status.State) func(context.Context) error {
	return func(ctx context.Context) error {
		watched, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { s.watchCopy(watched, state) })
		defer wg.Wait()
		defer stop()
		return bridge(ctx)
	}
}

// watchCopy keeps the line at how far the first copy is, until ctx ends.
func (s *screen) watchCopy(ctx context.Context, state *status.State) {
	defer s.show("")
	tick := time.NewTicker(repaintEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n := state.Snapshot()
			s.show(copyLine(&n))
		}
	}
}

// copyLine says how far the first copy is, and nothing when none is under way.
func copyLine(n *status.Snapshot) string {
	if n.State != status.Copying {
		return ""
	}
	var done, total int64
	for _, c := range n.Copy {
		done += c.Done
		total += c.Total
	}
	return meterLine("first copy", done, total, n.CopyRate, time.Duration(n.CopyLeft)*time.Second)
}
