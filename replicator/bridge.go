// Package replicator takes the source's changes from its write-ahead log to a
// sink: it prepares slot and publication, copies what is there, streams what
// comes, and confirms only what the target has made durable.
//
//	source WAL ─► Stream (receive, decode, assemble) ─► queue ─► applier ─► sink
//	                  ▲                                            │
//	                  └──────────────── Confirm ◄──────────────────┘
//
// Three positions are kept apart: received (in the queue), durable (committed at
// the target with the checkpoint), and confirmed (sent to the source). Each
// connection belongs to one goroutine.
package replicator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// Options say what to bridge and how. All of them have to be set, unless their
// comment says otherwise.
type Options struct {
	// Name is that of the bridge: of its slot, publication and checkpoint row.
	Name      string
	SourceURL string
	// SourceInsecureTLS as in pg.Options.
	SourceInsecureTLS bool
	// File is the mapping; Compile alters it.
	File    *mapping.File
	Compile mapping.CompileOptions
	// OpenSink connects to the target. The sink belongs to Run from then on.
	OpenSink func(ctx context.Context) (sink.Sink, error)
	// TargetCatalog reads what the target has of these tables.
	TargetCatalog func(ctx context.Context, tables []pg.TableName) (*pg.Catalog, error)
	Status        *status.State
	Log           *slog.Logger

	// Heartbeat is the interval between heartbeats, Lease how long a silent
	// instance keeps its claim.
	Heartbeat, Lease time.Duration
	// BatchRows and BatchBytes bound a batch, QueueBytes what waits for it,
	// CopyRows a piece of the copy.
	BatchRows, BatchBytes, QueueBytes, CopyRows int
	// RejectLimit as in mapping.Options; 0 stops at the first refused row.
	RejectLimit int
	// Manual creates nothing and fails with what is missing.
	Manual bool
	// Once ends the run with nil when all that was there at its start, and a
	// heartbeat after it, is durable at the target.
	Once bool
	// QuietCopy leaves Realtime out of a first copy, see sink.Tending; QuietResync
	// out of a resync.
	QuietCopy, QuietResync bool
	// TendEvery is how often the target is tended to; 30 s if zero.
	TendEvery time.Duration
	// Retention is what the slot may cost the source.
	Retention Retention
	// Recheck is how often the start gate is passed again while streaming; a
	// minute if zero.
	Recheck time.Duration
	// Failover lets the source's standbys keep a copy of the slot, and goes on
	// from that copy after a promotion. It needs PostgreSQL 17.
	Failover bool
	// DecodingBytes as in StreamConfig.
	DecodingBytes int64
	// SlotTimeout bounds the wait for open transactions when the slot is made;
	// 30 s if zero.
	SlotTimeout time.Duration
}

// bridge is one run: what outlives a session.
type bridge struct {
	*Options
	holder    string
	epoch     int64 // the last that it has had, 0 before
	connected bool  // a session has come as far as streaming
	moved     bool  // the last session has moved the checkpoint
	carefulAt cdc.LSN
	stuck     stuck
	// promoted is what the checkpoint is to say of the source once that has proven
	// itself, after a standby has become the source.
	promoted *sink.Origin
	// altered is what the pulse saw altered about the publication, for as long as
	// that is refused.
	altered []string
	guard   *guard
	// astray is how the last session found that the source has another history.
	astray error
}

// Run bridges until ctx ends. Before its first session streams, an error that
// time doesn't mend ends it; later such errors keep it up as blocked, so that a
// restart policy doesn't loop, and it goes on by itself once they are mended.
// sink.ErrFenced always ends it.
func Run(ctx context.Context, opts Options) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	b := &bridge{Options: &opts, holder: fmt.Sprintf("%s/%d/%s", host, os.Getpid(), uuid.NewString()[:8])}
	defer b.Status.SetState(status.Stopped)
	b.guard = newGuard(b.Options)
	watching, stop := context.WithCancel(ctx)
	var guards sync.WaitGroup
	guards.Go(func() { b.guard.run(watching) })
	defer guards.Wait()
	defer stop()
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval = 100 * time.Millisecond
	wait.MaxInterval = 5 * time.Second
	var said string
	for {
		started := time.Now()
		err := b.session(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errOnce):
			return nil
		case errors.Is(err, errTakeover):
			continue
		case errors.Is(err, sink.ErrFenced):
			return fault.Wrap(fault.Stop, "one instance is enough; start this one again to have it wait as a standby", err)
		}
		var pub *PublicationAlteredError
		if errors.As(err, &pub) {
			b.altered = pub.What
		}
		var other *OutOfStepError
		if b.moved {
			b.astray = nil
		}
		if layout := unreadable(err); layout != nil {
			b.astray = layout
		} else if errors.As(err, &other) {
			b.astray = err
		}
		class := fault.ClassOf(err)
		if class != fault.Retry && (!b.connected || b.Once) {
			return err
		}
		if time.Since(started) > 30*time.Second || b.moved {
			b.moved = false
			wait.Reset()
			said = ""
		}
		state := status.Retrying
		if class != fault.Retry {
			state = status.Blocked
		}
		report(b.Status, state, err)
		if err.Error() != said {
			said = err.Error()
			b.Log.Warn("session ended", "state", state, "err", err, "hint", fault.HintOf(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// HistoryError says that the source is not the one that the checkpoint belongs
// to, although its identifiers and positions look right: it was restored from an
// older copy of itself.
type HistoryError struct {
	Want, Got cdc.LSN
}

func (e *HistoryError) Error() string {
	return fmt.Sprintf("the source doesn't send the heartbeat of %s again that the target has stored; its history at %s is another one: it was restored from a backup or a snapshot", e.Want, e.Got)
}
