package mapping

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

// incomplete reports whether the row is held because it lacks values. Those are
// of kind Unchanged in it: there is a value, and nobody here knows it.
func (v *version) incomplete() bool { return v.place == inHeld && v.reason == sink.HeldIncomplete }

// waits reports whether entries wait with the row. Those of an incomplete one
// don't: its tenant is known.
func (v *version) waits(t *sink.Table) bool {
	return v.place == inHeld && !(v.incomplete() && v.tenant(t).Kind == cdc.Text)
}

// stored is a held row as the sink keeps it: null for what is missing, whose names
// go into its code.
func (v *version) stored(t *sink.Table) (row cdc.Row, code string, err error) {
	if !v.incomplete() {
		return v.row, v.code, nil
	}
	row = slices.Clone(v.row)
	var names []string
	for i := range row {
		if row[i].Kind == cdc.Unchanged {
			row[i] = cdc.Value{}
			names = append(names, t.Columns[i].Name)
		}
	}
	text, err := json.Marshal(names)
	if err != nil {
		return nil, "", fmt.Errorf("name missing values: %w", err)
	}
	return row, string(text), nil
}

// restored is the version that the sink keeps as h.
func restored(t *sink.Table, h *sink.HeldRow) (version, error) {
	v := version{place: inHeld, row: h.Row, reason: h.Reason, code: h.Code}
	if !v.incomplete() {
		return v, nil
	}
	var names []string
	if err := json.Unmarshal([]byte(h.Code), &names); err != nil {
		return version{}, fmt.Errorf("missing values of a held row of %s: %w", t.FullName(), err)
	}
	v.row, v.code = slices.Clone(h.Row), ""
	for i := range v.row {
		if slices.Contains(names, t.Columns[i].Name) {
			v.row[i] = cdc.Value{Kind: cdc.Unchanged}
		}
	}
	return v, nil
}

// missing reports whether a row lacks values.
func missing(row cdc.Row) bool {
	return slices.ContainsFunc(row, func(v cdc.Value) bool { return v.Kind == cdc.Unchanged })
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

func newRowState(s *Source, key sink.Key, stored sink.Stored, ok bool) (*rowState, error) {
	st := &rowState{source: s, key: key}
	if !ok {
		return st, nil
	}
	switch {
	case stored.Held != nil:
		var err error
		if st.was, err = restored(s.Target.Table, stored.Held); err != nil {
			return nil, err
		}
		st.waiting = stored.Held.Waiting
		st.since = stored.Held.Since
		// A row beside it is another writer's. It must not stay under its tenant.
		st.unknown = stored.Row != nil
	case stored.Row != nil:
		st.was = version{place: inTable, row: stored.Row}
	}
	st.was.deleted, st.deletedAt = stored.Deleted, stored.DeletedAt
	st.now = st.was
	return st, nil
}

// errIncomplete says that a change leaves out a value of a path that the target
// doesn't have either.
var errIncomplete = errors.New("a value was left out by the stream and isn't at the target")

// build makes the target row of a change from its inputs. before is the row as
// it was, nil if there was none. What the stream has left out and the row of
// before hasn't got stays missing.
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
		return cdc.Value{Kind: cdc.Unchanged}, nil
	case unchanged == len(c.Own):
		return before[i], nil
	case c.Convert == nil && in[c.Own[0]].Kind != cdc.Null:
		// A value left out is never null, so the first one decides.
		if in[c.Own[0]].Kind == cdc.Unchanged {
			return before[i], nil
		}
		return in[c.Own[0]], nil
	default:
		return cdc.Value{Kind: cdc.Unchanged}, nil
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

// settle decides where a row belongs by its tenant.
func (t *Target) settle(v *version) (dropped bool) {
	v.reason, v.code = "", ""
	switch tenant := v.row[t.Table.Tenant].Kind; {
	case tenant == cdc.Null && t.WithoutTenant == Drop:
		v.place = nowhere
		return true
	case missing(v.row):
		v.place, v.reason = inHeld, sink.HeldIncomplete
	case tenant == cdc.Text:
		v.place = inTable
	default:
		v.place, v.reason = inHeld, sink.HeldTenant
	}
	return false
}
