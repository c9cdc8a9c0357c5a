package check

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	width  = 100
	indent = 27 // of what a finding says: behind its severity and its check's name
)

// Print writes the report for a person, by the parts that it is about, with what
// mends a finding below it.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	for _, part := range []Part{Settings, Mapping, Source, Target} {
		r.printPart(&b, part)
	}
	fmt.Fprintf(&b, "%s, %s, %s", count(r.Errors, "error"), count(r.Warnings, "warning"), count(r.Infos, "note"))
	if n := len(r.Skipped); n > 0 {
		fmt.Fprintf(&b, "; %s could not be made", count(n, "check"))
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) printPart(b *strings.Builder, part Part) {
	var body strings.Builder
	for _, severity := range []Severity{Error, Warning, Info} {
		for _, f := range r.Findings {
			if f.Part == part && f.Severity == severity {
				f.print(&body)
			}
		}
	}
	var passed []string
	for _, p := range r.Passed {
		if p.Part == part {
			passed = append(passed, p.Check)
		}
	}
	if len(passed) > 0 {
		block(&body, "ok", "", strings.Join(passed, ", "))
	}
	reasons := map[string][]string{}
	var order []string
	for _, s := range r.Skipped {
		if s.Part != part {
			continue
		}
		if reasons[s.Reason] == nil {
			order = append(order, s.Reason)
		}
		reasons[s.Reason] = append(reasons[s.Reason], s.Check)
	}
	for _, reason := range order {
		block(&body, "not made", "", reason+": "+strings.Join(reasons[reason], ", "))
	}
	if body.Len() > 0 {
		fmt.Fprintf(b, "%s\n%s\n", part, body.String())
	}
}

func (f Finding) print(b *strings.Builder) {
	block(b, f.Severity.String(), f.Check, f.What)
	if f.Why != "" {
		block(b, "", "", f.Why)
	}
	if f.Fix != "" {
		block(b, "", "", "fix: "+f.Fix)
	}
}

// block writes text beside its heading, wrapped.
func block(b *strings.Builder, severity, check, text string) {
	head := fmt.Sprintf("  %-9s%-*s", severity, indent-11, check)
	for _, line := range wrap(text, width-indent) {
		fmt.Fprintf(b, "%s%s\n", head, line)
		head = strings.Repeat(" ", indent)
	}
}

// wrap breaks text at spaces. Those within an SQL literal or a quoted name stay,
// so that a statement that is copied from the screen is still the same.
func wrap(text string, columns int) []string {
	var lines []string
	line := ""
	for _, word := range words(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > columns:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// words splits text at white space outside quotes. A quote opens at the beginning
// of a word or behind a bracket: elsewhere it is an apostrophe, or the end.
func words(text string) []string {
	var list []string
	var word strings.Builder
	var open, last rune
	for _, r := range text + " " {
		switch {
		case open == 0 && unicode.IsSpace(r):
			if word.Len() > 0 {
				list = append(list, word.String())
				word.Reset()
			}
			last = 0
			continue
		case open != 0 && r == open:
			open = 0
		case open == 0 && (r == '\'' || r == '"') && strings.ContainsRune("\x00(.=,", last):
			open = r
		}
		word.WriteRune(r)
		last = r
	}
	if word.Len() > 0 { // a quote that nothing closes
		list = append(list, strings.TrimRight(word.String(), " "))
	}
	return list
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
