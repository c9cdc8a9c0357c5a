package mapping

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// draft is an entry before its tenant and its number are known. Held rows keep
// theirs in this form.
type draft struct {
	Commit cdc.LSN   `json:"commit"`
	Seq    uint32    `json:"seq"`
	Action string    `json:"action"`
	User   *string   `json:"user,omitempty"`
	Time   time.Time `json:"time"`
	// Sent are tenants that have the entry already: one that the row left when
	// it became held. It may be the one that it comes back to.
	Sent []string `json:"sent,omitempty"`
	// Rest is the details object behind "n", without its opening brace.
	Rest string `json:"rest"`
}

// writeEntries makes the entries of the transaction, in the order of its
// changes. moved may be nil.
func (w *work) writeEntries(moved *moves) error {
	if w.b.e.m.Audit == nil {
		return nil
	}
	next := 0 // of w.paths, which are in the order of the source too
	for i := range w.steps {
		s := &w.steps[i]
		if next = w.pathEntries(moved, next, s.item.c.Ordinal); s.quiet || s.item.source.Target.Audit == nil {
			continue
		}
		if err := w.stepEntries(s, moved); err != nil {
			return err
		}
	}
	w.pathEntries(moved, next, ^uint32(0))
	for i := range w.truncated {
		w.truncateEntries(&w.truncated[i])
	}
	return nil
}

// stepEntries makes an entry of one row change for each tenant that it concerns:
// the one that the row has at the end of the transaction, and one that it left.
func (w *work) stepEntries(s *step, moved *moves) error {
	t := s.item.source.Target
	action := t.action(s)
	changed := w.b.changed(s)
	if s.op == cdc.Update && s.prev.row != nil && changed == nil && !w.b.e.m.Audit.Unchanged {
		return nil
	}
	last := &s.st.now
	if s.op == cdc.Delete {
		last = &s.prev // whatever comes under the same id afterwards is another row
	}
	final := last.tenant(t.Table)
	along := w.along(moved, s.item)
	d := draft{Commit: w.t.Commit, Seq: s.item.c.Ordinal, Action: action, User: w.user(s), Time: w.t.Time}
	d.Rest = string(w.rest(s.item, opName(s.op), changed, along))
	tenants := make([]cdc.Value, 0, 2)
	if final.Kind == cdc.Text && last.place != inHeld {
		tenants = append(tenants, final)
	}
	add := func(v cdc.Value) {
		for _, have := range tenants {
			if have == v {
				return
			}
		}
		if v.Kind == cdc.Text {
			tenants = append(tenants, v)
		}
	}
	if s.prev.place == inTable {
		if from := s.prev.tenant(t.Table); from != s.next.tenant(t.Table) || s.st.now.place == nowhere {
			add(from)
		}
	}
	for _, m := range along {
		add(m.From)
		add(m.To)
	}
	// A row that is held no longer brings along the entries that waited for it.
	if len(s.st.waiting) > 0 && s.st.now.place == inTable {
		if err := w.b.emitWaiting(s.st.waiting, s.st.now.tenant(t.Table)); err != nil {
			return err
		}
		s.st.waiting = nil
	}
	for _, tenant := range tenants {
		w.b.emit(&d, tenant.Text)
		d.Sent = append(d.Sent, tenant.Text)
	}
	if last.place == inHeld && s.st.now.place == inHeld {
		return w.wait(s.st, &d)
	}
	return nil
}

// wait leaves an entry with its held row.
func (w *work) wait(st *rowState, d *draft) error {
	text, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode a waiting entry: %w", err)
	}
	st.waiting = append(st.waiting[:len(st.waiting):len(st.waiting)], string(text))
	if !st.touched {
		st.touched = true
		w.b.touched = append(w.b.touched, st)
	}
	return nil
}

// emitWaiting makes the entries that waited with a row.
func (b *Batch) emitWaiting(waiting []string, tenant cdc.Value) error {
	for _, text := range waiting {
		var d draft
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			return fmt.Errorf("decode a waiting entry: %w", err)
		}
		if !slices.Contains(d.Sent, tenant.Text) {
			b.emit(&d, tenant.Text)
		}
	}
	return nil
}

// writeReleased makes the entries of rows that a move has released.
func (w *work) writeReleased(m *moves) error {
	released := m.released
	m.released = nil
	if w.b.e.m.Audit == nil {
		return nil
	}
	for i := range released {
		r := &released[i]
		if err := w.b.emitWaiting(r.Waiting, r.Row[r.Table.Tenant]); err != nil {
			return err
		}
	}
	return nil
}

