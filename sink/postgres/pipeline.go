package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/walbridge/walbridge/internal/cdc"
)

// op is one statement of a pipeline, with its parameters as text; nil is NULL.
type op struct {
	sql  string
	args [][]byte
	// read takes the result; without it the result is discarded.
	read func(Result) error
	// table is the table that a refusal is blamed on, empty for the private
	// schema, where a refusal is a fault of the bridge.
	table string
	// want is the number of rows that expect_rows asks for.
	want int64
	// lock marks the comparison of the checkpoint: without the private schema
	// there is none.
	lock bool
	// entries marks writes to the audit table, where a duplicate is no refusal.
	entries bool
	// The rest is for sessions that are not a connection, see Statement.
	pure, fresh bool
	template    *Template
	choose      [][]int
}

// size is about what the op takes in memory.
func (o *op) size() int {
	n := len(o.sql)
	for _, a := range o.args {
		n += len(a)
	}
	return n
}

// run sends ops as one pipeline with one Sync at the end, so that nothing after a
// failed statement is executed. failed is the op that failed, an empty one where
// none can be blamed.
func (s *Sink) run(ctx context.Context, ops []op) (failed *op, err error) {
	if s.session != nil {
		return s.runSession(ctx, ops)
	}
	if s.conn == nil {
		return &op{}, errClosed
	}
	p := s.conn.StartPipeline(ctx)
	for i := range ops {
		p.SendQueryParams(ops[i].sql, ops[i].args, nil, nil, nil)
	}
	if err := p.Sync(); err != nil {
		_ = p.Close()
		return &op{}, err
	}
	for i := range ops {
		if err := result(p, &ops[i]); err != nil {
			_ = p.Close()
			return &ops[i], err
		}
	}
	if err := p.Close(); err != nil {
		return &op{}, err
	}
	return nil, nil
}

var (
	errClosed   = fmt.Errorf("the connection has been closed: %w", net.ErrClosed)
	errNoResult = fmt.Errorf("the server ended the pipeline early: %w", io.ErrUnexpectedEOF)
)

func result(p *pgconn.Pipeline, o *op) error {
	res, err := p.GetResults()
	if err != nil {
		return err
	}
	rr, ok := res.(*pgconn.ResultReader)
	if !ok {
		return errNoResult
	}
	if o.read != nil {
		err = o.read(rr)
	}
	// The server's error goes before what reading made of a torn result.
	if _, e := rr.Close(); e != nil {
		return e
	}
	return err
}

// one reads a result that has exactly one row.
func one(scan func(v [][]byte) error) func(Result) error {
	return func(rr Result) error {
		if !rr.NextRow() {
			return errNoRow
		}
		return scan(rr.Values())
	}
}

var errNoRow = errors.New("the server returned no row")

// each reads a result row by row. The values are valid until the next call.
func each(scan func(v [][]byte) error) func(Result) error {
	return func(rr Result) error {
		for rr.NextRow() {
			if err := scan(rr.Values()); err != nil {
				return err
			}
		}
		return nil
	}
}

func arg(s string) []byte { return []byte(s) }

func argInt(n int64) []byte { return strconv.AppendInt(nil, n, 10) }

func argLSN(l cdc.LSN) []byte { return []byte(l.String()) }
