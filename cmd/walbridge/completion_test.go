package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/walbridge/walbridge/internal/config"
)

// completionScript writes a shell's script into a file, and skips without the shell.
func completionScript(t *testing.T, shell string) string {
	t.Helper()
	if _, err := exec.LookPath(shell); err != nil {
		t.Skipf("no %s here: apt-get install %[1]s", shell)
	}
	parser, err := kong.New(&cli{}, kong.Name("walbridge"))
	if err != nil {
		t.Fatal(err)
	}
	var script bytes.Buffer
	if err := writeCompletion(&script, shell, parser.Model.Node); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "walbridge")
	if err := os.WriteFile(path, script.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// shellOutput runs a shell and returns the words of its output; a word on stderr
// is an error.
func shellOutput(t *testing.T, shell string, args ...string) []string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), shell, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), &stdout, &stderr
	cmd.Env = append(os.Environ(), "HOME="+cmd.Dir)
	if err := os.WriteFile(filepath.Join(cmd.Dir, "my settings.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Fatalf("%s: %v: %s", shell, err, stderr.String())
	}
	return strings.Split(strings.TrimSpace(stdout.String()), "\n")
}

func TestCompletion_Bash(t *testing.T) {
	t.Parallel()
	script := completionScript(t, "bash")
	for _, tt := range []struct {
		typed []string // the last is being typed
		want  []string
	}{
		{[]string{"ver"}, []string{"verify", "version"}},
		{[]string{"held", "re"}, []string{"retry"}},
		{[]string{"run", "--on"}, []string{"--once"}},
		{[]string{"held", "drop", "--re"}, []string{"--reason"}},
		{[]string{"--log", "-"}, []string{"--help", "--config", "--log-level", "--log-format"}},
		{[]string{"-c", "held", "res"}, []string{"resync"}}, // a value is no command
		{[]string{"--config", "=", "held", "res"}, []string{"resync"}},
		{[]string{"run", "--prepare", "m"}, []string{"manual"}},
		{[]string{"run", "--prepare", "=", "m"}, []string{"manual"}},
		{[]string{"run", "--prepare", "="}, []string{"auto", "manual"}},
		{[]string{"run", "-c", "my"}, []string{"my settings.yaml"}},
		{[]string{"run", "--name", ""}, []string{""}},
		{[]string{"completion", ""}, []string{"bash", "zsh", "fish"}},
		{[]string{"ma"}, []string{""}}, // hidden
	} {
		args := append([]string{"--norc", "-c", `
			source "$1"; shift; complete -p walbridge | grep -q -- '-F _walbridge ' || exit 9
			COMP_WORDS=(walbridge "$@") COMP_CWORD=$#; _walbridge; printf '%s\n' "${COMPREPLY[@]}"`, "bash", script}, tt.typed...)
		if got := shellOutput(t, "bash", args...); !slices.Equal(got, tt.want) {
			t.Errorf("%q completes to %q, want %q", tt.typed, got, tt.want)
		}
	}
}

func TestCompletion_Fish(t *testing.T) {
	t.Parallel()
	script := completionScript(t, "fish")
	for typed, want := range map[string]string{"ver": "verify version", "held re": "retry", "run --on": "--once", "-c held res": "resync", "run --prepare m": "manual"} {
		var got []string
		for _, line := range shellOutput(t, "fish", "--no-config", "-c", `source $argv[1]; complete -C "walbridge $argv[2]"`, script, typed) {
			word, _, _ := strings.Cut(line, "\t")
			got = append(got, word)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q completes to %q, want %q", typed, got, want)
		}
	}
}

func TestCompletion_Zsh(t *testing.T) {
	t.Parallel()
	shellOutput(t, "zsh", "-n", completionScript(t, "zsh"))
}

// The manual page is read without a warning, and has every command, flag and variable.
func TestManual(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(&cli{}, kong.Name("walbridge"))
	if err != nil {
		t.Fatal(err)
	}
	var m manual
	m.page(parser.Model, "v1")
	plain := strings.NewReplacer(`\-`, "-", `\(dq`, `"`).Replace(m.String())
	for _, n := range parser.Model.Leaves(true) {
		if !strings.Contains(plain, "\n.SS \""+n.Path()) {
			t.Errorf("no command %s", n.Path())
		}
		for _, group := range n.AllFlags(true) {
			for _, f := range group {
				if !strings.Contains(plain, "--"+f.Name) {
					t.Errorf("no flag --%s", f.Name)
				}
			}
		}
	}
	for _, s := range config.Settings() {
		if !strings.Contains(plain, "\n.B \""+s.Env+`"`) {
			t.Errorf("no variable %s", s.Env)
		}
	}
	if _, err := exec.LookPath("groff"); err != nil {
		t.Skip("no groff here to render the page: apt-get install groff-base")
	}
	path := filepath.Join(t.TempDir(), "walbridge.1")
	if err := os.WriteFile(path, []byte(m.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	// Names of variables and URLs can't be broken; that a line of them is long is no fault.
	shellOutput(t, "groff", "-man", "-ww", "-Wbreak", "-Tutf8", path)
}