// pathEntries makes the entries of changes of tables that are only followed,
// from number next on and up to an ordinal: one for each tenant that they moved
// rows from or to.
func (w *work) pathEntries(moved *moves, next int, upto uint32) int {
	for ; next < len(w.paths) && w.paths[next].ordinal < upto; next++ {
		p := &w.paths[next]
		if moved == nil || p.item.source.Target != nil && p.item.source.Target.Audit != nil {
			continue
		}
		along := crossing(moved.rows[p.key])
		if len(along) == 0 {
			continue
		}
		d := draft{Commit: w.t.Commit, Seq: p.ordinal, Action: p.item.source.entity() + ".moved", User: userText(p.item.user), Time: w.t.Time}
		d.Rest = string(w.rest(p.item, "move", w.pathChanged(p), along))
		seen := map[cdc.Value]bool{{}: true}
		for _, m := range along {
			for _, v := range []cdc.Value{m.From, m.To} {
				if !seen[v] {
					seen[v] = true
					w.b.emit(&d, v.Text)
				}
			}
		}
	}
	return next
}

// crossing are the moves from one tenant to another.
func crossing(all []sink.Moved) []sink.Moved {
	var out []sink.Moved
	for _, m := range all {
		if m.From != m.To {
			out = append(out, m)
		}
	}
	return out
}

// along are the rows that a row's change took to another tenant, each transaction
// counting them once, at the row's first change.
func (w *work) along(moved *moves, it *item) []sink.Moved {
	if moved == nil || it.source.Node == nil {
		return nil
	}
	for i := range w.paths {
		if p := &w.paths[i]; p.item == it {
			return crossing(moved.rows[p.key])
		}
	}
	return nil
}

func (w *work) truncateEntries(tr *truncation) {
	t := tr.item.source.Target
	if t.Audit == nil {
		return
	}
	d := draft{Commit: w.t.Commit, Seq: tr.item.c.Ordinal, Action: t.Audit.Entity + ".truncated", User: userText(tr.item.user), Time: w.t.Time}
	for _, m := range tr.moved {
		if m.From.Kind == cdc.Text {
			d.Rest = string(w.rest(tr.item, "truncate", nil, nil)) + `,"rows":` + strconv.FormatInt(m.Rows, 10)
			w.b.emit(&d, m.From.Text)
		}
	}
}

// emit gives an entry its number and its tenant.
func (b *Batch) emit(d *draft, tenant string) {
	b.number(entryID(b.incarnation, d.Commit, d.Seq, tenant), d, tenant)
}

// number makes an entry with the id.
func (b *Batch) number(id string, d *draft, tenant string) {
	b.Counters.AuditHead++
	b.Counters.Entries++
	n := strconv.FormatInt(b.Counters.AuditHead, 10)
	e := sink.Entry{
		ID:      id,
		Tenant:  tenant,
		Action:  d.Action,
		Details: `{"by":"walbridge","n":` + n + "," + d.Rest + "}",
		Time:    d.Time,
	}
	if d.User != nil {
		e.User = cdc.TextValue(*d.User)
	}
	b.entries = append(b.entries, e)
}

// entryID is UUIDv5 of what makes an entry unique, so that a batch that is
// applied again makes the same ids.
func entryID(incarnation string, commit cdc.LSN, seq uint32, tenant string) string {
	return nameID(incarnation, strconv.FormatUint(uint64(commit), 16)+"/"+strconv.FormatUint(uint64(seq), 10)+"/"+tenant)
}

func nameID(incarnation, name string) string {
	ns, err := uuid.Parse(incarnation)
	if err != nil {
		ns = uuid.NameSpaceOID
	}
	return uuid.NewSHA1(ns, []byte(name)).String()
}

func opName(op cdc.Op) string {
	switch op {
	case cdc.Insert:
		return "insert"
	case cdc.Update:
		return "update"
	default:
		return "delete"
	}
}

// user is who made the change: a column of the row, else the last logical
// message that said so.
func (w *work) user(s *step) *string {
	if c := s.item.source.Target.Audit.User; c >= 0 {
		if v := s.next.row[c]; v.Kind == cdc.Text {
			return &v.Text
		}
	}
	return userText(s.item.user)
}

func userText(v cdc.Value) *string {
	if v.Kind != cdc.Text {
		return nil
	}
	return &v.Text
}

// rest writes the details behind "n".
func (w *work) rest(it *item, op string, changed []change, along []sink.Moved) []byte {
	s := it.source
	buf := appendTable(make([]byte, 0, 256), s)
	if op != "truncate" {
		buf = append(buf, `,"key":{`...)
		for i, k := range s.Key {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = append(appendString(buf, k.Name), ':')
			if k.Integer {
				buf = append(buf, it.in[i].Text...)
			} else {
				buf = appendString(buf, it.in[i].Text)
			}
		}
		buf = append(buf, '}')
	}
	buf = appendString(append(buf, `,"op":`...), op)
	buf = appendString(append(buf, `,"lsn":`...), w.t.Commit.String())
	buf = strconv.AppendUint(append(buf, `,"xid":`...), uint64(w.t.XID), 10)
	buf = strconv.AppendUint(append(buf, `,"seq":`...), uint64(it.c.Ordinal), 10)
	if len(changed) > 0 {
		buf = append(buf, `,"changed":{`...)
		for i, c := range changed {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = append(appendString(buf, c.column), ":["...)
			buf = append(w.b.appendValue(buf, c.before), ',')
			buf = append(w.b.appendValue(buf, c.after), ']')
		}
		buf = append(buf, '}')
	}
	return appendMoved(buf, along)
}

