// Package verify proves the bridge's invariant: it evaluates the mapping on the
// source with one SELECT per table and compares the outcome, value by value, with
// what is at the target. It shares with the bridge what a mapping means, and
// nothing of how the bridge got there.
package verify

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// Options narrow a comparison down.
type Options struct {
	// Name is the bridge's name in the private schema; "walbridge" if empty.
	Name string
	// Tables are the target tables to compare, schema-qualified; all if empty.
	Tables []string
	// Keys is how many keys of wrong rows are named, for each table and kind of
	// mistake. Naming those of extra rows takes memory for all keys.
	Keys int
	// OthersWrite says that somebody else inserts rows into the tables. One
	// beside a held row of its key, or one that a move has taken to the held
	// rows, is then foreign and no mistake of the bridge.
	OthersWrite bool
}

// DefaultName is the bridge's name where none is given.
const DefaultName = "walbridge"

// Bounds of what is held in memory of the source at a time.
const (
	chunkRows  = 2000
	chunkBytes = 4 << 20
)

// Compare compares every table of the mapping, and the path values that the
// bridge keeps beside them. Both databases must be quiet: the source since before
// the target caught up with it. The connections must have the bridge's pinned
// settings (package pg); they are used for one read-only transaction each.
func Compare(ctx context.Context, m *mapping.Mapping, source, target *pgx.Conn, opts Options) (*Report, error) {
	if opts.Name == "" {
		opts.Name = DefaultName
	}
	c := &comparison{m: m, opts: opts}
	err := readOnly(ctx, source, func(stx pgx.Tx) error {
		return readOnly(ctx, target, func(ttx pgx.Tx) error {
			c.source, c.target = stx, ttx
			return c.run(ctx)
		})
	})
	if err != nil {
		return nil, pg.Safe(err)
	}
	return &c.report, nil
}

// readOnly runs do in one snapshot of the database.
func readOnly(ctx context.Context, conn *pgx.Conn, do func(pgx.Tx) error) error {
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, conn, opts, do)
}

// comparison is one Compare.
type comparison struct {
	m      *mapping.Mapping
	opts   Options
	source pgx.Tx
	target pgx.Tx
	// private says that the target has the bridge's private schema.
	private bool
	report  Report
}

func (c *comparison) run(ctx context.Context) error {
	err := c.target.QueryRow(ctx, `SELECT pg_catalog.to_regclass('walbridge.held') IS NOT NULL`).Scan(&c.private)
	if err != nil {
		return fmt.Errorf("look for the private schema: %w", err)
	}
	for _, s := range c.m.Sources {
		if s.Target == nil || !c.wanted(s.Target.Table) {
			continue
		}
		if err := c.compareTable(ctx, s); err != nil {
			return fmt.Errorf("compare %s: %w", s.Target.Table.FullName(), err)
		}
	}
	if !c.private || len(c.opts.Tables) > 0 {
		return nil
	}
	for _, s := range c.m.Sources {
		if s.Node == nil {
			continue
		}
		if err := c.comparePaths(ctx, s); err != nil {
			return fmt.Errorf("compare path values of %s: %w", s.FullName(), err)
		}
	}
	return nil
}

func (c *comparison) wanted(t *sink.Table) bool {
	return len(c.opts.Tables) == 0 || slices.Contains(c.opts.Tables, t.FullName())
}

// textRows runs a query and calls each for every row, with the values as their
// types' output functions write them: a cast to text would make 'true' of a bool
// and '/32' of an inet, and neither is what the stream carries.
func textRows(ctx context.Context, tx pgx.Tx, sql string, args []any, each func(cdc.Row) error) error {
	rows, err := tx.Query(ctx, sql, append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues()
		row := make(cdc.Row, len(raw))
		for i, v := range raw {
			if v != nil {
				row[i] = cdc.TextValue(string(v))
			}
		}
		if err := each(row); err != nil {
			return err
		}
	}
	return rows.Err()
}

func rowBytes(row cdc.Row) int {
	n := 0
	for _, v := range row {
		n += len(v.Text)
	}
	return n
}
