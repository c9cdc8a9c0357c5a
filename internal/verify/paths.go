package verify

import (
	"context"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// pathComparison compares the path values that the bridge keeps of a source table
// with the table. A wrong one shows in no row yet, but in the next one that
// passes it.
type pathComparison struct {
	*comparison
	source *mapping.Source
	node   *sink.Node
	out    *Table
	view   *mapping.View // nil unless a target table comes from it
}

func (c *comparison) comparePaths(ctx context.Context, s *mapping.Source) (*Table, error) {
	p := &pathComparison{comparison: c, source: s, node: s.Node, out: newTable("paths " + s.FullName()), view: c.m.View(s)}
	p.out.tenant(NoTenant)
	if err := p.compareAll(ctx, c.pairs[0]); err != nil {
		return nil, err
	}
	return p.out, p.compareExtra(ctx, c.pairs[0])
}

// compareAll compares what the source has, page by page.
func (p *pathComparison) compareAll(ctx context.Context, on *pair) error {
	var after []string
	estimate := on.source.estimate(ctx, sourceName(p.source))
	for done := int64(0); ; {
		var list []*suspect
		rows := map[*suspect]seen{}
		sql, args := p.source.NodeSQL(mapping.ViewRange{After: after, Limit: chunkRows})
		err := on.source.rows(ctx, sql, args, func(row cdc.Row) error {
			s, row2 := p.row(row)
			list = append(list, s)
			rows[s] = row2
			return nil
		})
		if err != nil || len(list) == 0 {
			return err
		}
		stored, err := p.stored(ctx, on.target, list)
		if err != nil {
			return err
		}
		if err := stored.judge(ctx, on.target, list, rows); err != nil {
			return err
		}
		var doubtful []*suspect
		for _, s := range list {
			if s.verdict.finding.firm() {
				p.count(&s.verdict, s.key)
			} else {
				doubtful = append(doubtful, s)
			}
		}
		if err := p.settle(ctx, on, p, doubtful); err != nil {
			return err
		}
		done += int64(len(list))
		if p.opts.Progress != nil {
			p.opts.Progress(Progress{Table: p.out.Name, Rows: done, Estimate: estimate})
		}
		if len(list) < chunkRows {
			return nil
		}
		after = list[len(list)-1].from
	}
}

// row takes apart what NodeSQL has read.
func (p *pathComparison) row(row cdc.Row) (*suspect, seen) {
	n := len(p.source.Key)
	from := texts(row[:n])
	last := len(row) - 1
	return &suspect{key: sink.EncodeKey(from...), from: from}, seen{row: row[n:last], version: row[last].Text}
}

// compareExtra looks for path values of rows that the source doesn't have.
func (p *pathComparison) compareExtra(ctx context.Context, on *pair) error {
	l := &sink.Listing{Of: sink.ListPaths, Node: p.node, Limit: chunkRows}
	for {
		keys, err := on.target.Keys(ctx, l)
		if err != nil || len(keys) == 0 {
			return err
		}
		list := make([]*suspect, len(keys))
		for i, key := range keys {
			from, err := key.Split(len(p.source.Key))
			if err != nil {
				return err
			}
			list[i] = &suspect{key: key, from: from}
		}
		rows, err := p.read(ctx, on.source, list)
		if err != nil {
			return err
		}
		var doubtful []*suspect
		for _, s := range list {
			if rows[s].row == nil {
				doubtful = append(doubtful, s)
			}
		}
		if err := p.settle(ctx, on, p, doubtful); err != nil {
			return err
		}
		if len(keys) < chunkRows {
			return nil
		}
		l.After = &keys[len(keys)-1]
	}
}

func (p *pathComparison) read(ctx context.Context, src *reading, list []*suspect) (map[*suspect]seen, error) {
	rows := make(map[*suspect]seen, len(list))
	if len(list) == 0 {
		return rows, nil
	}
	byKey := make(map[sink.Key]*suspect, len(list))
	keys := make([][]string, len(list))
	for i, s := range list {
		keys[i], byKey[s.key] = s.from, s
	}
	sql, args := p.source.NodeSQL(mapping.ViewRange{Keys: keys})
	err := src.rows(ctx, sql, args, func(in cdc.Row) error {
		found, row := p.row(in)
		if s := byKey[found.key]; s != nil {
			rows[s] = row
		}
		return nil
	})
	return rows, err
}

// pathAnswers are path values.
type pathAnswers struct {
	*pathComparison
	rows map[sink.Key]sink.PathRow
}

func (p *pathComparison) stored(ctx context.Context, target sink.Reader, list []*suspect) (answers, error) {
	// Only this node's: what lies behind it is another comparison.
	alone := &sink.Node{Name: p.node.Name, Columns: p.node.Columns, Next: make([]*sink.Node, len(p.node.Columns))}
	l, err := target.Load(ctx, &sink.Query{Paths: map[*sink.Node][]sink.Key{alone: keysOf(list)}})
	if err != nil {
		return nil, err
	}
	return &pathAnswers{p, l.Paths[alone]}, nil
}

func (a *pathAnswers) judge(_ context.Context, _ sink.Reader, list []*suspect, rows map[*suspect]seen) error {
	for _, s := range list {
		want := rows[s].row
		got, ok := a.rows[s.key]
		v := verdict{tenant: NoTenant, atSource: want != nil}
		switch {
		case want == nil && ok && !got.Gone:
			v.finding, v.why = extra, "not at the source"
		case want == nil:
		case !ok:
			v.finding, v.why = missing, "missing"
		default:
			v.finding = equal
			if v.columns = a.differing(want, got.Values); got.Gone || len(v.columns) > 0 {
				v.finding, v.why = different, "different"
			}
		}
		s.verdict = v
	}
	return nil
}

// differing names the columns that differ.
func (p *pathComparison) differing(want, got cdc.Row) []string {
	if len(want) != len(got) {
		return p.node.Columns
	}
	var columns []string
	for i := range want {
		if want[i] != got[i] {
			columns = append(columns, p.node.Columns[i])
		}
	}
	return columns
}

func (p *pathComparison) count(v *verdict, key sink.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.count(v, key, p.opts.Keys)
}

// repair reads the rows again for the target table that comes from them, and the
// path values with them. A table that paths only pass can't be repaired row by
// row.
func (p *pathComparison) repair(ctx context.Context, keys []sink.Key) (bool, error) {
	if p.view == nil || !p.view.Ranges() {
		return false, nil
	}
	return true, p.opts.Repair(ctx, p.source.Target.Table.FullName(), keys)
}
