package compose

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/pgtest"
)

const dashboard = root + "/configs/grafana/dashboards/walbridge.json"

// quiet are the panels' expressions that may have no answer while all is well: rows
// that are held, and a copy of tables that had rows when the bridge came.
var quiet = []string{
	`max by (table) (walbridge_copy_rows_done{instance=~"$instance"}) / (max by (table) (walbridge_copy_rows_expected{instance=~"$instance"}) > 0)`,
	`max by (table) (walbridge_table_held_rows{instance=~"$instance"}) > 0`,
}

// monitored: Prometheus finds every instance, reads the rules, and answers what the
// dashboard's panels ask; and it notices when no bridge is there.
func monitored(s *stack) {
	pgtest.Eventually(s.t, "Prometheus to see both bridges", bound, func() error {
		if got := s.query(`sum(up{job="walbridge"})`); !slices.Equal(got, []string{"2"}) {
			return fmt.Errorf("it sees %q", got)
		}
		return nil
	})
	pgtest.Eventually(s.t, "every rule to be evaluated", bound, func() error {
		var rules struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
		s.prometheusSays("/api/v1/rules", &rules)
		n := 0
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				n++
				if r.Health != "ok" {
					return fmt.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
				}
			}
		}
		if n < 10 {
			return fmt.Errorf("it has %d rules", n)
		}
		return nil
	})
	s.requirePanels()

	both := s.service("bridge")
	s.docker(append([]string{"stop"}, both...)...)
	pgtest.Eventually(s.t, "the alert that no bridge answers", bound, func() error {
		if state := s.alert("WalbridgeDown"); state == "" {
			return errors.New("it is not there")
		}
		return nil
	})
	s.docker(append([]string{"start"}, both...)...)
	s.waitHealthy("bridge")
	pgtest.Eventually(s.t, "the end of the alert", bound, func() error {
		if state := s.alert("WalbridgeDown"); state != "" {
			return errors.New("it is " + state)
		}
		return nil
	})
}

// requirePanels asks Prometheus what Grafana would, with its variables filled in.
func (s *stack) requirePanels() {
	s.t.Helper()
	text, err := os.ReadFile(dashboard)
	if err != nil {
		s.t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		s.t.Fatal(err)
	}
	fill, asked := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".+"), 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			asked++
			pgtest.Eventually(s.t, "data in the panel "+p.Title, bound, func() error {
				if got := s.query(fill.Replace(target.Expr)); len(got) == 0 && !slices.Contains(quiet, target.Expr) {
					return errors.New("there is none for " + target.Expr)
				}
				return nil
			})
		}
	}
	if asked < 20 {
		s.t.Errorf("the dashboard has %d queries", asked)
	}
}

// query returns the values that an expression has now.
func (s *stack) query(expr string) (values []string) {
	s.t.Helper()
	var data struct {
		Result []struct{ Value [2]any }
	}
	s.prometheusSays("/api/v1/query?query="+url.QueryEscape(expr), &data)
	for _, r := range data.Result {
		values = append(values, fmt.Sprint(r.Value[1]))
	}
	return values
}

// alert returns an alert's state, "" if it isn't active.
func (s *stack) alert(name string) string {
	s.t.Helper()
	var data struct {
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
	s.prometheusSays("/api/v1/alerts", &data)
	for _, a := range data.Alerts {
		if a.Labels["alertname"] == name {
			return a.State
		}
	}
	return ""
}

// prometheusSays asks Prometheus' API. What it refuses fails the test.
func (s *stack) prometheusSays(path string, data any) {
	s.t.Helper()
	res, err := http.Get("http://" + s.docker("port", s.one("prometheus"), "9090/tcp") + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.Status != "success" {
		s.t.Fatalf("%s: %s: %s (%v)", path, res.Status, answer.Error, err)
	}
}
