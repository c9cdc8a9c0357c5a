package verify

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/walbridge/walbridge/sink"
)

// Counts are the rows of one table and one tenant by what was found.
type Counts struct {
	// Compared rows are those of the source: Equal, Missing, Different and Held
	// ones together.
	Compared int64
	// Equal rows have the same text in every compared column at the target.
	Equal int64
	// Missing rows are nowhere at the target.
	Missing int64
	// Different rows are at the target with another value, under another
	// tenant, with the mark of a deletion that didn't happen, or where they must
	// not be: beside their held copy, or without a tenant. Kept rows are
	// different when they don't follow their parents.
	Different int64
	// Extra rows are at the target and should have been deleted with the
	// source's, or held without a counterpart.
	Extra int64
	// Held rows wait in walbridge.held as they should.
	Held int64
	// Dropped rows have no tenant and are left out as the mapping says.
	Dropped int64
	// Kept rows stayed when the source's were deleted.
	Kept int64
	// Foreign rows were written by somebody else under keys that the source
	// doesn't have.
	Foreign int64
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
}

func (c *Counts) wrong() int64 { return c.Missing + c.Different + c.Extra }

// NoTenant is the name under which rows without a tenant are counted.
const NoTenant = ""

// Table is what was found about one target table, or about the path values of
// one source table.
type Table struct {
	// Name is the target table, schema-qualified, or "paths" and the source
	// table.
	Name    string
	Tenants map[string]*Counts
	// Columns counts differing values by column.
	Columns map[string]int64
	// Keys are a few of the keys of rows that are wrong, by what is wrong, if
	// Options asked for them.
	Keys map[string][]sink.Key
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

// String is a table with a line for each table and tenant, and what differs
// below it.
func (r *Report) String() string {
	var b strings.Builder
	width := 0
	for _, t := range r.Tables {
		width = max(width, len(t.Name))
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%-*s\ttenant\tcompared\tequal\tmissing\tdifferent\textra\theld\tdropped\tkept\tforeign\t\n", width, "table")
	line := func(name, tenant string, c Counts) {
		fmt.Fprintf(w, "%-*s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", width, name, tenant,
			c.Compared, c.Equal, c.Missing, c.Different, c.Extra, c.Held, c.Dropped, c.Kept, c.Foreign)
	}
	for _, t := range r.Tables {
		for _, name := range slices.SortedFunc(maps.Keys(t.Tenants), byNumber) {
			shown := name
			if name == NoTenant {
				shown = "none"
			}
			line(t.Name, shown, *t.Tenants[name])
		}
		if len(t.Tenants) != 1 {
			line(t.Name, "all", t.Total())
		}
	}
	_ = w.Flush() // a Builder takes everything
	for _, t := range r.Tables {
		for _, c := range slices.Sorted(maps.Keys(t.Columns)) {
			fmt.Fprintf(&b, "%s: %d values of column %s differ\n", t.Name, t.Columns[c], c)
		}
		for _, what := range slices.Sorted(maps.Keys(t.Keys)) {
			fmt.Fprintf(&b, "%s: %s: %s\n", t.Name, what, joinKeys(t.Keys[what]))
		}
	}
	return b.String()
}

// byNumber orders tenant ids as numbers where they are.
func byNumber(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

func joinKeys(keys []sink.Key) string {
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = string(k)
	}
	return strings.Join(parts, ", ")
}
