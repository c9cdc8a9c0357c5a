package web_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/status/web"
)

const alerts = "../../../configs/alerts.yml"

// An alert on a metric that isn't there never fires, and nobody notices.
func TestAlerts_Metrics(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile(alerts)
	if err != nil {
		t.Fatal(err)
	}
	body := get(t, web.Handler(fullState()), "GET", "/metrics").Body.String()
	names := regexp.MustCompile(`walbridge_[a-z_]+`).FindAllString(string(rules), -1)
	if len(names) < 8 {
		t.Fatalf("found %d metrics in %s", len(names), alerts)
	}
	for _, name := range names {
		if !strings.Contains(body, "# TYPE "+name+" ") {
			t.Errorf("%s uses %s, which is no metric", alerts, name)
		}
	}
	for _, state := range regexp.MustCompile(`state=~?"([a-z|]+)"`).FindAllStringSubmatch(string(rules), -1) {
		for _, name := range strings.Split(state[1], "|") {
			if !strings.Contains(body, `walbridge_state{state="`+name+`"}`) {
				t.Errorf("%s asks for the state %s, which is none", alerts, name)
			}
		}
	}
}

// Each alert fires when it should and not when all is well, by Prometheus' own
// tests of rules; and the metrics follow its conventions.
func TestAlerts_Promtool(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("needs promtool, of Debian's package prometheus")
	}
	run := func(stdin string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Stdin = strings.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run("", "check", "rules", alerts)
	run("", "test", "rules", "testdata/alerts_test.yml")
	var ours strings.Builder
	for line := range strings.Lines(get(t, web.Handler(fullState()), "GET", "/metrics").Body.String()) {
		if strings.Contains(line, "walbridge_") {
			ours.WriteString(line)
		}
	}
	run(ours.String(), "check", "metrics")
}
