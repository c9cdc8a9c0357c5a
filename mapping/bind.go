package mapping

import (
	"fmt"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// binding connects a relation's layout with the source that the mapping
// describes, by column name: migrations move, add and drop columns.
type binding struct {
	source *Source
	// at is, for each input of the source, its position in the relation.
	at []int
}

// LayoutError says that a source table no longer has what the mapping reads, or
// had something else when a row was written. It is found at the first change after
// the migration, before any row is decoded with a wrong layout.
type LayoutError struct {
	Table string
	// Column is empty when the table itself is another one.
	Column, Reason string
}

func (e *LayoutError) Error() string {
	if e.Column == "" {
		return fmt.Sprintf("source table %s: %s", e.Table, e.Reason)
	}
	return fmt.Sprintf("source table %s, column %s: %s", e.Table, e.Column, e.Reason)
}

// sourceOf is the source that rel is, under its name or, renamed, another one; nil
// when the mapping doesn't follow it.
func (e *Engine) sourceOf(rel *cdc.Relation) (s *Source, renamed bool) {
	if s := e.sources[rel.Schema+"."+rel.Name]; s != nil {
		return s, false
	}
	s = e.byOID[rel.OID]
	return s, s != nil
}

// bind returns the binding of rel, or nil when the mapping doesn't follow it.
func (e *Engine) bind(rel *cdc.Relation) (*binding, error) {
	if b, ok := e.bindings[rel]; ok {
		return b, nil
	}
	s, renamed := e.sourceOf(rel)
	if renamed {
		// Renamed and renamed back, a table looks as before; the rows of between
		// would be missing if they passed for those of a table that isn't mapped.
		return nil, &LayoutError{Table: s.FullName(), Reason: fmt.Sprintf("rows of it come under the name %s.%s: it was renamed", rel.Schema, rel.Name)}
	}
	if s == nil {
		e.bindings[rel] = nil
		return nil, nil
	}
	b := &binding{source: s, at: make([]int, len(s.Inputs))}
	for i, in := range s.Inputs {
		b.at[i] = -1
		for j, c := range rel.Columns {
			if c.Name != in.Name {
				continue
			}
			if in.Type != 0 && c.Type != in.Type && !widened(c.Type, in.Type) {
				return nil, &LayoutError{Table: s.FullName(), Column: in.Name, Reason: "its type has changed"}
			}
			b.at[i] = j
		}
		if b.at[i] < 0 {
			return nil, &LayoutError{Table: s.FullName(), Column: in.Name, Reason: "it was dropped or renamed, or the publication has a column list without it"}
		}
	}
	e.bindings[rel] = b
	return b, nil
}

// widened reports that a migration has made one type, of which rows in the WAL
// still are, the other: each value has the same text in both. Refused, the rows
// from before it could only be skipped. The numbers are OIDs (pg_type.dat).
func widened(from, to uint32) bool {
	const int8, int2, int4, text, varchar = 20, 21, 23, 25, 1043
	switch to {
	case int8:
		return from == int2 || from == int4
	case int4:
		return from == int2
	case text:
		return from == varchar
	}
	return false
}

// inputs takes the mapping's inputs out of a tuple.
func (b *binding) inputs(batch *Batch, tuple cdc.Row) cdc.Row {
	in := batch.newRow(len(b.at))
	for i, j := range b.at {
		in[i] = tuple[j]
	}
	return in
}

// KeyOf is the row's primary key at the source. The key's columns are the first
// inputs.
func (s *Source) KeyOf(in cdc.Row) sink.Key {
	if len(s.Key) == 1 {
		return sink.Key(in[0].Text)
	}
	parts := make([]string, len(s.Key))
	for i := range s.Key {
		parts[i] = in[i].Text
	}
	return sink.EncodeKey(parts...)
}

// targetKey is the row's primary key at the target, which is made of the
// source's key alone.
func (t *Target) targetKey(in cdc.Row) (sink.Key, error) {
	if len(t.Table.Key) == 1 {
		v, err := t.Columns[t.Table.Key[0]].own(in)
		return sink.Key(v.Text), err
	}
	parts := make([]string, len(t.Table.Key))
	for i, c := range t.Table.Key {
		v, err := t.Columns[c].own(in)
		if err != nil {
			return "", err
		}
		parts[i] = v.Text
	}
	return sink.EncodeKey(parts...), nil
}

// own computes a column from the row's own inputs.
func (c *Column) own(in cdc.Row) (cdc.Value, error) {
	if c.Convert != nil {
		vals := make([]cdc.Value, len(c.Own))
		for i, j := range c.Own {
			vals[i] = in[j]
		}
		return c.Convert(vals)
	}
	if c.Const != nil {
		return *c.Const, nil
	}
	for _, j := range c.Own {
		if in[j].Kind != cdc.Null {
			return in[j], nil
		}
	}
	return cdc.Value{}, nil
}
