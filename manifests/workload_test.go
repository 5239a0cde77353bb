package manifests_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/manifests"
)

type workload struct {
	Spec struct {
		Selector struct {
			MatchLabels map[string]string `json:"matchLabels"`
		} `json:"selector"`
		Template struct {
			Metadata struct {
				Labels map[string]string `json:"labels"`
			} `json:"metadata"`
			Spec podSpec `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

type podSpec struct {
	ServiceAccountName string `json:"serviceAccountName"`
	Automount          *bool  `json:"automountServiceAccountToken"`
	SecurityContext    struct {
		RunAsNonRoot bool `json:"runAsNonRoot"`
		RunAsUser    int  `json:"runAsUser"`
		Seccomp      struct {
			Type string `json:"type"`
		} `json:"seccompProfile"`
	} `json:"securityContext"`
	HostNetwork bool `json:"hostNetwork"`
	HostPID     bool `json:"hostPID"`
	Containers  []struct {
		Image string `json:"image"`
		Env   []struct {
			Name  string `json:"name"`
			Value string `json:"value"`
		} `json:"env"`
		SecurityContext struct {
			AllowPrivilegeEscalation *bool `json:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool  `json:"readOnlyRootFilesystem"`
			Privileged               bool  `json:"privileged"`
			Capabilities             struct {
				Add  []string `json:"add"`
				Drop []string `json:"drop"`
			} `json:"capabilities"`
		} `json:"securityContext"`
		Resources struct {
			Requests map[string]string `json:"requests"`
			Limits   map[string]string `json:"limits"`
		} `json:"resources"`
		LivenessProbe  *struct{} `json:"livenessProbe"`
		ReadinessProbe *struct{} `json:"readinessProbe"`
	} `json:"containers"`
	Volumes []map[string]any `json:"volumes"`
}

func workloadIn(t *testing.T, stream []byte, kind string) workload {
	t.Helper()
	for _, o := range parse(t, stream) {
		if o.Kind == kind {
			var w workload
			if err := json.Unmarshal(o.raw, &w); err != nil {
				t.Fatal(err)
			}
			return w
		}
	}
	t.Fatalf("no %s", kind)
	return workload{}
}

func agentWorkload(t *testing.T, mode manifests.Mode, kind string) workload {
	t.Helper()
	stream, err := manifests.Agent(mode)
	if err != nil {
		t.Fatal(err)
	}
	return workloadIn(t, stream, kind)
}

func hubWorkload(t *testing.T) workload {
	t.Helper()
	stream, err := os.ReadFile("hub/deployment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return workloadIn(t, stream, "Deployment")
}

// What the "restricted" Pod Security Standard asks for, and a bit more.
func TestPodsHaveNoPrivilege(t *testing.T) {
	for name, w := range map[string]workload{
		"deployment": agentWorkload(t, manifests.Deployment, "Deployment"),
		"daemonset":  agentWorkload(t, manifests.DaemonSet, "DaemonSet"),
		"hub":        hubWorkload(t),
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range w.Spec.Selector.MatchLabels {
				if w.Spec.Template.Metadata.Labels[k] != v {
					t.Errorf("the selector's label %s=%s is not the pods'", k, v)
				}
			}
			p := w.Spec.Template.Spec
			s := p.SecurityContext
			if !s.RunAsNonRoot || s.RunAsUser == 0 || s.Seccomp.Type != "RuntimeDefault" || p.HostNetwork || p.HostPID {
				t.Errorf("pod: %+v", p)
			}
			for _, v := range p.Volumes {
				if v["hostPath"] != nil {
					t.Errorf("hostPath: %v", v)
				}
			}
			for _, c := range p.Containers {
				x := c.SecurityContext
				if x.AllowPrivilegeEscalation == nil || *x.AllowPrivilegeEscalation || !x.ReadOnlyRootFilesystem || x.Privileged {
					t.Errorf("container: %+v", x)
				}
				if len(x.Capabilities.Add) > 0 || len(x.Capabilities.Drop) != 1 || x.Capabilities.Drop[0] != "ALL" {
					t.Errorf("capabilities: %+v", x.Capabilities)
				}
				if c.LivenessProbe == nil || c.ReadinessProbe == nil {
					t.Error("a probe is missing")
				}
			}
		})
	}
}

func TestMemoryLimitsLeaveRoomForGo(t *testing.T) {
	for name, w := range map[string]workload{
		"deployment": agentWorkload(t, manifests.Deployment, "Deployment"),
		"daemonset":  agentWorkload(t, manifests.DaemonSet, "DaemonSet"),
	} {
		for _, c := range w.Spec.Template.Spec.Containers {
			limit := mebibytes(t, c.Resources.Limits["memory"], "Mi")
			for _, e := range c.Env {
				if e.Name != "GOMEMLIMIT" {
					continue
				}
				if got := mebibytes(t, e.Value, "MiB"); got != limit*3/4 {
					t.Errorf("%s: GOMEMLIMIT is %d MiB, want 75%% of %d MiB", name, got, limit)
				}
				limit = 0
			}
			if limit != 0 {
				t.Errorf("%s: no GOMEMLIMIT", name)
			}
		}
	}
}

// A limit from the environment would end what the hub does about its memory.
func TestTheHubTendsItsOwnMemory(t *testing.T) {
	for _, c := range hubWorkload(t).Spec.Template.Spec.Containers {
		for _, e := range c.Env {
			if e.Name == "GOMEMLIMIT" || e.Name == "GOGC" {
				t.Errorf("%s is set", e.Name)
			}
		}
	}
}

func mebibytes(t *testing.T, s, unit string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(s, unit))
	if err != nil {
		t.Fatalf("%q is not in %s", s, unit)
	}
	return n
}

// The hub holds no credential to any cluster: not even to its own.
func TestHubHasNoKubernetesCredential(t *testing.T) {
	p := hubWorkload(t).Spec.Template.Spec
	if p.Automount == nil || *p.Automount {
		t.Error("the hub's pod mounts a ServiceAccount token")
	}
	err := filepath.WalkDir("hub", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, o := range parse(t, b) {
			if strings.HasPrefix(o.APIVersion, "rbac.authorization.k8s.io/") || o.Kind == "Secret" {
				t.Errorf("%s has a %s", file, o)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
