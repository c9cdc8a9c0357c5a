package mapping

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// Comparison is a part of a source table as it is at the point of the stream
// where it is held against the target. Only what differs is written.
type Comparison struct {
	Source *Source
	// Rows are as in Piece. PathsOnly leaves their target rows alone.
	Rows      []cdc.Row
	PathsOnly bool
	// GonePaths are source keys that the source has no rows of.
	GonePaths []sink.Key
	// Gone are target rows that the source has no rows of.
	Gone []GoneRow
	// Request names the request. Each makes an entry of its own for every row
	// that is mended.
	Request int64
	Each    bool
	// Commit and Time name the point of the stream.
	Commit cdc.LSN
	Time   time.Time
}

// GoneRow is a row of the target without one at the source.
type GoneRow struct {
	// Target is its key there. Source is its key at the source, empty where that
	// can't be told from the other.
	Target, Source sink.Key
	// Ours: the bridge has written the row, so it goes as the table's policy says.
	// Of a row whose path values are kept that needs no saying; every other one is
	// foreign and stays.
	Ours bool
}

// Compared says what a comparison found.
type Compared struct {
	Rows    int64 // rows of the source
	Written int64 // of which the target had another version, or none
	Gone    int64 // rows that the source hasn't any more
	Held    int64 // rows that have no tenant, or that the target refuses
	Foreign int64 // rows that somebody else has written
	// Tenants counts by tenant.
	Tenants map[string]TenantCompared
}

// TenantCompared is one tenant's part of a comparison.
type TenantCompared struct {
	Rows    int64 `json:"rows"`
	Written int64 `json:"written,omitempty"`
	Gone    int64 `json:"gone,omitempty"`
}

// Add adds what n found.
func (c *Compared) Add(n *Compared) {
	c.Rows += n.Rows
	c.Written += n.Written
	c.Gone += n.Gone
	c.Held += n.Held
	c.Foreign += n.Foreign
	for tenant, t := range n.Tenants {
		sum := c.Tenants[tenant]
		sum.Rows += t.Rows
		sum.Written += t.Written
		sum.Gone += t.Gone
		c.tally(tenant, sum)
	}
}

func (c *Compared) tally(tenant string, sum TenantCompared) {
	if c.Tenants == nil {
		c.Tenants = map[string]TenantCompared{}
	}
	c.Tenants[strings.Clone(tenant)] = sum // as in Tally.Merge
}

func (c *Compared) count(tenant cdc.Value, n TenantCompared) {
	if tenant.Kind == cdc.Text {
		c.Add(&Compared{Tenants: map[string]TenantCompared{tenant.Text: n}})
	}
}

// comparison is one Compare.
type comparison struct {
	*Comparison
	w   *work
	out *Compared
	// mended are the rows that make entries of their own.
	mended []step
}

// Compare brings the target in line with a part of the source: path values, rows
// of the table, held rows and deletion marks. Observed columns keep what the
// stream has set.
func (b *Batch) Compare(ctx context.Context, p *Comparison) (*Compared, error) {
	c := &comparison{Comparison: p, out: &Compared{}, w: &work{b: b, t: &cdc.Transaction{Commit: p.Commit, Time: p.Time, First: true, Last: true}}}
	rows := c.take()
	if err := c.prefetch(ctx); err != nil {
		return nil, err
	}
	if err := c.w.walkPaths(ctx); err != nil {
		return nil, err
	}
	if p.Source.Target != nil && !p.PathsOnly {
		for i := range rows {
			if err := c.row(ctx, &c.w.items[i], p.Rows[i][len(p.Source.Inputs):]); err != nil {
				return nil, fmt.Errorf("table %s: %w", p.Source.FullName(), err)
			}
		}
		for i := range p.Gone {
			if err := c.gone(ctx, &p.Gone[i]); err != nil {
				return nil, fmt.Errorf("table %s: %w", p.Source.FullName(), err)
			}
		}
	}
	if b.careful {
		if err := c.w.writeOneByOne(ctx); err != nil {
			return nil, err
		}
	}
	if _, _, err := c.w.move(ctx); err != nil {
		return nil, err
	}
	return c.out, c.entries()
}

// take makes items of the rows, then of the path values whose rows are gone.
func (c *comparison) take() []item {
	s := c.Source
	n := len(s.Inputs)
	insert, remove := &cdc.Change{Op: cdc.Insert}, &cdc.Change{Op: cdc.Delete}
	for _, row := range c.Rows {
		in := row[:n:n]
		c.w.items = append(c.w.items, item{c: insert, source: s, in: in, key: s.KeyOf(in)})
	}
	if s.Node != nil {
		for _, key := range c.GonePaths {
			c.w.items = append(c.w.items, item{c: remove, source: s, key: key})
		}
	}
	return c.w.items[:len(c.Rows)]
}

// prefetch asks for all that the comparison needs, in one round trip.
func (c *comparison) prefetch(ctx context.Context) error {
	b, s := c.w.b, c.Source
	n := newNeeds(b)
	for i := range c.w.items {
		it := &c.w.items[i]
		if s.Node != nil {
			b.distrust(pathKey{s.Node, it.key})
			n.path(pathKey{s.Node, it.key})
			if b.Counters.Held > 0 && it.c.Op == cdc.Insert {
				n.waiting[pathKey{s.Node, it.key}] = true
			}
			if it.c.Op == cdc.Insert {
				n.next(s, it.in)
			}
		}
		if s.Target == nil || c.PathsOnly || it.c.Op == cdc.Delete {
			continue
		}
		n.derived(s.Target, it.in)
		if err := n.row(s, it.in); err != nil {
			return err
		}
	}
	for i := range c.Gone {
		g := &c.Gone[i]
		if b.rows[s][g.Target] == nil {
			if n.rows[s] == nil {
				n.rows[s] = map[sink.Key]bool{}
			}
			n.rows[s][g.Target] = true
		}
		if s.Node != nil && g.Source != "" {
			n.path(pathKey{s.Node, g.Source})
		}
	}
	return b.load(ctx, n.query())
}
