package mapping

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// Batch drives the mapping over the transactions of one target transaction.
//
// A transaction is worked through twice: first the path values that it leaves
// behind, then its rows, because a row's tenant is the one at the end of its
// transaction and a child may come before its parent. What is known or changed
// is kept here until the target has committed; Committed hands the path values
// on to the engine's cache, and a batch that is dropped leaves no trace.
type Batch struct {
	e   *Engine
	tx  Tx
	cov Coverage
	// space is the namespace of the entries' ids: the incarnation.
	space uuid.UUID
	// Counters are the checkpoint's, moved on by this batch.
	Counters sink.Counters
	// Tally is of this batch alone.
	Tally Tally
	// careful writes row by row in the order of the source, to find those that
	// the target refuses.
	careful bool
	refused int
	// heldHere: a row has become held in this batch, so that what the target
	// said about waiting rows may be out of date.
	heldHere bool

	paths map[pathKey]*pathState
	dirty []pathKey // written, not flushed yet, in order
	// newPaths are path values that have passed the batch by.
	newPaths []sink.PathWrite
	rows     map[*Source]map[sink.Key]*rowState
	touched  []*rowState // changed since the last flush, in order
	entries  []sink.Entry
	copied   []sink.CopyProgress
	// requests are recorded with what they have done.
	requests []sink.Request
	// steps and passed are room that one transaction after the other uses.
	steps  []step
	passed []pathChange
	// slab is room for rows, cut off piece by piece.
	slab    cdc.Row
	scratch scratch
	// user is who acts in the current transaction, by a logical message.
	user cdc.Value
	// BadMessages counts logical messages for the bridge that it can't read.
	BadMessages int
}

// BatchOptions describe one batch.
type BatchOptions struct {
	// Coverage is nil when every table has been copied.
	Coverage    Coverage
	Incarnation string
	Counters    sink.Counters
	// Careful goes with a sink batch that is careful too.
	Careful bool
}

// Begin starts a batch over tx.
func (e *Engine) Begin(tx Tx, opts BatchOptions) *Batch {
	if opts.Coverage == nil {
		opts.Coverage = everything{}
	}
	space, err := uuid.Parse(opts.Incarnation)
	if err != nil {
		space = uuid.NewSHA1(uuid.NameSpaceOID, []byte(opts.Incarnation))
	}
	return &Batch{
		e: e, tx: tx, cov: opts.Coverage, space: space,
		Counters: opts.Counters, Tally: newTally(), careful: opts.Careful,
		paths: map[pathKey]*pathState{},
		rows:  map[*Source]map[sink.Key]*rowState{},
	}
}

// Transactions works through txs in order. What it writes is complete at the
// target only after Flush.
func (b *Batch) Transactions(ctx context.Context, txs []*cdc.Transaction) error {
	works, err := b.takeApart(txs)
	if err != nil {
		return err
	}
	ready := false // whether what the next transactions need has been asked for
	for i := range works {
		if !ready {
			if err := b.prefetch(ctx, works[i:]); err != nil {
				return err
			}
			ready = true
		}
		barrier, err := b.transaction(ctx, &works[i])
		if err != nil {
			return &TransactionError{Commit: works[i].t.Commit, Err: err}
		}
		ready = !barrier
		if works[i].t.Last && len(works[i].items) > 0 {
			b.Tally.Transactions++
		}
		if err := b.handEntriesOn(ctx); err != nil {
			return err
		}
	}
	return nil
}

// TransactionError says at which transaction of the source an error was met.
type TransactionError struct {
	Commit cdc.LSN
	Err    error
}

func (e *TransactionError) Error() string {
	return fmt.Sprintf("transaction at %s: %v", e.Commit, e.Err)
}
func (e *TransactionError) Unwrap() error { return e.Err }

// entriesAhead is from how many entries on a batch hands them to the sink before
// it has come to its end, so that the target can work on them meanwhile. Nothing
// changes an entry any more once it is made.
const entriesAhead = 1000

func (b *Batch) handEntriesOn(ctx context.Context) error {
	if len(b.entries) < entriesAhead || b.careful {
		return nil
	}
	entries := b.entries
	b.entries = make([]sink.Entry, 0, len(entries))
	return b.tx.Apply(ctx, &sink.Writes{Entries: entries})
}

// Committed hands the batch's path values to the engine's cache. It must be
// called only when the target's commit is known.
func (b *Batch) Committed() {
	for i := range b.newPaths {
		p := &b.newPaths[i]
		b.e.cache.AddCopied(pathKey{p.Node, p.Key}, p.Row)
	}
	for k, p := range b.paths {
		if p.cached {
			continue
		}
		if p.present {
			b.e.cache.Add(k, p.now)
		} else {
			b.e.cache.Remove(k)
		}
	}
}

