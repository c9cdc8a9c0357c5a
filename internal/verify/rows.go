package verify

import (
	"context"
	"hash/fnv"
	"slices"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// Tables with a column that a conversion makes are compared value by value: only
// Go knows what the target should have.

// chunk is rows of the source that are compared at once.
type chunk struct {
	list  []*suspect
	rows  map[*suspect]seen
	bytes int
}

func newChunk() *chunk { return &chunk{rows: map[*suspect]seen{}} }

// compareRows compares the rows of a span, and looks for keys that only the target
// has in it.
func (w *tableWorker) compareRows(ctx context.Context, sp span) error {
	only, err := w.targetKeys(ctx, sp)
	if err != nil {
		return err
	}
	sql, args := w.view.SQL(w.sourceRange(sp))
	c := newChunk()
	err = w.pair.source.rows(ctx, sql, args, func(in cdc.Row) error {
		row, err := w.view.Row(in)
		if err != nil {
			return err
		}
		s := &suspect{key: w.table.KeyOf(row), from: w.view.Key(in)}
		delete(only, s.key)
		c.list = append(c.list, s)
		c.rows[s] = seen{row: row}
		if c.bytes += rowBytes(row); len(c.list) < chunkRows && c.bytes < chunkBytes {
			return nil
		}
		defer func() { c = newChunk() }()
		return w.compareChunk(ctx, c)
	})
	if err != nil {
		return err
	}
	if err := w.compareChunk(ctx, c); err != nil {
		return err
	}
	for key := range only {
		from, err := key.Split(len(w.table.Key))
		if err != nil {
			return err
		}
		if err := w.doubt(ctx, key, from); err != nil {
			return err
		}
	}
	return nil
}

// compareChunk judges rows of the source. Those that seem wrong become suspects.
func (w *tableWorker) compareChunk(ctx context.Context, c *chunk) error {
	if len(c.list) == 0 {
		return nil
	}
	stored, err := w.stored(ctx, w.target, c.list)
	if err != nil {
		return err
	}
	if err := stored.judge(ctx, w.target, c.list, c.rows); err != nil {
		return err
	}
	for _, s := range c.list {
		if s.verdict.finding.firm() {
			w.count(&s.verdict, s.key)
		} else if err := w.doubt(ctx, s.key, s.from); err != nil {
			return err
		}
	}
	w.progress(int64(len(c.list)))
	return nil
}

// targetKeys lists the keys that the target has in a span; none where a span says
// nothing about the target.
func (w *tableWorker) targetKeys(ctx context.Context, sp span) (map[sink.Key]bool, error) {
	if !w.ranged {
		return nil, nil
	}
	keys := map[sink.Key]bool{}
	err := w.listTarget(ctx, sp, func(key sink.Key) { keys[key] = true })
	return keys, err
}

// listTarget calls each for every key of the target in a span.
func (w *tableWorker) listTarget(ctx context.Context, sp span, each func(sink.Key)) error {
	r := w.targetRange(sp)
	r.Parts = nil
	for {
		list, err := w.hashes(ctx, r)
		if err != nil {
			return err
		}
		for _, row := range list {
			each(row.Key)
		}
		if len(list) < r.Limit {
			return nil
		}
		if r.After, err = list[len(list)-1].Key.Split(len(w.table.Key)); err != nil {
			return err
		}
	}
}

// leftRows is how many keys of the target are held against the source's at once:
// 8 bytes each.
const leftRows = 2_000_000

// compareLeft finds rows that only the target has where its keys are made by a
// conversion, so that they can't be looked up at the source. All keys are made
// once more, and struck out of a list of the target's; hashes of them have to do
// in memory.
func (w *tableWorker) compareLeft(ctx context.Context) error {
	var n uint64
	if err := w.listKeys(ctx, func(sink.Key) { n++ }); err != nil {
		return err
	}
	passes := n/leftRows + 1
	for pass := range passes {
		var list []uint64
		err := w.listKeys(ctx, func(key sink.Key) {
			if h := hashOf(key); h%passes == pass {
				list = append(list, h)
			}
		})
		if err != nil {
			return err
		}
		left, err := w.strike(ctx, list)
		if err != nil {
			return err
		}
		if err := w.settleLeft(ctx, left); err != nil {
			return err
		}
	}
	return nil
}

// listKeys calls each for all keys of the target: of the table, and of its held
// rows.
func (w *tableWorker) listKeys(ctx context.Context, each func(sink.Key)) error {
	if err := w.listTarget(ctx, span{}, each); err != nil || w.opts.Tenant != "" {
		return err
	}
	return w.keys(ctx, sink.ListHeld, func(keys []sink.Key) error {
		for _, key := range keys {
			each(key)
		}
		return nil
	})
}

func hashOf(key sink.Key) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // a hash takes everything
	return h.Sum64()
}

