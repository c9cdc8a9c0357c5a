package held

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/walbridge/walbridge/sink"
)

// Print writes the list for people.
func (l *List) Print(w io.Writer) error {
	if l.Total == 0 {
		_, err := fmt.Fprintln(w, "no rows are held")
		return err
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "TABLE\tKEY\tREASON\tSQLSTATE\tLSN\tSINCE\tENTRIES")
	for _, r := range l.Rows {
		code := r.Code
		if r.Reason == sink.HeldIncomplete {
			code = "" // the columns stand below
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\n", r.Table, printable(r.Key), r.Reason, orDash(code),
			r.LSN, r.Since.UTC().Format(time.DateTime+"Z"), r.Waiting)
	}
	_ = t.Flush()
	if more := l.Total - int64(len(l.Rows)); more > 0 {
		fmt.Fprintf(&b, "… and %d more (--limit)\n", more)
	}
	b.WriteString("\n")
	for _, c := range l.Counts {
		fmt.Fprintf(&b, "%s of %s: %s\n", rows(c.Rows), c.Table, c.why())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (c *Count) why() string {
	switch c.Reason {
	case sink.HeldTenant:
		return "no tenant can be resolved; they are released when one can"
	case sink.HeldIncomplete:
		return "values are missing, " + orDash(c.Code) + "; they are being read from the source"
	}
	return "the target refused them with SQLSTATE " + orDash(c.Code)
}

// PrintJSON writes the list for programs.
func (l *List) PrintJSON(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(l)
}

func rows(n int64) string {
	if n == 1 {
		return "1 row"
	}
	return fmt.Sprintf("%d rows", n)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// printable keeps a key on its line: it is a text of the application.
func printable(key string) string {
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Sprintf("%q", key)
	}
	return key
}
