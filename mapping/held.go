package mapping

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// HeldPage is a few held rows of one table that an operator has asked to retry
// or to give up.
type HeldPage struct {
	Source *Source
	Keys   []sink.Key
	// Request names the request. With the incarnation and the key it makes the
	// ids of entries, so that they are the same when it is executed again.
	Request int64
	// LSN and Time are the point of the stream and the moment, for those entries.
	LSN  cdc.LSN
	Time time.Time
}

// HeldCounts says what has become of held rows.
type HeldCounts struct {
	// Released went into their table.
	Released int64
	// Refused were refused again, by SQLSTATE.
	Refused map[string]int64
	// Waiting still have no tenant, or lack values that are being read.
	Waiting int64
	// Dropped were given up.
	Dropped int64
}

// HeldKeys reads one page of keys of held rows, in order, and whether there are
// more behind it.
func (b *Batch) HeldKeys(ctx context.Context, q *sink.HeldQuery) (keys []sink.Key, more bool, err error) {
	got, err := b.tx.Load(ctx, &sink.Query{Held: q})
	if err != nil {
		return nil, false, fmt.Errorf("read held rows: %w", err)
	}
	return got.Held, got.MoreHeld, nil
}

// RetryHeld brings the rows of a page into their table, each under the tenant
// that the path values say now, with the entries that waited with it. In a
// careful batch a row that is refused again stays held and counts as refused; in
// another one it fails the batch.
func (b *Batch) RetryHeld(ctx context.Context, p *HeldPage) (*HeldCounts, error) {
	states, err := b.heldRows(ctx, p)
	if err != nil {
		return nil, err
	}
	n := &HeldCounts{Refused: map[string]int64{}}
	for _, st := range states {
		if st.now.incomplete() {
			n.Waiting++
			continue
		}
		next, err := b.resolved(ctx, st)
		if err == nil {
			err = b.retry(ctx, p, st, next, n)
		}
		if err != nil {
			return nil, fmt.Errorf("retry held rows of %s: %w", p.Source.Target.Table.FullName(), err)
		}
	}
	return n, nil
}

func (b *Batch) retry(ctx context.Context, p *HeldPage, st *rowState, next version, n *HeldCounts) error {
	switch next.place {
	case nowhere: // the mapping holds no rows of this table without a tenant
		n.Dropped++
		return b.giveUp(p, st, next)
	case inHeld:
		n.Waiting++
		return b.stayHeld(ctx, st, next)
	}
	err := b.take(ctx, st, next)
	var reject *sink.RejectError
	if b.careful && errors.As(err, &reject) {
		n.Refused[reject.Code]++
		next.place, next.reason, next.code = inHeld, sink.HeldRejected, reject.Code
		return b.stayHeld(ctx, st, next)
	}
	if err != nil {
		return err
	}
	n.Released++
	return b.emitHeld(st, next.tenant(st.source.Target.Table))
}

// DropHeld gives the rows of a page up. Where the tenant is known its log tells
// that; where it isn't, the entries that waited are counted as dropped.
func (b *Batch) DropHeld(ctx context.Context, p *HeldPage) (*HeldCounts, error) {
	states, err := b.heldRows(ctx, p)
	if err != nil {
		return nil, err
	}
	n := &HeldCounts{Refused: map[string]int64{}}
	for _, st := range states {
		if st.now.incomplete() { // it would come back as soon as it has been read
			n.Waiting++
			continue
		}
		now, err := b.resolved(ctx, st)
		if err == nil {
			err = b.giveUp(p, st, now)
		}
		if err != nil {
			return nil, fmt.Errorf("drop held rows of %s: %w", p.Source.Target.Table.FullName(), err)
		}
		n.Dropped++
	}
	return n, nil
}

// heldRows loads the page's rows and the path values that they need. Keys that
// aren't held any more are left out.
func (b *Batch) heldRows(ctx context.Context, p *HeldPage) ([]*rowState, error) {
	t := p.Source.Target.Table
	if err := b.load(ctx, &sink.Query{Rows: map[*sink.Table][]sink.Key{t: p.Keys}}); err != nil {
		return nil, err
	}
	need := &needs{b: b, paths: map[pathKey]bool{}}
	states := make([]*rowState, 0, len(p.Keys))
	for _, k := range p.Keys {
		st := b.rows[p.Source][k]
		if st.now.place != inHeld {
			continue
		}
		// What somebody else has put beside a held row is none of the request's.
		st.unknown = false
		states = append(states, st)
		for i := range t.Derived {
			for j := range t.Derived[i].From {
				l := &t.Derived[i].From[j]
				need.follow(l, st.now.row[l.Column])
			}
		}
	}
	return states, b.load(ctx, need.query())
}

