// Package held reads the rows that the bridge could not write. It shows where
// they belong and why they are held, and never a value of them.
package held

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/sink"
)

// Filter chooses held rows. What is empty leaves none out.
type Filter struct {
	// Table is a target table; without a schema it is that of public.
	Table  string
	Keys   []sink.Key
	Reason sink.HeldReason
}

// FullTable is the table's name as the bridge knows it.
func (f *Filter) FullTable() string {
	if f.Table == "" || strings.Contains(f.Table, ".") {
		return f.Table
	}
	return "public." + f.Table
}

// Row is a held row.
type Row struct {
	Table  string          `json:"table"`
	Key    string          `json:"key"`
	Reason sink.HeldReason `json:"reason"`
	// Code is the SQLSTATE of a refusal.
	Code string `json:"sqlstate,omitempty"`
	// LSN is the commit that made it held, Since when it got there.
	LSN   string    `json:"lsn"`
	Since time.Time `json:"since"`
	// Waiting is how many audit entries wait with it.
	Waiting int `json:"waiting"`
}

// Count is how many rows are held for one reason.
type Count struct {
	Table  string          `json:"table"`
	Reason sink.HeldReason `json:"reason"`
	Code   string          `json:"sqlstate,omitempty"`
	Rows   int64           `json:"rows"`
}

// List is some of the held rows, oldest first within each table, and counts of
// all that the filter leaves.
type List struct {
	Rows   []Row   `json:"rows"`
	Counts []Count `json:"counts"`
	Total  int64   `json:"total"`
}

// where is the filter's condition on walbridge.held, aliased h.
func (f *Filter) where(bridge string) (string, []any) {
	cond, args := "h.bridge = $1", []any{bridge}
	add := func(expr string, value any) {
		args = append(args, value)
		cond += fmt.Sprintf(" AND "+expr, len(args))
	}
	if t := f.FullTable(); t != "" {
		add(`h."table" = $%d`, t)
	}
	if len(f.Keys) > 0 {
		keys := make([]string, len(f.Keys))
		for i, k := range f.Keys {
			keys[i] = string(k)
		}
		add("h.key = ANY ($%d::text[])", keys)
	}
	if f.Reason != "" {
		add("h.reason = $%d", string(f.Reason))
	}
	return cond, args
}

// Read lists held rows of a bridge, at most limit. conn leads to the target.
func Read(ctx context.Context, conn *pgx.Conn, bridge string, f *Filter, limit int) (*List, error) {
	where, args := f.where(bridge)
	rows, err := conn.Query(ctx, fmt.Sprintf(`SELECT h."table", h.key, h.reason, h.code, h.since::text, h.held_at, cardinality(h.waiting)
		FROM walbridge.held AS h WHERE %s ORDER BY h."table", h.since, h.held_at, h.key LIMIT $%d`, where, len(args)+1), append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("read held rows: %w", request.Explain(err))
	}
	l := &List{Counts: []Count{}}
	if l.Rows, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Row]); err != nil {
		return nil, fmt.Errorf("read held rows: %w", request.Explain(err))
	}
	counts, err := conn.Query(ctx, `SELECT h."table", h.reason, h.code, count(*) FROM walbridge.held AS h
		WHERE `+where+` GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`, args...)
	if err == nil {
		l.Counts, err = pgx.CollectRows(counts, pgx.RowToStructByPos[Count])
	}
	if err != nil {
		return nil, fmt.Errorf("count held rows: %w", request.Explain(err))
	}
	for _, c := range l.Counts {
		l.Total += c.Rows
	}
	return l, nil
}
