package mapping

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// scratch is room that entries are rendered in, one after the other. They are
// most of what a busy batch makes, and garbage would cost more than the work.
type scratch struct {
	rest, details, id, named []byte
	changes                  []change
	chain                    chainer
}

// rest is the text of a details object behind "n".
type rest []byte

// MarshalText keeps it readable where it waits with a held row.
func (r rest) MarshalText() ([]byte, error) { return r, nil }

// UnmarshalText takes a copy.
func (r *rest) UnmarshalText(text []byte) error {
	*r = slices.Clone(text)
	return nil
}

// writeDetails writes the details of entry e, which has everything else, and links
// it if there is a chain.
func (b *Batch) writeDetails(e *sink.Entry, d *draft) {
	buf := append(b.scratch.details[:0], `{"by":"walbridge","n":`...)
	buf = append(strconv.AppendInt(buf, b.Counters.AuditHead, 10), ',')
	buf = append(buf, d.Rest...)
	if b.e.m.Audit.Chain || d.linked {
		buf = b.link(e, buf)
	}
	buf = append(buf, '}')
	b.scratch.details = buf
	e.Details = string(buf)
}

// rest writes the details behind "n".
// It stands in the batch's scratch until the next one.
func (w *work) rest(it *item, op string, changed []change, along []sink.Moved) rest {
	s := it.source
	buf := appendTable(w.b.scratch.rest[:0], s)
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
	buf = appendLSN(append(buf, `,"lsn":`...), w.t.Commit)
	buf = strconv.AppendUint(append(buf, `,"xid":`...), uint64(w.t.XID), 10)
	buf = strconv.AppendUint(append(buf, `,"seq":`...), uint64(it.c.Ordinal), 10)
	w.b.scratch.rest = appendMoved(w.b.appendChanged(buf, changed), along)
	return w.b.scratch.rest
}

// appendChanged writes the columns that changed, before and after.
func (b *Batch) appendChanged(buf []byte, changed []change) []byte {
	if len(changed) == 0 {
		return buf
	}
	buf = append(buf, `,"changed":{`...)
	for i, c := range changed {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(appendString(buf, c.column), ":["...)
		buf = append(b.appendValue(buf, c.before), ',')
		buf = append(b.appendValue(buf, c.after), ']')
	}
	return append(buf, '}')
}

// appendLSN writes an LSN as PostgreSQL does, as a JSON string.
func appendLSN(buf []byte, l cdc.LSN) []byte {
	buf = appendHex(append(buf, '"'), uint32(l>>32))
	return append(appendHex(append(buf, '/'), uint32(l)), '"')
}

func appendHex(buf []byte, n uint32) []byte {
	start := len(buf)
	buf = strconv.AppendUint(buf, uint64(n), 16)
	for i := start; i < len(buf); i++ {
		if buf[i] >= 'a' {
			buf[i] -= 'a' - 'A'
		}
	}
	return buf
}

// appendTable names the source table of an entry.
func appendTable(buf []byte, s *Source) []byte {
	return appendString(append(buf, `"table":`...), s.detailsName())
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
// values. The list stands in the batch's scratch until the next one.
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
	out := b.scratch.changes[:0]
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
	b.scratch.changes = out
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
// size and hash, and for one that the bridge never had that it is unknown.
func (b *Batch) appendValue(buf []byte, v cdc.Value) []byte {
	limit := b.e.m.Audit.MaxValue
	if v.Kind == cdc.Text && limit > 0 && len(v.Text) > limit {
		sum := sha256.Sum256([]byte(v.Text))
		buf = strconv.AppendInt(append(buf, `{"bytes":`...), int64(len(v.Text)), 10)
		buf = append(buf, `,"sha256":"`...)
		return append(hex.AppendEncode(buf, sum[:]), `"}`...)
	}
	if v.Kind == cdc.Unchanged {
		return append(buf, `{"unknown":true}`...)
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
	buf = appendLSN(append(buf, `,"lsn":`...), w.t.Commit)
	return strconv.AppendInt(append(buf, `,"rows":`...), rows, 10)
}

func sortedKeys(m map[string]int64) []string {
	return slices.Sorted(maps.Keys(m))
}
