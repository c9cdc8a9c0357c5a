package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/status"
)

func TestScreen_KeepsTheLineBelowTheLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &screen{out: &out}
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() { _, _ = s.Write([]byte("started\n")) }, "started\n"},
		{func() { s.show("1%") }, wipe + "1%"},
		{func() { s.show("1%") }, ""},
		{func() { _, _ = s.Write([]byte("trouble\n")) }, wipe + "trouble\n1%"},
		{func() { s.show("2%") }, wipe + "2%"},
		{func() { s.show("") }, wipe},
		{func() { _, _ = s.Write([]byte("copied\n")) }, "copied\n"},
	} {
		out.Reset()
		step.do()
		if out.String() != step.want {
			t.Errorf("written %q, want %q", out.String(), step.want)
		}
	}
}

func TestCopyLine(t *testing.T) {
	t.Parallel()
	n := &status.Snapshot{State: status.Copying, CopyRate: 1000, CopyLeft: 8, Copy: []status.Copy{
		{Table: "public.parents", Done: 500, Total: 500, Finished: true},
		{Table: "public.children", Done: 1500, Total: 9500, Estimated: true},
		{Table: "public.leaves"},
	}}
	if got, want := copyLine(n), "first copy: 2000 of about 10000 rows (20%), 1000 rows/s, 8s left"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	n.State = status.Streaming
	if got := copyLine(n); got != "" {
		t.Errorf("%q while nothing is copied", got)
	}
}

func TestScreen_WatchCopyTakesTheLineAway(t *testing.T) {
	t.Parallel()
	shown := make(chan struct{})
	out := &signalled{when: "first copy", met: shown}
	s := &screen{out: out}
	state := status.New("")
	state.Update(func(n *status.Snapshot) { n.State = status.Copying })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.watchCopy(ctx, state); close(done) }()
	<-shown
	slog.New(slog.NewTextHandler(s, nil)).Info("a record")
	cancel()
	<-done
	if got := out.written.String(); !strings.HasSuffix(got, wipe) {
		t.Errorf("the line stays: %q", got)
	}
}

// signalled is a buffer that says when a text has been written.
type signalled struct {
	written bytes.Buffer
	when    string
	met     chan struct{}
	once    bool
}

func (w *signalled) Write(p []byte) (int, error) {
	n, err := w.written.Write(p)
	if !w.once && strings.Contains(w.written.String(), w.when) {
		w.once = true
		close(w.met)
	}
	return n, err
}
