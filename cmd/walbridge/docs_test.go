package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/mapping"
)

var (
	yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")
	link      = regexp.MustCompile(`\]\(([^)#:]+)\)`)
)

// What the documentation shows must work: its YAML is read as configuration and
// mapping, and its links lead to files.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, "../../README.md", "../../README.pt-BR.md", "../../CHANGELOG.md")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range yamlBlock.FindAllStringSubmatch(string(data), -1) {
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
			for _, m := range link.FindAllStringSubmatch(string(data), -1) {
				if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
					t.Errorf("link leads nowhere: %v", err)
				}
			}
		})
	}
}
