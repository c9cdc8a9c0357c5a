package oracle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
)

// logged is an entry at the target.
type logged struct {
	id, tenant, action, time string
	user                     cdc.Value
	details
}

type details struct {
	By      string                        `json:"by"`
	N       int64                         `json:"n"`
	Table   string                        `json:"table"`
	Key     map[string]json.RawMessage    `json:"key"`
	Op      string                        `json:"op"`
	LSN     string                        `json:"lsn"`
	XID     uint32                        `json:"xid"`
	Seq     int                           `json:"seq"`
	Changed map[string][2]json.RawMessage `json:"changed"`
	Moved   []moved                       `json:"moved"`
	Rows    int64                         `json:"rows"`
}

type moved struct {
	Table string  `json:"table"`
	From  *string `json:"from"`
	To    *string `json:"to"`
	Rows  int64   `json:"rows"`
}

func (m *moved) String() string {
	text := func(s *string) string {
		if s == nil {
			return "null"
		}
		return *s
	}
	return m.Table + " " + text(m.From) + " " + text(m.To)
}

func (w *world) readLog(ctx context.Context) ([]*logged, error) {
	rows, err := textRows(ctx, w.target, "SELECT id, provedor_id, user_id, action, details, timestamp FROM audit_logs ORDER BY (details ->> 'n')::int8")
	if err != nil {
		return nil, err
	}
	all := make([]*logged, len(rows))
	for i, r := range rows {
		l := &logged{id: r[0].Text, tenant: r[1].Text, user: r[2], action: r[3].Text, time: r[5].Text}
		if err := json.Unmarshal([]byte(r[4].Text), &l.details); err != nil {
			return nil, fmt.Errorf("details of an entry: %w", err)
		}
		all[i] = l
	}
	return all, nil
}

// compareEntries compares the audit log with the entries that the journal
// demands.
func (w *world) compareEntries(ctx context.Context, f *findings, m *model, copied map[string]int64) error {
	all, err := w.readLog(ctx)
	if err != nil {
		return err
	}
	byChange := map[changeID][]*logged{}
	ids, gotCopied := map[string]bool{}, map[string]int64{}
	for i, l := range all {
		if l.N != int64(i+1) {
			f.add("entry %d of %d has n = %d", i+1, len(all), l.N)
			break
		}
		if ids[l.id] {
			f.add("entry id %s occurs twice", l.id)
		}
		ids[l.id] = true
		if l.By != "walbridge" {
			f.add("entry %d is by %q", l.N, l.By)
		}
		if l.Op == "copy" {
			gotCopied[l.Table+" "+l.tenant] += l.Rows
			continue
		}
		id := changeID{l.XID, l.Seq}
		byChange[id] = append(byChange[id], l)
	}
	if copied != nil && !maps.Equal(copied, gotCopied) {
		f.add("entries of the copy count %v, want %v", gotCopied, copied)
	}
	changes := w.changesByID()
	lsns := map[uint32]string{}
	for id, list := range byChange {
		c := changes[id]
		if c == nil {
			f.add("entry %d is about change %v, which the source never made: %s", list[0].N, id, list[0].action)
			continue
		}
		for _, l := range list {
			if lsns[id.xid] == "" {
				lsns[id.xid] = l.LSN
			}
			if l.LSN != lsns[id.xid] {
				f.add("entries of transaction %d are at %s and %s", id.xid, l.LSN, lsns[id.xid])
			}
		}
		w.compareFound(f, m, id, c, list)
	}
	for id, e := range m.entries {
		if len(byChange[id]) == 0 && !e.optional && (len(e.must) > 0 || e.any) {
			c := changes[id]
			f.add("no entry of %s %c, change %v, for tenant %v%s", c.table.name, c.op, id, names(e.must), w.about(c.table, c.key()))
		}
	}
	w.compareTruncates(f, m, byChange)
	w.compareMoves(f, m, byChange)
	w.compareOrder(f, lsns)
	return nil
}

func (c *change) key() string {
	if c.new != nil {
		return c.table.keyOf(c.new)
	}
	if c.old != nil {
		return c.table.keyOf(c.old)
	}
	return ""
}

func (w *world) changesByID() map[changeID]*change {
	all := map[changeID]*change{}
	for _, t := range w.history {
		for _, c := range t.changes {
			all[changeID{t.xid, c.seq}] = c
		}
	}
	return all
}

