package verify

import (
	"context"
	"fmt"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// Rows that stayed when the source's were deleted have nothing at the source to
// be compared with, but they follow their parents: what is reached over paths
// must be what the bridge's path values say, those of deleted parents included.

// astray is a kept row that doesn't follow its parents: the tenant that it is
// under, and the columns that are wrong.
type astray struct {
	tenant  string
	columns []string
}

// pathRows are the values of some rows that paths pass.
type pathRows map[sink.Key]cdc.Row

// compareKept checks the derived columns of rows with a deletion mark.
func (t *tableComparison) compareKept(ctx context.Context, rows []cdc.Row) error {
	if t.spec.OnDelete != mapping.Keep {
		return nil
	}
	for _, d := range t.table.Derived {
		want, err := t.follow(ctx, d, rows)
		if err != nil {
			return err
		}
		for i, row := range rows {
			if w := want[i]; w != nil && *w != row[d.Column] {
				key := t.table.KeyOf(row)
				columns := append(t.astray[key].columns, t.table.Columns[d.Column].Name)
				t.astray[key] = astray{row[t.table.Tenant].Text, columns}
			}
		}
	}
	return nil
}

// follow evaluates a derived column of rows by the path values: nil where a path
// value is missing, since nothing is known of such a row any more.
func (t *tableComparison) follow(ctx context.Context, d sink.Derived, rows []cdc.Row) ([]*cdc.Value, error) {
	out := make([]*cdc.Value, len(rows))
	unknown := make([]bool, len(rows))
	for _, lookup := range d.From {
		at := make([]cdc.Value, len(rows))
		for i, row := range rows {
			if out[i] == nil || out[i].IsNull() { // else an earlier lookup has found it
				at[i] = row[lookup.Column]
			}
		}
		for _, step := range lookup.Steps {
			found, err := t.pathValues(ctx, step.Node, at)
			if err != nil {
				return nil, err
			}
			for i, v := range at {
				values, ok := found[sink.Key(v.Text)]
				switch {
				case v.IsNull():
				case ok:
					at[i] = values[step.Column]
				default:
					at[i], unknown[i] = cdc.Value{}, true
				}
			}
		}
		for i := range rows {
			if !unknown[i] && (out[i] == nil || out[i].IsNull()) {
				out[i] = &at[i]
			}
		}
	}
	for i := range out {
		if unknown[i] {
			out[i] = nil
		}
	}
	return out, nil
}

// pathValues reads the path values of a node for keys, which may be null.
func (t *tableComparison) pathValues(ctx context.Context, node *sink.Node, keys []cdc.Value) (pathRows, error) {
	texts := make([]string, 0, len(keys))
	for _, k := range keys {
		if !k.IsNull() {
			texts = append(texts, k.Text)
		}
	}
	rows, err := t.target.Query(ctx, `SELECT key, vals FROM walbridge.path_values WHERE bridge = $1 AND source = $2 AND key = ANY($3)`,
		t.opts.Name, node.Name, texts)
	if err != nil {
		return nil, fmt.Errorf("read path values: %w", err)
	}
	defer rows.Close()
	found := pathRows{}
	for rows.Next() {
		var key sink.Key
		var vals []*string
		if err := rows.Scan(&key, &vals); err != nil {
			return nil, fmt.Errorf("read path values: %w", err)
		}
		found[key] = textRow(vals)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read path values: %w", err)
	}
	return found, nil
}
