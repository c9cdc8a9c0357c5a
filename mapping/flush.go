package mapping

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// Flush writes everything that is due to the target, still inside its
// transaction.
func (b *Batch) Flush(ctx context.Context) error {
	w := newWriter(b)
	b.flushPaths(w)
	for _, st := range b.touched {
		if err := w.transition(st, st.was, st.now); err != nil {
			return err
		}
		st.settled()
	}
	b.touched = b.touched[:0]
	w.out.Entries, b.entries = b.entries, nil
	w.out.Copied, b.copied = b.copied, nil
	w.out.Requests, b.requests = b.requests, nil
	return w.apply(ctx)
}

func (b *Batch) flushPaths(w *writer) {
	for _, k := range b.dirty {
		p := b.paths[k]
		w.out.Paths = append(w.out.Paths, sink.PathWrite{Node: k.node, Key: k.key, Row: p.now, Forget: p.forget})
		p.dirty, p.forget = false, false
	}
	b.dirty = b.dirty[:0]
}

func (st *rowState) settled() {
	st.was, st.touched, st.replaced, st.unknown = st.now, false, false, false
	if st.now.place != inHeld {
		st.since = 0 // st.waiting goes when its entries have been made
	}
}

// writer turns transitions of rows into sets that the sink writes with one
// statement each.
type writer struct {
	b    *Batch
	out  sink.Writes
	sets map[*Source]*tableSets
}

// tableSets are one table's rows by what has to be done with them.
type tableSets struct {
	remove, insert []cdc.Row
	update         map[string]*updateSet
	// removed are the tenants of the rows in remove.
	removed []cdc.Value
}

// updateSet is rows of which the same columns changed.
type updateSet struct {
	columns []int
	rows    []cdc.Row // whole rows
}

func newWriter(b *Batch) *writer { return &writer{b: b, sets: map[*Source]*tableSets{}} }

func (w *writer) table(s *Source) *tableSets {
	ts := w.sets[s]
	if ts == nil {
		ts = &tableSets{update: map[string]*updateSet{}}
		w.sets[s] = ts
	}
	return ts
}

// transition notes what takes a row from one version to another.
func (w *writer) transition(st *rowState, was, now version) error {
	t := st.source.Target
	ts := w.table(st.source)
	ref := sink.Ref{Table: t.Table, Key: st.key, LSN: st.since}
	if st.unknown && now.place != inTable {
		// Nothing was asked about the row. If another writer put one there it
		// would stay, under whatever tenant.
		ts.take(w.keyRow(st), was.tenant(t.Table))
		if !now.deleted {
			// The mark of an earlier life, which an insert into the table takes
			// away by itself.
			w.out.Unmark = append(w.out.Unmark, ref)
		}
	}
	if was.place == inTable && (now.place != inTable || st.replaced) {
		ts.take(w.keyRow(st), was.tenant(t.Table))
	}
	if now.place != inHeld && (was.place == inHeld || st.unknown && w.b.Counters.Held > 0) {
		w.out.Unhold = append(w.out.Unhold, ref)
	}
	switch now.place {
	case inTable:
		if was.place != inTable || st.replaced {
			ts.insert = append(ts.insert, now.row)
		} else {
			ts.change(t.Table, was.row, now.row)
		}
	case inHeld:
		row, code, err := now.stored(t.Table)
		if err != nil {
			return err
		}
		w.out.Hold = append(w.out.Hold, sink.HeldRow{
			Table: t.Table, Key: st.key, Row: row, Reason: now.reason, Code: code, Since: st.since, Waiting: st.waiting,
		})
	}
	switch {
	case now.deleted && (!was.deleted || now.place == inTable && (was.place != inTable || st.replaced)):
		// An insert takes a mark away, so it is set again.
		ref.LSN = st.deletedAt
		w.out.Mark = append(w.out.Mark, ref)
	case was.deleted && !now.deleted:
		w.out.Unmark = append(w.out.Unmark, ref)
	}
	if was.place == inHeld {
		w.b.Counters.Held--
	}
	if now.place == inHeld {
		w.b.Counters.Held++
	}
	return nil
}

