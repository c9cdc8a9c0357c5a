package verify

import (
	"context"
	"fmt"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// comparePaths compares the path values that the bridge keeps of a source table
// with the table. A wrong one shows in no row yet, but in the next one that
// passes it.
func (c *comparison) comparePaths(ctx context.Context, s *mapping.Source) error {
	out := newTable("paths " + s.FullName())
	c.report.Tables = append(c.report.Tables, out)
	counts := out.tenant(NoTenant)
	n := len(s.Key)
	columns := make([]string, 0, n+len(s.Node.Columns))
	for _, k := range s.Key {
		columns = append(columns, pg.Quote(k.Name))
	}
	for _, name := range s.Node.Columns {
		columns = append(columns, pg.Quote(name))
	}
	sql := fmt.Sprintf("SELECT %s FROM ONLY %s", strings.Join(columns, ", "), pg.Quote(s.Schema, s.Name))
	p := &pathComparison{comparison: c, node: s.Node, out: out, want: map[sink.Key]cdc.Row{}}
	if c.opts.Keys > 0 {
		p.keys = map[sink.Key]bool{}
	}
	err := textRows(ctx, c.source, sql, nil, func(row cdc.Row) error {
		key := keyOf(row[:n])
		if p.want[key] = row[n:]; p.keys != nil {
			p.keys[key] = true
		}
		if len(p.want) < chunkRows {
			return nil
		}
		return p.compareChunk(ctx)
	})
	if err != nil {
		return err
	}
	if err := p.compareChunk(ctx); err != nil {
		return err
	}
	var live, gone int64
	err = c.target.QueryRow(ctx, `SELECT pg_catalog.count(*) FILTER (WHERE NOT gone), pg_catalog.count(*) FILTER (WHERE gone)
		FROM walbridge.path_values WHERE bridge = $1 AND source = $2`, c.opts.Name, s.Node.Name).Scan(&live, &gone)
	if err != nil {
		return fmt.Errorf("count path values: %w", err)
	}
	counts.Extra += live - p.metLive
	counts.Kept += gone - p.metGone
	if p.keys == nil {
		return nil
	}
	return p.nameExtra(ctx)
}

// nameExtra names the path values of rows that the source doesn't have.
func (p *pathComparison) nameExtra(ctx context.Context) error {
	const sql = `SELECT key FROM walbridge.path_values WHERE bridge = $1 AND source = $2 AND NOT gone`
	err := textRows(ctx, p.target, sql, []any{p.opts.Name, p.node.Name}, func(row cdc.Row) error {
		if key := sink.Key(row[0].Text); !p.keys[key] {
			p.name("not at the source", key)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for extra path values: %w", err)
	}
	return nil
}

type pathComparison struct {
	*comparison
	node             *sink.Node
	out              *Table
	want             map[sink.Key]cdc.Row
	metLive, metGone int64
	// keys are all of the source's, where extra ones are to be named.
	keys map[sink.Key]bool
}

func (p *pathComparison) compareChunk(ctx context.Context) error {
	if len(p.want) == 0 {
		return nil
	}
	keys := make([]sink.Key, 0, len(p.want))
	for key := range p.want {
		keys = append(keys, key)
	}
	rows, err := p.target.Query(ctx, `SELECT key, vals, gone FROM walbridge.path_values
		WHERE bridge = $1 AND source = $2 AND key = ANY($3)`, p.opts.Name, p.node.Name, keyTexts(keys))
	if err != nil {
		return fmt.Errorf("read path values: %w", err)
	}
	defer rows.Close()
	counts := p.out.tenant(NoTenant)
	for rows.Next() {
		var key sink.Key
		var vals []*string
		var gone bool
		if err := rows.Scan(&key, &vals, &gone); err != nil {
			return fmt.Errorf("read path values: %w", err)
		}
		counts.Compared++
		if gone {
			p.metGone++
		} else {
			p.metLive++
		}
		if gone || !p.equal(p.want[key], textRow(vals)) {
			counts.Different++
			p.name("different", key)
		} else {
			counts.Equal++
		}
		delete(p.want, key)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read path values: %w", err)
	}
	for key := range p.want {
		counts.Compared++
		counts.Missing++
		p.name("missing", key)
	}
	clear(p.want)
	return nil
}

func (p *pathComparison) equal(want, got cdc.Row) bool {
	if len(want) != len(got) {
		return false
	}
	same := true
	for i := range want {
		if want[i] != got[i] {
			p.out.Columns[p.node.Columns[i]]++
			same = false
		}
	}
	return same
}

func (p *pathComparison) name(what string, key sink.Key) {
	if len(p.out.Keys[what]) < p.opts.Keys {
		p.out.Keys[what] = append(p.out.Keys[what], key)
	}
}
