package mapping

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
)

// entries makes those of rows that were mended, and those that waited with rows
// that are held no longer.
func (c *comparison) entries() error {
	b, s := c.w.b, c.Source
	if b.e.m.Audit == nil || s.Target == nil || c.PathsOnly {
		return nil
	}
	for _, st := range c.released() {
		if err := b.emitHeld(st, st.now.tenant(s.Target.Table)); err != nil {
			return err
		}
	}
	if s.Target.Audit == nil {
		return nil
	}
	for i := range c.mended {
		c.mendedEntry(&c.mended[i])
	}
	return nil
}

// released are the rows of this comparison that entries waited with and that are
// in their table now.
func (c *comparison) released() []*rowState {
	var list []*rowState
	for _, st := range c.w.b.rows[c.Source] {
		if len(st.waiting) > 0 && st.now.place == inTable {
			list = append(list, st)
		}
	}
	slices.SortFunc(list, func(a, b *rowState) int { return cmp.Compare(a.key, b.key) })
	return list
}

func (c *comparison) mendedEntry(s *step) {
	b, t := c.w.b, c.Source.Target
	if s.st.now.place == inHeld {
		return // nothing has been mended while nobody can see it
	}
	d := draft{Commit: c.Commit, Action: t.Audit.Entity + ".repaired", Time: c.Time}
	buf := append(appendTable(nil, c.Source), `,"key":{`...)
	buf = append(appendKey(buf, c.Source, s.keyed()), '}')
	buf = appendLSN(append(buf, `,"op":"repair","lsn":`...), c.Commit)
	buf = strconv.AppendInt(append(buf, `,"request":`...), c.Request, 10)
	if s.op == cdc.Delete {
		buf = append(buf, `,"gone":true`...)
	}
	d.Rest = b.appendChanged(buf, b.changed(s))
	var few [2]cdc.Value
	tenants := withTenant(few[:0], s.st.now.tenant(t.Table))
	if s.prev.place == inTable {
		tenants = withTenant(tenants, s.prev.tenant(t.Table))
	}
	for _, tenant := range tenants {
		name := fmt.Appendf(nil, "request/%d/%s/%s/%s", c.Request, t.Table.FullName(), s.st.key, tenant.Text)
		b.number(b.nameID(name), &d, tenant.Text)
	}
}

// keyed is a row of the step that has the key.
func (s *step) keyed() cdc.Row {
	if s.next.row != nil {
		return s.next.row
	}
	return s.prev.row
}

// CopiedEntries makes one entry for each tenant of a table that has been compared.
func (b *Batch) CopiedEntries(s *Source, request int64, tenants map[string]TenantCompared, commit cdc.LSN, at time.Time) {
	if b.e.m.Audit == nil || s.Target == nil || s.Target.Audit == nil {
		return
	}
	for _, tenant := range slices.Sorted(maps.Keys(tenants)) {
		n := tenants[tenant]
		buf := append(appendTable(nil, s), `,"op":"copy"`...)
		buf = appendLSN(append(buf, `,"lsn":`...), commit)
		buf = strconv.AppendInt(append(buf, `,"request":`...), request, 10)
		buf = strconv.AppendInt(append(buf, `,"rows":`...), n.Rows, 10)
		buf = strconv.AppendInt(append(buf, `,"written":`...), n.Written, 10)
		buf = strconv.AppendInt(append(buf, `,"gone":`...), n.Gone, 10)
		d := draft{Action: s.Target.Audit.Entity + ".copied", Time: at, Rest: buf}
		name := fmt.Appendf(nil, "request/%d/copied/%s/%s", request, s.FullName(), tenant)
		b.number(b.nameID(name), &d, tenant)
	}
}

// GapEntries makes one entry for each tenant about a range of the source's
// history that the bridge has not seen.
func (b *Batch) GapEntries(request int64, tenants []string, from, to cdc.LSN, why string, at time.Time) {
	if b.e.m.Audit == nil {
		return
	}
	for _, tenant := range tenants {
		buf := appendLSN([]byte(`"op":"skip","from":`), from)
		buf = appendLSN(append(buf, `,"lsn":`...), to)
		buf = strconv.AppendInt(append(buf, `,"request":`...), request, 10)
		buf = appendString(append(buf, `,"reason":`...), why)
		d := draft{Action: "audit.gap", Time: at, Rest: buf}
		b.number(b.nameID(fmt.Appendf(nil, "request/%d/gap/%s", request, tenant)), &d, tenant)
	}
}
