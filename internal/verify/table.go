package verify

import (
	"context"
	"fmt"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// tableComparison compares one table: chunk by chunk from the source to the
// target, and then, by counting, the rows of the target that no chunk has met.
type tableComparison struct {
	*comparison
	spec  *mapping.Target
	table *sink.Table
	out   *Table

	chunk []cdc.Row
	bytes int
	// met are the target's rows that belong to a row of the source, by the
	// tenant that the target has them under; metMarked those with a mark.
	met, metMarked map[string]int64
	metHeld        int64
	// astray are kept rows that don't follow their parents.
	astray map[sink.Key]astray
	// keys are all keys of the source, where extra ones are to be named.
	keys map[sink.Key]bool
}

func (c *comparison) compareTable(ctx context.Context, s *mapping.Source) error {
	t := &tableComparison{comparison: c, spec: s.Target, table: s.Target.Table,
		out: newTable(s.Target.Table.FullName()), met: map[string]int64{}, metMarked: map[string]int64{}, astray: map[sink.Key]astray{}}
	if c.opts.Keys > 0 {
		t.keys = map[sink.Key]bool{}
	}
	c.report.Tables = append(c.report.Tables, t.out)
	view := c.m.View(s)
	sql, _ := view.SQL(mapping.ViewRange{}) // the whole table needs no parameters
	err := textRows(ctx, c.source, sql, nil, func(in cdc.Row) error {
		row, err := view.Row(in)
		if err != nil {
			return err
		}
		t.chunk = append(t.chunk, row)
		if t.bytes += rowBytes(row); len(t.chunk) < chunkRows && t.bytes < chunkBytes {
			return nil
		}
		return t.compareChunk(ctx)
	})
	if err != nil {
		return err
	}
	if err := t.compareChunk(ctx); err != nil {
		return err
	}
	return t.countRest(ctx)
}

// compareChunk finds the chunk's rows at the target.
func (t *tableComparison) compareChunk(ctx context.Context) error {
	if len(t.chunk) == 0 {
		return nil
	}
	keys := make([]sink.Key, len(t.chunk))
	for i, row := range t.chunk {
		keys[i] = t.table.KeyOf(row)
		if t.keys != nil {
			t.keys[keys[i]] = true
		}
	}
	found, err := t.read(ctx, keys)
	if err != nil {
		return err
	}
	doubts := newDoubts(t.table)
	for i, want := range t.chunk {
		t.compareRow(keys[i], want, found, doubts)
	}
	if err := doubts.settle(ctx, t.target); err != nil {
		return err
	}
	for _, d := range doubts.rows {
		counts := t.out.tenant(d.tenant)
		if len(d.columns) > 0 {
			counts.Different++
			t.name("different", d.key)
			for column := range d.columns {
				t.out.Columns[t.table.Columns[column].Name]++
			}
		} else if d.held {
			counts.Held++
		} else {
			counts.Equal++
		}
	}
	t.chunk, t.bytes = t.chunk[:0], 0
	return nil
}

// compareRow judges one row of the source, except for its values: those become a
// doubt, since a text that differs may still be the same value of the target's
// type.
func (t *tableComparison) compareRow(key sink.Key, want cdc.Row, found *stored, doubts *doubts) {
	tenant := want[t.table.Tenant]
	counts := t.out.tenant(tenant.Text)
	row, inTable := found.rows[key]
	held, isHeld := found.held[key]
	if inTable && isHeld && t.opts.OthersWrite {
		inTable = false // and not met, so it is counted with the foreign rows
	}
	if inTable {
		t.met[row[t.table.Tenant].Text]++
		if found.marks[key] {
			t.metMarked[row[t.table.Tenant].Text]++
		}
	}
	if isHeld {
		t.metHeld++
	}
	wrong := func(what string) {
		counts.Different++
		t.name(what, key)
	}
	counts.Compared++
	switch {
	case found.marks[key]:
		wrong("marked as deleted")
	case inTable && isHeld:
		wrong("in the table and held")
	case isHeld && tenant.IsNull() != (held.reason == sink.HeldTenant):
		wrong("held for another reason")
	case isHeld:
		doubts.add(t.spec, key, tenant.Text, want, held.row, true)
	case inTable && tenant.IsNull():
		wrong("at the target without a tenant")
	case inTable:
		doubts.add(t.spec, key, tenant.Text, want, row, false)
	case tenant.IsNull() && t.spec.WithoutTenant == mapping.Drop:
		counts.Compared--
		counts.Dropped++
	default:
		counts.Missing++
		t.name("missing", key)
	}
}

// name keeps a key for the report if it was asked for.
func (t *tableComparison) name(what string, key sink.Key) {
	if len(t.out.Keys[what]) < t.opts.Keys {
		t.out.Keys[what] = append(t.out.Keys[what], key)
	}
}

// countRest counts what the target has beyond the source's rows: all rows and
// all marked rows, less those that were met.
func (t *tableComparison) countRest(ctx context.Context) error {
	all, err := t.countTarget(ctx)
	if err != nil {
		return err
	}
	marked, err := t.countMarked(ctx)
	if err != nil {
		return err
	}
	for tenant, n := range all {
		kept := marked[tenant] - t.metMarked[tenant]
		rest := n - t.met[tenant] - kept
		counts := t.out.tenant(tenant)
		if t.spec.OnDelete == mapping.Keep {
			counts.Kept += kept
			counts.Foreign += rest
		} else {
			counts.Extra += kept + rest
		}
	}
	for key, a := range t.astray {
		counts := t.out.tenant(a.tenant)
		counts.Kept--
		if t.opts.OthersWrite {
			counts.Foreign++ // under the key of a row that was deleted while it was held
			continue
		}
		counts.Different++
		for _, column := range a.columns {
			t.out.Columns[column]++
		}
		t.name("kept under values of old", key)
	}
	if err := t.countHeld(ctx); err != nil {
		return err
	}
	if t.opts.Keys == 0 {
		return nil
	}
	return t.nameExtra(ctx)
}

// countHeld counts the held rows that no row of the source stands behind. One
// that has a mark was deleted, and is kept like any other.
func (t *tableComparison) countHeld(ctx context.Context) error {
	if !t.private {
		return nil
	}
	var all, marked int64
	err := t.target.QueryRow(ctx, `
		SELECT pg_catalog.count(*), pg_catalog.count(d.key)
		FROM walbridge.held AS h
		LEFT JOIN walbridge.deleted AS d ON d.bridge = h.bridge AND d."table" = h."table" AND d.key = h.key
		WHERE h.bridge = $1 AND h."table" = $2`, t.opts.Name, t.table.FullName()).Scan(&all, &marked)
	if err != nil {
		return fmt.Errorf("count held rows: %w", err)
	}
	if t.spec.OnDelete != mapping.Keep {
		marked = 0
	}
	if all == 0 {
		return nil
	}
	counts := t.out.tenant(NoTenant)
	counts.Kept += marked
	if rest := all - marked - t.metHeld; t.opts.OthersWrite {
		counts.Foreign += rest // a move takes along what it reaches, whoever wrote it
	} else {
		counts.Extra += rest
	}
	return nil
}

// countTarget counts the target's rows by tenant. The bridge's own entries, where
// this is the audit table, come from no row of the source.
func (t *tableComparison) countTarget(ctx context.Context) (map[string]int64, error) {
	tenant := "t." + pg.Quote(t.table.Columns[t.table.Tenant].Name)
	sql := fmt.Sprintf("SELECT %s, pg_catalog.count(*) FROM %s AS t%s GROUP BY 1", tenant, tableName(t.table), t.notEntries())
	counts := map[string]int64{}
	err := textRows(ctx, t.target, sql, nil, func(row cdc.Row) error {
		n, err := parseCount(row[1])
		counts[row[0].Text] += n
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count rows by tenant: %w", err)
	}
	return counts, nil
}

// notEntries is the WHERE clause that leaves the bridge's entries out.
func (t *tableComparison) notEntries() string {
	e := t.m.Schema.Entries
	if e == nil || e.Schema != t.table.Schema || e.Name != t.table.Name {
		return ""
	}
	return fmt.Sprintf(" WHERE (t.%s::jsonb ->> 'by') IS DISTINCT FROM 'walbridge'", pg.Quote(e.Details))
}

// nameExtra goes through the target's keys again and names those that the source
// doesn't have.
func (t *tableComparison) nameExtra(ctx context.Context) error {
	sql := fmt.Sprintf("SELECT %s FROM %s AS t%s", t.keyColumns("t."), tableName(t.table), t.notEntries())
	var extra []sink.Key
	err := textRows(ctx, t.target, sql, nil, func(row cdc.Row) error {
		if key := keyOf(row); !t.keys[key] {
			extra = append(extra, key)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for extra rows: %w", err)
	}
	for len(extra) > 0 {
		n := min(chunkRows, len(extra))
		found, err := t.read(ctx, extra[:n])
		if err != nil {
			return err
		}
		for _, key := range extra[:n] {
			if !found.marks[key] {
				t.name("not at the source", key)
			} else if t.spec.OnDelete != mapping.Keep {
				t.name("marked instead of deleted", key)
			}
		}
		extra = extra[n:]
	}
	return t.nameHeld(ctx)
}

// nameHeld names the held rows that the source doesn't have.
func (t *tableComparison) nameHeld(ctx context.Context) error {
	if !t.private {
		return nil
	}
	const sql = `SELECT h.key FROM walbridge.held AS h
		LEFT JOIN walbridge.deleted AS d ON d.bridge = h.bridge AND d."table" = h."table" AND d.key = h.key
		WHERE h.bridge = $1 AND h."table" = $2 AND (d.key IS NULL OR NOT $3)`
	args := []any{t.opts.Name, t.table.FullName(), t.spec.OnDelete == mapping.Keep}
	err := textRows(ctx, t.target, sql, args, func(row cdc.Row) error {
		if key := sink.Key(row[0].Text); !t.keys[key] {
			t.name("held, and not at the source", key)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for extra held rows: %w", err)
	}
	return nil
}
