package compose

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
)

const composeFile = root + "/docker-compose.yml"

// One stack through all that befalls a stack, in turns. After each the target has
// to be what the source says.
func TestStack(t *testing.T) {
	s := newStack(t, "stack", composeFile, "testdata/ports.yml")
	// As somebody does who has nothing yet, but for Grafana, whose image can't be made
	// of Debian's packages. The images have been built before, so this takes them.
	if _, err := s.compose("up", "--detach", "--build", "source", "target", "app", "bridge", "prometheus"); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name string
		do   func(s *stack)
	}{
		{"FromNothing", fromNothing},
		{"DjangoWrites", djangoWrites},
		{"BridgeKilled", func(s *stack) { crashed(s, "bridge") }},
		{"SourceKilled", func(s *stack) { crashed(s, "source") }},
		{"TargetKilled", func(s *stack) { crashed(s, "target") }},
		{"ApplicationKilled", func(s *stack) { crashed(s, "app") }},
		{"SourceUnplugged", unplugged},
		{"TargetSilent", silent},
		{"Upgraded", upgraded},
		{"StandbyTakesOver", standbyTakesOver},
		{"Monitored", monitored},
	}
	for _, step := range steps {
		ok := t.Run(step.name, func(t *testing.T) {
			on := *s
			on.t = t
			step.do(&on)
			on.requireEqual()
		})
		if !ok {
			t.FailNow() // what comes after would fail for the same reason
		}
	}
}

// fromNothing: everything gets healthy, and the bridge has no more than it needs.
func fromNothing(s *stack) {
	s.waitHealthy("source", "target", "bridge")
	s.waitWork()
	c := s.one("bridge")
	for format, want := range map[string]string{
		"{{.HostConfig.ReadonlyRootfs}}": "true",
		"{{.HostConfig.CapDrop}}":        "[ALL]",
		"{{.HostConfig.CapAdd}}":         "[]",
		"{{.HostConfig.SecurityOpt}}":    "[no-new-privileges:true]",
		"{{.HostConfig.Privileged}}":     "false",
		"{{.Config.User}}":               "65532:65532",
	} {
		if got := s.inspect(c, format); got != want {
			s.t.Errorf("bridge: %s is %s, want %s", format, got, want)
		}
	}
	if size, err := strconv.Atoi(s.docker("image", "inspect", "--format", "{{.Size}}", s.bridge)); err != nil || size > 30<<20 {
		s.t.Errorf("the image has %d bytes (%v), want at most 30 MiB", size, err)
	}
	if out, err := docker.run(s.t.Context(), "exec", c, "sh", "-c", "true"); err == nil {
		s.t.Errorf("the image has a shell: %s", out)
	}
	for _, secret := range []string{"first", "second"} {
		if config := s.inspect(c, "{{json .Config}}"); strings.Contains(config, secret) {
			s.t.Errorf("a password is in the container's settings: %s", config)
		}
	}
	if out, want := s.docker("exec", c, "walbridge", "version"), "walbridge v1 (commit 0123456789ab, "+runtime.Version()+", "; !strings.HasPrefix(out, want) {
		s.t.Errorf("the program that the Dockerfile builds is %s, want %s…", out, want)
	}
	if out := s.docker("exec", c, "walbridge", "status"); !strings.Contains(out, "The bridge at http://127.0.0.1:8787 says:") {
		s.t.Errorf("walbridge status in the container says: %s", out)
	}
}

// djangoWrites: what the application saves is at the target, under its tenant.
func djangoWrites(s *stack) {
	const code = `
from conversations.models import Contact
from core.models import Provedor
p = Provedor.objects.order_by("id").first()
c = Contact.objects.create(name="Conceição d'Ávila", phone="+5500912345678", provedor=p)
c.name = "Conceição de Sá"
c.save()
print(c.id, p.id)`
	s.waitWork()
	out := s.docker("exec", s.one("app"), "python3", "manage.py", "shell", "--command", code)
	id, tenant, _ := strings.Cut(strings.TrimSpace(out), " ")
	pgtest.Eventually(s.t, "the contact at the target", bound, func() error {
		rows := pgtest.QueryText(s.t, s.target, `SELECT provedor_id, name FROM contacts WHERE id = $1::bigint`, id)
		if want := [][]string{{tenant, "Conceição de Sá"}}; !slices.EqualFunc(rows, want, slices.Equal) {
			return fmt.Errorf("rows are %q, want %q", rows, want)
		}
		return nil
	})
	entries := pgtest.QueryText(s.t, s.target, `SELECT action, provedor_id FROM audit_logs
		WHERE details->>'table' = 'conversations_contact' AND details->'key'->>'id' = $1 ORDER BY (details->>'n')::bigint`, id)
	if want := [][]string{{"contact.created", tenant}, {"contact.updated", tenant}}; !slices.EqualFunc(entries, want, slices.Equal) {
		s.t.Errorf("audit entries are %q, want %q", entries, want)
	}
}

