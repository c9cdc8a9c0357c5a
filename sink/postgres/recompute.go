package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/walbridge/walbridge/sink"
)

// noTimeout: a tenant move is as large as it is.
const noTimeout = "SET LOCAL statement_timeout = 0"

// Recompute is one statement, however many rows it moves.
func (t *tx) Recompute(ctx context.Context, r *sink.Recompute) ([]sink.Moved, error) {
	if err := t.usable(); err != nil {
		return nil, fmt.Errorf("recompute: %w", err)
	}
	sql := t.s.recomputeSQL(r)
	if sql == "" || len(r.Keys) == 0 {
		return nil, nil
	}
	args := [][]byte{keyArray(dedupe(r.Keys))}
	if _, derived := derivedAt(r.Table, r.Table.Tenant); derived {
		args = append(args, argLSN(r.LSN)) // only rows that become held have a place for it
	}
	t.touchAll()
	t.makeLate(r.Table.Source)
	t.analyze()
	if sql := t.s.refreshHeldSQL(r); sql != "" {
		t.add(op{sql: sql, args: [][]byte{keyArray(dedupe(r.Keys))}})
	}
	var moved []sink.Moved
	err := t.careful(ctx, func() error {
		moved = nil
		return t.flush(ctx, op{sql: noTimeout}, op{
			sql:   sql,
			args:  args,
			table: r.Table.FullName(),
			read: each(func(v [][]byte) error {
				d := decoder{values: v}
				moved = append(moved, sink.Moved{Table: r.Table, Key: sink.Key(d.text()), From: d.value(), To: d.value(), Rows: d.int64()})
				return d.err
			}),
		})
	})
	if err != nil {
		return nil, fmt.Errorf("recompute table %s: %w", r.Table.FullName(), err)
	}
	for _, m := range moved {
		if m.To.IsNull() {
			t.s.held.written += m.Rows
		}
	}
	return moved, nil
}

// touchAll notes that the batch has written what only the target knows.
func (t *tx) touchAll() {
	if t.touched != nil {
		t.touched.all = true
	}
}

func dedupe(keys []sink.Key) []sink.Key {
	sorted := slices.Clone(keys)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

// anyKey is the condition that an expression is one of $1. As an array of
// constants it is planned by the statistics of just these keys.
func anyKey(expr string) string { return expr + " = ANY ($1::text[])" }
