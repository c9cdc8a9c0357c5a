package verify

import (
	"github.com/walbridge/walbridge/sink"
)

// Counts are the rows of one table and one tenant by what was found.
type Counts struct {
	// Compared rows are those of the source: Equal, Missing, Different and Held
	// ones together.
	Compared int64 `json:"compared"`
	// Equal rows have the same text in every compared column at the target.
	Equal int64 `json:"equal"`
	// Missing rows are nowhere at the target.
	Missing int64 `json:"missing"`
	// Different rows are at the target with another value, under another
	// tenant, with the mark of a deletion that didn't happen, or where they must
	// not be: beside their held copy, or without a tenant. Kept rows are
	// different when they don't follow their parents.
	Different int64 `json:"different"`
	// Extra rows are at the target and should have been deleted with the
	// source's, or held without a counterpart.
	Extra int64 `json:"extra"`
	// Held rows wait in walbridge.held as they should.
	Held int64 `json:"held"`
	// Dropped rows have no tenant and are left out as the mapping says.
	Dropped int64 `json:"dropped"`
	// Kept rows stayed when the source's were deleted.
	Kept int64 `json:"kept"`
	// Foreign rows were written by somebody else under keys that the source
	// doesn't have.
	Foreign int64 `json:"foreign"`
	// Unsettled rows changed whenever they were looked at.
	Unsettled int64 `json:"unsettled"`
	// Mended rows were wrong until the bridge repaired them. They are counted as
	// what they are now, too.
	Mended int64 `json:"mended"`
}

func (c *Counts) add(o *Counts) {
	c.Compared += o.Compared
	c.Equal += o.Equal
	c.Missing += o.Missing
	c.Different += o.Different
	c.Extra += o.Extra
	c.Held += o.Held
	c.Dropped += o.Dropped
	c.Kept += o.Kept
	c.Foreign += o.Foreign
	c.Unsettled += o.Unsettled
	c.Mended += o.Mended
}

func (c *Counts) wrong() int64 { return c.Missing + c.Different + c.Extra }

// NoTenant is the name under which rows without a tenant are counted.
const NoTenant = ""

// Table is what was found about one target table, or about the path values of
// one source table.
type Table struct {
	// Name is the target table, schema-qualified, or "paths" and the source
	// table.
	Name string `json:"table"`
	// Tenants are the counts by tenant; rows without one are under NoTenant.
	Tenants map[string]*Counts `json:"tenants"`
	// Columns counts differing values by column.
	Columns map[string]int64 `json:"columns"`
	// Keys are a few of the keys of rows that are wrong, by what is wrong, if
	// Options asked for them.
	Keys map[string][]sink.Key `json:"keys"`
}

func newTable(name string) *Table {
	return &Table{Name: name, Tenants: map[string]*Counts{}, Columns: map[string]int64{}, Keys: map[string][]sink.Key{}}
}

func (t *Table) tenant(name string) *Counts {
	c := t.Tenants[name]
	if c == nil {
		c = &Counts{}
		t.Tenants[name] = c
	}
	return c
}

// count counts a verdict, and names its row if it is one of the first.
func (t *Table) count(v *verdict, key sink.Key, keys int) {
	c := t.tenant(v.tenant)
	if v.atSource && v.finding != dropped {
		c.Compared++
	}
	switch v.finding {
	case equal:
		c.Equal++
	case held:
		c.Held++
	case dropped:
		c.Dropped++
	case foreign:
		c.Foreign++
	case missing:
		c.Missing++
	case different:
		c.Different++
	case extra:
		c.Extra++
	case unsettled:
		c.Unsettled++
	}
	if v.mended {
		c.Mended++
	}
	if v.besides != nil {
		t.tenant(*v.besides).Foreign++
	}
	if !v.finding.wrong() && v.finding != unsettled {
		return
	}
	for _, column := range v.columns {
		t.Columns[column]++
	}
	if len(t.Keys[v.why]) < keys {
		t.Keys[v.why] = append(t.Keys[v.why], key)
	}
}

// Total adds the tenants up.
func (t *Table) Total() Counts {
	var sum Counts
	for _, c := range t.Tenants {
		sum.add(c)
	}
	return sum
}

// Report is the outcome of a comparison. It holds no values.
type Report struct {
	Tables []*Table
}

// Equal reports whether no row is missing, different or too many.
func (r *Report) Equal() bool {
	for _, t := range r.Tables {
		if sum := t.Total(); sum.wrong() > 0 {
			return false
		}
	}
	return true
}

// Total adds all tables up.
func (r *Report) Total() Counts {
	var sum Counts
	for _, t := range r.Tables {
		c := t.Total()
		sum.add(&c)
	}
	return sum
}
