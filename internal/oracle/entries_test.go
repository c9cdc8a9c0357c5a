package oracle

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
)

// changeID names a change of the source.
type changeID struct {
	xid uint32
	seq int
}

// entry is what must be in the audit log about one change.
type entry struct {
	table  *table
	op     string
	key    map[string]string
	action string
	user   cdc.Value
	// byMessage says that user is what a message said, if one did.
	time    string
	changed map[string][2]cdc.Value
	// must are tenants that must have the entry, may others that may. With any,
	// one of them has to.
	must, may map[string]bool
	any       bool
	mayAll    bool
	// optional entries may be missing: of a range that has not been copied.
	optional bool
	// loose says that the values of paths may be those of a slice's end.
	loose bool
	// vague says that the observed column's values can't be known.
	vague bool
	// unread are columns whose value from before may be shown as unknown.
	unread map[string]bool
}

// slips reports whether a column's value may be that of a slice's end.
func (e *entry) slips(o out) bool {
	return e.loose && (strings.Contains(o.path, ".") || o.name == "provedor_id" || o.observe != "")
}

// onlyLoose reports that all that changed may have changed in another slice.
func (e *entry) onlyLoose() bool {
	for name := range e.changed {
		if o := e.table.outputs()[e.table.outAt(name)]; !e.slips(o) {
			return false
		}
	}
	return true
}

func (e *entry) add(v cdc.Value) {
	if !v.IsNull() {
		e.must[v.Text] = true
	}
}

func (e *entry) allow(v cdc.Value) {
	if !v.IsNull() {
		e.may[v.Text] = true
	}
}

// finish makes the entries of the transaction and gives those that waited to the
// tenants that their rows have come to.
func (w *walk) finish() {
	for _, s := range w.steps {
		w.stepEntry(s)
	}
	for _, rows := range w.rows {
		for _, r := range rows {
			if r.place != inTable || len(r.waiting) == 0 {
				continue
			}
			for _, e := range r.waiting {
				if w.t.sliced(w.sliceRows) {
					// The first slice that gives the row a tenant gives it the
					// entry, and the row may come to another by the last one.
					e.any, e.mayAll = true, true
					continue
				}
				e.add(tenant(r.out))
			}
			r.waiting = nil
		}
	}
}

func (w *walk) stepEntry(s *step) {
	t := s.c.table
	if t.entity == "" {
		return
	}
	e := &entry{
		table: t, key: map[string]string{}, must: map[string]bool{}, may: map[string]bool{},
		time: trimTime(w.t.time), optional: w.copying, loose: w.loose(s.life),
	}
	e.op = map[byte]string{'I': "insert", 'U': "update", 'D': "delete"}[s.c.op]
	img := s.c.new
	if s.c.op == 'D' {
		img = s.c.old
	}
	for _, k := range t.key {
		e.key[k] = img[t.at(k)].Text
	}
	before := s.prev.out
	if s.prev.place == nowhere || s.c.op == 'I' {
		before = nil
	}
	e.action = t.entity + "." + t.verb(s, before)
	e.user = w.userOf(s)
	var any bool
	e.changed, any = w.changedBy(s, before)
	e.vague, e.unread = s.vague, s.unread
	if s.c.op == 'U' && before != nil && !w.spec.audit.unchanged && (!any || e.loose && e.onlyLoose()) {
		if e.loose {
			// What changed may have changed with an earlier slice, or with a
			// later one.
			e.mayAll = true
			w.entries[changeID{w.t.xid, s.c.seq}] = e
		}
		return
	}
	w.entries[changeID{w.t.xid, s.c.seq}] = e
	if s.c.op == 'D' {
		w.deleted(s, e)
	} else {
		w.written(s, e)
	}
	if e.loose || e.optional {
		e.mayAll = true
	}
	if e.loose && s.life.over {
		// It may have gone before a later slice said whose it was.
		e.any = false
		clear(e.must)
	}
}

// written finds the tenants of an insert or update: that of the row at the end
// of the transaction, and one that the row has left.
func (w *walk) written(s *step, e *entry) {
	l := s.life
	switch {
	case !l.over && l.now == nil:
		// Dropped in the end: those that had it on the way are concerned.
		ways := []version{s.next}
		if s.c.op != 'I' { // else s.prev is another row's
			ways = append(ways, s.prev)
		}
		for _, v := range ways {
			if v.place == inTable {
				e.allow(tenant(v.out))
				e.any = true
			}
		}
	case !l.over && l.now.place == inHeld:
		l.now.waiting = append(l.now.waiting, e)
		if e.loose {
			e.mayAll = true
		}
	case !l.over:
		e.add(tenant(l.now.out))
	default:
		// The row is gone at the end. Its last tenant is meant, or that of the
		// one that took its key.
		last := l.steps[len(l.steps)-1]
		ways := []version{s.next, last.prev, last.next}
		if l.steps[0].c.op != 'I' {
			ways = append(ways, l.before)
		}
		for _, v := range ways {
			if v.place == inTable {
				e.allow(tenant(v.out))
			}
		}
		for n := l.next; n != nil; n = n.next {
			if n.now != nil && n.now.place == inTable {
				e.allow(tenant(n.now.out))
			}
		}
		if l.now != nil && l.now.place == inTable {
			e.allow(tenant(l.now.out))
		}
		e.any = s.next.place == inTable
		if l.now != nil && l.now.place == inHeld && len(e.may) == 0 {
			l.now.waiting = append(l.now.waiting, e)
		}
	}
	if s.prev.place != inTable {
		if s.c.op == 'I' && l.now != nil && s.prev.place == inHeld {
			forget(l.now.waiting, e)
		}
		return
	}
	from := tenant(s.prev.out)
	switch to := tenant(s.next.out); {
	case from == to && s.next.place == inTable:
	case s.c.op != 'I' && l.before.place == inTable && tenant(l.before.out) == from:
		e.add(from)
	default:
		e.allow(from)
	}
}

