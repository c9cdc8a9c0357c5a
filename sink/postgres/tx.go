package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// maxPending is how many bytes of deferred statements are held before they are
// sent without waiting for the commit.
const maxPending = 1 << 20

// tx is one batch. Statements collect in pending until something has to be read,
// or until the commit takes them along in its own round trip.
type tx struct {
	s     *Sink
	epoch int64
	from  cdc.LSN
	opts  sink.TxOptions

	pending []op
	bytes   int
	// stream is the COPY that is open, if any.
	stream *rowStream
	// made are the source tables whose late indexes the batch makes.
	made []string
	// touched is nil over a connection.
	touched *touched
	// failure is the first error, after which only Rollback is allowed.
	failure error
	done    bool
}

var _ sink.Tx = (*tx)(nil)

var (
	errDone = errors.New("the batch has ended")
	errDead = errors.New("the batch has failed and must be rolled back")
)

// Begin starts a batch. Nothing is sent yet: the comparison of the checkpoint
// travels with what comes first.
func (s *Sink) Begin(ctx context.Context, epoch int64, from cdc.LSN, opts sink.TxOptions) (sink.Tx, error) {
	if err := s.connect(ctx); err != nil {
		return nil, fmt.Errorf("begin batch: %w", err)
	}
	t := &tx{s: s, epoch: epoch, from: from, opts: opts}
	if s.session != nil {
		t.touched = newTouched()
	}
	t.add(op{sql: sqlBegin, args: s.beginArgs(epoch, opts)})
	if s.pooled {
		t.add(op{sql: pinLocal})
	}
	t.add(op{
		sql:  "SELECT walbridge.lock_checkpoint($1, $2::int8, $3::pg_lsn)",
		args: [][]byte{arg(s.name), argInt(epoch), argLSN(from)},
		lock: true,
	})
	s.tx = t
	return t, nil
}

// beginArgs are for sessions, which keep the lease while they collect. The
// protocol takes no parameters for BEGIN.
func (s *Sink) beginArgs(epoch int64, opts sink.TxOptions) [][]byte {
	if s.session == nil {
		return nil
	}
	return [][]byte{argInt(epoch), argInt(opts.Lease.Microseconds())}
}

func (t *tx) add(o op) {
	t.pending = append(t.pending, o)
	t.bytes += o.size()
}

// usable says whether the batch can go on.
func (t *tx) usable() error {
	switch {
	case t.done:
		return errDone
	case t.failure != nil:
		return fmt.Errorf("%w: %w", errDead, t.failure)
	}
	return nil
}

// flush sends what is pending, with more at the end, in one round trip.
func (t *tx) flush(ctx context.Context, more ...op) error {
	if err := t.finishStream(ctx); err != nil {
		return err
	}
	ops := append(t.pending, more...)
	if len(ops) == 0 {
		return nil
	}
	failed, err := t.s.run(ctx, ops)
	if err != nil {
		err = t.fail(ctx, explain(failed, err))
	}
	t.forget()
	return err
}

// forget lets go of what is pending.
func (t *tx) forget() {
	clear(t.pending)
	t.pending, t.bytes = t.pending[:0], 0
}

// fail ends the batch with err. A stale checkpoint is read again, because the
// caller decides by it.
func (t *tx) fail(ctx context.Context, err error) error {
	if errors.Is(err, errStale) {
		err = t.stale(ctx)
	}
	t.failure = err
	return err
}

func (t *tx) stale(ctx context.Context) error {
	stale := &sink.StaleError{Want: t.from}
	found := false
	_, err := t.s.run(ctx, []op{
		{sql: sqlRollback},
		{
			sql:  "SELECT " + checkpointColumns + " FROM walbridge.checkpoint AS k WHERE k.name = $1",
			args: [][]byte{arg(t.s.name)},
			read: each(t.s.scanCheckpoint(&stale.Got, &found)),
		},
	})
	switch {
	case err != nil:
		return fmt.Errorf("read checkpoint: %w", pg.Safe(err))
	case !found:
		return sink.ErrNoCheckpoint
	}
	return stale
}

