package sbom_test

import (
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/sbom"
)

// The program is the command itself, which is made of modules, too.
func TestOf(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "sbom")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	license := func(m debug.Module) string {
		if strings.Contains(m.Path, "uuid") {
			return "BSD-3-Clause"
		}
		return ""
	}
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	d, err := sbom.Of(program, "v1.2-3+dirty", made, license)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"bomFormat":"CycloneDX","specVersion":"1.5"`) {
		t.Errorf("it begins with %.80s", text)
	}
	if d.Metadata.Timestamp != "2026-01-02T02:04:05Z" {
		t.Errorf("made at %s", d.Metadata.Timestamp)
	}
	want := "pkg:golang/github.com/walbridge/walbridge@v1.2-3%2Bdirty"
	if got := d.Metadata.Component; !strings.HasPrefix(got.PURL, want) || len(got.Hashes) != 1 ||
		!strings.Contains(got.PURL, "goarch="+runtime.GOARCH) || got.Type != "application" {
		t.Errorf("the program is %+v, want %s", got, want)
	}
	refs := map[string]sbom.Component{}
	for _, c := range d.Components {
		if _, twice := refs[c.Ref]; twice {
			t.Errorf("%s is there twice", c.Ref)
		}
		refs[c.Ref] = c
		if c.Name != "std" && (len(c.Hashes) != 1 || !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(c.Hashes[0].Content)) {
			t.Errorf("%s has the hashes %v", c.Ref, c.Hashes)
		}
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Deps {
		if _, ok := refs["pkg:golang/"+strings.ToLower(m.Path)+"@"+m.Version]; !ok {
			t.Errorf("it lacks %s %s", m.Path, m.Version)
		}
		if strings.Contains(m.Path, "uuid") && len(refs["pkg:golang/"+m.Path+"@"+m.Version].Licenses) != 1 {
			t.Errorf("%s has no license", m.Path)
		}
	}
	if _, ok := refs["pkg:golang/std@"+strings.TrimPrefix(runtime.Version(), "go")]; !ok || len(info.Deps) < 1 {
		t.Errorf("it has %d modules, and the standard library: %t", len(info.Deps), ok)
	}
	if got := d.Dependencies; len(got) != len(d.Components)+1 || len(got[0].Depends) != len(d.Components) {
		t.Errorf("%d dependencies of %d components", len(got), len(d.Components))
	}
	again, err := sbom.Of(program, "v1.2-3+dirty", made, license)
	if diff := cmp.Diff(d, again); err != nil || diff != "" {
		t.Errorf("the second differs (%v): %s", err, diff)
	}
	if _, err := sbom.Of("sbom_test.go", "v1", made, license); err == nil {
		t.Error("a text is taken for a program")
	}
}

func TestLicenseOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"MIT License\n\nPermission is hereby\ngranted, free of charge, to any person obtaining a copy of":       "MIT",
		"Redistribution and use in source and binary forms, with or without":                                    "BSD-2-Clause",
		"Redistribution and use in\nsource and binary forms … to endorse or promote products derived":           "BSD-3-Clause",
		"                                 Apache License\n                           Version 2.0, January 2004": "Apache-2.0",
		"All rights reserved.": "",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "LICENSE.md"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := sbom.LicenseOf(dir); got != want {
			t.Errorf("%.40q is %q, want %q", text, got, want)
		}
	}
	if got := sbom.LicenseOf(t.TempDir()); got != "" {
		t.Errorf("no license is %q", got)
	}
}