// forget lets entries of a life that ended without a tenant go either way.
func forget(waiting []*entry, but *entry) {
	for _, e := range waiting {
		if e != but {
			e.mayAll, e.optional = true, true
		}
	}
}

// deleted finds the tenant of a delete: the last before it.
func (w *walk) deleted(s *step, e *entry) {
	l := s.life
	switch s.prev.place {
	case nowhere:
	case inHeld:
		now := w.tenantOf(s.c.table, s.prev.image)
		switch {
		case l.now == nil || l.next != nil:
			e.allow(now)
			e.optional = true
		case l.now.place == inHeld:
			l.now.waiting = append(l.now.waiting, e)
		default:
			e.add(tenant(l.now.out))
		}
	case inTable:
		last, now := tenant(s.prev.out), w.tenantOf(s.c.table, s.prev.image)
		if last == now && (l.before.place != inTable || tenant(l.before.out) == last) {
			e.add(last)
			return
		}
		e.any = true
		e.allow(last)
		e.allow(now)
		if l.before.place == inTable {
			e.allow(tenant(l.before.out))
		}
	}
}

// loose reports whether a row's tenant during the transaction depends on where
// its slices were cut.
func (w *walk) loose(l *life) bool {
	if !w.t.sliced(w.sliceRows) {
		return false
	}
	if w.moved {
		return true
	}
	for _, s := range l.steps {
		if s.prev.place != nowhere && s.next.place != nowhere && tenant(s.prev.out) != tenant(s.next.out) {
			return true
		}
	}
	return l.over || l.next != nil
}

// changedBy lists the target columns that a step changed, as entries show them,
// and whether there are any.
func (w *walk) changedBy(s *step, before cdc.Row) (map[string][2]cdc.Value, bool) {
	t, values := s.c.table, w.spec.audit.values
	after := s.next.out
	switch s.c.op {
	case 'I':
		if values != "all" {
			return nil, true
		}
	case 'D':
		if t.keep || before == nil {
			return nil, true
		}
		after = nil
	default:
		if before == nil {
			return nil, true
		}
	}
	changed := map[string][2]cdc.Value{}
	for i, o := range t.outputs() {
		if o.uuid && len(before) == len(after) {
			if i := t.outAt("source_id"); before[i] == after[i] {
				continue
			}
		}
		var pair [2]cdc.Value
		if before != nil {
			pair[0] = before[i]
		}
		if after != nil {
			pair[1] = after[i]
		}
		if pair[0] == pair[1] && !o.uuid {
			continue
		}
		if values == "none" || slices.Contains(t.hide, o.name) {
			pair = [2]cdc.Value{}
		}
		changed[o.name] = pair
	}
	return changed, len(changed) > 0
}

// user is what logical messages said, from a change of the transaction on.
type user struct {
	after int // changes before it
	value cdc.Value
}

func (w *walk) userOf(s *step) cdc.Value {
	if u := s.c.table.user; u != "" {
		made := s.next.out
		if made != nil && !made[s.c.table.outAt(u)].IsNull() {
			return made[s.c.table.outAt(u)]
		}
	}
	var v cdc.Value
	for _, u := range w.t.users {
		if u.after < s.c.seq {
			v = u.value
		}
	}
	return v
}

// verb is the second half of the action's name.
func (t *table) verb(s *step, before cdc.Row) string {
	for _, v := range t.verbs {
		if v.fits(t, s, before) {
			return v.name
		}
	}
	return map[byte]string{'I': "created", 'U': "updated", 'D': "deleted"}[s.c.op]
}

func (v *verb) fits(t *table, s *step, before cdc.Row) bool {
	if v.insert {
		return s.c.op == 'I'
	}
	if s.c.op != 'U' || before == nil {
		return false
	}
	i := t.outAt(v.column)
	was, now := before[i], s.next.out[i]
	is := func(set []string, x cdc.Value) bool { return !x.IsNull() && slices.Contains(set, x.Text) }
	switch {
	case was == now:
		return false
	case v.notNull && now.IsNull():
		return false
	case v.to != nil && (!is(v.to, now) || is(v.to, was)):
		return false
	case v.from != nil && (!is(v.from, was) || is(v.from, now)):
		return false
	}
	return v.keys == nil || keysDiffer(was.Text, now.Text, v.keys)
}

func keysDiffer(was, now string, names []string) bool {
	var a, b map[string]any
	if json.Unmarshal([]byte(was), &a) != nil || json.Unmarshal([]byte(now), &b) != nil {
		return false
	}
	all := maps.Clone(a)
	maps.Copy(all, b)
	for k := range all {
		named := slices.ContainsFunc(names, func(n string) bool {
			prefix, open := strings.CutSuffix(n, "*")
			return n == k || open && strings.HasPrefix(k, prefix)
		})
		x, inA := a[k]
		y, inB := b[k]
		bx, _ := json.Marshal(x)
		by, _ := json.Marshal(y)
		if named && (inA != inB || string(bx) != string(by)) {
			return true
		}
	}
	return false
}
