package supabase_test

import (
	"context"
	"errors"
	"time"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/schema"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// patience ends a test that hangs; nothing is expected to take it.
const patience = 5 * time.Minute

// bridge is one that runs under the role of the target's script.
type bridge struct {
	p      *project
	cancel context.CancelFunc
	done   chan struct{}
	status *status.State
	err    error
}

func (p *project) start() *bridge {
	p.Helper()
	target := p.cluster.URLAs(schema.TargetRole, "", "project")
	ctx, cancel := context.WithCancel(context.Background())
	b := &bridge{p: p, cancel: cancel, done: make(chan struct{}), status: status.New("test")}
	opts := replicator.Options{
		Name: "walbridge", SourceURL: p.src, File: p.file, Status: b.status, Log: quiet,
		Compile: mapping.CompileOptions{Audit: mapping.Audit{MaxValue: 8192}},
		OpenSink: func(ctx context.Context) (sink.Sink, error) {
			return postgres.Open(ctx, postgres.Options{URL: target, Name: "walbridge"}, quiet)
		},
		TargetCatalog: func(ctx context.Context, tables []pg.TableName) (*pg.Catalog, error) {
			conn, err := pg.Connect(ctx, target, pg.Options{Side: pg.Target})
			if err != nil {
				return nil, err
			}
			defer func() { _ = conn.Close(ctx) }()
			return pg.ReadCatalog(ctx, conn, tables)
		},
		Heartbeat: time.Second, Lease: 4 * time.Second, TendEvery: 200 * time.Millisecond, QuietCopy: true,
		BatchRows: 1000, BatchBytes: 1 << 20, QueueBytes: 1 << 20, CopyRows: 1000,
	}
	go func() {
		defer close(b.done)
		b.err = replicator.Run(ctx, opts)
	}()
	p.Cleanup(b.stop)
	return b
}

func (b *bridge) stop() {
	b.cancel()
	<-b.done
	if b.err != nil {
		b.p.Errorf("the bridge ended with %v", b.err)
	}
}

// catchUp waits until all that is committed at the source is at the target.
func (b *bridge) catchUp() {
	p := b.p
	p.Helper()
	lsn := pgtest.QueryValue(p, p.src, "SELECT pg_current_wal_insert_lsn()")
	pgtest.Exec(p, p.src, "SELECT pg_logical_emit_message(true, 'test', 'catch up')")
	pgtest.Eventually(p, "catching up with "+lsn, patience, func() error {
		select {
		case <-b.done:
			p.Fatalf("the bridge has ended: %v", b.err)
		default:
		}
		if s := b.status.Snapshot(); s.State != status.Streaming {
			if s.LastError != nil {
				return errors.New(s.LastError.Message)
			}
			return errors.New(string(s.State))
		}
		if p.value("SELECT lsn >= '"+lsn+"' FROM walbridge.checkpoint") != "t" {
			return errors.New("not there yet")
		}
		return nil
	})
}
