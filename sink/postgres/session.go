package postgres

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/sink"
)

// Session is another way to the server than a connection of this package's own:
// sink/rest has one that knows no transactions but those of single requests. The
// sink writes the same statements over it, but for COPY.
type Session interface {
	// Run executes statements in order. Between Begin and Commit or Rollback they
	// belong to one transaction; outside, those of one call do. failed is the
	// statement that failed, nil where none can be blamed.
	//
	// Statements without Read may be kept until something has to be read, or until
	// Commit: their errors come then.
	Run(ctx context.Context, statements []*Statement) (failed *Statement, err error)
	// Idle reports that no transaction is open.
	Idle() bool
	// Close lets go of what the session holds, without waiting for the server.
	Close()
}

// Statement is one statement for a Session.
type Statement struct {
	// Control is set for statements about the transaction, which have nothing else
	// that matters.
	Control Control
	// Template is the text; there are finitely many of them, see Statements. Choose
	// are the positions that are taken from each of its lists.
	Template *Template
	Choose   [][]int
	// Args are the parameters as text; nil is NULL.
	Args [][]byte
	// Read takes the result, unless it is nil.
	Read func(Result) error
	// Pure statements change nothing. What Fresh ones answer doesn't depend on what
	// the transaction has done before.
	Pure, Fresh bool

	op op
}

// Template is the text of a statement, or of many that differ in lists of columns:
// between each two parts there is a list, whose items are joined by commas.
type Template struct {
	Parts []string
	Lists [][]string
}

// Result is what a statement returned. *pgconn.ResultReader is one.
type Result interface {
	NextRow() bool
	// Values are valid until the next call of NextRow; nil is NULL.
	Values() [][]byte
	Close() (pgconn.CommandTag, error)
}

// Control says what a statement does to its transaction.
type Control uint8

const (
	// Begin has the epoch and the lease, in microseconds, as its arguments: what
	// holds the lease while the transaction is being put together.
	Begin Control = iota + 1
	Savepoint
	Release
	RollbackTo
	Rollback
	Commit
	// Local sets what only this transaction is to have.
	Local
)

const (
	sqlBegin      = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
	sqlSavepoint  = "SAVEPOINT walbridge_careful"
	sqlRelease    = "RELEASE SAVEPOINT walbridge_careful"
	sqlRollbackTo = "ROLLBACK TO SAVEPOINT walbridge_careful"
	sqlRollback   = "ROLLBACK"
	sqlCommit     = "COMMIT"
)

var controls = map[string]Control{
	sqlBegin: Begin, sqlSavepoint: Savepoint, sqlRelease: Release, sqlRollbackTo: RollbackTo,
	sqlRollback: Rollback, sqlCommit: Commit, noTimeout: Local,
}

// Over returns a sink that writes over session; opts.URL has no meaning for it.
func Over(session Session, opts Options, log *slog.Logger) *Sink {
	return &Sink{opts: opts, name: opts.Name, log: log, session: session,
		subject: make(map[*sink.Table]bool), unmarked: make(map[*sink.Table]bool)}
}

// runSession is run over a session.
func (s *Sink) runSession(ctx context.Context, ops []op) (*op, error) {
	statements := make([]*Statement, len(ops))
	for i := range ops {
		o := &ops[i]
		st := &Statement{Control: controls[o.sql], Template: o.template, Choose: o.choose, Args: o.args,
			Read: o.read, Pure: o.pure, Fresh: o.fresh, op: *o}
		if st.Template == nil {
			st.Template = &Template{Parts: []string{o.sql}}
		}
		st.op.args, st.op.read = nil, nil // it outlives its parameters
		statements[i] = st
	}
	failed, err := s.session.Run(ctx, statements)
	switch {
	case err == nil:
		return nil, nil
	case failed == nil:
		return &op{}, err
	}
	return &failed.op, err
}

// OutcomeError is an error that knows whether what was asked may have been done.
type OutcomeError interface {
	error
	// Unknown reports that it may have been.
	Unknown() bool
}
