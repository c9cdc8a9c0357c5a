package config_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/config"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

// The reference is made from the tags of Config. After a change of them:
//
//	go test ./internal/config -run Reference -update
func TestReference(t *testing.T) {
	t.Parallel()
	const file = "../../docs/configuration.md"
	want := reference()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is out of date, run: go test ./internal/config -run Reference -update\n(-want +got):\n%s", file, diff)
	}
}

const introduction = `# Configuration

<!-- Made from internal/config/config.go: go test ./internal/config -run Reference -update -->

Only the two URLs have to be set. A setting is looked for in this order:

1. the command line's flags, where a command has one for it (` + "`--name`, `--listen`, `--prepare`," + `
   ` + "`--log-level`, `--log-format`" + `);
2. the environment, by the setting's own name and then by the names beside it;
3. the file that ` + "`--config` or `WALBRIDGE_CONFIG`" + ` names;
4. the default.

An environment variable that is set to nothing counts as not set; one that begins with ` + "`WALBRIDGE_`" + `
and is no setting is warned about. Secrets can stand in files: for each of their names there is one with
` + "`_FILE`" + ` at its end that takes a path, and the last line break of that file is left out. A secret and
its file at once are an error. Secrets appear in no log, no error and no metric.

The file is YAML. Unknown keys and values that make no sense are errors with their line, and nothing
starts. The sections ` + "`tables`, `audit_log` and `dashboard`" + ` of the same file are the mapping, see
[mapping.md](mapping.md); without ` + "`tables`" + ` the mapping is that of NioChat.

` + "```yaml" + `
name: niochat
source:
  heartbeat: 30s
audit:
  values: all
` + "```" + `

Durations have units (` + "`500ms`, `10s`, `1m30s`" + `), sizes may have them (` + "`8192`, `64KiB`, `4MiB`, `100MB`" + `).
`

func reference() string {
	var b strings.Builder
	b.WriteString(introduction)
	// Settings without a section first, then section by section.
	b.WriteString("\n## Top level\n")
	for _, s := range config.Settings() {
		if !strings.Contains(s.Key, ".") {
			entry(&b, s)
		}
	}
	section := ""
	for _, s := range config.Settings() {
		name, _, ok := strings.Cut(s.Key, ".")
		if !ok {
			continue
		}
		if name != section {
			section = name
			fmt.Fprintf(&b, "\n## %s\n", section)
		}
		entry(&b, s)
	}
	return b.String()
}

func entry(b *strings.Builder, s config.Setting) {
	fmt.Fprintf(b, "\n### `%s`\n\n%s\n\n", s.Key, s.Help)
	names := "`" + s.Env + "`"
	for _, name := range s.More {
		names += ", `" + name + "`"
	}
	if s.Secret {
		names += ", each also with `_FILE`"
	}
	fmt.Fprintf(b, "- Environment: %s\n", names)
	if len(s.OneOf) > 0 {
		fmt.Fprintf(b, "- Values: `%s`\n", strings.Join(s.OneOf, "`, `"))
	}
	if s.Min != "" {
		fmt.Fprintf(b, "- At least: `%s`\n", s.Min)
	}
	if d := s.Default(); d != "" {
		fmt.Fprintf(b, "- Default: `%s`\n", d)
	} else {
		b.WriteString("- Default: none\n")
	}
}
