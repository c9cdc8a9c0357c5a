package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version and commit are set by the Makefile (-ldflags -X). Without them the
// build information of the Go toolchain is used, as for "go install".
var version, commit string

type versionCmd struct {
	JSON bool `help:"Print JSON." name:"json"`
}

// Help implements kong.HelpProvider.
func (*versionCmd) Help() string {
	return `Example:

    walbridge version --json`
}

// Run prints the version.
func (c *versionCmd) Run(a *app) error {
	v := struct {
		Version  string `json:"version"`
		Commit   string `json:"commit"`
		Go       string `json:"go"`
		Platform string `json:"platform"`
	}{Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	v.Version, v.Commit = versions()
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(v)
	}
	_, err := fmt.Fprintf(a.stdout, "walbridge %s (commit %s, %s, %s)\n", v.Version, v.Commit, v.Go, v.Platform)
	return err
}

// versions returns version and commit, "unknown" where nothing says them.
func versions() (v, c string) {
	v, c = version, commit
	if info, ok := debug.ReadBuildInfo(); ok {
		if v == "" {
			v = info.Main.Version
		}
		for _, s := range info.Settings {
			if c == "" && s.Key == "vcs.revision" {
				c = s.Value[:min(12, len(s.Value))]
			}
		}
	}
	if v == "" {
		v = "unknown"
	}
	if c == "" {
		c = "unknown"
	}
	return v, c
}
