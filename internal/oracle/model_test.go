package oracle

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
)

// place is where a row is at the target.
type place uint8

const (
	nowhere place = iota
	inTable
	inHeld
)

// version is what the target has of a row.
type version struct {
	place   place
	deleted bool    // has a deletion mark
	image   cdc.Row // of the source
	out     cdc.Row // table.outputs
}

// row is a row of the target, or one that is held, by the source's key.
type row struct {
	version
	// waiting are the entries that wait for a tenant.
	waiting []*entry
	// unsure: deleted while the first copy was under way. It may or may not have
	// been copied before.
	unsure bool
	// vague: the observed column has a value, but not one that can be known.
	vague bool
	// unread are columns whose value the bridge was not sent since the row came
	// out of nowhere: it may have read it from the source by now, or not.
	unread map[string]bool
	// lost: it went before the bridge was sure to have read it all, and may not
	// have been kept.
	lost bool
}

// model is what must be at the target after what it has been told.
type model struct {
	spec *spec
	// live are the source's rows, last those that ever were: parents keep their
	// last values for those that remain.
	live, last map[*table]map[string]cdc.Row
	rows       map[*table]map[string]*row
	entries    map[changeID]*entry
	moves      map[uint32]*movement // by xid
	truncs     map[changeID]map[string]int64
	// optionalTruncate are those of a table that was still being copied.
	optionalTruncate map[changeID]bool
	// copying says that the first copy has not ended: what the target has of a
	// row is not known, and entries may be missing.
	copying bool
	// sliceRows is from how many changes on a transaction is applied in slices.
	sliceRows int
}

func newModel(s *spec) *model {
	m := &model{spec: s, live: map[*table]map[string]cdc.Row{}, last: map[*table]map[string]cdc.Row{},
		rows: map[*table]map[string]*row{}, entries: map[changeID]*entry{}, moves: map[uint32]*movement{},
		truncs: map[changeID]map[string]int64{}, optionalTruncate: map[changeID]bool{}}
	for _, t := range s.tables {
		m.live[t], m.last[t], m.rows[t] = map[string]cdc.Row{}, map[string]cdc.Row{}, map[string]*row{}
	}
	return m
}

func (t *table) keyOf(image cdc.Row) string {
	parts := make([]string, len(t.key))
	for i, k := range t.key {
		parts[i] = image[t.at(k)].Text
	}
	if len(parts) == 1 {
		return parts[0]
	}
	b, _ := json.Marshal(parts)
	return string(b)
}

// follow is the value at the end of a path from a row.
func (m *model) follow(t *table, image cdc.Row, path string) cdc.Value {
	hop, rest, more := strings.Cut(path, ".")
	if !more {
		return image[t.at(path)]
	}
	// Foreign keys are called as the tables that they lead to.
	ref := image[t.at(hop+"_id")]
	parent := m.spec.byName[hop]
	if ref.IsNull() {
		return cdc.Value{}
	}
	to, ok := m.last[parent][ref.Text]
	if !ok {
		return cdc.Value{}
	}
	return m.follow(parent, to, rest)
}

// evaluate makes the target row of an image, except for what is observed.
func (m *model) evaluate(t *table, image cdc.Row) cdc.Row {
	outputs := t.outputs()
	made := make(cdc.Row, len(outputs))
	for i, o := range outputs {
		if o.path != "" {
			made[i] = m.follow(t, image, o.path)
		}
	}
	made[len(made)-1] = m.tenantOf(t, image)
	return made
}

func (m *model) tenantOf(t *table, image cdc.Row) cdc.Value {
	for _, p := range t.tenant {
		if v := m.follow(t, image, p); !v.IsNull() {
			return v
		}
	}
	return cdc.Value{}
}

func tenant(made cdc.Row) cdc.Value { return made[len(made)-1] }

// settle is where a row with these values belongs.
func (t *table) settle(made cdc.Row) place {
	switch {
	case !tenant(made).IsNull():
		return inTable
	case t.drop:
		return nowhere
	}
	return inHeld
}

// observe sets the observed column: the commit time when the watched one came
// to a final value, kept as long as it has one.
func (t *table) observe(made, before cdc.Row, at string) {
	for i, o := range t.outputs() {
		if o.observe == "" {
			continue
		}
		w := t.outAt(o.observe)
		if !slices.Contains(ended, made[w].Text) {
			continue
		}
		if before != nil && slices.Contains(ended, before[w].Text) {
			made[i] = before[i]
			continue
		}
		made[i] = cdc.TextValue(trimTime(at))
	}
}

// trimTime drops the zeros that a fraction of a second ends in, as the server's
// output does.
func trimTime(s string) string {
	whole, frac, ok := strings.Cut(s, ".")
	if !ok {
		return s
	}
	digits, zone, _ := strings.Cut(frac, "+")
	if digits = strings.TrimRight(digits, "0"); digits != "" {
		whole += "." + digits
	}
	return whole + "+" + zone
}

// apply takes one transaction over.
func (m *model) apply(t *transaction) {
	// The paths come first: a row's tenant is the one at the end of its
	// transaction.
	moved := m.walkPaths(t)
	w := &walk{model: m, t: t, moved: moved}
	for _, c := range t.changes {
		w.change(c)
	}
	w.recompute()
	w.finish()
}

// walkPaths brings live and last to the end of t. It reports whether a row that
// others may hang on has changed.
func (m *model) walkPaths(t *transaction) (moved bool) {
	for _, c := range t.changes {
		live, last := m.live[c.table], m.last[c.table]
		switch c.op {
		case 'T':
			clear(live)
			continue
		case 'D':
			delete(live, c.table.keyOf(c.old))
			continue
		case 'U':
			if k := c.table.keyOf(c.old); k != c.table.keyOf(c.new) {
				delete(live, k)
			}
		}
		k := c.table.keyOf(c.new)
		if was, ok := last[k]; c.table.passed() && (!ok || !slices.Equal(was, c.new)) {
			moved = true
		}
		live[k], last[k] = c.new, c.new
	}
	return moved
}

// passed reports that paths of other tables pass t.
func (t *table) passed() bool {
	return t.name == "inbox" || t.name == "contact" || t.name == "conversation"
}

// movement counts the rows that a transaction's path changes took from one
// tenant to another, beside those that it changed itself.
type movement struct {
	// sure and unsure rows by "table from to".
	sure, unsure map[string]int64
	loose        bool
}