func (w *writer) keyRow(st *rowState) cdc.Row {
	t := st.source.Target.Table
	row := st.now.row
	if row == nil {
		row = st.was.row
	}
	key := make(cdc.Row, len(t.Key))
	for i, c := range t.Key {
		key[i] = row[c]
	}
	return key
}

// take notes that a row goes which tenant has had.
func (ts *tableSets) take(key cdc.Row, tenant cdc.Value) {
	ts.remove = append(ts.remove, key)
	ts.removed = append(ts.removed, tenant)
}

// change notes the columns of a row that changed; nothing if none did.
func (ts *tableSets) change(t *sink.Table, was, now cdc.Row) {
	mask := make([]byte, len(now))
	n := 0
	for i := range now {
		if now[i] != was[i] {
			mask[i] = 1
			n++
		}
	}
	if n == 0 {
		return
	}
	set := ts.update[string(mask)]
	if set == nil {
		set = &updateSet{columns: append([]int(nil), t.Key...)}
		for i, m := range mask {
			if m == 1 {
				set.columns = append(set.columns, i)
			}
		}
		ts.update[string(mask)] = set
	}
	set.rows = append(set.rows, now)
}

// maxUpdateSets bounds the statements per table. Rows carry all their columns,
// so small sets can be merged by writing a few values that are there already.
const maxUpdateSets = 4

func (ts *tableSets) updates(t *sink.Table) []*updateSet {
	sets := make([]*updateSet, 0, len(ts.update))
	for _, s := range ts.update {
		sets = append(sets, s)
	}
	// By size, then by columns, so that the same batch makes the same statements.
	sort.Slice(sets, func(i, j int) bool {
		if len(sets[i].rows) != len(sets[j].rows) {
			return len(sets[i].rows) > len(sets[j].rows)
		}
		return fmt.Sprint(sets[i].columns) < fmt.Sprint(sets[j].columns)
	})
	if len(sets) <= maxUpdateSets {
		return sets
	}
	union := map[int]bool{}
	merged := &updateSet{columns: append([]int(nil), t.Key...)}
	for _, s := range sets[maxUpdateSets-1:] {
		for _, c := range s.columns[len(t.Key):] {
			union[c] = true
		}
		merged.rows = append(merged.rows, s.rows...)
	}
	for c := range t.Columns {
		if union[c] {
			merged.columns = append(merged.columns, c)
		}
	}
	return append(sets[:maxUpdateSets-1], merged)
}

// apply hands the sets to the sink: deletes with children first, then rows with
// parents first.
func (w *writer) apply(ctx context.Context) error {
	sources := w.b.e.m.Sources
	for i := len(sources) - 1; i >= 0; i-- {
		if ts := w.sets[sources[i]]; ts != nil && len(ts.remove) > 0 {
			t := sources[i].Target.Table
			w.out.Delete = append(w.out.Delete, sink.RowSet{Table: t, Mode: sink.Remove, Columns: t.Key, Rows: ts.remove})
			w.b.Counters.Rows += int64(len(ts.remove))
		}
	}
	for _, s := range sources {
		ts := w.sets[s]
		if ts == nil {
			continue
		}
		t := s.Target.Table
		if len(ts.insert) > 0 {
			w.out.Rows = append(w.out.Rows, sink.RowSet{Table: t, Mode: sink.Insert, Columns: allColumns(t), Rows: ts.insert})
			w.b.Counters.Rows += int64(len(ts.insert))
		}
		for _, set := range ts.updates(t) {
			w.out.Rows = append(w.out.Rows, sink.RowSet{Table: t, Mode: sink.Update, Columns: set.columns, Rows: pick(set.columns, set.rows)})
			w.b.Counters.Rows += int64(len(set.rows))
		}
	}
	if w.empty() {
		return nil
	}
	if err := w.b.tx.Apply(ctx, &w.out); err != nil {
		return err
	}
	w.tally()
	return nil
}