// resolved is a held row as the path values are now, and where it belongs.
func (b *Batch) resolved(ctx context.Context, st *rowState) (version, error) {
	t := st.source.Target
	v := version{deleted: st.now.deleted, row: slices.Clone(st.now.row)}
	if err := b.derive(ctx, t.Table, v.row); err != nil {
		return version{}, err
	}
	t.settle(&v)
	return v, nil
}

// take brings a row to version v: with the next flush, or at once in a careful
// batch.
func (b *Batch) take(ctx context.Context, st *rowState, v version) error {
	if b.careful {
		if err := b.writeAlone(ctx, st, v); err != nil {
			return err
		}
		st.now = v
		return nil
	}
	st.now = v
	if !st.touched {
		st.touched = true
		b.touched = append(b.touched, st)
	}
	return nil
}

// stayHeld leaves a row where it is, with what is new about it.
func (b *Batch) stayHeld(ctx context.Context, st *rowState, v version) error {
	if v.reason == st.now.reason && v.code == st.now.code && equalRows(v.row, st.now.row) {
		return nil
	}
	return b.take(ctx, st, v)
}

// emitHeld makes the entries that waited with a row that has a tenant.
func (b *Batch) emitHeld(st *rowState, tenant cdc.Value) error {
	waiting := st.waiting
	st.waiting = nil
	if b.e.m.Audit == nil {
		return nil
	}
	return b.emitWaiting(waiting, tenant)
}

// giveUp takes a row out of held for good. now is the row as it would be.
func (b *Batch) giveUp(p *HeldPage, st *rowState, now version) error {
	t := st.source.Target
	tenant := now.tenant(t.Table)
	if tenant.Kind == cdc.Text {
		if err := b.emitHeld(st, tenant); err != nil {
			return err
		}
		if b.e.m.Audit != nil && t.Audit != nil {
			d := draft{Action: t.Audit.Entity + ".dropped", Time: p.Time, Rest: p.dropRest(st)}
			name := fmt.Appendf(nil, "request/%d/%s/%s", p.Request, t.Table.FullName(), st.key)
			b.number(b.nameID(name), &d, tenant.Text)
		}
	} else {
		b.Counters.Dropped += int64(len(st.waiting))
		st.waiting = nil
	}
	st.now = version{row: now.row}
	if !st.touched {
		st.touched = true
		b.touched = append(b.touched, st)
	}
	return nil
}

// dropRest writes the details of an entry behind "n".
func (p *HeldPage) dropRest(st *rowState) []byte {
	buf := append(appendTable(nil, p.Source), `,"key":{`...)
	buf = append(appendKey(buf, p.Source, st.now.row), '}')
	buf = appendLSN(append(buf, `,"op":"skip","lsn":`...), p.LSN)
	buf = strconv.AppendInt(append(buf, `,"request":`...), p.Request, 10)
	buf = appendString(append(buf, `,"reason":`...), string(st.now.reason))
	if st.now.code != "" {
		buf = appendString(append(buf, `,"code":`...), st.now.code)
	}
	return buf
}

// appendKey names a row by the source's key, as other entries do, if the target
// row carries it, else by the target's.
func appendKey(buf []byte, s *Source, row cdc.Row) []byte {
	t := s.Target.Table
	var names []string
	var values []cdc.Value
	for i, k := range s.Key {
		if c := s.Inputs[i].Carrier; c >= 0 {
			names, values = append(names, k.Name), append(values, row[c])
		}
	}
	carried := len(names) == len(s.Key)
	if !carried {
		names, values = nil, nil
		for _, c := range t.Key {
			names, values = append(names, t.Columns[c].Name), append(values, row[c])
		}
	}
	for i, v := range values {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(appendString(buf, names[i]), ':')
		if carried && s.Key[i].Integer {
			buf = append(buf, v.Text...)
		} else {
			buf = appendString(buf, v.Text)
		}
	}
	return buf
}
