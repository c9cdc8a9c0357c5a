package compose

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// bound is how long anything in a stack may take before it hangs: a container's
// start on a busy machine among it.
const bound = 3 * time.Minute

// stack is one compose project.
type stack struct {
	t       *testing.T
	project string
	files   []string
	env     []string
	// source and target are the URLs of both databases for this process.
	source, target string
	// secrets is the directory with the passwords that the stack is given.
	secrets string
	images
}

// newStack prepares a project of files, the first of which is the one that paths
// are relative to. Nothing runs yet. With the test ends all of it.
func newStack(t *testing.T, name string, files ...string) *stack {
	t.Helper()
	s := &stack{t: t, images: requireImages(t), project: fmt.Sprintf("walbridge-test-%d-%s", os.Getpid(), name), secrets: t.TempDir()}
	for _, file := range files {
		path, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		s.files = append(s.files, path)
	}
	ports := freePorts(t, 5)
	s.source = "postgres://niochat:first@127.0.0.1:" + ports[0] + "/niochat"
	s.target = "postgres://postgres:second@127.0.0.1:" + ports[1] + "/postgres"
	// Everybody may pass: the containers' users are others than this one.
	for dir := s.secrets; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"source_password": "first", "source_url": "postgres://niochat:first@source:5432/niochat",
		"target_password": "second", "target_url": "postgres://postgres:second@target:5432/postgres", "grafana_password": "third",
	} {
		s.secret(name, text, 0o644)
	}
	s.env = []string{
		"SOURCE_IMAGE=" + s.postgres, "TARGET_IMAGE=" + s.postgres, "APP_IMAGE=" + s.app, "WALBRIDGE_IMAGE=" + s.bridge,
		"PROMETHEUS_IMAGE=" + s.prometheus, "GO_IMAGE=" + s.golang, "PYTHON_IMAGE=" + s.debian, "VERSION=v1", "COMMIT=0123456789ab",
		"SOURCE_PORT=" + ports[0], "TARGET_PORT=" + ports[1], "PROMETHEUS_PORT=" + ports[2],
		"WALBRIDGE_PORTS=" + ports[3] + "-" + ports[4], "WALBRIDGE_SECRETS=" + s.secrets, "APP_RATE=20",
	}
	t.Cleanup(s.down)
	return s
}

// with is the same project, of one more file.
func (s *stack) with(file string) *stack {
	s.t.Helper()
	path, err := filepath.Abs(file)
	if err != nil {
		s.t.Fatal(err)
	}
	more := *s
	more.files = append(slices.Clip(s.files), path)
	return &more
}

// secret writes one of the files that the stack mounts.
func (s *stack) secret(name, text string, mode os.FileMode) string {
	s.t.Helper()
	path := filepath.Join(s.secrets, name)
	if err := os.WriteFile(path, []byte(text+"\n"), mode); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// freePorts finds ports of the loopback address; the last two follow each other,
// as a range must.
func freePorts(t *testing.T, n int) (ports []string) {
	t.Helper()
	for range 100 {
		addr, err := pgtest.FreeAddress()
		if err != nil {
			t.Fatal(err)
		}
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(ports, port) {
			continue
		}
		if ports = append(ports, port); len(ports) < n {
			continue
		}
		next, _ := strconv.Atoi(ports[n-2])
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(next+1)))
		if err == nil {
			_ = l.Close()
			ports[n-1] = strconv.Itoa(next + 1)
			return ports
		}
		ports = ports[:n-2]
	}
	t.Fatal("no two free ports in a row")
	return nil
}

// compose runs Compose on the stack's files: version 2 where the plugin is, else
// version 1. TEST_COMPOSE_COMMAND chooses.
func (s *stack) compose(args ...string) (string, error) {
	name, first := "docker-compose", []string(nil)
	if chosen := strings.Fields(os.Getenv("TEST_COMPOSE_COMMAND")); len(chosen) > 0 {
		name, first = chosen[0], chosen[1:]
	} else if exec.Command("docker", "compose", "version").Run() == nil {
		name, first = "docker", []string{"compose"}
	}
	first = append(slices.Clip(first), "--project-name", s.project, "--project-directory", filepath.Dir(s.files[0]))
	for _, file := range s.files {
		first = append(first, "--file", file)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*bound)
	defer cancel()
	return docker.command(ctx, s.env, "", name, append(first, args...)...)
}

