package request

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
)

// Target runs the statements of this package, and of others that read the private
// schema for an operator.
type Target interface {
	// Rows returns what a statement returns, as texts. Over an API it knows only
	// the statements that were made known there.
	Rows(ctx context.Context, sql string, args ...string) ([]cdc.Row, error)
	Close(ctx context.Context) error
}

// Statements are those of this package.
func Statements() []string { return []string{makeRequest, look, withdrawRequest} }

// Over returns a Target over a connection, which it closes.
func Over(conn *pgx.Conn) Target { return &connTarget{conn} }

type connTarget struct{ conn *pgx.Conn }

// Rows connects anew where the end of a context has closed the connection.
func (t *connTarget) Rows(ctx context.Context, sql string, args ...string) ([]cdc.Row, error) {
	if t.conn.IsClosed() {
		conn, err := pgx.ConnectConfig(ctx, t.conn.Config())
		if err != nil {
			return nil, err
		}
		t.conn = conn
	}
	return pg.AskOver(t.conn)(ctx, sql, args...)
}

func (t *connTarget) Close(ctx context.Context) error { return t.conn.Close(ctx) }