// strike returns the hashes, sorted, that no key of the source has. What the target
// has shown until now is visible there by then.
func (w *tableWorker) strike(ctx context.Context, hashes []uint64) ([]uint64, error) {
	slices.Sort(hashes)
	hashes = slices.Compact(hashes)
	if !w.quiet {
		if _, err := w.pair.source.ended(ctx); err != nil {
			return nil, err
		}
	}
	met := make([]bool, len(hashes))
	sql, args := w.tableComparison.source.KeySQL()
	err := w.pair.source.rows(ctx, sql, args, func(row cdc.Row) error {
		key, err := w.spec.Key(row)
		if i, found := slices.BinarySearch(hashes, hashOf(key)); found {
			met[i] = true
		}
		return err
	})
	var left []uint64
	for i, h := range hashes {
		if !met[i] {
			left = append(left, h)
		}
	}
	return left, err
}

// settleLeft settles rows whose keys have these hashes. They are what they seem
// if the target still has them when it has applied all that the source showed,
// and the source still doesn't.
func (w *tableWorker) settleLeft(ctx context.Context, left []uint64) error {
	if len(left) == 0 {
		return nil
	}
	if !w.quiet {
		if err := w.applied(ctx, w.pair); err != nil {
			return err
		}
	}
	var list []*suspect
	err := w.listKeys(ctx, func(key sink.Key) {
		if _, found := slices.BinarySearch(left, hashOf(key)); found {
			list = append(list, &suspect{key: key})
		}
	})
	if err != nil {
		return err
	}
	if !w.quiet {
		if left, err = w.strike(ctx, left); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(list, chunkRows) {
		part = slices.DeleteFunc(part, func(s *suspect) bool {
			_, still := slices.BinarySearch(left, hashOf(s.key))
			return !still
		})
		if err := w.countLeft(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// countLeft counts rows that only the target has, once the bridge has mended those
// that are wrong, if that was asked for.
func (w *tableWorker) countLeft(ctx context.Context, list []*suspect) error {
	wrong, err := w.judgeLeft(ctx, list)
	if err != nil {
		return err
	}
	if w.opts.Repair != nil && len(wrong) > 0 {
		if _, err := w.repair(ctx, keysOf(wrong)); err != nil {
			return err
		}
		still, err := w.judgeLeft(ctx, wrong)
		if err != nil {
			return err
		}
		for _, s := range wrong {
			s.verdict.mended = !slices.Contains(still, s)
		}
	}
	for _, s := range list {
		w.count(&s.verdict, s.key)
	}
	return nil
}

// judgeLeft judges rows that the source doesn't have, and returns those that are
// wrong.
func (w *tableWorker) judgeLeft(ctx context.Context, list []*suspect) (wrong []*suspect, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	stored, err := w.stored(ctx, w.target, list)
	if err != nil {
		return nil, err
	}
	if err := stored.judge(ctx, w.target, list, nil); err != nil {
		return nil, err
	}
	for _, s := range list {
		if s.verdict.finding.wrong() {
			wrong = append(wrong, s)
		}
	}
	return wrong, nil
}

func keysOf(list []*suspect) []sink.Key {
	keys := make([]sink.Key, len(list))
	for i, s := range list {
		keys[i] = s.key
	}
	return keys
}
