package propose

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
)

// Write writes the proposal as a mapping file, with comments that say what to
// look at. The same catalog always makes the same file.
func (p *Proposal) Write(w io.Writer) error {
	f := &file{w: bufio.NewWriter(w)}
	p.head(f)
	for i := range p.Tables {
		p.table(f, &p.Tables[i])
	}
	p.left(f)
	if f.err != nil {
		return f.err
	}
	return f.w.Flush()
}

// file is a writer that remembers its first error.
type file struct {
	w   *bufio.Writer
	err error
}

func (f *file) line(format string, args ...any) {
	if f.err == nil {
		_, f.err = fmt.Fprintf(f.w, format+"\n", args...)
	}
}

// comment writes text behind # signs, broken into lines.
func (f *file) comment(indent, text string) {
	const width = 96
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(indent)+len(line)+len(word) > width {
			f.line("%s# %s", indent, line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	f.line("%s# %s", indent, line)
}

func (p *Proposal) head(f *file) {
	f.comment("", "A mapping for walbridge, proposed by walbridge init from the tables and foreign keys of the source. "+
		"Go through it before the first start: whose row is it (tenant), what may leave the database (columns), "+
		"and what should stay when the application deletes it (on_delete).")
	f.line("#")
	f.line("#   walbridge check --config FILE")
	f.line("#   walbridge run --config FILE")
	f.line("#")
	how := "as it was asked for"
	if p.Guessed {
		how = "a guess from its name and from how many tables reach it; walbridge init --tenant COLUMN takes another"
	}
	f.comment("", fmt.Sprintf("The tenant is %s: %s.", p.Tenant, how))
	f.line("")
	f.comment("", "Every change of a mapped table leaves an entry here. Leave the section out for no audit.")
	f.line("audit_log:")
	f.line("  table: %s", scalar(p.AuditLog))
	if p.Tenant != defaultTenantColumn {
		f.line("  columns: {tenant: %s}", scalar(quoteName(p.Tenant)))
	}
	f.line("")
	f.line("tables:")
}

// defaultTenantColumn is what tenant_column is without being named.
const defaultTenantColumn = "provedor_id"

func (p *Proposal) table(f *file, t *Table) {
	f.line("  %s:", scalar(quoteName(t.Target)))
	f.line("    from: %s", scalar(fromName(t.TableName)))
	if len(t.Tenant) > 1 {
		f.comment("    ", "The first that is not null. Each can be, so there are several.")
	}
	tenants := make([]string, len(t.Tenant))
	for i, path := range t.Tenant {
		tenants[i] = scalar(path)
	}
	f.line("    tenant: [%s]", strings.Join(tenants, ", "))
	if p.Tenant != defaultTenantColumn {
		f.line("    tenant_column: %s", scalar(quoteName(p.Tenant)))
	}
	f.line("    columns:")
	for _, c := range t.Columns {
		if c.AsText == "" {
			f.line("      - %s", scalar(quoteName(c.Name)))
			continue
		}
		f.line("      - %s: {from: %s, type: text} # %s, which the target may not know", scalar(c.Name), scalar(quoteName(c.Name)), comment(c.AsText))
	}
	for _, name := range t.Secret {
		f.line("      # - %s   left out for its name; the bridge's role can read it all the same", comment(name))
	}
	for _, name := range t.States {
		f.line("      # - %s_since: {observe: %s, when: [VALUE]}   the time at which it came to a value", comment(name), comment(name))
	}
	f.line("    on_delete: delete # keep: a row stays, with a mark, when the application's goes")
	f.line("    without_tenant: hold # drop: rows that belong to no tenant are counted and left out")
	f.line("    audit:")
	f.line("      entity: %s", t.Entity)
	for i, name := range t.States {
		if i == 0 {
			f.line("      # transitions:")
		}
		f.line("      #   - VERB: {column: %s, to: [VALUE]}", comment(name))
	}
	if len(t.Personal) > 0 {
		f.line("      # hide: [%s]   columns whose values entries don't repeat", comment(strings.Join(t.Personal, ", ")))
	}
	f.line("")
}

func (p *Proposal) left(f *file) {
	if len(p.Left) == 0 {
		return
	}
	f.line("# Left out:")
	for _, l := range p.Left {
		text := l.Table.String() + ": " + l.Why
		if l.Fix != "" {
			text += "; " + l.Fix
		}
		f.comment("", "- "+comment(text))
	}
}

// plain are YAML scalars that mean themselves.
var plain = regexp.MustCompile(`^[\pL_][\pL\pN_.]*$`)

// words are plain scalars that YAML reads as something else.
var words = []string{"null", "true", "false", "yes", "no", "on", "off", "y", "n"}

// scalar writes s as a YAML scalar.
func scalar(s string) string {
	if plain.MatchString(s) && !slices.Contains(words, strings.ToLower(s)) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// quoteName writes a name as the mapping file takes it: with a dot or a quote it
// goes in double quotes.
func quoteName(name string) string {
	if !strings.ContainsAny(name, `."`) {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

func quotePath(w way, tenant string) string {
	parts := make([]string, 0, len(w.steps)+1)
	for _, step := range append(slices.Clone(w.steps), tenant) {
		parts = append(parts, quoteName(step))
	}
	return strings.Join(parts, ".")
}

func fromName(n pg.TableName) string {
	if n.Schema == "public" {
		return quoteName(n.Name)
	}
	return quoteName(n.Schema) + "." + quoteName(n.Name)
}

// comment keeps a name from ending its comment.
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
}