// compareOrder holds that entries name their transaction's place in the WAL.
func (w *world) compareOrder(f *findings, lsns map[uint32]string) {
	var last cdc.LSN
	for _, t := range w.history {
		text := lsns[t.xid]
		if text == "" {
			last = t.end
			continue
		}
		var lsn cdc.LSN
		if err := lsn.Scan(text); err != nil || lsn < last || lsn >= t.end {
			f.add("entries of transaction %d are at %s, it committed between %s and %s", t.xid, text, last, t.end)
		}
		last = t.end
	}
}

// compareFound compares the entries of one change.
func (w *world) compareFound(f *findings, m *model, id changeID, c *change, list []*logged) {
	if c.op == 'T' || c.table.target == "" || c.table.entity == "" {
		return // compared by compareTruncates and compareMoves
	}
	e := m.entries[id]
	about := func() string { return w.about(c.table, c.key()) }
	if e == nil {
		f.add("%s %c, change %v, has an entry %s for tenant %s, and should have none%s", c.table.name, c.op, id, list[0].action, list[0].tenant, about())
		return
	}
	got := map[string]bool{}
	for _, l := range list {
		if got[l.tenant] {
			f.add("%s %c, change %v, has two entries for tenant %s%s", c.table.name, c.op, id, l.tenant, about())
		}
		got[l.tenant] = true
		w.compareEntry(f, id, e, l, about)
	}
	must := maps.Clone(e.must)
	for _, l := range list {
		for _, mv := range l.Moved {
			for _, x := range []*string{mv.From, mv.To} {
				if x != nil {
					must[*x] = true
				}
			}
		}
	}
	if e.optional || e.loose {
		return
	}
	for x := range must {
		if !got[x] {
			f.add("%s %c, change %v: no entry for tenant %s, only for %v%s", c.table.name, c.op, id, x, names(got), about())
		}
	}
	for x := range got {
		if !must[x] && !e.may[x] && !e.mayAll {
			f.add("%s %c, change %v: an entry for tenant %s, want %v%s", c.table.name, c.op, id, x, names(must), about())
		}
	}
}

func names(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }

func (w *world) compareEntry(f *findings, id changeID, e *entry, l *logged, about func() string) {
	differ := func(what string, got, want any) {
		f.add("entry %d (%s of change %v): %s is %v, want %v%s", l.N, l.action, id, what, got, want, about())
	}
	if l.Op != e.op {
		differ("op", l.Op, e.op)
	}
	if l.Table != e.table.name {
		differ("table", l.Table, e.table.name)
	}
	key := map[string]string{}
	for k, raw := range l.Key {
		if key[k] = string(raw); !e.table.numeric[k] {
			var s string
			if json.Unmarshal(raw, &s) == nil {
				key[k] = s
			}
		}
	}
	if !maps.Equal(key, e.key) {
		differ("key", key, e.key)
	}
	if l.time != e.time {
		differ("time", l.time, e.time)
	}
	if e.optional {
		return
	}
	if l.action != e.action {
		differ("action", l.action, e.action)
	}
	if l.user != e.user {
		differ("user", show(l.user), show(e.user))
	}
	w.compareChanged(e, l, differ)
}

// compareChanged compares before and after.
func (w *world) compareChanged(e *entry, l *logged, differ func(string, any, any)) {
	got := maps.Clone(l.Changed)
	for name, want := range e.changed {
		o := e.table.outputs()[e.table.outAt(name)]
		have, ok := got[name]
		delete(got, name)
		if e.slips(o) {
			continue
		}
		if !ok {
			differ("changed", "without "+name, fmt.Sprintf("%s to %s", short(want[0]), short(want[1])))
			continue
		}
		for i := range want {
			if o.uuid || e.vague && o.observe != "" {
				continue
			}
			if i == 0 && e.unread[name] && string(have[i]) == `{"unknown": true}` {
				continue
			}
			if text := w.shown(want[i]); string(have[i]) != text {
				differ("changed."+name, string(have[i]), text)
			}
		}
	}
	for name := range got {
		if e.op == "delete" && len(e.unread) > 0 {
			continue // a row that wasn't kept after all
		}
		o := e.table.outputs()[max(e.table.outAt(name), 0)]
		if !e.slips(o) && !(e.vague && o.observe != "") {
			differ("changed", name, "not there")
		}
	}
}

// shown is a value as entries carry it.
func (w *world) shown(v cdc.Value) string {
	if v.IsNull() {
		return "null"
	}
	if len(v.Text) > w.plan.spec.audit.maxValue {
		sum := sha256.Sum256([]byte(v.Text))
		return fmt.Sprintf(`{"bytes": %d, "sha256": "%s"}`, len(v.Text), hex.EncodeToString(sum[:]))
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v.Text)
	return strings.TrimSuffix(b.String(), "\n")
}