// up starts services, all of them if none is named, and waits for nothing.
func (s *stack) up(args ...string) {
	s.t.Helper()
	if _, err := s.compose(append([]string{"up", "--detach", "--no-build"}, args...)...); err != nil {
		s.t.Fatal(err)
	}
}

// down takes the project away. What it has logged is shown if the test failed, and
// whatever is left of it is a failure.
func (s *stack) down() {
	if s.t.Failed() {
		for _, c := range s.all() {
			out, err := docker.command(context.Background(), nil, "", "sh", "-c", "docker logs --tail 40 "+c+" 2>&1")
			s.t.Logf("%s %v\n%s", s.inspect(c, "{{.Name}} {{.State.Status}} {{.State.ExitCode}}"), err, out)
		}
	}
	if _, err := s.compose("--profile", "monitoring", "down", "--volumes", "--timeout", "10"); err != nil {
		s.t.Error(err)
	}
	for _, kind := range []string{"container", "network", "volume"} {
		args := []string{kind, "ls", "--quiet", "--filter", "label=com.docker.compose.project=" + s.project}
		if kind == "container" {
			args = append(args, "--all")
		}
		if left, err := docker.run(context.Background(), args...); err != nil || left != "" {
			s.t.Errorf("docker-compose down has left %ss: %s (%v)", kind, left, err)
		}
	}
}

// docker runs docker for the test and returns what it prints.
func (s *stack) docker(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	out, err := docker.run(ctx, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// all are the ids of the project's containers.
func (s *stack) all(filters ...string) []string {
	args := []string{"container", "ls", "--all", "--quiet", "--no-trunc", "--filter", "label=com.docker.compose.project=" + s.project}
	for _, f := range filters {
		args = append(args, "--filter", f)
	}
	out, err := docker.run(context.Background(), args...)
	if err != nil {
		s.t.Error(err)
	}
	return strings.Fields(out)
}

// service are the containers of a service.
func (s *stack) service(name string) []string {
	return s.all("label=com.docker.compose.service=" + name)
}

// one is the only container of a service.
func (s *stack) one(service string) string {
	s.t.Helper()
	list := s.service(service)
	if len(list) != 1 {
		s.t.Fatalf("service %s has %d containers, want 1", service, len(list))
	}
	return list[0]
}

func (s *stack) inspect(container, format string) string {
	s.t.Helper()
	return s.docker("inspect", "--format", format, container)
}

// health is what Docker says of a container: healthy, or else why not.
func (s *stack) health(container string) error {
	var state struct {
		Status   string
		ExitCode int
		Health   *struct {
			Status string
			Log    []struct{ Output string }
		}
	}
	if err := json.Unmarshal([]byte(s.inspect(container, "{{json .State}}")), &state); err != nil {
		return err
	}
	switch {
	case state.Status != "running":
		return fmt.Errorf("container is %s, exit code %d", state.Status, state.ExitCode)
	case state.Health == nil || state.Health.Status == "healthy":
		return nil
	}
	last := ""
	if n := len(state.Health.Log); n > 0 {
		last = state.Health.Log[n-1].Output
	}
	return fmt.Errorf("container is %s: %s", state.Health.Status, last)
}

// waitHealthy waits until Docker calls every container of the services healthy.
func (s *stack) waitHealthy(services ...string) {
	s.t.Helper()
	for _, service := range services {
		pgtest.Eventually(s.t, service+" to be healthy", bound, func() error {
			for _, c := range s.service(service) {
				if err := s.health(c); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// crash kills a container's first process, as a fault of its own would, and waits
// until the restart policy has started another.
func (s *stack) crash(container string) {
	s.t.Helper()
	pid, err := strconv.Atoi(s.inspect(container, "{{.State.Pid}}"))
	if err != nil || pid <= 1 {
		s.t.Fatalf("container %s has no process: %d %v", container, pid, err)
	}
	before := s.inspect(container, "{{.RestartCount}}")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	pgtest.Eventually(s.t, "the container's restart", bound, func() bool {
		return s.inspect(container, "{{.RestartCount}} {{.State.Running}}") != before+" true" && s.inspect(container, "{{.State.Running}}") == "true"
	})
}
