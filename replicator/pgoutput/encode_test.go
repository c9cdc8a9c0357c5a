package pgoutput

import (
	"encoding/binary"

	"github.com/walbridge/walbridge/internal/cdc"
)

// encode is the inverse of Decode. A frame has one meaning and a meaning one
// frame, so decoding and encoding must give the frame back.
func encode(m *Message) []byte {
	be := binary.BigEndian
	b := []byte{byte(m.Kind)}
	switch m.Kind {
	case Begin:
		b = be.AppendUint64(b, uint64(m.CommitLSN))
		b = be.AppendUint64(b, uint64(m.CommitTime.UnixMicro()-epoch))
		b = be.AppendUint32(b, m.XID)
	case Commit:
		b = append(b, 0)
		b = be.AppendUint64(b, uint64(m.CommitLSN))
		b = be.AppendUint64(b, uint64(m.EndLSN))
		b = be.AppendUint64(b, uint64(m.CommitTime.UnixMicro()-epoch))
	case Origin:
		b = be.AppendUint64(b, uint64(m.CommitLSN))
		b = appendString(b, m.Name)
	case Relation:
		b = appendRelation(b, m.Relation)
	case Type:
		b = be.AppendUint32(b, m.OID)
		b = appendSchema(b, m.Schema)
		b = appendString(b, m.Name)
	case Insert, Update, Delete:
		b = be.AppendUint32(b, m.Relation.OID)
		if m.Old != nil {
			b = appendRow(append(b, choose(m.OldFull, 'O', 'K')), m.Old)
		}
		if m.New != nil {
			b = appendRow(append(b, 'N'), m.New)
		}
	case Truncate:
		b = be.AppendUint32(b, uint32(len(m.Relations)))
		b = append(b, choose(m.Cascade, 1, 0)|choose(m.RestartIdentity, 2, 0))
		for _, rel := range m.Relations {
			b = be.AppendUint32(b, rel.OID)
		}
	case LogicalMessage:
		b = append(b, choose(m.Transactional, 1, 0))
		b = be.AppendUint64(b, uint64(m.LSN))
		b = appendString(b, m.Prefix)
		b = be.AppendUint32(b, uint32(len(m.Content)))
		b = append(b, m.Content...)
	}
	return b
}

func appendRelation(b []byte, rel *cdc.Relation) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(b, rel.OID)
	b = appendSchema(b, rel.Schema)
	b = appendString(b, rel.Name)
	b = append(b, byte(rel.Identity))
	b = be.AppendUint16(b, uint16(len(rel.Columns)))
	for _, c := range rel.Columns {
		b = append(b, choose(c.Key, 1, 0))
		b = appendString(b, c.Name)
		b = be.AppendUint32(b, c.Type)
		b = be.AppendUint32(b, uint32(c.Mod))
	}
	return b
}

func appendRow(b []byte, row cdc.Row) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(row)))
	for _, v := range row {
		switch v.Kind {
		case cdc.Null:
			b = append(b, 'n')
		case cdc.Unchanged:
			b = append(b, 'u')
		default:
			b = append(b, 't')
			b = binary.BigEndian.AppendUint32(b, uint32(len(v.Text)))
			b = append(b, v.Text...)
		}
	}
	return b
}

func appendString(b []byte, s string) []byte { return append(append(b, s...), 0) }

func appendSchema(b []byte, s string) []byte {
	if s == "pg_catalog" {
		s = ""
	}
	return appendString(b, s)
}

func choose(set bool, yes, no byte) byte {
	if set {
		return yes
	}
	return no
}
