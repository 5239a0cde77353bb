package manifests_test

import (
	"os"
	"strconv"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/manifests"
)

type observed struct {
	Spec struct {
		Template struct {
			Metadata struct {
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"metadata"`
			Spec struct {
				Containers []struct {
					Args  []string `json:"args"`
					Ports []struct {
						Name string `json:"name"`
						Port int    `json:"containerPort"`
					} `json:"ports"`
					Liveness  probe `json:"livenessProbe"`
					Readiness probe `json:"readinessProbe"`
				} `json:"containers"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

type probe struct {
	HTTPGet struct {
		Path string `json:"path"`
		Port string `json:"port"`
	} `json:"httpGet"`
}

func agentObserved(t *testing.T, mode manifests.Mode, kind string) observed {
	t.Helper()
	stream, err := manifests.Agent(mode)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range parse(t, stream) {
		if o.Kind == kind {
			var w observed
			if err := yaml.Unmarshal(o.raw, &w); err != nil {
				t.Fatal(err)
			}
			return w
		}
	}
	t.Fatalf("no %s", kind)
	return observed{}
}

// What Kubernetes and Prometheus ask is asked where the agent answers.
func TestAgentsAreAskedWhereTheyAnswer(t *testing.T) {
	b, err := os.ReadFile("monitoring/agent-podmonitor.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var monitor struct {
		Spec struct {
			Selector struct {
				MatchLabels map[string]string `json:"matchLabels"`
			} `json:"selector"`
			Endpoints []struct {
				Port string `json:"port"`
				Path string `json:"path"`
			} `json:"podMetricsEndpoints"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(b, &monitor); err != nil {
		t.Fatal(err)
	}
	for mode, kind := range map[manifests.Mode]string{manifests.Deployment: "Deployment", manifests.DaemonSet: "DaemonSet"} {
		pod := agentObserved(t, mode, kind).Spec.Template
		c := pod.Spec.Containers[0]
		port := c.Ports[0]
		if c.Liveness.HTTPGet.Path != "/healthz" || c.Readiness.HTTPGet.Path != "/readyz" || c.Liveness.HTTPGet.Port != port.Name || c.Readiness.HTTPGet.Port != port.Name {
			t.Errorf("%s: probes %+v, %+v; the port is %+v", kind, c.Liveness, c.Readiness, port)
		}
		if listens := "--listen=:" + strconv.Itoa(port.Port); c.Args[len(c.Args)-1] != listens {
			t.Errorf("%s: arguments %v, want %s", kind, c.Args, listens)
		}
		if a := pod.Metadata.Annotations; a["prometheus.io/scrape"] != "true" || a["prometheus.io/port"] != strconv.Itoa(port.Port) || a["prometheus.io/path"] != "/metrics" {
			t.Errorf("%s: annotations %v", kind, a)
		}
		for k, v := range monitor.Spec.Selector.MatchLabels {
			if pod.Metadata.Labels[k] != v {
				t.Errorf("the PodMonitor selects %s=%s, and %s's pods have %v", k, v, kind, pod.Metadata.Labels)
			}
		}
		if e := monitor.Spec.Endpoints; len(e) != 1 || e[0].Port != port.Name || e[0].Path != "/metrics" {
			t.Errorf("the PodMonitor scrapes %+v", e)
		}
	}
}
