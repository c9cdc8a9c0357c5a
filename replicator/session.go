package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// session connects both sides, prepares what is missing, and streams until
// something breaks.
func (b *bridge) session(ctx context.Context) error {
	b.Status.Update(func(n *status.Snapshot) {
		// One that is held up only looks again: it would flicker, and the time
		// since when it is blocked would begin anew.
		if n.State != status.Retrying && n.State != status.Blocked {
			n.State = status.Starting
		}
	})
	source, err := b.connectSource(ctx)
	if err != nil {
		return err
	}
	defer closeSoon(source)
	m, dst, err := b.compile(ctx, source)
	if err != nil {
		return err
	}
	snk, err := b.OpenSink(ctx)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := snk.Close(ctx); err != nil {
			b.Log.Debug("sink closed with an error", "err", err)
		}
	}()
	cp, err := b.prepare(ctx, source, snk, m, dst)
	if err != nil {
		return err
	}
	err = b.stream(ctx, source, snk, m, cp)
	// Whoever comes next need not wait for the lease to run out.
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if rerr := snk.Release(release, cp.Epoch); rerr != nil {
		b.Log.Debug("lease not released", "err", rerr)
	}
	return err
}

func closeSoon(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // nothing is lost with it
}

func (b *bridge) sourceOptions() pg.Options {
	return pg.Options{Side: pg.Source, Application: b.Name, InsecureTLS: b.SourceInsecureTLS}
}

func (b *bridge) connectSource(ctx context.Context) (*pgx.Conn, error) {
	return pg.Connect(ctx, b.SourceURL, b.sourceOptions())
}

// compile checks the mapping against both databases as they are now, and returns
// what the target has of it, too.
func (b *bridge) compile(ctx context.Context, source *pgx.Conn) (*mapping.Mapping, *pg.Catalog, error) {
	src, err := pg.ReadCatalog(ctx, source, b.File.SourceTables())
	if err != nil {
		return nil, nil, fmt.Errorf("read the source's catalog: %w", err)
	}
	reading, cancel := context.WithTimeout(ctx, recheckLimit)
	defer cancel()
	dst, err := b.TargetCatalog(reading, b.File.TargetTables())
	if err != nil {
		return nil, nil, fmt.Errorf("read the target's catalog: %w", err)
	}
	m, err := mapping.Compile(b.File, src, dst, b.Compile)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Config, "correct the mapping file, or the table that it names", err)
	}
	return m, dst, nil
}

// stream runs the goroutines of a session: each owns its connection.
func (b *bridge) stream(ctx context.Context, source *pgx.Conn, snk sink.Sink, m *mapping.Mapping, cp sink.Checkpoint) error {
	stored, err := snk.Copies(ctx)
	if err != nil {
		return err
	}
	copies, err := newCopyState(m, stored)
	if err != nil {
		return err
	}
	b.estimate(ctx, source, copies)
	if err := b.findFresh(ctx, m, snk, cp, copies); err != nil {
		return err
	}
	open, err := snk.Requests(ctx)
	if err != nil {
		return err
	}
	engine, err := mapping.NewEngine(m, mapping.Options{RejectLimit: b.RejectLimit, StopOnReject: b.RejectLimit == 0, Log: b.Log})
	if err != nil {
		return err
	}
	str, err := OpenStream(ctx, b.streamConfig(), b.Log)
	if err != nil {
		return err
	}
	defer func() { _ = str.Close() }()
	pulse, err := OpenPulse(ctx, PulseConfig{
		URL: b.SourceURL, Name: b.Name, Interval: b.Heartbeat, InsecureTLS: b.SourceInsecureTLS,
		Publication: b.Name, Tables: publishedOf(m), Catalogs: catalogsOf(cp.Origin.Publication),
	}, b.Log)
	if err != nil {
		return err
	}
	// The guard looks with the next heartbeat; whoever sees the bridge stream asks now.
	slot, err := ReadSlot(ctx, source, b.Name)
	if err != nil {
		return err
	}
	b.showSlot(slot)
	a := &applier{
		opts: b.Options, log: b.Log, engine: engine, sink: snk, stream: str, pulse: pulse,
		copy: copies, pieces: newPieceExchange(), mapping: m, owed: slices.ContainsFunc(open, isResync), cp: cp, expect: cp.Heartbeat, landed: cp.Heartbeat.Token == "", position: cp.LSN,
		carefulAt: &b.carefulAt, stuck: &b.stuck, promoted: b.promoted,
	}
	b.connected = true
	a.publishCopy()
	b.Log.Info("streaming from the source", "lsn", cp.LSN.String(), "copying", copies.open)
	err = b.runAll(ctx, a, func(ctx context.Context) error { return b.watch(ctx, source, m, cp.Origin.Publication, &a.published) })
	b.moved = a.cp.LSN > cp.LSN
	return err
}

func (b *bridge) streamConfig() StreamConfig {
	return StreamConfig{
		URL: b.SourceURL, Name: b.Name, Slot: b.Name, Publication: b.Name,
		DecodingBytes: b.DecodingBytes,
		SliceRows:     b.BatchRows, SliceBytes: b.BatchBytes, QueueBytes: b.QueueBytes, InsecureTLS: b.SourceInsecureTLS,
	}
}

// runAll runs the session's goroutines until one of them ends.
func (b *bridge) runAll(ctx context.Context, a *applier, watch func(context.Context) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return watch(gctx) })
	g.Go(func() error { return a.stream.Run(gctx) })
	g.Go(func() error {
		err := a.pulse.Run(gctx)
		if errors.Is(err, ErrSourceShutdown) {
			// The source waits until its walsender's client has confirmed all,
			// which a bridge with a slow target can't. Leaving lets it stop.
			_ = a.stream.Close()
			return fault.Wrap(fault.Retry, "", err)
		}
		return err
	})
	g.Go(func() error {
		r := &pieceReader{url: b.SourceURL, opts: b.sourceOptions(), log: b.Log}
		defer r.close()
		return r.run(gctx, a.pieces.requests, a.pieces.results)
	})
	g.Go(func() error { return a.run(gctx) })
	return g.Wait()
}
