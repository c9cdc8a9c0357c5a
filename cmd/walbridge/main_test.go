package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts run the real main: testscript starts this test binary again under
// the command's name.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"walbridge": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	// A port that is in use for as long as the scripts run.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PORT_IN_USE", l.Addr().String())
			env.Setenv("NO_BRIDGE", other.Listener.Addr().String())
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits runs a command and holds its exit code against the first argument, which
// "exec" can't. stdout and stderr look at what it printed, as after "exec".
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("run %s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// finding looks for a finding in what check --json printed.
func finding(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: finding PART CHECK SEVERITY")
	}
	var report struct {
		Findings []struct{ Part, Check, Severity, What string }
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &report))
	found := false
	for _, f := range report.Findings {
		found = found || f.Part == args[0] && f.Check == args[1] && f.Severity == args[2] && f.What != ""
	}
	if found == neg {
		ts.Fatalf("finding %v: %v", args, found)
	}
}

// jsonField holds a field of the JSON object that a command has printed against
// its value as text.
func jsonField(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: json FIELD VALUE")
	}
	var object map[string]json.RawMessage
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &object))
	value, ok := object[args[0]]
	if got := strings.Trim(string(value), `"`); !ok || got != args[1] {
		ts.Fatalf("%s is %q, want %q", args[0], got, args[1])
	}
}
