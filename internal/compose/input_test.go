package compose

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// requireText holds an error against what a person has to find in it.
func requireText(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	// Compose breaks lines and quotes as its version likes.
	text := strings.Join(strings.Fields(err.Error()), " ")
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("error is %v\nwant one with %q", err, part)
		}
	}
}

// A port of the status page that is in use is named before the bridge starts.
func TestStack_PortInUse(t *testing.T) {
	s := newStack(t, "port", composeFile)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	s.env = append(s.env, "WALBRIDGE_PORTS="+port)
	_, err = s.compose("up", "--detach", "--no-build", "--no-deps", "bridge")
	requireText(t, err, port, "address already in use")
}

// What a container of the bridge is given wrongly ends it with exit code 2, before
// anything is connected, and with what mends it in its log.
func TestContainer_BadInput(t *testing.T) {
	n := requireImages(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(dir, "closed")
	if err := os.WriteFile(closed, []byte("postgres://niochat:hunter2@source:5432/niochat"), 0o600); err != nil {
		t.Fatal(err)
	}
	urls := []string{"--env", "WALBRIDGE_SOURCE_URL=postgres://a:hunter2@source/a", "--env", "WALBRIDGE_TARGET_URL=postgres://a:hunter2@target/a"}
	for _, tt := range []struct {
		name  string
		flags []string
		want  []string
	}{
		{"NoURL", nil, []string{"no source: set WALBRIDGE_SOURCE_URL", "hint: export WALBRIDGE_SOURCE_URL="}},
		{"Exposed", append(urls, "--env", "WALBRIDGE_LISTEN=0.0.0.0:8787"),
			[]string{"listen is 0.0.0.0:8787, where others than this machine see the status", "hint: set WALBRIDGE_EXPOSE=true"}},
		{"UnreadableSecret", []string{"--volume", closed + ":/run/secrets/source_url:ro", "--env", "WALBRIDGE_SOURCE_URL_FILE=/run/secrets/source_url"},
			[]string{"open /run/secrets/source_url: permission denied", "user 65532, as whom the bridge runs, must be able to read it (chown 65532, or chmod o+r)"}},
		{"MissingSecret", []string{"--volume", dir + "/nowhere:/run/secrets/source_url:ro", "--env", "WALBRIDGE_SOURCE_URL_FILE=/run/secrets/source_url"},
			[]string{"read /run/secrets/source_url: is a directory", "remove it there and write the file"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"run", "--detach", "--network", "none", "--read-only", "--cap-drop", "ALL"}, tt.flags...)
			ctx := context.Background()
			id, err := docker.run(ctx, append(args, n.bridge)...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if _, err := docker.run(ctx, "rm", "--force", id); err != nil {
					t.Error(err)
				}
			})
			var code string
			pgtest.Eventually(t, "the container's end", bound, func() error {
				code, err = docker.run(ctx, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", id)
				if err == nil && !strings.HasPrefix(code, "exited") {
					err = errors.New("it is " + code)
				}
				return err
			})
			log, err := docker.command(ctx, nil, "", "sh", "-c", "docker logs "+id+" 2>&1")
			if err != nil {
				t.Fatal(err)
			}
			if code != "exited 2" || strings.Contains(log, "hunter2") {
				t.Errorf("container %s, want exit code 2 and no password:\n%s", code, log)
			}
			for _, part := range tt.want {
				if !strings.Contains(log, part) {
					t.Errorf("the log lacks %q:\n%s", part, log)
				}
			}
		})
	}
}
