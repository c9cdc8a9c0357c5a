package verify

import (
	"context"
	"errors"
	"fmt"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// Bounds of what is read at a time. A span is compared by two digests, or else
// listed in pages, or its rows are read in chunks.
const (
	digestRows = 50_000
	listRows   = 10_000
	chunkRows  = 2000
	chunkBytes = 4 << 20
)

// tableComparison compares one table.
type tableComparison struct {
	*comparison
	source *mapping.Source
	view   *mapping.View
	spec   *mapping.Target
	table  *sink.Table
	out    *Table

	// ranged: a span of the source is a range of the target. digested: and the
	// databases can hash it by themselves, of parts.
	ranged, digested bool
	parts            []sink.Part
	estimate, done   int64
	cut              *spans

	// marked are rows that have a deletion mark by mistake: no kept ones.
	marked map[sink.Key]bool
}

func (c *comparison) compareTable(ctx context.Context, s *mapping.Source) (*Table, error) {
	t := &tableComparison{comparison: c, source: s, view: c.m.View(s), spec: s.Target, table: s.Target.Table,
		out: newTable(s.Target.Table.FullName()), marked: map[sink.Key]bool{}}
	t.ranged = t.view.Ranges()
	if t.parts, t.digested = t.view.Parts(); !t.ranged {
		t.digested = false
	}
	t.estimate = c.pairs[0].source.estimate(ctx, sourceName(s))
	t.progress(0)
	t.cut = &spans{source: s, rows: digestRows}
	if !t.digested {
		t.cut.rows = listRows
	}
	err := c.each(ctx, func(ctx context.Context, p *pair) error {
		w := newTableWorker(t, p)
		for {
			sp, ok, err := t.cut.next(ctx, p.source)
			if err != nil {
				return err
			}
			if !ok {
				return w.settleAll(ctx)
			}
			if err := w.compare(ctx, sp); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return t.out, t.compareRest(ctx, newTableWorker(t, c.pairs[0]))
}

// compareRest goes through what no span of the source leads to: rows with a mark,
// held rows, and where keys are made by a conversion all rows that only the target
// has.
func (t *tableComparison) compareRest(ctx context.Context, w *tableWorker) error {
	if !t.ranged {
		if err := w.compareLeft(ctx); err != nil {
			return fmt.Errorf("look for rows that only the target has: %w", err)
		}
	}
	if err := w.compareMarked(ctx); err != nil {
		return fmt.Errorf("compare kept rows: %w", err)
	}
	if err := w.compareHeld(ctx); err != nil {
		return fmt.Errorf("compare held rows: %w", err)
	}
	return w.settleAll(ctx)
}

// progress tells how many more rows have been compared.
func (t *tableComparison) progress(rows int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done += rows
	if t.opts.Progress != nil {
		t.opts.Progress(Progress{Table: t.out.Name, Rows: t.done, Estimate: t.estimate})
	}
}

// tableWorker compares spans of one table.
type tableWorker struct {
	*tableComparison
	*pair
	suspects []*suspect
	// page is how many hashes are read at a time.
	page int
}

func newTableWorker(t *tableComparison, p *pair) *tableWorker {
	return &tableWorker{tableComparison: t, pair: p, page: listRows}
}

// leastPage is a page that no server takes too long for.
const leastPage = 100

// turn makes pages smaller after one that took a server too long, and reports whether
// that was possible.
func (w *tableWorker) turn(err error) bool {
	if !fault.TooLarge(err) || w.page <= leastPage {
		return false
	}
	w.page = max(w.page/4, leastPage)
	return true
}

// hashes reads the first hashes of r at the target, and sets its Limit.
func (w *tableWorker) hashes(ctx context.Context, r *sink.Range) ([]sink.RowHash, error) {
	for {
		r.Limit = w.page
		list, err := w.target.Hashes(ctx, r)
		if !w.turn(err) {
			return list, err
		}
	}
}

// doubt collects suspects, and settles them when they are many.
func (w *tableWorker) doubt(ctx context.Context, key sink.Key, from []string) error {
	w.suspects = append(w.suspects, &suspect{key: key, from: from})
	if len(w.suspects) < 2*settleRows {
		return nil
	}
	return w.settleAll(ctx)
}

func (w *tableWorker) settleAll(ctx context.Context) error {
	list := w.suspects
	w.suspects = nil
	return w.settle(ctx, w.pair, w.tableComparison, list)
}

func (w *tableWorker) compare(ctx context.Context, sp span) error {
	if !w.digested {
		return w.compareRows(ctx, sp)
	}
	same, err := w.compareSums(ctx, sp)
	if same || err != nil && !fault.TooLarge(err) {
		return err
	}
	// They differ, or a digest of so much takes one of the servers too long.
	if err != nil {
		w.cut.shrink()
	}
	return w.compareHashes(ctx, sp)
}

var errLarge = errors.New("the rows are more than fit into memory at once")

// read evaluates the mapping for some rows.
func (t *tableComparison) read(ctx context.Context, src *reading, list []*suspect) (map[*suspect]seen, error) {
	keys := make([][]string, 0, len(list))
	byKey := make(map[sink.Key]*suspect, len(list))
	for _, s := range list {
		if s.from != nil {
			keys = append(keys, s.from)
			byKey[sink.EncodeKey(s.from...)] = s
		}
	}
	rows := make(map[*suspect]seen, len(list))
	if len(keys) == 0 {
		return rows, nil
	}
	sql, args := t.view.SQL(mapping.ViewRange{Keys: keys, Versions: true})
	bytes := 0
	err := src.rows(ctx, sql, args, func(in cdc.Row) error {
		if bytes += rowBytes(in); bytes > settleBytes && len(list) > 1 {
			return errLarge
		}
		last := len(in) - 1
		row, err := t.view.Row(in[:last])
		if s := byKey[sink.EncodeKey(t.view.Key(in)...)]; s != nil {
			rows[s] = seen{row, in[last].Text}
		}
		return err
	})
	return rows, err
}

// tableAnswers are rows of the target.
type tableAnswers struct {
	*tableComparison
	rows map[sink.Key]sink.Stored
}

func (t *tableComparison) stored(ctx context.Context, target sink.Reader, list []*suspect) (answers, error) {
	l, err := target.Load(ctx, &sink.Query{Rows: map[*sink.Table][]sink.Key{t.table: keysOf(list)}})
	if err != nil {
		return nil, err
	}
	return &tableAnswers{t, l.Rows[t.table]}, nil
}

func (a *tableAnswers) judge(ctx context.Context, target sink.Reader, list []*suspect, rows map[*suspect]seen) error {
	return a.tableComparison.judge(ctx, target, list, rows, a.rows)
}

func (t *tableComparison) repair(ctx context.Context, keys []sink.Key) (bool, error) {
	return true, t.opts.Repair(ctx, t.table.FullName(), keys)
}
