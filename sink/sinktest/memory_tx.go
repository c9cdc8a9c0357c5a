package sinktest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// memoryTx is one batch over a Memory.
type memoryTx struct {
	s       *memorySink
	c       *checkpoint
	from    cdc.LSN
	opts    sink.TxOptions
	data    *overlay
	failure error
	done    bool
}

var _ sink.Tx = (*memoryTx)(nil)

var errEnded = errors.New("the batch has ended")

// run does f under the target's lock. A refusal takes back what f did, in a
// careful batch; any other error ends the batch.
func (t *memoryTx) run(op Op, f func() error) error {
	t.s.m.mu.Lock()
	defer t.s.m.mu.Unlock()
	switch {
	case t.done:
		return errEnded
	case t.failure != nil:
		return fmt.Errorf("the batch has failed and must be rolled back: %w", t.failure)
	}
	before := t.data
	if t.opts.Careful {
		t.data = before.clone()
	}
	err := t.s.m.strike(op)
	if err == nil {
		err = f()
	}
	if err == nil {
		return nil
	}
	var reject *sink.RejectError
	if t.opts.Careful && op != OpCommit && errors.As(err, &reject) {
		t.data = before
		return err
	}
	t.failure = err
	return err
}

func (t *memoryTx) Load(_ context.Context, q *sink.Query) (*sink.Loaded, error) {
	l := &sink.Loaded{
		Rows:    make(map[*sink.Table]map[sink.Key]sink.Stored),
		Paths:   make(map[*sink.Node]map[sink.Key]sink.PathRow),
		Waiting: make(map[*sink.Node]map[sink.Key]bool),
	}
	err := t.run(OpLoad, func() error {
		for table, keys := range q.Rows {
			l.Rows[table] = t.loadRows(table, keys)
		}
		if q.Held != nil {
			t.loadHeld(q.Held, l)
		}
		if q.Keys != nil {
			t.loadKeys(q.Keys, l)
		}
		if q.Dependents != nil {
			l.Dependents = t.dependents(q.Dependents)
		}
		for node, keys := range q.Paths {
			for _, k := range keys {
				t.loadPath(l, node, k)
			}
		}
		for node, keys := range q.Waiting {
			if t.s.schema == nil {
				return errors.New("Install has not told this sink the mapping's schema")
			}
			l.Waiting[node] = t.loadWaiting(node, keys)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (t *memoryTx) loadRows(table *sink.Table, keys []sink.Key) map[sink.Key]sink.Stored {
	rows := make(map[sink.Key]sink.Stored)
	for _, k := range keys {
		var st sink.Stored
		if r, ok := t.data.rows.get(t.row(table, k)); ok {
			st.Row = r.project(table)
		}
		st.DeletedAt, st.Deleted = t.data.marks.get(t.own(table.FullName(), k))
		if h, ok := t.data.held.get(t.own(table.FullName(), k)); ok {
			h.Table = table
			h.Row, h.Waiting = slices.Clone(h.Row), slices.Clone(h.Waiting)
			st.Held = &h
		}
		if st.Row != nil || st.Deleted || st.Held != nil {
			rows[k] = st
		}
	}
	return rows
}

// loadHeld finds a page of held rows. Memory has room for rows of any size.
func (t *memoryTx) loadHeld(q *sink.HeldQuery, l *sink.Loaded) {
	for k, h := range t.data.held.all() {
		if k.bridge != t.s.name || k.table != q.Table.FullName() ||
			q.Reason != "" && h.Reason != q.Reason ||
			len(q.Keys) > 0 && !slices.Contains(q.Keys, k.key) ||
			q.After != nil && k.key <= *q.After {
			continue
		}
		l.Held = append(l.Held, k.key)
	}
	slices.Sort(l.Held)
	if l.MoreHeld = len(l.Held) > q.Limit; l.MoreHeld {
		l.Held = l.Held[:q.Limit]
	}
}

// loadKeys finds a page of keys, in the order of their bytes.
func (t *memoryTx) loadKeys(q *sink.KeyQuery, l *sink.Loaded) {
	var keys []sink.Key
	if q.Node != nil {
		for k, p := range t.data.paths.all() {
			if k.bridge == t.s.name && k.table == q.Node.Name && !p.Gone {
				keys = append(keys, k.key)
			}
		}
	} else {
		for k, r := range t.data.rows.all() {
			if k.table == q.Table.FullName() && (q.Tenant == nil || r[q.Table.Columns[q.Table.Tenant].Name].Text == *q.Tenant) {
				keys = append(keys, k.key)
			}
		}
	}
	slices.Sort(keys)
	if q.After != nil {
		n, found := slices.BinarySearch(keys, *q.After)
		if found {
			n++
		}
		keys = keys[n:]
	}
	if l.MoreKeys = len(keys) > q.Limit; l.MoreKeys {
		keys = keys[:q.Limit]
	}
	l.Keys = keys
}

func (t *memoryTx) loadPath(l *sink.Loaded, node *sink.Node, k sink.Key) {
	p, ok := t.data.paths.get(t.own(node.Name, k))
	if !ok {
		return
	}
	if _, seen := l.Paths[node][k]; seen {
		return
	}
	if l.Paths[node] == nil {
		l.Paths[node] = make(map[sink.Key]sink.PathRow)
	}
	p.Values = slices.Clone(p.Values)
	l.Paths[node][k] = p
	for i, next := range node.Next {
		if next != nil && !p.Values[i].IsNull() {
			t.loadPath(l, next, sink.Key(p.Values[i].Text))
		}
	}
}

func (t *memoryTx) loadWaiting(node *sink.Node, keys []sink.Key) map[sink.Key]bool {
	waiting := make(map[sink.Key]bool)
	for k, h := range t.data.held.all() {
		table := t.table(k)
		if table == nil || h.Reason != sink.HeldTenant {
			continue
		}
		for passed := range t.passes(table, h.Row, node) {
			if slices.Contains(keys, passed) {
				waiting[passed] = true
			}
		}
	}
	return waiting
}

// table finds the mapping's table of a held row of this bridge.
func (t *memoryTx) table(k id) *sink.Table {
	if k.bridge != t.s.name {
		return nil
	}
	for _, table := range t.s.schema.Tables {
		if table.FullName() == k.table {
			return table
		}
	}
	return nil
}

// row is a row of a mapped table, own one of the bridge's private ones.
func (t *memoryTx) row(table *sink.Table, k sink.Key) id {
	return id{table: table.FullName(), key: k}
}

func (t *memoryTx) own(table string, k sink.Key) id {
	return id{bridge: t.s.name, table: table, key: k}
}

func (t *memoryTx) Apply(_ context.Context, w *sink.Writes) error {
	return t.run(OpApply, func() error { return t.apply(w) })
}

func (t *memoryTx) Commit(_ context.Context, p sink.Progress) error {
	err := t.run(OpCommit, func() error {
		if p.LSN < t.from {
			return fmt.Errorf("the checkpoint would go back from %s to %s", t.from, p.LSN)
		}
		return nil
	})
	if err != nil {
		return err
	}
	m := t.s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	t.data.commit()
	t.c.LSN, t.c.Heartbeat, t.c.Counters, t.c.State = p.LSN, p.Heartbeat, p.Counters, p.State
	t.c.written = m.now()
	if t.opts.Lease > 0 {
		t.c.until = m.now().Add(t.opts.Lease)
	}
	t.end()
	return m.strikeAfter(OpCommit)
}

func (t *memoryTx) Rollback(context.Context) error {
	t.s.m.mu.Lock()
	defer t.s.m.mu.Unlock()
	t.end()
	return nil
}

func (t *memoryTx) end() {
	t.done = true
	if t.c.open == t {
		t.c.open = nil
	}
}