// compareTruncates compares the entries of TRUNCATEs: one for each tenant that
// had rows.
func (w *world) compareTruncates(f *findings, m *model, byChange map[changeID][]*logged) {
	for id, want := range m.truncs {
		got := map[string]int64{}
		var sum, all int64
		for _, l := range byChange[id] {
			got[l.tenant] += l.Rows
			all += l.Rows
			if l.Op != "truncate" || !strings.HasSuffix(l.action, ".truncated") {
				f.add("entry %d of a TRUNCATE is %s %s", l.N, l.Op, l.action)
			}
		}
		for _, n := range want {
			sum += n
		}
		if m.optionalTruncate[id] {
			continue
		}
		if mv := m.moves[id.xid]; mv != nil {
			// Between two slices a row may have no tenant, or one.
			if !mv.loose && all != sum {
				f.add("TRUNCATE, change %v: entries count %d rows, want %d", id, all, sum)
			}
			continue
		}
		if !maps.Equal(got, want) {
			f.add("TRUNCATE, change %v: entries count %v, want %v", id, got, want)
		}
	}
}

// compareMoves compares the rows that entries say moved along.
func (w *world) compareMoves(f *findings, m *model, byChange map[changeID][]*logged) {
	got := map[uint32]map[string]int64{}
	ids := slices.SortedFunc(maps.Keys(byChange), func(a, b changeID) int { return int(a.xid) - int(b.xid) })
	for _, id := range ids {
		list := byChange[id]
		for _, l := range list[1:] {
			if movedText(l.Moved) != movedText(list[0].Moved) {
				f.add("entries of change %v say that other rows moved: %s, %s", id, movedText(list[0].Moved), movedText(l.Moved))
			}
		}
		if list[0].Op == "move" {
			w.compareMove(f, id, list)
		}
		for _, mv := range list[0].Moved {
			if got[id.xid] == nil {
				got[id.xid] = map[string]int64{}
			}
			got[id.xid][mv.String()] += mv.Rows
		}
	}
	for _, t := range w.history {
		mv := m.moves[t.xid]
		switch {
		case mv == nil && got[t.xid] != nil:
			f.add("entries of transaction %d say that rows moved: %v; none did", t.xid, got[t.xid])
		case mv == nil || mv.loose:
		default:
			for what := range mv.all() {
				n := got[t.xid][what]
				if n < mv.sure[what] || n > mv.sure[what]+mv.unsure[what] {
					f.add("entries of transaction %d count %d of %q, want %d%s", t.xid, n, what, mv.sure[what], w.statements(t))
				}
				delete(got[t.xid], what)
			}
			for what, n := range got[t.xid] {
				f.add("entries of transaction %d count %d of %q, want none%s", t.xid, n, what, w.statements(t))
			}
		}
	}
}

func (mv *movement) all() map[string]bool {
	set := map[string]bool{}
	for k := range mv.sure {
		set[k] = true
	}
	for k := range mv.unsure {
		set[k] = true
	}
	return set
}

func movedText(list []moved) string {
	parts := make([]string, len(list))
	for i := range list {
		parts[i] = fmt.Sprintf("%s %d", &list[i], list[i].Rows)
	}
	sort.Strings(parts)
	return strings.Join(parts, ", ")
}

// compareMove compares the entries of a change of a table that has no target:
// one for each tenant that rows left or came to.
func (w *world) compareMove(f *findings, id changeID, list []*logged) {
	want, got := map[string]bool{}, map[string]bool{}
	for _, l := range list {
		if got[l.tenant] {
			f.add("two entries of move %v for tenant %s", id, l.tenant)
		}
		got[l.tenant] = true
		for _, mv := range l.Moved {
			for _, x := range []*string{mv.From, mv.To} {
				if x != nil {
					want[*x] = true
				}
			}
		}
	}
	if !maps.Equal(want, got) {
		f.add("entries of move %v are for tenants %v, the rows' are %v", id, names(got), names(want))
	}
}

// statements lists what a transaction did.
func (w *world) statements(t *transaction) string {
	var b strings.Builder
	for _, c := range t.changes {
		fmt.Fprintf(&b, "\n    xid %d seq %d: %c %s %s -> %s", t.xid, c.seq, c.op, c.table.name, c.table.print(c.old), c.table.print(c.new))
	}
	return b.String()
}
