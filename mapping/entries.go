package mapping

import (
	"context"
	"crypto/sha1"
	"encoding/json"
	"fmt"
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
	Rest rest `json:"rest"`
	// linked puts it into the chain even while that is off.
	linked bool
}

// writeEntries makes the entries of the transaction, in the order of its
// changes. moved may be nil.
func (w *work) writeEntries(ctx context.Context, moved *moves) error {
	if w.b.e.m.Audit == nil {
		return nil
	}
	next := 0 // of w.paths, which are in the order of the source too
	for i := range w.steps {
		s := &w.steps[i]
		if next = w.pathEntries(moved, next, s.item.c.Ordinal); s.quiet || s.item.source.Target.Audit == nil {
			continue
		}
		if err := w.stepEntries(ctx, s, moved); err != nil {
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
func (w *work) stepEntries(ctx context.Context, s *step, moved *moves) error {
	t := s.item.source.Target
	action := t.action(s)
	changed := w.b.changed(s)
	if s.op == cdc.Update && s.prev.row != nil && len(changed) == 0 && !w.b.e.m.Audit.Unchanged {
		return nil
	}
	end := s.end()
	last := &end.now
	if s.op == cdc.Delete {
		last = &s.prev // whatever comes under the same id afterwards is another row
	}
	final := last.tenant(t.Table)
	along := w.along(moved, s.item)
	d := draft{Commit: w.t.Commit, Seq: s.item.c.Ordinal, Action: action, User: w.user(s), Time: w.t.Time}
	var few [2]cdc.Value
	tenants := few[:0]
	switch {
	case last.place == nowhere && final.Kind != cdc.Text && (s.next.place == inTable || s.next.incomplete()):
		// It was dropped in the end, or another row was under its key.
		tenants = withTenant(tenants, s.next.tenant(t.Table))
	case !last.waits(t.Table):
		tenants = withTenant(tenants, final)
	}
	if s.prev.place == inTable || s.prev.incomplete() {
		if from := s.prev.tenant(t.Table); from != s.next.tenant(t.Table) || end.now.place == nowhere {
			tenants = withTenant(tenants, from)
		}
	}
	for _, m := range along {
		tenants = withTenant(withTenant(tenants, m.From), m.To)
	}
	// A row that is held no longer brings along the entries that waited for it.
	if len(end.waiting) > 0 && end.now.place != nowhere && !end.now.waits(t.Table) {
		if err := w.b.emitWaiting(end.waiting, end.now.tenant(t.Table)); err != nil {
			return err
		}
		end.waiting = nil
	}
	// The entries of before have been made: the text of this one has no other
	// place than theirs.
	d.Rest = w.rest(s.item, opName(s.op), changed, along)
	for _, tenant := range tenants {
		w.b.emit(&d, tenant.Text)
	}
	if last.waits(t.Table) && end.now.waits(t.Table) {
		return w.wait(ctx, end, d, tenants)
	}
	return nil
}

// withTenant adds a tenant to a list that hasn't got it yet. Null is none.
func withTenant(list []cdc.Value, v cdc.Value) []cdc.Value {
	if v.Kind != cdc.Text || slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// wait leaves an entry with its held row. sent have it already.
func (w *work) wait(ctx context.Context, st *rowState, d draft, sent []cdc.Value) error {
	for _, tenant := range sent {
		d.Sent = append(d.Sent, tenant.Text)
	}
	if now := w.b.rows[st.source][st.key]; now != st {
		// A move or a TRUNCATE stood in between: the row may have been released, or
		// the key be another row's. To hold it again would bring it back beside that.
		now, err := w.b.row(ctx, st.source, st.key)
		if err != nil {
			return err
		}
		switch tenant := now.now.tenant(st.source.Target.Table); {
		case now.now.place == nowhere:
			return nil
		case now.now.place == inTable:
			if !slices.Contains(d.Sent, tenant.Text) {
				w.b.emit(&d, tenant.Text)
			}
			return nil
		}
		st = now
	}
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
		d.Rest = w.rest(p.item, "move", w.pathChanged(p), along)
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
			d.Rest = strconv.AppendInt(append(w.rest(tr.item, "truncate", nil, nil), `,"rows":`...), m.Rows, 10)
			w.b.emit(&d, m.From.Text)
		}
	}
}

// emit gives an entry its number and its tenant.
func (b *Batch) emit(d *draft, tenant string) {
	b.number(b.entryID(d.Commit, d.Seq, tenant), d, tenant)
}

// number makes an entry with the id.
func (b *Batch) number(id string, d *draft, tenant string) {
	b.Counters.AuditHead++
	b.Counters.Entries++
	e := sink.Entry{ID: id, Tenant: tenant, Action: d.Action, Time: d.Time}
	if d.User != nil {
		e.User = cdc.TextValue(*d.User)
	}
	b.writeDetails(&e, d)
	b.entries = append(b.entries, e)
}

// entryID is of what makes an entry unique, so that a batch that is applied again
// makes the same ids.
func (b *Batch) entryID(commit cdc.LSN, seq uint32, tenant string) string {
	name := strconv.AppendUint(b.scratch.id[:0], uint64(commit), 16)
	name = strconv.AppendUint(append(name, '/'), uint64(seq), 10)
	b.scratch.id = append(append(name, '/'), tenant...)
	return b.nameID(b.scratch.id)
}

// nameID is the UUIDv5 of name in the incarnation's namespace (RFC 9562, 5.5).
func (b *Batch) nameID(name []byte) string {
	b.scratch.named = append(append(b.scratch.named[:0], b.space[:]...), name...)
	sum := sha1.Sum(b.scratch.named)
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 5<<4
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}

func opName(op cdc.Op) string {
	switch op {
	case cdc.Insert:
		return "insert"
	case cdc.Update:
		return "update"
	case cdc.Truncate:
		return "truncate"
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
