// Package postgres is the sink over a direct or session-pooler connection: one
// target transaction a batch, with the checkpoint in it.
//
// What makes it exactly once is in two functions of the private schema, which
// raise where an answer would have to be read first:
//
//	BEGIN · lock_checkpoint(epoch, lsn) · Load …      one round trip
//	writes … · advance(epoch, to) · COMMIT            one round trip
//
// Both are pipelines of the extended query protocol with a single Sync at their
// end: after an error the server skips everything up to the Sync, COMMIT
// included (PostgreSQL documentation, protocol-flow, "Pipelining"). A batch that
// loads nothing is one round trip altogether. Large sets of new rows go by COPY,
// which can't be pipelined and costs two more.
//
// No statement is ever prepared under a name, so the sink works over a pooler
// that hands the server connection to somebody else after each transaction.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// settings of the session, beside those that package pg pins.
//
// A table that somebody has locked is a retryable 55P03 after lock_timeout; an
// unbounded wait would look like a hang and keep the checkpoint locked. And the
// transaction of an instance that was frozen (SIGSTOP, a suspended machine) must
// not keep its successor from the checkpoint row for ever. The frozen one then
// fails, which is right.
const settings = "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s'"

// pinLocal pins all settings for one transaction. Behind a pooler the session may
// be another one each time, and what is set there for longer would stay with
// whoever gets it next.
const pinLocal = `SELECT pg_catalog.set_config(n, v, true) FROM (VALUES
	('client_encoding', 'UTF8'), ('datestyle', 'ISO'), ('intervalstyle', 'postgres'), ('extra_float_digits', '3'), ('timezone', 'UTC'),
	('bytea_output', 'hex'), ('lc_monetary', 'C'), ('array_nulls', 'on'), ('xmloption', 'content'), ('quote_all_identifiers', 'off'),
	('standard_conforming_strings', 'on'), ('synchronous_commit', 'on'),
	('lock_timeout', '10s'), ('idle_in_transaction_session_timeout', '60s')) AS s(n, v)`

// closeWait bounds a polite goodbye to the server.
const closeWait = time.Second

// Sink implements sink.Sink. It connects by itself whenever its connection is
// dead, and never sends anything twice.
type Sink struct {
	opts   Options
	name   string // of opts
	log    *slog.Logger
	conn   *pgconn.PgConn
	pooled bool
	// session replaces conn, see Over.
	session Session

	// schema is that of the last Install: Waiting and the audit table refer to it.
	schema  *sink.Schema
	entries *sink.Table

	tx *tx
	// subject says for which tables COPY is refused, because the role is subject
	// to their row security. unmarked are tables known to have no deletion mark.
	subject  map[*sink.Table]bool
	unmarked map[*sink.Table]bool

	late lateIndexes

	// held and paths are how much the private tables have grown.
	held, paths growth
}

var _ sink.Sink = (*Sink)(nil)

// Options say where the target is, and whose it is to be.
type Options struct {
	URL string
	// Name is the bridge's: the key of its checkpoint row and of everything that
	// the private schema keeps for it, so that several bridges can share a target.
	Name string
	// InsecureTLS as in pg.Options.
	InsecureTLS bool
}

// Open connects to the target.
func Open(ctx context.Context, opts Options, log *slog.Logger) (sink.Sink, error) {
	s := &Sink{opts: opts, name: opts.Name, log: log}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// connect makes sure that there is a connection and no batch on it.
func (s *Sink) connect(ctx context.Context) error {
	if s.tx != nil {
		return errors.New("a batch is open on this sink: commit it or roll it back first")
	}
	if s.session != nil || s.conn != nil && !s.conn.IsClosed() {
		return nil
	}
	conn, err := pg.Connect(ctx, s.opts.URL, pg.Options{
		Side: pg.Target, Application: s.name, InsecureTLS: s.opts.InsecureTLS,
	})
	if err != nil {
		return err
	}
	if s.pooled, err = pooled(ctx, conn); err == nil && !s.pooled {
		_, err = conn.PgConn().Exec(ctx, settings).ReadAll()
	}
	if err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWait)
		defer cancel()
		_ = conn.Close(closing)
		return fmt.Errorf("prepare the session at the target: %w", pg.Safe(err))
	}
	s.conn = conn.PgConn()
	s.subject = make(map[*sink.Table]bool)
	s.unmarked = make(map[*sink.Table]bool)
	s.held, s.paths = growth{}, growth{}
	s.log.DebugContext(ctx, "target connected")
	return nil
}

// pooled reports whether there is a pooler between here and the server: it tells
// its clients a key to cancel by of its own, and not the server's process id.
func pooled(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var pid uint32
	err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_backend_pid()").Scan(&pid)
	return pid != conn.PgConn().PID(), err
}

// drop closes the connection without waiting for anybody. The server rolls back
// what is open on it.
func (s *Sink) drop(ctx context.Context) {
	if s.session != nil {
		s.session.Close()
	}
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWait)
	defer cancel()
	_ = s.conn.Close(ctx)
	s.conn = nil
}

// Close releases the connection. A batch that is open is rolled back.
func (s *Sink) Close(ctx context.Context) error {
	if s.tx != nil {
		s.tx.end(false)
	}
	s.drop(ctx)
	return nil
}

// idle reports that nothing is open at the server.
func (s *Sink) idle() bool {
	if s.session != nil {
		return s.session.Idle()
	}
	return s.conn == nil || s.conn.IsClosed() || s.conn.TxStatus() == 'I'
}

// query runs statements outside any batch: each pipeline is one implicit
// transaction, for which pinLocal holds as well, or the one that the first of them
// begins, which takes its isolation level before any other statement only.
func (s *Sink) query(ctx context.Context, what string, ops ...op) error {
	if err := s.connect(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if s.pooled {
		at := 0
		if ops[0].sql == beginSnapshot {
			at = 1
		}
		ops = slices.Insert(slices.Clone(ops), at, op{sql: pinLocal})
	}
	if failed, err := s.run(ctx, ops); err != nil {
		return fmt.Errorf("%s: %w", what, explain(failed, err))
	}
	return nil
}
