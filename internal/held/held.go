// Package held reads the rows that the bridge could not write. It shows where
// they belong and why they are held, and never a value of them.
package held

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
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

// where is the condition on walbridge.held, aliased h. It leaves out what a filter
// doesn't name.
const where = `h.bridge = $1 AND ($2 = '' OR h."table" = $2) AND ($3 = '' OR h.reason = $3)
		AND (cardinality($4::text[]) = 0 OR h.key = ANY ($4::text[]))`

const (
	listRows = `SELECT h."table", h.key, h.reason, h.code, h.since::text, (extract(epoch FROM h.held_at) * 1000000)::int8, cardinality(h.waiting)
		FROM walbridge.held AS h WHERE ` + where + ` ORDER BY h."table", h.since, h.held_at, h.key LIMIT $5::int8`
	countRows = `SELECT h."table", h.reason, h.code, count(*) FROM walbridge.held AS h
		WHERE ` + where + ` GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`
)

// Statements are those of this package, see request.Target.
func Statements() []string { return []string{listRows, countRows} }

// args are the parameters of where.
func (f *Filter) args(bridge string) []string {
	keys := make([]string, len(f.Keys))
	for i, k := range f.Keys {
		keys[i] = string(k)
	}
	return []string{bridge, f.FullTable(), string(f.Reason), pg.TextArray(keys)}
}

// Read lists held rows of a bridge, at most limit.
func Read(ctx context.Context, target request.Target, bridge string, f *Filter, limit int) (*List, error) {
	args := f.args(bridge)
	rows, err := target.Rows(ctx, listRows, append(args, strconv.Itoa(limit))...)
	if err != nil {
		return nil, fmt.Errorf("read held rows: %w", request.Explain(err))
	}
	l := &List{Rows: make([]Row, 0, len(rows)), Counts: []Count{}}
	for _, v := range rows {
		since, waiting := number(v[5], &err), number(v[6], &err)
		l.Rows = append(l.Rows, Row{Table: v[0].Text, Key: v[1].Text, Reason: sink.HeldReason(v[2].Text), Code: v[3].Text,
			LSN: v[4].Text, Since: time.UnixMicro(since), Waiting: int(waiting)})
	}
	counts, e := target.Rows(ctx, countRows, args...)
	if e != nil {
		return nil, fmt.Errorf("count held rows: %w", request.Explain(e))
	}
	for _, v := range counts {
		n := number(v[3], &err)
		l.Counts = append(l.Counts, Count{Table: v[0].Text, Reason: sink.HeldReason(v[1].Text), Code: v[2].Text, Rows: n})
		l.Total += n
	}
	if err != nil {
		return nil, fmt.Errorf("read held rows: %w", err)
	}
	return l, nil
}

// number reads a whole number and keeps the first error.
func number(v cdc.Value, err *error) int64 {
	n, e := strconv.ParseInt(v.Text, 10, 64)
	if e != nil && *err == nil {
		*err = e
	}
	return n
}
