package pgoutput

import (
	"fmt"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
)

// Decoder decodes the frames of one session, in order. It remembers the
// relations that the session has described; a new session describes them anew
// and takes a new Decoder.
type Decoder struct {
	relations map[uint32]*cdc.Relation
	// last is the relation of the last row change: changes come in runs.
	last *cdc.Relation
}

// NewDecoder returns a decoder for a new session.
func NewDecoder() *Decoder {
	return &Decoder{relations: make(map[uint32]*cdc.Relation)}
}

// Decode decodes the payload of one XLogData message into m, replacing what is in
// it. It copies frame, at most once, and keeps no reference to it. The error is a
// *DecodeError; m is of no use then.
func (d *Decoder) Decode(frame []byte, m *Message) error {
	*m = Message{}
	if len(frame) == 0 {
		return &DecodeError{Reason: "message is empty"}
	}
	m.Kind = Kind(frame[0])
	r := reader{frame: frame, off: 1}
	switch m.Kind {
	case Begin, Commit, Truncate: // hold no text
	default:
		r.text = string(frame)
	}
	switch m.Kind {
	case Insert, Update, Delete:
		d.change(&r, m)
	case Begin:
		m.CommitLSN = cdc.LSN(r.uint64())
		m.CommitTime = r.time()
		m.XID = r.uint32()
	case Commit:
		r.flags(0)
		m.CommitLSN = cdc.LSN(r.uint64())
		m.EndLSN = cdc.LSN(r.uint64())
		m.CommitTime = r.time()
	case Relation:
		m.Relation = r.relation()
	case Truncate:
		d.truncate(&r, m)
	case LogicalMessage:
		m.Transactional = r.flags(1) == 1
		m.LSN = cdc.LSN(r.uint64())
		m.Prefix = r.string()
		m.Content = r.counted()
	case Type:
		m.OID = r.uint32()
		m.Schema = r.schema()
		m.Name = r.string()
	case Origin:
		m.CommitLSN = cdc.LSN(r.uint64())
		m.Name = r.string()
	default:
		return &DecodeError{Kind: frame[0], Reason: "unknown kind of message"}
	}
	if r.left() > 0 {
		r.fail("message has bytes after its end")
	}
	if r.err != nil {
		return r.err
	}
	if m.Kind == Relation {
		d.relations[m.Relation.OID], d.last = m.Relation, nil
	}
	return nil
}

// change reads an Insert, Update or Delete.
func (d *Decoder) change(r *reader, m *Message) {
	rel := d.relation(r, r.uint32())
	if rel == nil {
		return
	}
	m.Relation = rel
	part := r.byte()
	old := m.Kind != Insert && (part == 'K' || part == 'O')
	// Both rows of an Update share one allocation.
	n := len(rel.Columns)
	slab := r.values(n, old && m.Kind == Update)
	if r.err != nil {
		return
	}
	if old {
		m.OldFull = part == 'O'
		m.Old = r.row(slab[:n:n], true)
		if m.Kind == Delete {
			return
		}
		slab, part = slab[n:], r.byte()
	}
	if part != 'N' || m.Kind == Delete {
		r.fail("unknown kind of row")
		return
	}
	m.New = r.row(slab, false)
}

// truncate reads a Truncate. It names each table that was truncated, whether by
// name, as a partition or by CASCADE.
func (d *Decoder) truncate(r *reader, m *Message) {
	n := r.uint32()
	flags := r.flags(3)
	m.Cascade, m.RestartIdentity = flags&1 != 0, flags&2 != 0
	if uint64(n)*4 > uint64(r.left()) {
		r.fail("message is cut short")
		return
	}
	m.Relations = make([]*cdc.Relation, n)
	for i := range m.Relations {
		m.Relations[i] = d.relation(r, r.uint32())
	}
}

// relation returns what the session said about a table, or nil after an error.
func (d *Decoder) relation(r *reader, oid uint32) *cdc.Relation {
	if d.last != nil && d.last.OID == oid {
		return d.last
	}
	rel := d.relations[oid]
	if rel == nil {
		r.fail(fmt.Sprintf("relation %d was not described", oid))
		return nil
	}
	d.last = rel
	return rel
}

// relation reads the description of a table.
func (r *reader) relation() *cdc.Relation {
	rel := &cdc.Relation{OID: r.uint32(), Schema: r.schema(), Name: r.string(), Identity: cdc.Identity(r.byte())}
	switch rel.Identity {
	case cdc.IdentityDefault, cdc.IdentityNothing, cdc.IdentityFull, cdc.IdentityIndex:
	default:
		r.fail("unknown replica identity")
	}
	// A column takes ten bytes at least: flags, the end of its name, type, modifier.
	n := int(r.uint16())
	if n*10 > r.left() {
		r.fail("message is cut short")
		return rel
	}
	rel.Columns = make([]cdc.Column, n)
	for i := range rel.Columns {
		c := &rel.Columns[i]
		c.Key = r.flags(1) == 1
		c.Name = r.string()
		c.Type = r.uint32()
		c.Mod = int32(r.uint32())
	}
	return rel
}

// values makes room for a row of n columns, or for two. A column takes one byte
// at least.
func (r *reader) values(n int, two bool) cdc.Row {
	size := n
	if two {
		size = 2 * n
	}
	if size > r.left() {
		r.fail("message is cut short")
	}
	if r.err != nil {
		return nil
	}
	return make(cdc.Row, size)
}

// row reads a row into row, which has as many columns as the relation.
func (r *reader) row(row cdc.Row, old bool) cdc.Row {
	if n := int(r.uint16()); n != len(row) && r.err == nil {
		r.fail(fmt.Sprintf("row has %d columns, its relation %d", n, len(row)))
	}
	for i := range row {
		switch kind := r.byte(); {
		case kind == 't':
			row[i] = cdc.Value{Text: r.counted(), Kind: cdc.Text}
		case kind == 'n':
		case kind == 'u' && !old:
			row[i].Kind = cdc.Unchanged
		case kind == 'u':
			r.fail("value of an old row was not sent")
		case kind == 'b':
			r.fail("value is binary, which was not asked for")
		default:
			r.fail("unknown kind of value")
		}
		if r.err != nil {
			return nil
		}
	}
	return row
}

// flags reads a byte of flags, of which only those in known mean something.
func (r *reader) flags(known byte) byte {
	b := r.byte()
	if b&^known != 0 {
		r.fail("unknown flags")
	}
	return b
}

// schema reads the name of a schema. pg_catalog is sent as an empty text
// (logicalrep_write_namespace).
func (r *reader) schema() string {
	if s := r.string(); s != "" {
		return s
	}
	return "pg_catalog"
}

// time reads a timestamp: microseconds since the start of the year 2000.
func (r *reader) time() time.Time {
	return time.UnixMicro(int64(r.uint64()) + epoch).UTC()
}

// epoch is the start of the year 2000 in microseconds since that of 1970.
const epoch = 946_684_800_000_000
