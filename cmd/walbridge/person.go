package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/walbridge/walbridge/internal/fault"
)

// reachable refuses to go on where a command has to ask and nobody can answer.
// withYes is the command as a script writes it.
func reachable(a *app, yes bool, withYes string) error {
	if yes || isTerminal(a.stdin) {
		return nil
	}
	return fault.Errorf(fault.Config, withYes, "nobody can be asked here: give --yes")
}

// agree asks a question and returns an error unless the answer is yes. undone is
// what didn't happen then, as "nothing was dropped".
func agree(ctx context.Context, a *app, question, undone string) error {
	switch strings.ToLower(answer(ctx, a, question+" [y/N] ")) {
	case "y", "yes":
		return nil
	}
	return errors.New("not confirmed: " + undone)
}

// answer returns the line that a person types, "" when ctx ends before: the
// terminal is read aside, so that Ctrl-C is heard while it waits.
func answer(ctx context.Context, a *app, prompt string) string {
	_, _ = fmt.Fprint(a.stderr, prompt)
	typed := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(io.LimitReader(a.stdin, 1024)).ReadString('\n')
		typed <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		_, _ = fmt.Fprintln(a.stderr)
		return ""
	case line := <-typed:
		return line
	}
}
