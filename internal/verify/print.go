package verify

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/walbridge/walbridge/sink"
)

// fewTenants is how many tenants of a table people are shown one by one. Of more,
// only those with something wrong.
const fewTenants = 20

// String is what Print writes.
func (r *Report) String() string {
	var b strings.Builder
	_ = r.Print(&b) // a Builder takes everything
	return b.String()
}

// Print writes the report for people: a line for each table and tenant, and in
// words what is wrong below it.
func (r *Report) Print(out io.Writer) error {
	var b, lines strings.Builder
	width := 0
	for _, t := range r.Tables {
		width = max(width, len(t.Name))
	}
	w := tabwriter.NewWriter(&lines, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(w, "%-*s\ttenant\tcompared\tequal\tmissing\tdifferent\textra\theld\tdropped\tkept\tforeign\tunsettled\t\n", width, "table")
	for _, t := range r.Tables {
		for _, tenant := range t.shown() {
			t.line(w, width, tenant)
		}
	}
	_ = w.Flush()
	for line := range strings.Lines(lines.String()) {
		b.WriteString(strings.TrimPrefix(line, "  ")) // of the first column, which is the widest
	}
	for _, t := range r.Tables {
		t.explain(&b)
	}
	b.WriteString("\n" + r.summary() + "\n")
	_, err := io.WriteString(out, b.String())
	return err
}

// allTenants stands for the totals of a table.
const allTenants = "all"

// shown are the lines of a table.
func (t *Table) shown() []string {
	names := slices.SortedFunc(maps.Keys(t.Tenants), byNumber)
	if len(names) > fewTenants {
		names = slices.DeleteFunc(names, func(name string) bool {
			c := t.Tenants[name]
			return c.wrong()+c.Unsettled+c.Mended == 0
		})
	}
	if len(t.Tenants) != 1 {
		names = append(names, allTenants)
	}
	return names
}

func (t *Table) line(w io.Writer, width int, tenant string) {
	c := t.Total()
	if one := t.Tenants[tenant]; one != nil {
		c = *one
	}
	if tenant == NoTenant {
		tenant = "none"
	}
	_, _ = fmt.Fprintf(w, "%-*s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", width, t.Name, tenant,
		c.Compared, c.Equal, c.Missing, c.Different, c.Extra, c.Held, c.Dropped, c.Kept, c.Foreign, c.Unsettled)
}

// explain says what is wrong with a table.
func (t *Table) explain(b *strings.Builder) {
	for _, c := range slices.Sorted(maps.Keys(t.Columns)) {
		fmt.Fprintf(b, "%s: %d values of column %s differ\n", t.Name, t.Columns[c], c)
	}
	for _, what := range slices.Sorted(maps.Keys(t.Keys)) {
		fmt.Fprintf(b, "%s: %s: %s\n", t.Name, what, joinKeys(t.Keys[what]))
	}
}

// summary says in words what was found.
func (r *Report) summary() string {
	t := r.Total()
	var notes []string
	note := func(n int64, one, many string) {
		if n > 0 {
			notes = append(notes, count(n, one, many))
		}
	}
	note(t.Missing, "row is missing at the target", "rows are missing at the target")
	note(t.Different, "row differs", "rows differ")
	note(t.Extra, "row is at the target and should not be", "rows are at the target and should not be")
	head := "The target is equal to the source"
	switch {
	case len(notes) > 0:
		head = "The target differs from the source: " + strings.Join(notes, ", ")
	case t.Unsettled > 0:
		head = "Nothing is known to differ"
	}
	lines := []string{head + "."}
	explain := func(n int64, one, many string) {
		if n > 0 {
			lines = append(lines, count(n, one, many)+".")
		}
	}
	explain(t.Mended, "row was wrong and has been mended", "rows were wrong and have been mended")
	explain(t.Unsettled, "row changed whenever it was looked at, and is not known to be equal", "rows changed whenever they were looked at, and are not known to be equal")
	explain(t.Held, "row is held, as it should be: walbridge held list says why", "rows are held, as they should be: walbridge held list says why")
	explain(t.Dropped, "row has no tenant and is left out, as the mapping says", "rows have no tenant and are left out, as the mapping says")
	explain(t.Kept, "row stays after its deletion at the source, as the mapping says", "rows stay after their deletion at the source, as the mapping says")
	explain(t.Foreign, "row was written by somebody else, which is no error", "rows were written by somebody else, which is no error")
	return strings.Join(lines, "\n")
}

func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(n, 10) + " " + many
}

// byNumber orders tenant ids as numbers where they are.
func byNumber(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

func joinKeys(keys []sink.Key) string {
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = printable(string(k))
	}
	return strings.Join(parts, ", ")
}

// printable keeps a key on its line: it is a text of the application.
func printable(key string) string {
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(key)
	}
	return key
}
