package main

import (
	"embed"
	"fmt"
	"io"
	"strings"
	"text/template"

	"github.com/alecthomas/kong"
)

//go:embed completion/*.tmpl
var completionFiles embed.FS

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"The shell: bash, zsh or fish."`
}

// Help implements kong.HelpProvider.
func (*completionCmd) Help() string {
	return `The Debian package brings what this prints. Examples without it:

    walbridge completion bash > /etc/bash_completion.d/walbridge
    walbridge completion zsh > /usr/local/share/zsh/site-functions/_walbridge
    walbridge completion fish > ~/.config/fish/completions/walbridge.fish`
}

// Run prints the script.
func (c *completionCmd) Run(a *app, k *kong.Kong) error {
	return writeCompletion(a.stdout, c.Shell, k.Model.Node)
}

// place is a point of the command line: the program, or one of its commands.
type place struct {
	// Path are the words of the command with spaces between; empty for the program.
	Path     string
	Commands []candidate
	// Arguments are what an argument without a flag may be.
	Arguments []string
	Flags     []flagCandidate
}

type candidate struct{ Name, Help string }

type flagCandidate struct {
	candidate        // the name without its hyphens
	Short     string // one letter, or empty
	Value     bool   // takes a value
	File      bool   // whose value is a file
	Choices   []string
}

// Words are the flag as it is typed.
func (f flagCandidate) Words() []string {
	words := []string{"--" + f.Name}
	if f.Short != "" {
		words = append(words, "-"+f.Short)
	}
	return words
}

// writeCompletion writes a shell's script for the commands below root. All that it
// knows of them is what they are parsed by.
func writeCompletion(w io.Writer, shell string, root *kong.Node) error {
	t, err := template.New(shell+".tmpl").Funcs(template.FuncMap{"join": strings.Join, "quote": quoteShell}).
		ParseFS(completionFiles, "completion/"+shell+".tmpl")
	if err != nil {
		return fmt.Errorf("read completion for %s: %w", shell, err)
	}
	return t.Execute(w, places(root))
}

// places lists n and every command below it that help shows.
func places(n *kong.Node) []place {
	p := place{Path: n.Path()}
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			c := flagCandidate{candidate: candidate{f.Name, f.Help}, Value: !f.IsBool(), File: f.PlaceHolder == "FILE"}
			if f.Short != 0 {
				c.Short = string(f.Short)
			}
			if strings.Contains(f.PlaceHolder, "|") {
				c.Choices = strings.Split(f.PlaceHolder, "|")
			}
			p.Flags = append(p.Flags, c)
		}
	}
	for _, v := range n.Positional {
		p.Arguments = append(p.Arguments, v.EnumSlice()...)
	}
	var below []place
	for _, child := range n.Children {
		if !child.Hidden {
			p.Commands = append(p.Commands, candidate{child.Name, child.Help})
			below = append(below, places(child)...)
		}
	}
	return append([]place{p}, below...)
}

// quoteShell makes text one word of a shell: within single quotes only the quote
// itself ends them, in bash and zsh; fish takes the same for a quote outside.
func quoteShell(text string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(text, `\`, ""), "'", `'\''`) + "'"
}
