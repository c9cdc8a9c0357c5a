package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/walbridge/walbridge/internal/config"
)

type manCmd struct{}

// Run prints the manual page, which packages bring.
func (*manCmd) Run(a *app, k *kong.Kong) error {
	version, _ := versions()
	m := &manual{}
	m.page(k.Model, version)
	_, err := io.WriteString(a.stdout, m.String())
	return err
}

// manual is a page in the language of man(7), as groff and mandoc read it.
type manual struct{ strings.Builder }

// page writes all that commands and settings say of themselves.
func (m *manual) page(app *kong.Application, version string) {
	m.macro("TH", "WALBRIDGE", "1", "", "walbridge "+version, "")
	m.macro("SH", "NAME")
	m.text("walbridge - keeps Supabase tables in step with a Django application's PostgreSQL database")
	m.macro("SH", "SYNOPSIS")
	m.macro("B", "walbridge")
	m.text("COMMAND [FLAGS]")
	m.macro("SH", "DESCRIPTION")
	m.text(app.Help)
	m.macro("SH", "FLAGS OF EVERY COMMAND")
	m.flags(app.Flags)
	m.macro("SH", "COMMANDS")
	for _, n := range app.Leaves(true) {
		m.command(n)
	}
	m.macro("SH", "ENVIRONMENT")
	m.text("Each setting may come from a variable, and a secret from a file that a variable with _FILE at its end names.")
	for _, s := range config.Settings() {
		m.macro("TP")
		m.macro("B", s.Env)
		m.text(s.Help)
	}
	m.macro("SH", "EXIT STATUS")
	for _, e := range []struct {
		code int
		text string
	}{
		{exitDone, "Done."},
		{exitFailed, "Failed while running."},
		{exitUsage, "A mistake in the arguments or the configuration."},
		{exitFound, "Worked, and found something."},
	} {
		m.macro("TP")
		m.macro("B", fmt.Sprint(e.code))
		m.text(e.text)
	}
}

// command writes one command, with the flags of those that it is below.
func (m *manual) command(n *kong.Node) {
	m.macro("SS", strings.TrimPrefix(n.Summary(), "walbridge "))
	m.text(n.Help)
	var flags []*kong.Flag
	for at := n; at.Type != kong.ApplicationNode; at = at.Parent {
		flags = append(flags, at.Flags...)
	}
	m.flags(flags)
	m.prose(n.Detail)
}

func (m *manual) flags(flags []*kong.Flag) {
	for _, f := range flags {
		if f.Hidden {
			continue
		}
		name := "--" + f.Name
		if f.Short != 0 {
			name = "-" + string(f.Short) + ", " + name
		}
		if !f.IsBool() {
			name += "=" + f.FormatPlaceHolder()
		}
		m.macro("TP")
		m.macro("B", name)
		m.text(f.Help)
	}
}

// prose writes paragraphs; lines with four spaces before them stay as they are.
func (m *manual) prose(text string) {
	literal, fresh := false, true
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		code, indented := strings.CutPrefix(line, "    ")
		switch {
		case strings.TrimSpace(line) == "" && !literal:
			fresh = true
			continue
		case indented && !literal:
			m.macro("PP")
			m.macro("RS", "4")
			m.macro("nf")
			literal = true
		case !indented && line != "" && literal:
			m.macro("fi")
			m.macro("RE")
			literal, fresh = false, false
			m.macro("PP")
		case !literal && fresh:
			m.macro("PP")
			fresh = false
		}
		m.text(code)
	}
	if literal {
		m.macro("fi")
		m.macro("RE")
	}
}

// macro writes a line that asks for something, with each argument one word.
func (m *manual) macro(name string, args ...string) {
	m.WriteString("." + name)
	for _, arg := range args {
		m.WriteString(` "` + strings.ReplaceAll(escapeRoff(arg), `"`, `\(dq`) + `"`)
	}
	m.WriteByte('\n')
}

// text writes a line that is shown: one that begins with a dot or a quote would be
// taken for a request.
func (m *manual) text(line string) {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		m.WriteString(`\&`)
	}
	m.WriteString(escapeRoff(line) + "\n")
}

// escapeRoff keeps hyphens such that they can be copied, and what isn't ASCII for
// readers that don't know the page's encoding (groff_char(7)).
func escapeRoff(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r > 126:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
