package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// timestampText is a time as timestamptz reads it, and timestamp too.
const timestampText = "2006-01-02 15:04:05.999999Z07:00"

var errNoSchema = errors.New("Install has not told this sink the mapping's schema")

// entrySet makes rows of entries, in the column order of Sink.entries.
func (s *Sink) entrySet(entries []sink.Entry) (*sink.RowSet, error) {
	if s.entries == nil {
		return nil, errNoSchema
	}
	set := &sink.RowSet{Table: s.entries, Mode: sink.Insert, Columns: []int{0, 1, 2, 3, 4, 5}}
	set.Rows = make([]cdc.Row, len(entries))
	values := make(cdc.Row, 6*len(entries))
	var last time.Time // entries of one transaction have one time
	var text string
	for i := range entries {
		e := &entries[i]
		if i == 0 || e.Time != last {
			last, text = e.Time, e.Time.UTC().Format(timestampText)
		}
		row := values[6*i : 6*i+6 : 6*i+6]
		row[0] = cdc.TextValue(e.ID)
		row[1] = cdc.TextValue(e.Tenant)
		row[2] = e.User
		row[3] = cdc.TextValue(e.Action)
		row[4] = cdc.TextValue(e.Details)
		row[5] = cdc.TextValue(text)
		set.Rows[i] = row
	}
	return set, nil
}

// applyEntries writes entries as they are: one that is there already stops the
// bridge, because ids never repeat.
func (t *tx) applyEntries(ctx context.Context, w *sink.Writes) error {
	if len(w.Entries) == 0 {
		return nil
	}
	set, err := t.s.entrySet(w.Entries)
	if err != nil {
		return err
	}
	if t.s.large(set.Rows) {
		subject, err := t.subjectTo(ctx, set.Table, false)
		if err != nil {
			return err
		}
		if !subject && !t.opts.Careful {
			return t.streamSet(ctx, set)
		}
	}
	args, err := setArrays(set)
	if err != nil {
		return err
	}
	n := len(set.Columns)
	t.add(op{
		sql: fmt.Sprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM unnest(%s) AS v(%s)",
			tableName(set.Table), columnNames(set), casts(set), params(1, n), aliases("c", n)),
		args:    args,
		table:   set.Table.FullName(),
		entries: true,
	})
	return nil
}

// applyCopied records the progress of first copies. When one is done, the private
// tables have changed as much as they ever will at once; statistics of before
// would make the first tenant move read all of them. A table that no path passes
// has changed nothing there, and a small one hardly anything.
func (t *tx) applyCopied(_ context.Context, w *sink.Writes) error {
	done := false
	for i := range w.Copied {
		c := &w.Copied[i]
		tenants := c.Tenants
		if tenants == nil {
			tenants = map[string]int64{}
		}
		counts, err := json.Marshal(tenants)
		if err != nil {
			return fmt.Errorf("copy of %s: %w", c.Source, err)
		}
		t.add(op{
			sql: `INSERT INTO walbridge.copies (bridge, source, upto, pending, done, rows, tenants)
				VALUES ($1, $2, $3, $4::text[], $5::bool, $6::int8, $7::jsonb)
				ON CONFLICT (bridge, source) DO UPDATE SET upto = excluded.upto, pending = excluded.pending,
					done = excluded.done, rows = excluded.rows, tenants = excluded.tenants`,
			args: [][]byte{arg(t.s.name), arg(c.Source), arg(c.Upto), keyArray(c.Pending),
				arg(strconv.FormatBool(c.Done)), argInt(c.Rows), counts},
		})
		if c.Done {
			done = true
			t.makeLate(c.Source)
		}
	}
	if g := &t.s.paths; done && g.due() {
		g.refreshed()
		t.add(refreshStatistics("path_values"))
	}
	return nil
}
