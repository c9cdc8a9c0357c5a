package oracle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// found is what the target has under one source key.
type found struct {
	row, held cdc.Row
	reason    string
	deleted   bool
}

// compareTable compares one table, what is held of it and its deletion marks
// with the model, value by value.
func (w *world) compareTable(ctx context.Context, f *findings, m *model, t *table, compiled *mapping.Mapping) error {
	got, err := w.readTable(ctx, t, compiled)
	if err != nil {
		return err
	}
	for key, want := range m.rows[t] {
		g := got[key]
		delete(got, key)
		if g == nil {
			g = &found{}
		}
		if want.unsure {
			if (g.row != nil || g.held != nil) && !g.deleted {
				f.add("%s %s: deleted at the source, but has no mark%s", t.name, key, w.about(t, key))
			}
			continue
		}
		if want.lost && g.row == nil && g.held == nil && !g.deleted {
			continue
		}
		if g.deleted != want.deleted {
			f.add("%s %s: mark is %t, want %t%s", t.name, key, g.deleted, want.deleted, w.about(t, key))
		}
		have := g.row
		if want.place == inHeld {
			have = g.held
		}
		switch {
		case (g.row != nil) != (want.place == inTable) || (g.held != nil) != (want.place == inHeld):
			f.add("%s %s: in table %t, held %t, want %s of tenant %s%s", t.name, key, g.row != nil, g.held != nil,
				[]string{"nowhere", "in table", "held"}[want.place], show(tenant(want.out)), w.about(t, key))
		case want.place == inHeld && g.reason != "tenant":
			f.add("%s %s: held for %s", t.name, key, g.reason)
		default:
			w.compareRow(f, t, key, want, have)
		}
	}
	for key, g := range got {
		f.add("%s %s: at the target (row %t, held %t, mark %t), and shouldn't be%s", t.name, key, g.row != nil, g.held != nil, g.deleted, w.about(t, key))
	}
	return nil
}

func (w *world) compareRow(f *findings, t *table, key string, want *row, have cdc.Row) {
	for i, o := range t.outputs() {
		switch {
		case o.uuid || have[i] == want.out[i]:
		case o.observe != "" && want.vague && have[i].IsNull() == want.out[i].IsNull():
		default:
			f.add("%s %s: %s is %s, want %s%s", t.name, key, o.name, short(have[i]), short(want.out[i]), w.about(t, key))
		}
	}
}

func short(v cdc.Value) string {
	if v.IsNull() {
		return "null"
	}
	if len(v.Text) > 60 {
		return fmt.Sprintf("%q… (%d bytes)", v.Text[:40], len(v.Text))
	}
	return fmt.Sprintf("%q", v.Text)
}

// readTable reads what the target has, by the source's key.
func (w *world) readTable(ctx context.Context, t *table, compiled *mapping.Mapping) (map[string]*found, error) {
	got := map[string]*found{}
	at := func(key string) *found {
		if got[key] == nil {
			got[key] = &found{}
		}
		return got[key]
	}
	var names []string
	for _, o := range t.outputs() {
		names = append(names, o.name)
	}
	// keys leads from the target's key to the source's.
	keys := map[string]string{}
	table := compiled.Schema.Tables[slices.IndexFunc(compiled.Schema.Tables, func(s *sink.Table) bool { return s.Name == t.target })]
	rows, err := textRows(ctx, w.target, "SELECT "+strings.Join(names, ", ")+" FROM "+t.target)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		key := t.sourceKey(r)
		keys[t.targetKey(r)] = key
		at(key).row = r
	}
	held, err := w.target.Query(ctx, `SELECT key, vals, reason FROM walbridge.held WHERE "table" = $1`, "public."+t.target)
	if err != nil {
		return nil, err
	}
	for held.Next() {
		var key, reason string
		var vals []*string
		if err := held.Scan(&key, &vals, &reason); err != nil {
			return nil, err
		}
		in := image(vals)
		r := make(cdc.Row, len(names))
		for i, name := range names {
			r[i] = in[slices.IndexFunc(table.Columns, func(c sink.Column) bool { return c.Name == name })]
		}
		keys[key] = t.sourceKey(r)
		at(t.sourceKey(r)).held, at(t.sourceKey(r)).reason = r, reason
	}
	if err := held.Err(); err != nil {
		return nil, err
	}
	marks, err := textRows(ctx, w.target, `SELECT key FROM walbridge.deleted WHERE "table" = 'public.`+t.target+`'`)
	if err != nil {
		return nil, err
	}
	for _, r := range marks {
		key, ok := keys[r[0].Text]
		if !ok {
			key = "mark without a row: " + r[0].Text
		}
		at(key).deleted = true
	}
	return got, nil
}

// sourceKey is the source's key of a target row.
func (t *table) sourceKey(made cdc.Row) string {
	image := make(cdc.Row, len(t.columns))
	for i, o := range t.outputs() {
		if slices.Contains(t.key, o.path) {
			image[t.at(o.path)] = made[i]
		}
	}
	return t.keyOf(image)
}

// targetKey is the target's, as the private schema writes it.
func (t *table) targetKey(made cdc.Row) string {
	if t.out[0].uuid {
		return made[0].Text
	}
	return t.sourceKey(made)
}

func textRows(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]cdc.Row, error) {
	rows, err := conn.Query(ctx, sql, append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sql, err)
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (cdc.Row, error) {
		row := make(cdc.Row, len(r.RawValues()))
		for i, v := range r.RawValues() {
			if v != nil {
				row[i] = cdc.TextValue(string(v))
			}
		}
		return row, nil
	})
}

// about is the history of a row, for whoever has to understand a difference.
func (w *world) about(t *table, key string) string {
	var b strings.Builder
	for _, tx := range w.history {
		for _, c := range tx.changes {
			if c.table != t || c.op != 'T' && (c.old == nil || t.keyOf(c.old) != key) && (c.new == nil || t.keyOf(c.new) != key) {
				continue
			}
			fmt.Fprintf(&b, "\n    xid %d seq %d of %d at %s: %c %s -> %s", tx.xid, c.seq, len(tx.changes), tx.end, c.op, t.print(c.old), t.print(c.new))
		}
	}
	return b.String()
}

func (t *table) print(image cdc.Row) string {
	if image == nil {
		return "-"
	}
	parts := make([]string, len(image))
	for i, v := range image {
		if parts[i] = show(v); len(parts[i]) > 12 {
			parts[i] = parts[i][:6] + fmt.Sprintf("…%d", len(v.Text))
		}
	}
	return "(" + strings.Join(parts, ", ") + ")"
}