func (w *writer) empty() bool {
	o := &w.out
	return len(o.Paths)+len(o.Unhold)+len(o.Delete)+len(o.Rows)+len(o.Mark)+len(o.Unmark)+len(o.Hold)+len(o.Entries)+len(o.Copied)+len(o.Requests) == 0
}

func allColumns(t *sink.Table) []int {
	cols := make([]int, len(t.Columns))
	for i := range cols {
		cols[i] = i
	}
	return cols
}

func pick(columns []int, rows []cdc.Row) []cdc.Row {
	out := make([]cdc.Row, len(rows))
	slab := make(cdc.Row, len(rows)*len(columns))
	for i, row := range rows {
		r := slab[i*len(columns) : (i+1)*len(columns) : (i+1)*len(columns)]
		for j, c := range columns {
			r[j] = row[c]
		}
		out[i] = r
	}
	return out
}

// RejectLimitError says that the target refuses more rows than a mistake in
// single rows explains.
type RejectLimitError struct {
	Rows int
	Err  error
}

func (e *RejectLimitError) Error() string {
	return fmt.Sprintf("the target has refused %d rows of one batch: %v", e.Rows, e.Err)
}
func (e *RejectLimitError) Unwrap() error { return e.Err }

// writeOneByOne writes the steps of a careful batch in the order of the source.
// A row that the target refuses is held instead.
func (w *work) writeOneByOne(ctx context.Context) error {
	for ; w.written < len(w.steps); w.written++ {
		s := &w.steps[w.written]
		err := w.b.writeAlone(ctx, s.st, s.next)
		var reject *sink.RejectError
		if !errors.As(err, &reject) {
			if err != nil {
				return err
			}
			continue
		}
		if err := w.b.refuse(reject); err != nil {
			return err
		}
		held := s.next
		held.place, held.reason, held.code = inHeld, sink.HeldRejected, reject.Code
		if s.st.since == 0 {
			s.st.since = w.t.Commit
		}
		if err := w.b.writeAlone(ctx, s.st, held); err != nil {
			return fmt.Errorf("hold a refused row: %w", err)
		}
		if s.st.now.place == inTable {
			// Later steps try again; this stands if there are none.
			s.st.now = held
		}
	}
	// What is left are rows that entries of earlier transactions wait with.
	w.b.touched = slices.DeleteFunc(w.b.touched, func(st *rowState) bool { return !st.touched })
	return nil
}

// refuse counts a refused row and says whether to go on.
func (b *Batch) refuse(reject *sink.RejectError) error {
	// 22P02 on a value that the stream carries means that the types of the two
	// sides differ: an enum that lacks a value. Holding the rows would hide it.
	if b.e.opts.StopOnReject || reject.Code == "22P02" {
		return reject
	}
	b.refused++
	if b.refused > b.e.opts.RejectLimit {
		return &RejectLimitError{Rows: b.refused, Err: reject}
	}
	return nil
}

// writeAlone takes one row to version v at the target, with the path values that
// are due.
func (b *Batch) writeAlone(ctx context.Context, st *rowState, v version) error {
	if len(b.dirty) > 0 {
		w := newWriter(b)
		b.flushPaths(w)
		if err := w.apply(ctx); err != nil {
			return err
		}
	}
	counters := b.Counters
	w := newWriter(b)
	now := st.now
	st.now = v
	err := w.transition(st, st.was, v)
	if err == nil {
		err = w.apply(ctx)
	}
	st.now = now
	if err != nil {
		b.Counters = counters
		return err
	}
	st.was, st.touched, st.replaced, st.unknown = v, false, false, false
	return nil
}
