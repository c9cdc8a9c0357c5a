package main

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/walbridge/walbridge"

// ranks is the import order: a package imports only packages of lower ranks, so
// that nothing below knows what is above it. A directory stands for what is below
// it, unless that is named itself.
var ranks = [][]string{
	{"configs", "internal/cdc", "internal/fault", "internal/sbom"},
	{"internal/pg", "internal/pgtest"},
	{"internal/config", "internal/postgrest", "internal/status"},
	{"internal/status/web", "sink"},
	{"internal/request", "mapping", "sink/postgres", "sink/sinktest"},
	{"internal/held", "internal/supabase", "replicator/pgoutput"},
	{"replicator", "sink/rest"},
	{"internal/check", "internal/propose", "internal/survey", "internal/teardown", "internal/verify"},
	{"internal/demo", "internal/schema"},
	{"internal/bench"},
	{"cmd", "internal/bench/cmd", "internal/compose", "internal/django", "internal/oracle", "internal/sbom/cmd"},
}

// libraries are the modules that packages may import beside the standard
// library. A new one needs a reason.
var libraries = []string{
	"github.com/alecthomas/kong",
	"github.com/cenkalti/backoff/v5",
	"github.com/goccy/go-yaml",
	"github.com/google/uuid",
	"github.com/hashicorp/golang-lru/v2",
	"github.com/jackc/pglogrepl",
	"github.com/jackc/pgx/v5",
	"github.com/lmittmann/tint",
	"github.com/prometheus/client_golang",
	"golang.org/x/crypto/x509roots/fallback", // roots for an image without files
	"golang.org/x/sync",
	"golang.org/x/text", // the language that a browser asks for
	// In tests, and in sink/sinktest.
	"github.com/google/go-cmp",
	"github.com/rogpeppe/go-internal",
	"go.uber.org/goleak",
	"pgregory.net/rapid",
}

// TestImportOrder looks at what is built; what only tests import is held against
// the libraries alone, because a test may well use what is above its package.
func TestImportOrder(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, `{{.ImportPath}} {{join .Imports " "}}`) {
		name := strings.TrimPrefix(p[0], module+"/")
		rank, ok := rankOf(name)
		if !ok {
			t.Errorf("%s has no rank: give it one in imports_test.go", name)
			continue
		}
		for _, imported := range p[1:] {
			other, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			if r, ok := rankOf(other); ok && r >= rank {
				t.Errorf("%s imports %s, which is not of a lower rank", name, other)
			}
		}
	}
}

func TestLibraries(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, `{{.ImportPath}} {{join .Imports " "}} {{join .TestImports " "}} {{join .XTestImports " "}}`) {
		for _, imported := range p[1:] {
			first, _, _ := strings.Cut(imported, "/")
			if !strings.Contains(first, ".") || within(imported, module) || imported == "C" {
				continue
			}
			known := false
			for _, library := range libraries {
				known = known || within(imported, library)
			}
			if !known {
				t.Errorf("%s imports %s, which is not among the libraries", p[0], imported)
			}
		}
	}
}

// rankOf returns the rank of the longest directory that name is below.
func rankOf(name string) (rank int, ok bool) {
	longest := -1
	for r, dirs := range ranks {
		for _, dir := range dirs {
			if within(name, dir) && len(dir) > longest {
				rank, ok, longest = r, true, len(dir)
			}
		}
	}
	return rank, ok
}

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// goList returns the words of one line for each package of the module.
func goList(t *testing.T, format string) [][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", format, module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	var packages [][]string
	for line := range strings.Lines(string(out)) {
		packages = append(packages, strings.Fields(line))
	}
	if len(packages) < 10 {
		t.Fatalf("listed %d packages only", len(packages))
	}
	return packages
}
