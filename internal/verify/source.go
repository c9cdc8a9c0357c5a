package verify

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// reading is one session at the source. Each statement is a snapshot of its own,
// and a short one: nothing is kept from vacuum for longer than a range takes.
type reading struct{ conn *pgconn.PgConn }

// rows runs a query and calls each for every row, with the values as their types'
// output functions write them: a cast to text would make 'true' of a bool and
// '/32' of an inet, and neither is what the stream carries.
func (r *reading) rows(ctx context.Context, sql string, args []string, each func(cdc.Row) error) error {
	params := make([][]byte, len(args))
	for i, a := range args {
		params[i] = []byte(a)
	}
	// The statement isn't prepared under a name: a plan for all parameters would
	// be one for none.
	res := r.conn.ExecParams(ctx, sql, params, nil, nil, nil)
	for res.NextRow() {
		if err := each(cdc.CopyRow(res.Values())); err != nil {
			_, _ = res.Close()
			return err
		}
	}
	_, err := res.Close()
	return pg.Safe(err)
}

// value runs a query for one value.
func (r *reading) value(ctx context.Context, sql string, args ...string) (text string, err error) {
	err = r.rows(ctx, sql, args, func(row cdc.Row) error {
		text = row[0].Text
		return nil
	})
	return text, err
}

// keyOf is the key of a row that has nothing but the key's columns.
func keyOf(row cdc.Row) sink.Key { return sink.EncodeKey(texts(row)...) }

func texts(row cdc.Row) []string {
	parts := make([]string, len(row))
	for i, v := range row {
		parts[i] = v.Text
	}
	return parts
}

func rowBytes(row cdc.Row) int {
	n := 0
	for _, v := range row {
		n += len(v.Text)
	}
	return n
}

// written returns a position behind the commit of everything that is visible now.
// It is where the WAL is written to and not where it is flushed to: without
// synchronous_commit a commit is visible before it is flushed.
func (r *reading) written(ctx context.Context) (cdc.LSN, error) {
	return r.lsn(ctx, "SELECT pg_catalog.pg_current_wal_insert_lsn()")
}

// markPrefix is that of the messages that verify writes into the WAL.
const markPrefix = "walbridge.verify"

// mark writes a message into the WAL, in a transaction of its own, so that the
// bridge's checkpoint passes what was visible before it however idle the
// published tables are. It returns where the message ends, before its commit.
func (r *reading) mark(ctx context.Context) (cdc.LSN, error) {
	return r.lsn(ctx, "SELECT pg_catalog.pg_logical_emit_message(true, $1, '')", markPrefix)
}

func (r *reading) lsn(ctx context.Context, sql string, args ...string) (cdc.LSN, error) {
	text, err := r.value(ctx, sql, args...)
	if err != nil {
		return 0, fmt.Errorf("read WAL position: %w", err)
	}
	lsn, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return 0, fmt.Errorf("read WAL position: %w", err)
	}
	return lsn, nil
}

// patience is how long ended waits for transactions that are running: far longer
// than a commit that is in the WAL takes to become visible, unless it waits for a
// synchronous standby.
const patience = time.Second

// Sureness of the end of what was running.
type sureness uint8

const (
	unsure   sureness = iota // what goes on may be a commit that waits for a standby
	likely                   // what goes on has most likely not committed
	complete                 // everything has ended
)

// ended waits until every transaction that is running now has ended: one of them
// may have committed, and the target may show it, while other sessions of the
// source don't see it yet. One that stays open, as a long job does, is waited for
// no longer than patience.
func (r *reading) ended(ctx context.Context) (sureness, error) {
	running, _, err := r.running(ctx)
	if err != nil {
		return unsure, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); len(running) > 0; {
		now, standbys, err := r.running(ctx)
		switch {
		case err != nil:
			return unsure, err
		case standbys && time.Now().After(deadline):
			return unsure, nil
		case time.Now().After(deadline):
			return likely, nil
		}
		maps.DeleteFunc(running, func(xid uint64, _ bool) bool { return !now[xid] })
		if len(running) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return unsure, context.Cause(ctx)
		case <-tick.C:
		}
	}
	return complete, nil
}

// running reads which transactions are running, and whether commits wait for
// standbys.
func (r *reading) running(ctx context.Context) (xids map[uint64]bool, standbys bool, err error) {
	xids = map[uint64]bool{}
	err = r.rows(ctx, `SELECT x, pg_catalog.current_setting('synchronous_standby_names') <> ''
		FROM pg_catalog.pg_snapshot_xip(pg_catalog.pg_current_snapshot()) AS x`, nil, func(row cdc.Row) error {
		xid, err := strconv.ParseUint(row[0].Text, 10, 64)
		xids[xid] = true
		standbys = row[1].Text == "t"
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("read what is running at the source: %w", err)
	}
	return xids, standbys, nil
}

// estimate is about how many rows a table has, 0 if nobody knows.
func (r *reading) estimate(ctx context.Context, table string) int64 {
	text, err := r.value(ctx, pg.EstimateSQL, table)
	if err != nil {
		return 0 // it is only for the progress
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return n
}

// sourceName is the table as to_regclass reads it.
func sourceName(s *mapping.Source) string { return pg.Quote(s.Schema, s.Name) }