// careful runs f, which stands alone: when the target refuses a row, what f did
// is taken back and the batch goes on.
func (t *tx) careful(ctx context.Context, f func() error) error {
	if !t.opts.Careful {
		return f()
	}
	if err := t.flush(ctx, op{sql: sqlSavepoint}); err != nil {
		return err
	}
	made := len(t.made)
	err := f()
	if err == nil {
		err = t.flush(ctx, op{sql: sqlRelease})
	}
	var reject *sink.RejectError
	if !errors.As(err, &reject) {
		return err
	}
	t.failure = nil
	t.made = t.made[:made]
	t.forget()
	if e := t.flush(ctx, op{sql: sqlRollbackTo}, op{sql: sqlRelease}); e != nil {
		return e
	}
	return err
}

// Commit sends what is pending, the checkpoint and COMMIT in one round trip.
func (t *tx) Commit(ctx context.Context, p sink.Progress) error {
	if err := t.usable(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if p.LSN < t.from {
		return t.fail(ctx, fmt.Errorf("commit: the checkpoint would go back from %s to %s", t.from, p.LSN))
	}
	if err := ctx.Err(); err != nil {
		return t.fail(ctx, fmt.Errorf("commit: %w", err)) // nothing has been sent
	}
	if err := t.finishStream(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	c := p.Counters
	ops := t.pending
	if c.Chain.Head > 0 {
		ops = append(ops, op{sql: storeChain, args: [][]byte{arg(t.s.name), argInt(t.epoch),
			argInt(c.Chain.From), argInt(c.Chain.Head), arg(c.Chain.Link.String())}})
	}
	ops = append(ops,
		op{
			sql: `SELECT walbridge.advance($1, $2::int8, $3::pg_lsn, $4, $5::pg_lsn,
				$6::int8, $7::int8, $8::int8, $9::int8, $10::int8, $11, $12::int8)`,
			args: [][]byte{arg(t.s.name), argInt(t.epoch), argLSN(p.LSN), arg(p.Heartbeat.Token), argLSN(p.Heartbeat.Commit),
				argInt(c.Rows), argInt(c.Entries), argInt(c.Held), argInt(c.Dropped), argInt(c.AuditHead),
				arg(p.State), argInt(t.opts.Lease.Microseconds())},
		},
		op{sql: sqlCommit, read: readCommit})
	failed, err := t.s.run(ctx, ops)
	t.pending = nil
	switch {
	case err == nil:
		t.end(true)
		return nil
	case lost(err):
		// COMMIT was on its way. What the client has read of the answers says
		// nothing: a pooler may have lost the rest of them.
		t.s.drop(ctx)
		t.end(false)
		return &sink.UnknownError{Err: pg.Safe(err)}
	}
	err = explain(failed, err)
	if failed.sql == sqlCommit {
		err = deferred(err)
	}
	return fmt.Errorf("commit: %w", t.fail(ctx, err))
}

var errNoCommit = errors.New("the server rolled back instead of committing")

// readCommit: COMMIT of a failed transaction is a ROLLBACK without an error.
func readCommit(rr Result) error {
	tag, err := rr.Close()
	if err == nil && tag.String() != "COMMIT" {
		return errNoCommit
	}
	return err
}

// deferred makes a refusal of what a deferred constraint finds at the commit.
func deferred(err error) error {
	var server *pgconn.PgError
	if errors.As(err, &server) && strings.HasPrefix(server.Code, "23") && server.TableName != "" {
		return &sink.RejectError{Table: server.SchemaName + "." + server.TableName, Code: server.Code, Constraint: server.ConstraintName}
	}
	return err
}

// Rollback ends the batch without effect.
func (t *tx) Rollback(ctx context.Context) error {
	if t.done {
		return nil
	}
	t.end(false)
	s := t.s
	if s.idle() {
		return nil // nothing has been sent, or the server has rolled back
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWait)
	defer cancel()
	if _, err := s.run(ctx, []op{{sql: sqlRollback}}); err != nil {
		s.drop(ctx) // the server rolls back what loses its connection
	}
	return nil
}

func (t *tx) end(committed bool) {
	t.abandonStream()
	t.done = true
	t.pending = nil
	if committed {
		for _, source := range t.made {
			delete(t.s.late, source)
		}
	} else {
		clear(t.s.unmarked) // the marks that the batch removed are back
		t.s.held.known, t.s.paths.known = false, false
	}
	if t.s.tx == t {
		t.s.tx = nil
	}
}
