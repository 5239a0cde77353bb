package parity_test

import (
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/hub/access"
)

// hubObject is as much of an object as is looked at.
type hubObject struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Data map[string]string `json:"data"`
	Spec struct {
		Ports []struct {
			Port int `json:"port"`
		} `json:"ports"`
		Template struct {
			Spec struct {
				Containers []struct {
					Env []struct {
						Name string `json:"name"`
					} `json:"env"`
					VolumeMounts []struct {
						Name string `json:"name"`
					} `json:"volumeMounts"`
				} `json:"containers"`
				Volumes []struct {
					Name                  string `json:"name"`
					PersistentVolumeClaim any    `json:"persistentVolumeClaim"`
				} `json:"volumes"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

// built is what an overlay of the hub with the given components holds, by kind and name.
func built(t *testing.T, kustomize string, components ...string) map[string]hubObject {
	t.Helper()
	manifests, err := filepath.Abs("../../manifests/hub")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	relative, err := filepath.Rel(dir, manifests)
	if err != nil {
		t.Fatal(err)
	}
	overlay := "resources: [" + relative + "]\ncomponents:\n"
	for _, c := range components {
		overlay += "- " + relative + "/components/" + c + "\n"
	}
	write(t, filepath.Join(dir, "kustomization.yaml"), []byte(overlay))
	out, err := run(t.Context(), dir, kustomize, "build", ".")
	if err != nil {
		t.Fatalf("kustomize build with %v: %v\n%s", components, err, out)
	}
	all := map[string]hubObject{}
	for doc := range strings.SplitSeq(out, "\n---\n") {
		var o hubObject
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatal(err)
		}
		all[o.Kind+" "+o.Metadata.Name] = o
	}
	return all
}

// The hub's manifests set nothing that the hub does not know, with any of their
// components, and mount what they name.
func TestTheHubKnowsWhatItsManifestsSet(t *testing.T) {
	programs, err := build.MakeAll(t.Context(), nil, build.Hub, build.Kustomize)
	if err != nil {
		t.Fatal(err)
	}
	help, err := run(t.Context(), t.TempDir(), programs[build.Hub], "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, components := range [][]string{nil, {"oidc"}, {"several"}, {"oidc", "several"}} {
		all := built(t, programs[build.Kustomize], components...)
		pod := all["Deployment capstan-hub"].Spec.Template.Spec
		if len(pod.Containers) != 1 {
			t.Fatalf("%v: %d containers", components, len(pod.Containers))
		}
		var set []string
		for name := range all["ConfigMap capstan-hub"].Data {
			set = append(set, name)
		}
		for _, e := range pod.Containers[0].Env {
			set = append(set, e.Name)
		}
		for _, name := range set {
			flag, ours := strings.CutPrefix(name, "CAPSTAN_HUB_")
			flag = "--" + strings.ToLower(strings.ReplaceAll(flag, "_", "-"))
			if ours && !strings.Contains(help, flag+" ") {
				t.Errorf("%v: %s is set, and capstan-hub has no %s", components, name, flag)
			}
		}
		volumes := map[string]bool{}
		for _, v := range pod.Volumes {
			volumes[v.Name] = true
		}
		for _, m := range pod.Containers[0].VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%v: volume %s is mounted and is not there", components, m.Name)
			}
		}
	}
}

func TestTheExampleOfRolesIsRead(t *testing.T) {
	programs, err := build.MakeAll(t.Context(), nil, build.Kustomize)
	if err != nil {
		t.Fatal(err)
	}
	file := built(t, programs[build.Kustomize], "oidc")["ConfigMap capstan-hub-access"].Data["access.yaml"]
	if _, err := access.Parse("access.yaml", []byte(file)); err != nil || file == "" {
		t.Error(err)
	}
}

func TestSeveralHubsKeepNothing(t *testing.T) {
	programs, err := build.MakeAll(t.Context(), nil, build.Kustomize)
	if err != nil {
		t.Fatal(err)
	}
	all := built(t, programs[build.Kustomize], "several")
	if _, there := all["PersistentVolumeClaim capstan-hub"]; there {
		t.Error("they have a volume")
	}
	for _, v := range all["Deployment capstan-hub"].Spec.Template.Spec.Volumes {
		if v.PersistentVolumeClaim != nil {
			t.Errorf("volume %s is a claim", v.Name)
		}
	}
	for _, p := range all["Service capstan-hub"].Spec.Ports {
		if p.Port == 4222 {
			t.Error("agents are sent to the hubs, and not to the NATS servers")
		}
	}
}
