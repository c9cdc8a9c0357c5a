package web_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/status/web"
)

const dashboard = "../../../configs/grafana/dashboards/walbridge.json"

// board is what these tests read of a Grafana dashboard.
type board struct {
	UID           string `json:"uid"`
	SchemaVersion int    `json:"schemaVersion"`
	Templating    struct {
		List []struct{ Name, Type string }
	} `json:"templating"`
	Panels []panel `json:"panels"`
}

type panel struct {
	ID          int    `json:"id"`
	Type, Title string // encoding/json ignores case
	Datasource  struct{ UID string }
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct{ RefID, Expr, LegendFormat string }
}

func readBoard(t *testing.T) board {
	t.Helper()
	text, err := os.ReadFile(dashboard)
	if err != nil {
		t.Fatal(err)
	}
	var b board
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	if len(b.Panels) < 15 {
		t.Fatalf("%s has %d panels", dashboard, len(b.Panels))
	}
	return b
}

// exposed are the labels of each metric at /metrics, with those that Prometheus
// adds.
func exposed(t *testing.T) map[string]map[string]bool {
	t.Helper()
	series := regexp.MustCompile(`(?m)^([a-z_]+)(?:\{(.*)\})? `)
	label := regexp.MustCompile(`([a-z_]+)="`)
	found := map[string]map[string]bool{"up": {"job": true, "instance": true}}
	body := get(t, web.Handler(fullState()), "GET", "/metrics").Body.String()
	for _, m := range series.FindAllStringSubmatch(body, -1) {
		found[m[1]] = map[string]bool{"job": true, "instance": true}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			found[m[1]][l[1]] = true
		}
	}
	return found
}

var (
	selectors = regexp.MustCompile(`\b((?:walbridge|process|go)_[a-z_]+|up)\b(?:\{([^}]*)\})?`)
	matchers  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	groupings = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)
	legends   = regexp.MustCompile(`\{\{\s*([a-z_]+)\s*\}\}`)
)

// unknown names what expr or legend uses and metrics doesn't have.
func unknown(metrics map[string]map[string]bool, expr, legend string) []string {
	var missing []string
	labels := map[string]bool{}
	for _, m := range selectors.FindAllStringSubmatch(expr, -1) {
		own, ok := metrics[m[1]]
		if !ok {
			missing = append(missing, "the metric "+m[1])
			continue
		}
		maps.Copy(labels, own)
		for _, l := range matchers.FindAllStringSubmatch(m[2], -1) {
			if !own[l[1]] {
				missing = append(missing, "the label "+l[1]+" of "+m[1])
			}
		}
	}
	if len(labels) == 0 {
		missing = append(missing, "any metric")
	}
	for _, g := range groupings.FindAllStringSubmatch(expr, -1) {
		for name := range strings.SplitSeq(g[1], ",") {
			if !labels[strings.TrimSpace(name)] {
				missing = append(missing, "the label "+name)
			}
		}
	}
	for _, l := range legends.FindAllStringSubmatch(legend, -1) {
		if !labels[l[1]] {
			missing = append(missing, "the label "+l[1]+" in the legend")
		}
	}
	return missing
}

// A panel on a metric that isn't there is empty, and nobody knows why.
func TestDashboard_Metrics(t *testing.T) {
	t.Parallel()
	metrics := exposed(t)
	shown := map[string]bool{}
	for _, p := range readBoard(t).Panels {
		for _, target := range p.Targets {
			for _, what := range unknown(metrics, target.Expr, target.LegendFormat) {
				t.Errorf("the panel %q uses %s, which there is not: %s", p.Title, what, target.Expr)
			}
			if !strings.Contains(target.Expr, `instance=~"$instance"`) {
				t.Errorf("the panel %q does not ask for the instance: %s", p.Title, target.Expr)
			}
			for _, m := range selectors.FindAllStringSubmatch(target.Expr, -1) {
				shown[m[1]] = true
			}
		}
	}
	for name := range metrics {
		if strings.HasPrefix(name, "walbridge_") && !shown[name] && name != "walbridge_build_info" && name != "walbridge_ready" {
			t.Errorf("no panel shows %s", name)
		}
	}
	for _, expr := range []string{"walbridge_nothing", `walbridge_errors_total{table="t"}`, "sum by (class) (walbridge_lag_bytes)"} {
		if len(unknown(metrics, expr, "")) == 0 {
			t.Errorf("%s passes", expr)
		}
	}
}

// Grafana drops the second of two panels with one id, and moves those that overlap.
func TestDashboard_Layout(t *testing.T) {
	t.Parallel()
	b := readBoard(t)
	// 41 is that of Grafana 12, which the compose stack runs; older ones are migrated.
	if b.UID != "walbridge" || b.SchemaVersion < 41 {
		t.Errorf("uid %q, schemaVersion %d", b.UID, b.SchemaVersion)
	}
	variables := map[string]string{}
	for _, v := range b.Templating.List {
		variables[v.Name] = v.Type
	}
	if variables["datasource"] != "datasource" || variables["instance"] != "query" {
		t.Errorf("variables %v", variables)
	}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range b.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" {
			t.Errorf("the panel %q has id %d, which is another's or none", p.Title, p.ID)
		}
		ids[p.ID] = true
		at := p.GridPos
		if at.X < 0 || at.Y < 0 || at.W < 1 || at.H < 1 || at.X+at.W > 24 {
			t.Errorf("the panel %q is at %+v", p.Title, at)
		}
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other, taken := cells[[2]int{x, y}]; taken {
					t.Fatalf("the panels %q and %q overlap", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" && (p.Datasource.UID != "${datasource}" || len(p.Targets) == 0) {
			t.Errorf("the panel %q has datasource %q and %d targets", p.Title, p.Datasource.UID, len(p.Targets))
		}
	}
}

// Prometheus can read every expression.
func TestDashboard_Promtool(t *testing.T) {
	t.Parallel()
	fill := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".+")
	var rules []map[string]string
	for _, p := range readBoard(t).Panels {
		for _, target := range p.Targets {
			rules = append(rules, map[string]string{
				"record": fmt.Sprintf("panel_%d_%s", p.ID, strings.ToLower(target.RefID)),
				"expr":   fill.Replace(target.Expr),
			})
		}
	}
	// JSON is YAML.
	file, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "panels", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "panels.yml")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", path)
}

// The table of metrics is what /metrics answers, in both languages.
func TestMetrics_Documented(t *testing.T) {
	t.Parallel()
	metrics := exposed(t)
	for _, page := range []string{"operations.md", "operations.pt-BR.md"} {
		text, err := os.ReadFile(filepath.Join("../../../docs", page))
		if err != nil {
			t.Fatal(err)
		}
		documented := map[string]bool{}
		for _, m := range regexp.MustCompile("(?m)^\\| `(walbridge_[a-z_]+)(?:\\{([a-z,]+)\\})?` \\|").FindAllStringSubmatch(string(text), -1) {
			documented[m[1]] = true
			var want []string
			for _, name := range slices.Sorted(maps.Keys(metrics[m[1]])) {
				if name != "job" && name != "instance" {
					want = append(want, name)
				}
			}
			if got := m[2]; metrics[m[1]] == nil || got != strings.Join(want, ",") {
				t.Errorf("%s: %s{%s}: its labels are %v", page, m[1], got, want)
			}
		}
		for name := range metrics {
			if strings.HasPrefix(name, "walbridge_") && !documented[name] {
				t.Errorf("%s doesn't list %s", page, name)
			}
		}
	}
}
