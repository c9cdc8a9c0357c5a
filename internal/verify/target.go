package verify

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// stored is what the target has for some keys.
type stored struct {
	rows  map[sink.Key]cdc.Row
	held  map[sink.Key]heldRow
	marks map[sink.Key]bool
}

type heldRow struct {
	row    cdc.Row
	reason sink.HeldReason
}

func tableName(t *sink.Table) string { return pg.Quote(t.Schema, t.Name) }

// keyColumns are the key's columns, each with the prefix.
func (t *tableComparison) keyColumns(prefix string) string {
	parts := make([]string, len(t.table.Key))
	for i, k := range t.table.Key {
		parts[i] = prefix + pg.Quote(t.table.Columns[k].Name)
	}
	return strings.Join(parts, ", ")
}

// keyOf is the key of a row that has nothing but the key's columns.
func keyOf(row cdc.Row) sink.Key {
	parts := make([]string, len(row))
	for i, v := range row {
		parts[i] = v.Text
	}
	return sink.EncodeKey(parts...)
}

// read finds rows, held rows and deletion marks by key.
func (t *tableComparison) read(ctx context.Context, keys []sink.Key) (*stored, error) {
	s := &stored{rows: map[sink.Key]cdc.Row{}, held: map[sink.Key]heldRow{}, marks: map[sink.Key]bool{}}
	sql, args, err := t.selectRows(keys)
	if err != nil {
		return nil, err
	}
	err = textRows(ctx, t.target, sql, args, func(row cdc.Row) error {
		s.rows[t.table.KeyOf(row)] = row
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read rows: %w", err)
	}
	if !t.private {
		return s, nil
	}
	if err := t.readHeld(ctx, keys, s); err != nil {
		return nil, fmt.Errorf("read held rows: %w", err)
	}
	marks, err := t.target.Query(ctx,
		`SELECT key FROM walbridge.deleted WHERE bridge = $1 AND "table" = $2 AND key = ANY($3)`,
		t.opts.Name, t.table.FullName(), keyTexts(keys))
	if err != nil {
		return nil, fmt.Errorf("read deletion marks: %w", err)
	}
	marked, err := pgx.CollectRows(marks, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read deletion marks: %w", err)
	}
	for _, key := range marked {
		s.marks[sink.Key(key)] = true
	}
	return s, nil
}

// selectRows makes the query for rows by key: the keys' parts travel as one array
// of texts a key column and are cast to the column's type, so that its index is
// used.
func (t *tableComparison) selectRows(keys []sink.Key) (string, []any, error) {
	n := len(t.table.Key)
	parts := make([][]string, n)
	for _, key := range keys {
		texts, err := key.Split(n)
		if err != nil {
			return "", nil, err
		}
		for i, text := range texts {
			parts[i] = append(parts[i], text)
		}
	}
	var args []any
	var arrays, names, on []string
	for i, k := range t.table.Key {
		name := "k" + strconv.Itoa(i)
		args = append(args, parts[i])
		arrays = append(arrays, fmt.Sprintf("$%d::text[]", i+1))
		names = append(names, name)
		on = append(on, fmt.Sprintf("t.%s = k.%s::%s", pg.Quote(t.table.Columns[k].Name), name, t.table.Columns[k].Type))
	}
	columns := make([]string, len(t.table.Columns))
	for i, c := range t.table.Columns {
		columns[i] = "t." + pg.Quote(c.Name)
	}
	sql := fmt.Sprintf("SELECT %s FROM ROWS FROM (%s) AS k(%s) JOIN %s AS t ON %s", strings.Join(columns, ", "),
		unnest(arrays), strings.Join(names, ", "), tableName(t.table), strings.Join(on, " AND "))
	return sql, args, nil
}

func unnest(arrays []string) string {
	parts := make([]string, len(arrays))
	for i, a := range arrays {
		parts[i] = "pg_catalog.unnest(" + a + ")"
	}
	return strings.Join(parts, ", ")
}

func (t *tableComparison) readHeld(ctx context.Context, keys []sink.Key, s *stored) error {
	rows, err := t.target.Query(ctx,
		`SELECT key, vals, reason FROM walbridge.held WHERE bridge = $1 AND "table" = $2 AND key = ANY($3)`,
		t.opts.Name, t.table.FullName(), keyTexts(keys))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var key, reason string
		var vals []*string
		if err := rows.Scan(&key, &vals, &reason); err != nil {
			return err
		}
		if len(vals) != len(t.table.Columns) {
			return fmt.Errorf("a held row has %d values, the table %d columns", len(vals), len(t.table.Columns))
		}
		s.held[sink.Key(key)] = heldRow{textRow(vals), sink.HeldReason(reason)}
	}
	return rows.Err()
}

func textRow(vals []*string) cdc.Row {
	row := make(cdc.Row, len(vals))
	for i, v := range vals {
		if v != nil {
			row[i] = cdc.TextValue(*v)
		}
	}
	return row
}

// countMarked counts, by tenant, the rows of the table that have a deletion
// mark, and checks what they have over paths. It goes from the marks to the rows, because only Go knows how a key of
// several columns is written.
func (t *tableComparison) countMarked(ctx context.Context) (map[string]int64, error) {
	counts := map[string]int64{}
	if !t.private {
		return counts, nil
	}
	last := ""
	for {
		rows, err := t.target.Query(ctx, `SELECT key FROM walbridge.deleted
			WHERE bridge = $1 AND "table" = $2 AND key > $3 ORDER BY key LIMIT $4`,
			t.opts.Name, t.table.FullName(), last, chunkRows)
		if err != nil {
			return nil, fmt.Errorf("read deletion marks: %w", err)
		}
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, fmt.Errorf("read deletion marks: %w", err)
		}
		if len(texts) == 0 {
			return counts, nil
		}
		last = texts[len(texts)-1]
		keys := make([]sink.Key, len(texts))
		for i, text := range texts {
			keys[i] = sink.Key(text)
		}
		sql, args, err := t.selectRows(keys)
		if err != nil {
			return nil, err
		}
		var kept []cdc.Row
		err = textRows(ctx, t.target, sql, args, func(row cdc.Row) error {
			counts[row[t.table.Tenant].Text]++
			kept = append(kept, row)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read kept rows: %w", err)
		}
		if err := t.compareKept(ctx, kept); err != nil {
			return nil, err
		}
	}
}

func keyTexts(keys []sink.Key) []string {
	texts := make([]string, len(keys))
	for i, k := range keys {
		texts[i] = string(k)
	}
	return texts
}

func parseCount(v cdc.Value) (int64, error) {
	n, err := strconv.ParseInt(v.Text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read a count: %w", err)
	}
	return n, nil
}
