package verify

import (
	"context"
	"maps"
	"slices"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// Rows that stayed when the source's were deleted have nothing at the source to
// be compared with, but they follow their parents: what is reached over paths
// must be what the bridge's path values say, those of deleted parents included.
// Both change in one transaction of the target, so one snapshot of it settles
// that.

// page is how many keys are listed at a time.
const page = 1000

// keys goes through a listing page by page.
func (w *tableWorker) keys(ctx context.Context, of sink.Listed, each func(keys []sink.Key) error) error {
	l := &sink.Listing{Of: of, Table: w.table, Limit: page}
	for {
		keys, err := w.target.Keys(ctx, l)
		if err != nil || len(keys) == 0 {
			return err
		}
		if err := each(keys); err != nil {
			return err
		}
		if len(keys) < page {
			return nil
		}
		l.After = &keys[len(keys)-1]
	}
}

// compareMarked goes through the rows with a deletion mark.
func (w *tableWorker) compareMarked(ctx context.Context) error {
	small := w.table.Whose()
	return w.keys(ctx, sink.ListMarks, func(keys []sink.Key) error {
		rows, paths, err := w.keptRows(ctx, small, keys)
		if err != nil {
			return err
		}
		var wrong []*suspect
		for key, stored := range rows {
			if !stored.Deleted || stored.Row == nil || w.marked[key] || !w.mine(stored.Row[small.Tenant]) {
				continue
			}
			s := &suspect{key: key, verdict: w.judgeKept(small, stored.Row, paths)}
			if s.verdict.finding.wrong() {
				wrong = append(wrong, s)
			} else {
				w.countKept(&s.verdict, key)
			}
		}
		return w.mendKept(ctx, small, wrong)
	})
}

// mine reports whether a tenant's rows are compared.
func (c *comparison) mine(tenant cdc.Value) bool {
	return c.opts.Tenant == "" || tenant.Text == c.opts.Tenant
}

// mendKept has wrong rows repaired, if that was asked for, and counts them.
func (w *tableWorker) mendKept(ctx context.Context, small *sink.Table, wrong []*suspect) error {
	if len(wrong) == 0 {
		return nil
	}
	if w.opts.Repair != nil {
		keys := keysOf(wrong)
		if _, err := w.repair(ctx, keys); err != nil {
			return err
		}
		rows, paths, err := w.keptRows(ctx, small, keys)
		if err != nil {
			return err
		}
		for _, s := range wrong {
			stored := rows[s.key]
			if stored.Row == nil {
				s.verdict = verdict{mended: true}
				continue
			}
			s.verdict = w.judgeKept(small, stored.Row, paths)
			s.verdict.mended = !s.verdict.finding.wrong()
		}
	}
	for _, s := range wrong {
		w.countKept(&s.verdict, s.key)
	}
	return nil
}

func (w *tableWorker) countKept(v *verdict, key sink.Key) {
	w.count(v, key)
	if v.finding == nothing {
		w.mu.Lock()
		w.out.tenant(v.tenant).Kept++
		w.mu.Unlock()
	}
}

// keptRows reads rows, and the path values that they start from, in one snapshot.
// Where a path starts is in the row, so it takes two reads, and more while the
// rows change.
func (w *tableWorker) keptRows(ctx context.Context, small *sink.Table, keys []sink.Key) (rows map[sink.Key]sink.Stored, paths map[*sink.Node]map[sink.Key]sink.PathRow, err error) {
	q := &sink.Query{Rows: map[*sink.Table][]sink.Key{small: keys}, Paths: map[*sink.Node][]sink.Key{}}
	asked := map[*sink.Node]map[sink.Key]bool{}
	for {
		l, err := w.target.Load(ctx, q)
		if err != nil {
			return nil, nil, err
		}
		news := false
		for _, stored := range l.Rows[small] {
			if stored.Row == nil {
				continue
			}
			for node, key := range starts(small, stored.Row) {
				if asked[node] == nil {
					asked[node] = map[sink.Key]bool{}
				}
				if !asked[node][key] {
					asked[node][key] = true
					q.Paths[node] = append(q.Paths[node], key)
					news = true
				}
			}
		}
		if !news {
			return l.Rows[small], l.Paths, nil
		}
	}
}

// starts yields the path values that a row's derived columns start from.
func starts(t *sink.Table, row cdc.Row) func(yield func(*sink.Node, sink.Key) bool) {
	return func(yield func(*sink.Node, sink.Key) bool) {
		for _, d := range t.Derived {
			for _, l := range d.From {
				if v := row[l.Column]; len(l.Steps) > 0 && !v.IsNull() && !yield(l.Steps[0].Node, sink.Key(v.Text)) {
					return
				}
			}
		}
	}
}

// judgeKept judges a row with a mark.
func (w *tableWorker) judgeKept(small *sink.Table, row cdc.Row, paths map[*sink.Node]map[sink.Key]sink.PathRow) verdict {
	v := verdict{tenant: row[small.Tenant].Text}
	if w.spec.OnDelete != mapping.Keep {
		v.finding, v.why = extra, "marked instead of deleted"
		return v
	}
	for _, d := range small.Derived {
		if want, known := follow(d, row, paths); known && want != row[d.Column] {
			v.columns = append(v.columns, small.Columns[d.Column].Name)
		}
	}
	switch {
	case len(v.columns) == 0:
	case w.opts.OthersWrite:
		v.finding = foreign // under the key of a row that was deleted while it was held
	default:
		v.finding, v.why = different, "kept under values of old"
	}
	return v
}

// follow evaluates a derived column of a row by the path values. It is unknown
// where one is missing, since nothing is known of such a row any more.
func follow(d sink.Derived, row cdc.Row, paths map[*sink.Node]map[sink.Key]sink.PathRow) (value cdc.Value, known bool) {
	for _, l := range d.From {
		v := row[l.Column]
		for _, step := range l.Steps {
			if v.IsNull() {
				break
			}
			p, ok := paths[step.Node][sink.Key(v.Text)]
			if !ok {
				return cdc.Value{}, false
			}
			v = p.Values[step.Column]
		}
		if !v.IsNull() {
			return v, true
		}
	}
	return cdc.Value{}, true
}

// compareHeld goes through the held rows that no row of the source stands behind.
// One that has a mark was deleted, and is kept like any other.
func (w *tableWorker) compareHeld(ctx context.Context) error {
	if w.opts.Tenant != "" {
		return nil // those of a tenant are known from its rows
	}
	small := w.table.Whose()
	return w.keys(ctx, sink.ListHeld, func(keys []sink.Key) error {
		l, err := w.target.Load(ctx, &sink.Query{Rows: map[*sink.Table][]sink.Key{small: keys}})
		if err != nil {
			return err
		}
		var rest []sink.Key
		for _, key := range keys {
			switch stored := l.Rows[small][key]; {
			case stored.Held == nil || w.marked[key]:
			case stored.Deleted && w.spec.OnDelete == mapping.Keep:
				w.countKept(&verdict{tenant: NoTenant}, key)
			default:
				rest = append(rest, key)
			}
		}
		return w.doubtAbsent(ctx, rest)
	})
}

// doubtAbsent makes suspects of the keys that the source doesn't have.
func (w *tableWorker) doubtAbsent(ctx context.Context, keys []sink.Key) error {
	if !w.ranged || len(keys) == 0 {
		return nil // compareLeft has looked at them
	}
	from := make(map[sink.Key][]string, len(keys))
	for _, key := range keys {
		parts, err := key.Split(len(w.table.Key))
		if err != nil {
			return err
		}
		from[key] = parts
	}
	sql, args := w.tableComparison.source.KeySQL(slices.Collect(maps.Values(from))...)
	err := w.pair.source.rows(ctx, sql, args, func(row cdc.Row) error {
		delete(from, keyOf(row))
		return nil
	})
	if err != nil {
		return err
	}
	for key, parts := range from {
		if err := w.doubt(ctx, key, parts); err != nil {
			return err
		}
	}
	return nil
}
