package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// TestExamples_Postgres runs every command that a page or a help text shows, as it
// stands there and in its order: the lines of sh blocks and of indented examples
// that begin with walbridge, under the exports above them. Each text has two
// databases of its own, a source with NioChat's tables and an empty target. None
// is left out; what differs from the text is in placeholders, shorter and asks.
func TestExamples_Postgres(t *testing.T) {
	t.Parallel()
	texts := helpTexts(t)
	for _, file := range documents(t) {
		texts[filepath.Base(file)] = shBlocks(readFile(t, file))
	}
	found := 0
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		list := examples(texts[name])
		found += len(list)
		// A translation mostly shows what the original does.
		if same := fmt.Sprint(list); len(list) == 0 || seen[same] {
			continue
		} else {
			seen[same] = true
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &exampleBench{t: t, dir: t.TempDir()}
			b.install()
			if slices.ContainsFunc(list, func(e example) bool { return !bare.MatchString(e.command) }) {
				b.startCluster()
			}
			for _, e := range list {
				b.run(e)
			}
		})
	}
	// A way of reading them that finds fewer would go unnoticed.
	if found < 30 {
		t.Errorf("found %d examples", found)
	}
}

// placeholders are what examples say of a reader's own systems, and what stands
// for it here.
func (b *exampleBench) placeholders() []string {
	return []string{
		"postgres://niochat:…@localhost:5432/niochat", b.source,
		"postgres://walbridge:…@db:5432/niochat", b.source,
		"postgres://app:…@localhost:5432/app", b.source,
		"--tenant organization_id", "--tenant provedor_id",
		"postgres://postgres.<project>:…@<region>.pooler.supabase.com:5432/postgres", b.target,
		"postgres://postgres.<projeto>:…@<região>.pooler.supabase.com:5432/postgres", b.target,
		"postgres://postgres.ref:…@aws-0-sa-east-1.pooler.supabase.com:5432/postgres", b.target,
		"messages --tenant 7", "contacts --tenant 1", // of whom the source has rows
		"http://bridge.internal:8787", "http://" + b.listen,
		"/run/secrets/", b.dir + "/",
		"/etc/bash_completion.d/", b.dir + "/", "/usr/local/share/zsh/site-functions/", b.dir + "/", "~/.config/fish/completions/", b.dir + "/",
	}
}

// shorter is what would take longer than it teaches.
var shorter = []string{
	"demo --for 1m", "demo --for 2s",
}

var (
	// asks are commands that want a person's word, which --yes stands for.
	asks = regexp.MustCompile(`^walbridge (teardown|held drop|skip|forget)\b`)
	// alone are commands that run without a bridge; the others get one.
	alone = regexp.MustCompile(`^walbridge (run|check|init|schema|teardown|demo|completion|version)\b`)
	// bare are commands that need no databases.
	bare = regexp.MustCompile(`^walbridge (demo|completion|version)\b`)
	// finds are commands that find the held row of heldSeed, or that the log isn't
	// the one whose head they give, and say so by their exit code.
	finds = regexp.MustCompile(`^walbridge (held (list|retry --all)|verify .*--head .*)$`)
	// declined are commands that a bridge which is well has nothing to do for.
	declined = regexp.MustCompile(`^walbridge skip\b`)

	unknownPlaceholder = regexp.MustCompile(`…|<\p{L}+>|\bFILE\b`)
)

// heldSeed makes a contact without a tenant.
const heldSeed = `SET session_replication_role = replica;
INSERT INTO public.conversations_contact (id, name, phone, additional_attributes, created_at, updated_at)
VALUES (4711, 'nobody', '4711', '{}', now(), now())`

// example is a command, and the lines above it that set its environment.
type example struct{ exports, command string }

// examples reads them from lines of shell. Comments are left out.
func examples(text string) []example {
	var list []example
	var exports string
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		line, _, _ = strings.Cut(line, " #")
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "export "):
			exports += line + "\n"
		case strings.HasPrefix(line, "walbridge "), strings.HasPrefix(line, "bin/walbridge "):
			list = append(list, example{exports, line})
		}
	}
	return list
}

// shBlocks are the sh blocks of a page, which may be indented.
func shBlocks(page string) string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(page) {
		switch fence := strings.TrimSpace(line); {
		case fence == "```sh":
			inside = true
		case fence == "```":
			inside = false
		case inside:
			b.WriteString(line)
		}
	}
	return b.String()
}

// helpTexts are the indented lines of each command's help.
func helpTexts(t *testing.T) map[string]string {
	t.Helper()
	parser, err := kong.New(&cli{})
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		for line := range strings.Lines(n.Detail) {
			if strings.HasPrefix(line, "    ") {
				texts["walbridge "+n.Path()+" --help"] += line
			}
		}
		for _, child := range n.Children {
			visit(child)
		}
	}
	visit(parser.Model.Node)
	return texts
}

// exampleBench is where the examples of one text are run.
type exampleBench struct {
	t                           *testing.T
	dir, source, target, listen string
	// bridge is the one that runs meanwhile, nil without; ended gets how it ended.
	bridge *exec.Cmd
	ended  chan error
}