// crashed: a process is killed, the restart policy brings it back, and all is well
// again without a person.
func crashed(s *stack, service string) {
	s.crash(s.one(service))
	s.waitHealthy("source", "target", "bridge")
	s.waitWork()
}

// unplugged: the bridge loses the source's network and gets it back. The application
// goes on meanwhile.
func unplugged(s *stack) {
	c := s.one("bridge")
	network := s.project + "_application"
	s.docker("network", "disconnect", network, c)
	s.waitTrouble(c)
	s.waitWork()
	s.docker("network", "connect", "--alias", "bridge", network, c)
	s.waitState(c, status.Streaming)
}

// silent: packets between bridge and target vanish, which no side is told.
func silent(s *stack) {
	c := s.one("bridge")
	pid, target := s.inspect(c, "{{.State.Pid}}"), s.address("target", "supabase")
	rule := func(action string) {
		for _, chain := range [][]string{{"INPUT", "--source"}, {"OUTPUT", "--destination"}} {
			out, err := exec.Command("nsenter", "--target", pid, "--net", "iptables", action, chain[0], chain[1], target, "--jump", "DROP").CombinedOutput()
			if err != nil {
				s.t.Fatalf("iptables %s: %v\n%s", action, err, out)
			}
		}
	}
	rule("--append")
	s.waitTrouble(c)
	s.waitWork()
	rule("--delete")
	s.waitState(c, status.Streaming)
}

// address is a service's in one of the stack's networks.
func (s *stack) address(service, network string) string {
	s.t.Helper()
	var networks map[string]struct{ IPAddress string }
	if err := json.Unmarshal([]byte(s.inspect(s.one(service), "{{json .NetworkSettings.Networks}}")), &networks); err != nil {
		s.t.Fatal(err)
	}
	return networks[s.project+"_"+network].IPAddress
}

// upgraded: the bridge's container is replaced by one of the next version.
func upgraded(s *stack) {
	old := s.one("bridge")
	before := s.inspect(old, "{{.Id}}")
	s.env = append(s.env, "WALBRIDGE_IMAGE="+s.next)
	s.up("--no-deps", "bridge")
	c := s.one("bridge")
	if c == before {
		s.t.Fatal("the container was not replaced")
	}
	s.waitState(c, status.Streaming)
	if n, err := s.ask(c); err != nil || n.Version != "v2" {
		s.t.Errorf("the bridge is of version %q (%v), want v2", n.Version, err)
	}
	s.waitHealthy("bridge")
	s.waitWork()
}

// standbyTakesOver: of two bridges one waits, healthy, and takes over when the
// first is killed and doesn't come back. The first then waits in its turn.
func standbyTakesOver(s *stack) {
	s.env = append(s.env, "WALBRIDGE_IMAGE="+s.next)
	s.up("--no-recreate", "--scale", "bridge=2")
	first, _, err := s.leader()
	if err != nil {
		s.t.Fatal(err)
	}
	both := s.service("bridge")
	second := both[0]
	if second == first {
		second = both[1]
	}
	s.waitState(second, status.Standby)
	s.waitHealthy("bridge")
	s.docker("kill", first)
	s.waitState(second, status.Streaming)
	s.waitWork()
	s.docker("start", first)
	s.waitState(first, status.Standby)
	if n, err := s.ask(second); err != nil || n.State != status.Streaming {
		s.t.Errorf("the second bridge is %s (%v) after the first has come back", n.State, err)
	}
	s.waitHealthy("bridge")
}

// waitTrouble waits until a bridge has noticed that it can't work.
func (s *stack) waitTrouble(container string) {
	s.t.Helper()
	s.waitState(container, status.Retrying)
	s.waitUnhealthy(container)
}

// waitUnhealthy waits until Docker says so, too.
func (s *stack) waitUnhealthy(container string) {
	s.t.Helper()
	pgtest.Eventually(s.t, "the container to be unhealthy", bound, func() bool { return s.health(container) != nil })
}
