package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// command runs walbridge to its end, and returns its exit code and what it printed.
func command(t *testing.T, env []string, args ...string) (code int, out string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "walbridge", args...)
	cmd.Env = append(os.Environ(), env...)
	b, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(b)
}

// Behind a pooler in transaction mode every transaction may have another session,
// and settings of a session are lost. The bridge and the commands work there all
// the same, a comparison beside the running bridge and a repair included.
func TestPooler_InTransactionMode(t *testing.T) {
	t.Parallel()
	source, target := pgtest.Start(t), pgtest.Start(t)
	p := &pair{t: t, source: source.URL("postgres"), target: target.URL("postgres")}
	pgtest.Exec(t, p.source, demo.SourceSchema, seed)
	pooler := pgtest.StartPooler(t, target, pgtest.Transaction)
	p.env = []string{"WALBRIDGE_SOURCE_URL=" + p.source, "WALBRIDGE_TARGET_URL=" + pooler.URL(p.target)}
	i := launch(t, p.env...)
	i.await("streaming")
	p.arrives("100")
	at := append(p.env, "WALBRIDGE_LISTEN="+i.listen)
	want := func(code int, says string, args ...string) {
		t.Helper()
		if got, out := command(t, at, args...); got != code || !strings.Contains(out, says) {
			t.Errorf("walbridge %s: exit code %d, want %d and %q:\n%s", strings.Join(args, " "), got, code, says, out)
		}
	}
	want(0, "", "verify")
	pgtest.Exec(t, p.target, "UPDATE contacts SET name = 'forged' WHERE id = 100")
	want(3, "", "verify")
	want(0, "1 row was wrong and has been mended", "verify", "--repair")
	want(0, "", "verify")
	pgtest.Exec(t, p.target, "DELETE FROM contacts WHERE id = 100")
	want(0, "", "resync", "--table", "contacts")
	want(0, "", "verify", "--audit")
	want(0, "", "held", "list")
	want(0, "streaming", "status")
	p.arrives("101")
}
