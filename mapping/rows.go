package mapping

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// place is where a row is at the target.
type place uint8

const (
	nowhere place = iota
	inTable
	inHeld
)

// version is a row at one moment. A version's row is never changed once it is
// made, so that entries can be written from it later.
type version struct {
	place   place
	deleted bool // has a deletion mark
	row     cdc.Row
	reason  sink.HeldReason
	code    string
}

func (v *version) tenant(t *sink.Table) cdc.Value {
	if v.row == nil {
		return cdc.Value{}
	}
	return v.row[t.Tenant]
}

// rowState folds the changes of one row: was is what the target has, now what it
// is to have.
type rowState struct {
	source *Source
	key    sink.Key
	// unknown: the target hasn't been asked, because the row was inserted.
	unknown  bool
	was, now version
	// replaced: the row was deleted and inserted again since was.
	replaced bool
	touched  bool
	// waiting are the entries of a held row, since is when it became one.
	waiting []string
	since   cdc.LSN
	// deletedAt is the commit of the deletion that now's mark stands for.
	deletedAt cdc.LSN
}

func newRowState(s *Source, key sink.Key, stored sink.Stored, ok bool) *rowState {
	st := &rowState{source: s, key: key}
	if !ok {
		return st
	}
	switch {
	case stored.Held != nil:
		st.was = version{place: inHeld, row: stored.Held.Row, reason: stored.Held.Reason, code: stored.Held.Code}
		st.waiting = stored.Held.Waiting
		st.since = stored.Held.Since
		// A row beside it is another writer's. It must not stay under its tenant.
		st.unknown = stored.Row != nil
	case stored.Row != nil:
		st.was = version{place: inTable, row: stored.Row}
	}
	st.was.deleted, st.deletedAt = stored.Deleted, stored.DeletedAt
	st.now = st.was
	return st
}

// errIncomplete says that a change leaves out a value that the target doesn't
// have either; the row must be read from the source.
var errIncomplete = errors.New("a value was left out by the stream and isn't at the target")

// build makes the target row of a change from its inputs. before is the row as
// it was, nil if there was none.
func (b *Batch) build(ctx context.Context, s *Source, in, before cdc.Row, at time.Time) (cdc.Row, error) {
	t := s.Target
	for i := range in {
		if in[i].Kind != cdc.Unchanged {
			continue
		}
		if c := s.Inputs[i].Carrier; before != nil && c >= 0 {
			in[i] = before[c]
		}
	}
	row := b.newRow(len(t.Columns))
	for i := range t.Columns {
		c := &t.Columns[i]
		if c.Derived || c.Observed != nil {
			continue
		}
		v, err := c.value(in, before, i)
		if err != nil {
			return nil, err
		}
		row[i] = v
	}
	if err := b.derive(ctx, t.Table, row); err != nil {
		return nil, err
	}
	for i := range t.Columns {
		if o := t.Columns[i].Observed; o != nil {
			row[i] = o.value(row, before, i, at, t.Table.Columns[i].Type)
		}
	}
	return row, nil
}

// value computes an own or constant column. Inputs that the update left alone
// and that no target column carries leave the column alone, if they are all of
// it.
func (c *Column) value(in, before cdc.Row, i int) (cdc.Value, error) {
	unchanged := 0
	for _, j := range c.Own {
		if in[j].Kind == cdc.Unchanged {
			unchanged++
		}
	}
	switch {
	case unchanged == 0:
		return c.own(in)
	case before == nil:
		return cdc.Value{}, errIncomplete
	case unchanged == len(c.Own):
		return before[i], nil
	case c.Convert == nil && in[c.Own[0]].Kind != cdc.Null:
		// A value left out is never null, so the first one decides.
		if in[c.Own[0]].Kind == cdc.Unchanged {
			return before[i], nil
		}
		return in[c.Own[0]], nil
	default:
		return cdc.Value{}, errIncomplete
	}
}

// value is the observed column's value after a change at the given commit time.
func (o *Observed) value(row, before cdc.Row, i int, at time.Time, typ string) cdc.Value {
	in := row[o.Column].Kind == cdc.Text && o.When[row[o.Column].Text]
	if !in {
		return cdc.Value{}
	}
	if before != nil && before[o.Column].Kind == cdc.Text && o.When[before[o.Column].Text] {
		return before[i]
	}
	return cdc.TextValue(formatTime(at, typ))
}

// formatTime writes t as PostgreSQL does under DateStyle ISO and TimeZone UTC.
func formatTime(t time.Time, typ string) string {
	s := t.UTC().Format("2006-01-02 15:04:05.999999")
	if strings.Contains(typ, "timestamptz") {
		s += "+00"
	}
	return s
}

// tenantless reports whether the row's own columns say that it has no tenant.
func (t *Target) tenantless(in cdc.Row) bool {
	c := &t.Columns[t.Table.Tenant]
	if c.Derived || c.Convert != nil || c.Const != nil {
		return false
	}
	for _, j := range c.Own {
		if in[j].Kind != cdc.Null {
			return false
		}
	}
	return true
}

// settle decides where a row belongs by its tenant.
func (t *Target) settle(v *version) (dropped bool) {
	v.reason, v.code = "", ""
	if v.row[t.Table.Tenant].Kind == cdc.Text {
		v.place = inTable
		return false
	}
	if t.WithoutTenant == Drop {
		v.place = nowhere
		return true
	}
	v.place, v.reason = inHeld, sink.HeldTenant
	return false
}