// appendTable names the source table of an entry.
func appendTable(buf []byte, s *Source) []byte {
	name := s.Name
	if s.Schema != "public" {
		name = s.FullName()
	}
	return appendString(append(buf, `"table":`...), name)
}

// appendMoved sums the rows that moved along by table and direction.
func appendMoved(buf []byte, along []sink.Moved) []byte {
	if len(along) == 0 {
		return buf
	}
	buf = append(buf, `,"moved":[`...)
	for i, m := range along {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendString(append(buf, `{"table":`...), m.Table.Name)
		buf = appendNullable(append(buf, `,"from":`...), m.From)
		buf = appendNullable(append(buf, `,"to":`...), m.To)
		buf = strconv.AppendInt(append(buf, `,"rows":`...), m.Rows, 10)
		buf = append(buf, '}')
	}
	return append(buf, ']')
}

// change is one column of an entry's changed object.
type change struct {
	column        string
	before, after cdc.Value
}

// changed lists the mapped columns that a step changed, as far as entries show
// values.
func (b *Batch) changed(s *step) []change {
	t := s.item.source.Target
	values := b.e.m.Audit.Values
	before, after := s.prev.row, s.next.row
	switch s.op {
	case cdc.Insert:
		if values != AuditAll {
			return nil
		}
		before = nil
	case cdc.Delete:
		// A row that stays can be looked up; its values need not be in the log.
		if s.next.place != nowhere {
			return nil
		}
		after = nil
	default:
		if before == nil {
			return nil
		}
	}
	var out []change
	for i := range t.Columns {
		var c change
		if before != nil {
			c.before = before[i]
		}
		if after != nil {
			c.after = after[i]
		}
		if c.before == c.after {
			continue
		}
		if values == AuditNone || t.Audit.Hidden[i] {
			// That something changed counts; what it was is left out.
			c.before, c.after = cdc.Value{}, cdc.Value{}
		}
		c.column = t.Table.Columns[i].Name
		out = append(out, c)
	}
	return out
}

// pathChanged lists the path values that a change of a followed table altered.
func (w *work) pathChanged(p *pathChange) []change {
	now := w.b.paths[p.key].now
	if !p.had {
		return nil
	}
	var out []change
	for i, name := range p.key.node.Columns {
		if p.before.Values[i] != now.Values[i] {
			out = append(out, change{column: name, before: p.before.Values[i], after: now.Values[i]})
		}
	}
	return out
}

// appendValue writes a value for the log: as text or null, a large one as its
// size and hash.
func (b *Batch) appendValue(buf []byte, v cdc.Value) []byte {
	limit := b.e.m.Audit.MaxValue
	if v.Kind == cdc.Text && limit > 0 && len(v.Text) > limit {
		sum := sha256.Sum256([]byte(v.Text))
		buf = strconv.AppendInt(append(buf, `{"bytes":`...), int64(len(v.Text)), 10)
		buf = append(buf, `,"sha256":"`...)
		return append(hex.AppendEncode(buf, sum[:]), `"}`...)
	}
	return appendNullable(buf, v)
}

func appendNullable(buf []byte, v cdc.Value) []byte {
	if v.Kind != cdc.Text {
		return append(buf, "null"...)
	}
	return appendString(buf, v.Text)
}

const hexDigits = "0123456789abcdef"

// appendString writes s as a JSON string. It is what most of an entry's cost
// was, through a generic encoder.
func appendString(buf []byte, s string) []byte {
	buf = append(buf, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		buf = append(buf, s[start:i]...)
		switch c {
		case '"', '\\':
			buf = append(buf, '\\', c)
		case '\n':
			buf = append(buf, '\\', 'n')
		default:
			buf = append(buf, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		start = i + 1
	}
	return append(append(buf, s[start:]...), '"')
}

// copyRest writes the details of a finished copy behind "n".
func (w *work) copyRest(it *item, rows int64) []byte {
	buf := append(appendTable(nil, it.source), `,"op":"copy"`...)
	buf = appendString(append(buf, `,"lsn":`...), w.t.Commit.String())
	return strconv.AppendInt(append(buf, `,"rows":`...), rows, 10)
}

func sortedKeys(m map[string]int64) []string {
	return slices.Sorted(maps.Keys(m))
}
