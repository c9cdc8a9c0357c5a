package replicator_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/replicator"
)

// A bridge that is held up looks again and again; its state stays, and the time
// since when it has been in it.
func TestRun_StateWhileHeldUp(t *testing.T) {
	t.Parallel()
	state := status.New("v1")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- replicator.Run(ctx, replicator.Options{
			Name: "walbridge", SourceURL: "postgres://app@127.0.0.1:1/app?sslmode=disable",
			Status: state, Log: slog.New(slog.DiscardHandler),
		})
	}()
	var n status.Snapshot
	pgtest.Eventually(t, "three attempts", time.Minute, func() bool {
		n = state.Snapshot()
		return n.Errors["retry"] >= 3
	})
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v", err)
	}
	if n.State != status.Retrying || n.Since.After(n.LastError.At) {
		t.Errorf("state %s since %s, the last attempt failed at %s", n.State, n.Since, n.LastError.At)
	}
}