// install puts the program where "make build" does.
func (b *exampleBench) install() {
	b.t.Helper()
	path, err := exec.LookPath("walbridge")
	if err == nil {
		err = os.Symlink(filepath.Dir(path), filepath.Join(b.dir, "bin"))
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// startCluster makes the two databases. Slots and roles belong to a cluster, so
// each text has one.
func (b *exampleBench) startCluster() {
	b.t.Helper()
	cluster := pgtest.Start(b.t, pgtest.WithSetting("max_slot_wal_keep_size", "10GB"))
	b.source, b.target = pgtest.CreateDB(b.t, cluster, "niochat"), cluster.URL("postgres")
	pgtest.Exec(b.t, b.source, demo.SourceSchema, seed, heldSeed)
	pgtest.Exec(b.t, b.target, "CREATE ROLE anon; CREATE ROLE authenticated")
	var err error
	if b.listen, err = pgtest.FreeAddress(); err != nil {
		b.t.Fatal(err)
	}
	for name, url := range map[string]string{"source_admin": b.source, "target_admin": b.target} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(url+"\n"), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}

// run runs one example.
func (b *exampleBench) run(e example) {
	b.t.Helper()
	replace := strings.NewReplacer(slices.Concat(b.placeholders(), shorter)...)
	e.exports, e.command = replace.Replace(e.exports), replace.Replace(e.command)
	command, filter, piped := strings.Cut(e.command, " | ")
	name := strings.TrimPrefix(command, "bin/")
	if p := unknownPlaceholder.FindString(e.exports + command); p != "" {
		b.t.Fatalf("%s: nothing stands for %s", command, p)
	}
	if asks.MatchString(name) && !strings.Contains(command, "--yes") {
		command += " --yes"
	}
	if alone.MatchString(name) {
		b.stopBridge()
	} else if b.bridge == nil {
		b.startBridge(b.command("", "walbridge run"))
	}
	cmd := b.command(e.exports, command)
	switch {
	case strings.HasPrefix(name, "walbridge run") && !strings.Contains(name, "--once"):
		b.startBridge(cmd)
		b.stopBridge()
	case strings.Contains(name, "--watch"):
		b.watch(cmd)
	default:
		want := exitDone
		switch {
		case finds.MatchString(name):
			want = exitFound
		case declined.MatchString(name):
			want = exitFailed
		}
		out := b.exits(cmd, want)
		if piped {
			b.pipe(filter, out)
		}
	}
}

// command is a line of shell in the environment of somebody who has set nothing
// but where to listen, and the databases where no export does.
func (b *exampleBench) command(exports, line string) *exec.Cmd {
	cmd := exec.CommandContext(b.t.Context(), "sh", "-c", exports+"exec "+line)
	cmd.Dir = b.dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "WALBRIDGE_") || strings.HasPrefix(kv, "SUPABASE_") || strings.HasPrefix(kv, "DATABASE_URL")
	})
	cmd.Env = append(cmd.Env, "WALBRIDGE_LISTEN="+b.listen)
	if exports == "" {
		cmd.Env = append(cmd.Env, "WALBRIDGE_SOURCE_URL="+b.source, "WALBRIDGE_TARGET_URL="+b.target)
	}
	return cmd
}

// exits runs a command to its end and returns what it printed.
func (b *exampleBench) exits(cmd *exec.Cmd, want int) []byte {
	b.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatalf("%s: %v", cmd.Args[2], err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		b.t.Fatalf("%s\nexit code %d, want %d\n%s%s", cmd.Args[2], got, want, &stdout, &stderr)
	}
	if warning := "is no setting and has no effect"; strings.Contains(stdout.String()+stderr.String(), warning) {
		b.t.Errorf("%s\n%s%s", cmd.Args[2], &stdout, &stderr)
	}
	return stdout.Bytes()
}

// pipe gives what a command printed to the program that the example pipes it to,
// where that is installed.
func (b *exampleBench) pipe(filter string, in []byte) {
	b.t.Helper()
	program := strings.Fields(filter)[0]
	if _, err := exec.LookPath(program); err != nil {
		b.t.Logf("not piped to %s: %v", program, err)
		return
	}
	cmd := b.command("", filter)
	cmd.Stdin = bytes.NewReader(in)
	b.exits(cmd, exitDone)
}

// watch ends a command that goes on until Ctrl-C when it has shown something.
func (b *exampleBench) watch(cmd *exec.Cmd) {
	b.t.Helper()
	out, err := os.Create(filepath.Join(b.dir, "watched"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	seen := eventually(func() error {
		if info, err := out.Stat(); err != nil || info.Size() == 0 {
			return errors.Join(err, errors.New("it shows nothing"))
		}
		return nil
	})
	if err := errors.Join(seen, cmd.Process.Signal(os.Interrupt), cmd.Wait()); err != nil {
		b.t.Fatalf("%s: %v\n%s", cmd.Args[2], err, readFile(b.t, out.Name()))
	}
}

// startBridge returns when the bridge streams.
func (b *exampleBench) startBridge(cmd *exec.Cmd) {
	b.t.Helper()
	log, err := os.Create(filepath.Join(b.dir, "bridge.log"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	b.bridge, b.ended = cmd, ended
	err = eventually(func() error {
		if len(ended) > 0 {
			return nil // not worth waiting for any more
		}
		return ready(b.t, b.listen, "streaming")
	})
	if err != nil || len(ended) > 0 {
		_ = cmd.Process.Kill()
		b.t.Fatalf("%s: %v\n%s", cmd.Args[2], errors.Join(err, <-ended), readFile(b.t, log.Name()))
	}
}

// stopBridge ends the bridge, if there is one, as Ctrl-C does.
func (b *exampleBench) stopBridge() {
	b.t.Helper()
	if b.bridge == nil {
		return
	}
	if err := errors.Join(b.bridge.Process.Signal(os.Interrupt), <-b.ended); err != nil {
		b.t.Fatalf("%s: %v\n%s", b.bridge.Args[2], err, readFile(b.t, filepath.Join(b.dir, "bridge.log")))
	}
	b.bridge = nil
}
