package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/mapping"
)

var (
	yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")
	link      = regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]+))?\)`)
	heading   = regexp.MustCompile("(?m)^#+ (.+)$")
	noAnchor  = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// What the documentation shows must work: its YAML is read as configuration and
// mapping, and its links lead to files and headings.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	for _, file := range append(documents(t), "../../CHANGELOG.md") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			page := readFile(t, file)
			for _, m := range yamlBlock.FindAllStringSubmatch(page, -1) {
				path := filepath.Join(t.TempDir(), "example.yaml")
				if err := os.WriteFile(path, []byte(m[1]), 0o600); err != nil {
					t.Fatal(err)
				}
				if _, err := config.Load(config.Input{File: path}); err != nil {
					t.Errorf("example isn't a configuration: %v", err)
				}
				if !strings.Contains(m[1], "tables:") {
					continue
				}
				if _, err := mapping.Parse(path, []byte(m[1])); err != nil {
					t.Errorf("example isn't a mapping: %v", err)
				}
			}
			for _, m := range link.FindAllStringSubmatch(page, -1) {
				to := file
				if m[1] != "" {
					to = filepath.Join(filepath.Dir(file), m[1])
				}
				if _, err := os.Stat(to); err != nil {
					t.Errorf("link leads nowhere: %v", err)
				} else if m[2] != "" && !slices.Contains(anchors(readFile(t, to)), m[2]) {
					t.Errorf("%s has no heading that #%s leads to", to, m[2])
				}
			}
		})
	}
}

// anchors are what links to a page's headings end with, as GitHub makes them.
func anchors(page string) []string {
	var list []string
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		list = append(list, strings.ReplaceAll(noAnchor.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return list
}

// Both README files list every command in a line of its own.
func TestCommandTable(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(&cli{})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"../../README.md", "../../README.pt-BR.md"} {
		page := readFile(t, file)
		for _, n := range parser.Model.Leaves(true) {
			if row := "\n| `" + n.Path() + "` |"; !strings.Contains(page, row) {
				t.Errorf("%s doesn't list %s", file, n.Path())
			}
		}
	}
}

// documents are the pages that a reader is led through.
func documents(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return append(files, "../../README.md", "../../README.pt-BR.md")
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// An operator's page that has been changed in one language only misses a section,
// a row of a table or a command in the other.
func TestTranslations(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"operations", "roles", "supabase", "troubleshooting"} {
		english, portuguese := name+".md", name+".pt-BR.md"
		en, pt := readFile(t, "../../docs/"+english), readFile(t, "../../docs/"+portuguese)
		if diff := cmp.Diff(outline(en), outline(pt)); diff != "" {
			t.Errorf("%s and %s differ in their headings or tables (-en +pt):\n%s", english, portuguese, diff)
		}
		if !slices.Equal(examples(shBlocks(en)), examples(shBlocks(pt))) {
			t.Errorf("%s and %s show different commands", english, portuguese)
		}
		if !strings.Contains(en, "[Português]("+portuguese+")") || !strings.Contains(pt, "[English]("+english+")") {
			t.Errorf("%s and %s don't lead to each other", english, portuguese)
		}
	}
}

// outline is what two languages of a page have in common: the levels of its
// headings, and below each how many rows its tables have.
func outline(page string) []string {
	var list []string
	rows, code := 0, false
	end := func() {
		if rows > 0 {
			list = append(list, fmt.Sprintf("%d rows", rows))
		}
		rows = 0
	}
	for line := range strings.Lines(page) {
		switch mark, _, _ := strings.Cut(line, " "); {
		case strings.HasPrefix(line, "```"):
			code = !code
		case code:
		case mark == "|":
			rows++
		case mark != "" && strings.Trim(mark, "#") == "":
			end()
			list = append(list, mark)
		}
	}
	end()
	return list
}

var errorText = regexp.MustCompile("(?m)^\\| `([^`]+)`")

// The error texts that troubleshooting explains are those of the program: a text
// that has changed would not be found any more by the person who needs it.
func TestTroubleshooting(t *testing.T) {
	t.Parallel()
	source := programText(t)
	for _, file := range []string{"../../docs/troubleshooting.md", "../../docs/troubleshooting.pt-BR.md"} {
		texts := errorText.FindAllStringSubmatch(readFile(t, file), -1)
		if len(texts) < 30 {
			t.Errorf("%s explains %d error texts", file, len(texts))
		}
		for _, m := range texts {
			for _, part := range strings.Split(m[1], "…") {
				if part = strings.TrimSpace(part); !strings.Contains(source, part) {
					t.Errorf("%s explains %q, which the program doesn't say", file, part)
				}
			}
		}
	}
}

// programText is all source of the program, without its tests. What the operating
// system says is added.
func programText(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, errno := range []syscall.Errno{syscall.ECONNREFUSED, syscall.EADDRINUSE} {
		b.WriteString(errno.Error() + "\n")
	}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		b.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Who looks for a part of the program finds each package in architecture.md.
func TestArchitecture(t *testing.T) {
	t.Parallel()
	page := readFile(t, "../../docs/architecture.md")
	for _, p := range goList(t, "{{.ImportPath}}") {
		if name := strings.TrimPrefix(p[0], module+"/"); !strings.Contains(page, "\n| `"+name+"` |") {
			t.Errorf("architecture.md doesn't name %s", name)
		}
	}
}
