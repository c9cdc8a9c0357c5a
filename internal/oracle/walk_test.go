package oracle

import (
	"maps"
	"slices"

	"github.com/walbridge/walbridge/internal/cdc"
)

// walk is one transaction on its way through the model.
type walk struct {
	*model
	t     *transaction
	moved bool
	steps []*step
	// lives by table and key; a change of the key takes a row's life along, a
	// delete ends it and an insert begins another.
	lives map[*table]map[string]*life
	seen  []*life
}

// life is a row from its insert to its delete, as far as it lies in the
// transaction.
type life struct {
	table *table
	// before is what the target had of it when the transaction began.
	before version
	now    *row
	key    string
	steps  []*step
	over   bool
	next   *life // of the same key
}

// step is one change of a mapped table.
type step struct {
	c          *change
	life       *life
	prev, next version
	// vague and unread as the row was before.
	vague  bool
	unread map[string]bool
}

func (w *walk) life(t *table, key string) *life {
	if w.lives == nil {
		w.lives = map[*table]map[string]*life{}
	}
	if w.lives[t] == nil {
		w.lives[t] = map[string]*life{}
	}
	l := w.lives[t][key]
	if l == nil {
		l = &life{table: t, key: key}
		if r := w.rows[t][key]; r != nil {
			l.now, l.before = r, r.version
		}
		w.lives[t][key] = l
		w.seen = append(w.seen, l)
	}
	return l
}

func (w *walk) change(c *change) {
	if c.table.target == "" {
		return
	}
	rows := w.rows[c.table]
	switch c.op {
	case 'T':
		w.truncate(c)
	case 'I':
		w.insert(c)
	case 'D':
		key := c.table.keyOf(c.old)
		l := w.life(c.table, key)
		s := w.step(c, l)
		l.over = true
		if l.now == nil {
			break // a row without a tenant, dropped
		}
		w.remove(l)
		if !c.table.keep {
			delete(rows, key)
			l.now = nil
			s.next.place = nowhere
			break
		}
		s.next = l.now.version
	case 'U':
		w.update(c)
	}
}

// step notes a change of l; next is filled in by the caller.
func (w *walk) step(c *change, l *life) *step {
	s := &step{c: c, life: l}
	if l.now != nil {
		s.prev, s.vague, s.unread = l.now.version, l.now.vague, l.now.unread
	}
	s.next = s.prev
	l.steps = append(l.steps, s)
	w.steps = append(w.steps, s)
	return s
}

// remove marks a row as deleted, or leaves that to the caller.
func (w *walk) remove(l *life) {
	if w.t.sliced(w.sliceRows) {
		// An earlier slice may have given it a tenant that it hasn't got in the end.
		for _, e := range l.now.waiting {
			e.mayAll = true
		}
	}
	if w.copying {
		l.now.unsure = true
	}
	l.now.lost = len(l.now.unread) > 0
	if l.table.keep {
		l.now.deleted = true
	}
}

func (w *walk) insert(c *change) {
	key := c.table.keyOf(c.new)
	old := w.life(c.table, key)
	l := &life{table: c.table, key: key, before: old.before, now: old.now}
	w.lives[c.table][key] = l
	w.seen = append(w.seen, l)
	old.next = l
	made := w.evaluate(c.table, c.new)
	c.table.observe(made, nil, w.t.time)
	if l.now != nil {
		// Entries that wait with a row that was kept are not those of the row
		// that comes under its key.
		l.now.waiting = nil
	}
	s := w.step(c, l)
	w.become(s, made, c.new)
}

func (w *walk) update(c *change) {
	from, to := c.table.keyOf(c.old), c.table.keyOf(c.new)
	l := w.life(c.table, from)
	var before cdc.Row
	if l.now != nil {
		before = l.now.out
	}
	s := w.step(c, l)
	if from != to {
		// The row goes on under another key; what was kept there is replaced.
		rest := w.life(c.table, to)
		delete(w.lives[c.table], from)
		w.lives[c.table][to] = l
		delete(w.rows[c.table], from)
		rest.next = l
		l.key = to
		if l.now != nil {
			w.rows[c.table][to] = l.now
		} else {
			delete(w.rows[c.table], to)
		}
	}
	made := w.evaluate(c.table, c.new)
	c.table.observe(made, before, w.t.time)
	unread := c.unsent()
	if l.now != nil {
		maps.DeleteFunc(unread, func(column string, _ bool) bool { return !l.now.unread[column] })
	}
	w.become(s, made, c.new)
	if l.now != nil {
		l.now.unread = unread
	}
}

// unsent are the columns that an update leaves out of the stream: large values
// that it didn't touch.
func (c *change) unsent() map[string]bool {
	out := map[string]bool{}
	for _, column := range c.table.externals {
		i := c.table.at(column)
		if c.table.identity != "full" && c.old[i] == c.new[i] && len(c.new[i].Text) > 2000 {
			out[column] = true
		}
	}
	return out
}

// become gives a step's row its new version.
func (w *walk) become(s *step, made, img cdc.Row) {
	l := s.life
	v := version{place: l.table.settle(made), image: img, out: made}
	if v.place == nowhere {
		delete(w.rows[l.table], l.key)
		l.now = nil
		s.next = v
		return
	}
	if l.now == nil {
		l.now = &row{}
	}
	if s.c.op == 'I' {
		l.now.unsure, l.now.vague, l.now.unread, l.now.lost = false, false, nil, false
	}
	l.now.version = v
	w.rows[l.table][l.key] = l.now
	s.next = v
}

// truncate ends all rows of a table.
func (w *walk) truncate(c *change) {
	rows := w.rows[c.table]
	counts := map[string]int64{}
	for key, r := range rows {
		if r.deleted {
			continue
		}
		if r.place == inTable && !r.unsure {
			counts[tenant(r.out).Text]++
		}
		l := w.life(c.table, key)
		l.over = true
		w.remove(l)
	}
	if !c.table.keep {
		clear(rows)
	}
	for key, l := range w.lives[c.table] {
		if rows[key] == nil {
			l.now, l.over = nil, true
		}
	}
	if c.table.entity != "" {
		id := changeID{w.t.xid, c.seq}
		w.truncs[id] = counts
		w.optionalTruncate[id] = w.copying
	}
}

// recompute brings every row in line with the paths as they are now, and counts
// those that changed tenant by it.
func (w *walk) recompute() {
	if !w.moved {
		return
	}
	mv := &movement{sure: map[string]int64{}, unsure: map[string]int64{},
		loose: w.copying || w.t.sliced(w.sliceRows)}
	for t, rows := range w.rows {
		for key, r := range rows {
			made := w.evaluate(t, r.image)
			for i, o := range t.outputs() {
				if o.observe != "" {
					made[i] = r.out[i]
				}
			}
			if slices.Equal(made, r.out) {
				continue
			}
			if from, to := tenant(r.out), tenant(made); from != to {
				what := t.target + " " + show(from) + " " + show(to)
				if r.unsure {
					mv.unsure[what]++
				} else {
					mv.sure[what]++
				}
			}
			r.out = made
			if r.place = t.settle(made); r.place == nowhere {
				delete(rows, key)
			}
		}
	}
	w.moves[w.t.xid] = mv
}

func show(v cdc.Value) string {
	if v.IsNull() {
		return "null"
	}
	return v.Text
}
