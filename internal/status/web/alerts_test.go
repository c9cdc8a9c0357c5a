package web_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/walbridge/walbridge/internal/status/web"
)

const alerts = "../../../configs/alerts.yml"

// An alert on a metric that isn't there never fires, and nobody notices.
func TestAlerts_Metrics(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(alerts)
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(text, &rules); err != nil {
		t.Fatal(err)
	}
	metrics, checked := exposed(t), 0
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			checked++
			for _, what := range unknown(metrics, rule.Expr, "") {
				t.Errorf("%s uses %s, which there is not: %s", rule.Alert, what, rule.Expr)
			}
		}
	}
	if checked < 10 {
		t.Errorf("found %d alerts in %s", checked, alerts)
	}
	body := get(t, web.Handler(fullState()), "GET", "/metrics").Body.String()
	for _, state := range regexp.MustCompile(`state=~?"([a-z|]+)"`).FindAllStringSubmatch(string(text), -1) {
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
	promtool(t, "", "check", "rules", alerts)
	promtool(t, "", "test", "rules", "testdata/alerts_test.yml")
	var ours strings.Builder
	for line := range strings.Lines(get(t, web.Handler(fullState()), "GET", "/metrics").Body.String()) {
		if strings.Contains(line, "walbridge_") {
			ours.WriteString(line)
		}
	}
	promtool(t, ours.String(), "check", "metrics")
}

// promtool runs Prometheus' tool, which internal/status/web/promtool.sh fetches; it
// skips the test without it.
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	tool, err := exec.LookPath("promtool")
	if cache, cerr := os.UserCacheDir(); err != nil && cerr == nil {
		tool, err = exec.LookPath(filepath.Join(cache, "walbridge", "promtool"))
	}
	if err != nil {
		t.Skip("needs promtool, of Debian's package prometheus")
	}
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
