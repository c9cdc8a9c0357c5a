package compose

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// service is what these tests read of a service in the compose file.
type service struct {
	Command                    any
	Environment                map[string]string
	Volumes, Networks, Secrets []string
}

// mounted finds the file or directory of the tree that a container sees at a path.
func (s *service) mounted(inside string) (outside string, ok bool) {
	longest := ""
	for _, v := range s.Volumes {
		parts := strings.Split(v, ":")
		if rest, in := strings.CutPrefix(inside, parts[1]); in && len(parts[1]) > len(longest) && strings.HasPrefix(parts[0], "./") {
			longest, outside = parts[1], filepath.Join(root, parts[0], rest)
		}
	}
	return outside, longest != ""
}

func readYAML(t *testing.T, file string, into any, opts ...yaml.DecodeOption) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalWithOptions(text, into, opts...); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func readServices(t *testing.T) map[string]*service {
	t.Helper()
	var file struct{ Services map[string]*service }
	readYAML(t, composeFile, &file)
	return file.Services
}

// requireReachable fails unless both services have a network in common.
func requireReachable(t *testing.T, services map[string]*service, from, to string) {
	t.Helper()
	if services[to] == nil {
		t.Fatalf("%s asks %s, which is no service", from, to)
	}
	if !slices.ContainsFunc(services[from].Networks, func(n string) bool { return slices.Contains(services[to].Networks, n) }) {
		t.Errorf("%s and %s have no network in common", from, to)
	}
}

// Grafana's image can't be had where these tests run, so what it is given is held
// against its documentation: the places that it reads, the fields that it knows
// (https://grafana.com/docs/grafana/v12.1/administration/provisioning/), and that
// each step leads to the next.
func TestGrafana_Provisioning(t *testing.T) {
	t.Parallel()
	services := readServices(t)
	grafana := services["grafana"]
	const provisioning = "/etc/grafana/provisioning"

	dir, ok := grafana.mounted(provisioning + "/datasources")
	if !ok {
		t.Fatal("no data sources are mounted")
	}
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool `yaml:"isDefault"`
		}
	}
	readYAML(t, filepath.Join(dir, "walbridge.yml"), &sources, yaml.Strict())
	if sources.APIVersion != 1 || len(sources.Datasources) != 1 {
		t.Fatalf("the data sources are %+v", sources)
	}
	source := sources.Datasources[0]
	at, err := url.Parse(source.URL)
	if err != nil || source.Type != "prometheus" || source.Access != "proxy" || !source.IsDefault || source.UID == "" {
		t.Errorf("the data source is %+v (%v)", source, err)
	}
	if at.Scheme != "http" || at.Port() != "9090" {
		t.Errorf("the data source is at %s, want Prometheus' port", source.URL)
	}
	requireReachable(t, services, "grafana", at.Hostname())

	dir, ok = grafana.mounted(provisioning + "/dashboards")
	if !ok {
		t.Fatal("no dashboards are mounted")
	}
	var dashboards struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Type string
			Options    struct{ Path string }
		}
	}
	readYAML(t, filepath.Join(dir, "walbridge.yml"), &dashboards, yaml.Strict())
	if dashboards.APIVersion != 1 || len(dashboards.Providers) != 1 || dashboards.Providers[0].Type != "file" {
		t.Fatalf("the dashboards' providers are %+v", dashboards)
	}
	// Grafana takes every .json below the path for a dashboard.
	below, ok := grafana.mounted(dashboards.Providers[0].Options.Path)
	if !ok {
		t.Fatalf("%s is not mounted", dashboards.Providers[0].Options.Path)
	}
	var found []string
	err = filepath.WalkDir(below, func(file string, _ os.DirEntry, err error) error {
		if filepath.Ext(file) == ".json" {
			found = append(found, filepath.Clean(file))
		}
		return err
	})
	if err != nil || !slices.Equal(found, []string{filepath.Clean(dashboard)}) {
		t.Errorf("below the dashboards' path are %v (%v), want %s", found, err, dashboard)
	}

	// Its password is a secret's file, and it fetches nothing from elsewhere.
	secret := grafana.Environment["GF_SECURITY_ADMIN_PASSWORD__FILE"]
	if path.Dir(secret) != "/run/secrets" || !slices.Contains(grafana.Secrets, path.Base(secret)) {
		t.Errorf("its password is in %q, its secrets are %v", secret, grafana.Secrets)
	}
}

// Prometheus finds its settings, the rules and the bridge.
func TestPrometheus_Configuration(t *testing.T) {
	t.Parallel()
	services := readServices(t)
	config, ok := services["prometheus"].mounted("/etc/walbridge/prometheus.yml")
	if !ok {
		t.Fatal("its settings are not mounted")
	}
	var settings struct {
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			DNS []struct {
				Names []string
				Port  string
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, config, &settings)
	var rules []string
	for _, pattern := range settings.RuleFiles {
		below, _ := services["prometheus"].mounted(pattern)
		matches, err := filepath.Glob(below)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, matches...)
	}
	if want := []string{filepath.Join(root, "configs/alerts.yml")}; !slices.Equal(rules, want) {
		t.Errorf("its rules are %v, want %v", rules, want)
	}
	for _, scrape := range settings.ScrapeConfigs {
		for _, dns := range scrape.DNS {
			for _, name := range dns.Names {
				requireReachable(t, services, "prometheus", name)
				if listen := services[name].Environment["WALBRIDGE_LISTEN"]; !strings.HasSuffix(listen, ":"+dns.Port) {
					t.Errorf("it asks port %s of %s, which listens at %s", dns.Port, name, listen)
				}
			}
		}
	}
}