// Shed forgets the rows and path values that the batch has written, after a
// Flush: the target has them, and is asked when they are needed again. Between the
// slices of a transaction this is what keeps one of any size in bounded memory.
func (b *Batch) Shed() {
	for k, p := range b.paths {
		if !p.cached {
			// The cache has what was there before this batch, or nothing.
			b.e.cache.Remove(k)
		}
	}
	clear(b.paths)
	clear(b.rows)
	// Room that is used again would keep the slice before in memory.
	b.steps, b.passed, b.touched, b.slab = nil, nil, nil, nil
}

// transaction works through one transaction or slice. It reports whether it
// ended a segment, after which rows that were loaded before are stale.
func (b *Batch) transaction(ctx context.Context, w *work) (barrier bool, err error) {
	w.steps, w.paths = b.steps[:0], b.passed[:0]
	defer func() { b.steps, b.passed = w.steps, w.paths }()
	if err := w.pathPass(ctx); err != nil {
		return false, err
	}
	if err := w.rowPass(ctx); err != nil {
		return false, err
	}
	if b.careful {
		if err := w.writeOneByOne(ctx); err != nil {
			return false, err
		}
	}
	moved, barrier, err := w.move(ctx)
	if err != nil {
		return false, err
	}
	if err := w.writeEntries(ctx, moved); err != nil {
		return false, err
	}
	if barrier {
		// The next segment reads rows anew; what waits with a held row has to be
		// there by then.
		return true, b.Flush(ctx)
	}
	return false, nil
}

// row returns what is known of the target row, and asks the target if nothing
// is.
func (b *Batch) row(ctx context.Context, s *Source, key sink.Key) (*rowState, error) {
	if st := b.rows[s][key]; st != nil {
		return st, nil
	}
	q := &sink.Query{Rows: map[*sink.Table][]sink.Key{s.Target.Table: {key}}}
	if err := b.load(ctx, q); err != nil {
		return nil, err
	}
	return b.rows[s][key], nil
}

// fresh returns the row's state without asking the target: for an insert, which
// nearly always finds nothing. The sink overwrites what is there after all.
func (b *Batch) fresh(s *Source, key sink.Key) *rowState {
	if st := b.rows[s][key]; st != nil {
		return st
	}
	return b.remember(s, key, &rowState{source: s, key: key, unknown: true})
}

// mayBeHeld reports whether a row that is inserted may be held already: one that
// was kept there when its source went. It has to be looked up then.
func (b *Batch) mayBeHeld() bool { return b.Counters.Held > 0 || b.heldHere }

func (b *Batch) remember(s *Source, key sink.Key, st *rowState) *rowState {
	m := b.rows[s]
	if m == nil {
		m = map[sink.Key]*rowState{}
		b.rows[s] = m
	}
	m[key] = st
	return st
}

// load asks the target and remembers the answer, absence included.
func (b *Batch) load(ctx context.Context, q *sink.Query) error {
	if len(q.Rows) == 0 && len(q.Paths) == 0 && len(q.Waiting) == 0 {
		return nil
	}
	got, err := b.tx.Load(ctx, q)
	if err != nil {
		return fmt.Errorf("read from the target: %w", err)
	}
	for t, keys := range q.Rows {
		s := b.e.byTable[t]
		for _, k := range keys {
			if b.rows[s][k] != nil {
				continue
			}
			stored, ok := got.Rows[t][k]
			st, err := newRowState(s, k, stored, ok)
			if err != nil {
				return err
			}
			b.remember(s, k, st)
		}
	}
	for n, rows := range got.Paths {
		for k, p := range rows {
			b.learnPath(pathKey{n, k}, p, true)
		}
	}
	for n, keys := range q.Paths {
		for _, k := range keys {
			b.learnPath(pathKey{n, k}, sink.PathRow{}, false)
		}
	}
	for n, keys := range q.Waiting {
		for _, k := range keys {
			if p := b.paths[pathKey{n, k}]; p != nil {
				p.waiting = got.Waiting[n][k]
				p.asked = true
			}
		}
	}
	return nil
}

// newRow returns an empty row of n values. Rows are small and many; one
// allocation serves a lot of them.
func (b *Batch) newRow(n int) cdc.Row {
	const slab = 2048
	if len(b.slab) < n {
		b.slab = make(cdc.Row, max(slab, n))
	}
	row := b.slab[:n:n]
	b.slab = b.slab[n:]
	return row
}

// Progress stores how far the copy of a table has come, with this batch.
func (b *Batch) Progress(p sink.CopyProgress) { b.copied = append(b.copied, p) }

// Request records how far a request has come, with this batch.
func (b *Batch) Request(r sink.Request) { b.requests = append(b.requests, r) }
