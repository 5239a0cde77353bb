package manifests_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/manifests"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	raw []byte
}

func (o object) String() string { return o.Kind + " " + o.Metadata.Name }

func parse(t *testing.T, stream []byte) []object {
	t.Helper()
	var out []object
	for doc := range strings.SplitSeq("\n"+string(stream), "\n---\n") {
		b, err := yaml.YAMLToJSONStrict([]byte(doc))
		if err != nil {
			t.Fatalf("%v in:\n%s", err, doc)
		}
		if string(b) == "null" {
			continue
		}
		o := object{raw: b}
		if err := json.Unmarshal(b, &o); err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

func names(objects []object) []string {
	var out []string
	for _, o := range objects {
		out = append(out, o.String())
	}
	return out
}

func TestAgentIsAWholeInstallInAnOrderThatApplies(t *testing.T) {
	common := []string{
		"CustomResourceDefinition apps.capstan.dev",
		"Namespace capstan-system",
		"ServiceAccount capstan-agent",
		"ClusterRole capstan-agent",
		"ClusterRole capstan-agent-apps",
		"Role capstan-agent",
		"ClusterRoleBinding capstan-agent",
		"ClusterRoleBinding capstan-agent-apps",
		"RoleBinding capstan-agent",
	}
	for mode, workload := range map[manifests.Mode]string{
		manifests.Deployment: "Deployment capstan-agent",
		manifests.DaemonSet:  "DaemonSet capstan-agent",
	} {
		t.Run(string(mode), func(t *testing.T) {
			stream, err := manifests.Agent(mode)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := names(parse(t, stream)), append(slices.Clone(common), workload); !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
	if _, err := manifests.Agent("pod"); !errors.Is(err, fleet.ErrInvalid) || fleet.Hint(err) == "" {
		t.Errorf("an unknown mode: %v", err)
	}
}

func TestWithoutClusterAdminTheAgentSeesAndDoesNothing(t *testing.T) {
	stream, err := manifests.AgentWithoutClusterAdmin(manifests.DaemonSet)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"CustomResourceDefinition apps.capstan.dev",
		"Namespace capstan-system",
		"ServiceAccount capstan-agent",
		"ClusterRole capstan-agent",
		"Role capstan-agent",
		"ClusterRoleBinding capstan-agent",
		"RoleBinding capstan-agent",
		"ClusterRole capstan-agent-watch",
		"ClusterRoleBinding capstan-agent-watch",
		"DaemonSet capstan-agent",
	}
	objects := parse(t, stream)
	if got := names(objects); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, o := range objects {
		if o.Kind == "ClusterRole" && (strings.Contains(string(o.raw), `"*"`) || strings.Contains(string(o.raw), `"secrets"`)) {
			t.Errorf("%s is wide: %s", o, o.raw)
		}
	}
	if _, err := manifests.AgentWithoutClusterAdmin("pod"); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("an unknown mode: %v", err)
	}
}

// The bases are built by Kustomize, and Agent reads their lists: neither may
// lack a file, or do more than list.
func TestKustomizationsListEveryFileAndNothingElse(t *testing.T) {
	for _, root := range []string{"agent", "crds", "hub"} {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() || p == "agent" {
				return err
			}
			if p == "hub/components" { // they patch; e2e builds them
				return fs.SkipDir
			}
			b, err := os.ReadFile(filepath.Join(p, "kustomization.yaml"))
			if err != nil {
				return err
			}
			var k map[string]any
			if err := yaml.UnmarshalStrict(b, &k); err != nil {
				return err
			}
			var listed []string
			for _, r := range k["resources"].([]any) {
				if name := r.(string); path.Ext(name) != "" {
					listed = append(listed, name)
				}
			}
			for key := range k {
				if !slices.Contains([]string{"apiVersion", "kind", "resources"}, key) {
					t.Errorf("%s/kustomization.yaml: %s", p, key)
				}
			}
			there, err := filepath.Glob(filepath.Join(p, "*.yaml"))
			if err != nil {
				return err
			}
			for i := range there {
				there[i] = filepath.Base(there[i])
			}
			there = slices.DeleteFunc(there, func(s string) bool { return s == "kustomization.yaml" })
			slices.Sort(listed)
			if !slices.Equal(listed, there) {
				t.Errorf("%s lists %q, has %q", p, listed, there)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestSampleAppsAreValid(t *testing.T) {
	files, err := filepath.Glob("samples/root/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	apps := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range parse(t, b) {
			if o.Kind != v1alpha1.AppKind {
				continue
			}
			apps++
			if _, err := v1alpha1.DecodeApp(o.raw); err != nil {
				t.Errorf("%s: %v", f, err)
			}
		}
	}
	if apps == 0 {
		t.Error("no sample App")
	}
}
