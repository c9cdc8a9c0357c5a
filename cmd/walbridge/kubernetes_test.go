package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/internal/status/web"
)

// deployment is what this test reads of the manifest.
type deployment struct {
	Kind string
	Spec struct {
		Replicas int
		Selector struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		}
		Template struct {
			Metadata struct{ Labels, Annotations map[string]string }
			Spec     struct {
				EnableServiceLinks *bool `yaml:"enableServiceLinks"`
				SecurityContext    struct {
					RunAsNonRoot bool `yaml:"runAsNonRoot"`
					RunAsUser    int  `yaml:"runAsUser"`
				} `yaml:"securityContext"`
				Containers []container
				Volumes    []struct{ Name string }
			}
		}
	}
}

type container struct {
	Name  string
	Args  []string
	Env   []struct{ Name, Value string }
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	LivenessProbe   probe `yaml:"livenessProbe"`
	ReadinessProbe  probe `yaml:"readinessProbe"`
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct{ Drop []string }
	} `yaml:"securityContext"`
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

// The manifest says what the program understands, and gives it no more than it needs.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/kubernetes/walbridge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var d deployment
	kinds := map[string]int{}
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var doc deployment
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds[doc.Kind]++
		if doc.Kind == "Deployment" {
			d = doc
		}
	}
	if kinds["Deployment"] != 1 || kinds["PodDisruptionBudget"] != 1 || kinds["NetworkPolicy"] != 1 {
		t.Fatalf("it has %v", kinds)
	}
	pod := d.Spec.Template.Spec
	if d.Spec.Replicas != 2 || len(pod.Containers) != 1 {
		t.Fatalf("%d replicas with %d containers, want two with one: the second is the standby", d.Spec.Replicas, len(pod.Containers))
	}
	for name, value := range d.Spec.Selector.MatchLabels {
		if d.Spec.Template.Metadata.Labels[name] != value {
			t.Errorf("the pods lack the label %s=%s", name, value)
		}
	}
	c := pod.Containers[0]
	escalates, links := c.SecurityContext.AllowPrivilegeEscalation, pod.EnableServiceLinks
	switch {
	case !pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.RunAsUser == 0:
		t.Error("it may run as root")
	case escalates == nil || *escalates || strings.Join(c.SecurityContext.Capabilities.Drop, "") != "ALL":
		t.Error("it may gain rights")
	case !c.SecurityContext.ReadOnlyRootFilesystem:
		t.Error("it may write to its file system")
	case links == nil || *links:
		t.Error("services may set variables that look like settings")
	}

	known := map[string]bool{}
	for _, s := range config.Settings() {
		known[s.Env] = true
		known[s.Env+"_FILE"] = s.Secret
	}
	port := ""
	for _, e := range c.Env {
		if !known[e.Name] {
			t.Errorf("%s is no setting", e.Name)
		}
		if e.Name == "WALBRIDGE_LISTEN" {
			_, port, _ = strings.Cut(e.Value, ":")
		}
		if strings.HasSuffix(e.Name, "_FILE") {
			mounted := false
			for _, m := range c.VolumeMounts {
				mounted = mounted || m.ReadOnly && strings.HasPrefix(e.Value, m.MountPath+"/")
			}
			if !mounted {
				t.Errorf("%s is on no volume: %s", e.Name, e.Value)
			}
		}
	}
	if len(c.Ports) != 1 || port == "" || strconv.Itoa(c.Ports[0].ContainerPort) != port ||
		d.Spec.Template.Metadata.Annotations["prometheus.io/port"] != port {
		t.Errorf("it listens on %s, and has the ports %v", port, c.Ports)
	}
	state := status.New("v1")
	state.SetState(status.Streaming)
	for want, p := range map[string]probe{"/livez": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		w := httptest.NewRecorder()
		web.Handler(state).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", p.HTTPGet.Path, nil))
		if w.Code != http.StatusOK || p.HTTPGet.Path != want || p.HTTPGet.Port != c.Ports[0].Name {
			t.Errorf("the probe %+v answers %d, want %s at the port %s", p.HTTPGet, w.Code, want, c.Ports[0].Name)
		}
	}
	if strings.Join(c.Args, " ") != "run" {
		t.Errorf("it runs %v", c.Args)
	}
}
