package v1alpha1_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// The files in testdata are also put to a real API server, which must give the
// same verdicts by the schema (in e2e).
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("testdata/%s: %d files, %v", dir, len(paths), err)
	}
	out := map[string][]byte{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(p), ".yaml")] = b
	}
	return out
}

func toJSON(t testing.TB, doc []byte) []byte {
	t.Helper()
	b, err := yaml.YAMLToJSON(doc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeAcceptsWhatIsValid(t *testing.T) {
	for name, doc := range files(t, "valid") {
		t.Run(name, func(t *testing.T) {
			if _, err := v1alpha1.DecodeApp(toJSON(t, doc)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDecodeRefusesAndNamesTheField(t *testing.T) {
	for name, doc := range files(t, "invalid") {
		t.Run(name, func(t *testing.T) {
			first, _, _ := strings.Cut(string(doc), "\n")
			field := strings.TrimPrefix(first, "# ")
			app, err := v1alpha1.DecodeApp(toJSON(t, doc))
			if !errors.Is(err, fleet.ErrInvalid) {
				t.Fatalf("got %v, %v; want ErrInvalid", app, err)
			}
			if !strings.Contains(err.Error(), field) {
				t.Errorf("%q does not name %s", err, field)
			}
		})
	}
}

func TestDecodeSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	const app = `{"apiVersion":"capstan.dev/v1alpha1","kind":"App","metadata":{"name":"web"},"spec":%}`
	for _, c := range []struct{ name, doc, err, hint string }{
		{
			"slip of the pen", strings.Replace(app, "%", `{"source":{"path":"a"},"sync":{"prun":true}}`, 1),
			"app web: spec.sync.prun is not a known field", `did you mean "prune"?`,
		},
		{
			"wrong case", strings.Replace(app, "%", `{"source":{"Path":"a"}}`, 1),
			"app web: spec.source.Path is not a known field", `did you mean "path"?`,
		},
		{
			"nothing like it", strings.Replace(app, "%", `{"source":{"path":"a"},"helmReleaseName":"x"}`, 1),
			"app web: spec.helmReleaseName is not a known field", "spec has: approval, clusters, decryption, deletionPolicy, dependsOn, health, ignoreDifferences, serviceAccountName, source, suspend, sync, targetNamespace",
		},
		{
			"at the top", strings.Replace(strings.Replace(app, `"spec"`, `"sepc"`, 1), "%", "{}", 1),
			"app web: sepc is not a known field", `did you mean "spec"?`,
		},
		{
			"in a list", strings.Replace(app, "%", `{"source":{"path":"a"},"clusters":{"matchExpressions":[{"key":"a","operator":"In","value":["b"]}]}}`, 1),
			"app web: spec.clusters.matchExpressions[0].value is not a known field", `did you mean "values"?`,
		},
		{
			"twice", strings.Replace(app, "%", `{"source":{"path":"a","path":"b"}}`, 1),
			"app web: spec.source.path is there twice", "keep one of them",
		},
		{
			"wrong type", strings.Replace(app, "%", `{"source":{"path":["a"]}}`, 1),
			"app: spec.source.path: wants a string, has array", "",
		},
		{
			"malformed glob", strings.Replace(app, "%", `{"source":{"path":"a","directory":{"include":["*.yaml","x/[a"]}}}`, 1),
			`app web: spec.source.directory.include[1]: "x/[a" is not a glob`, "a [ needs its ]",
		},
		{
			"selector operator", strings.Replace(app, "%", `{"source":{"path":"a"},"clusters":{"matchExpressions":[{"key":"a","operator":"Is"}]}}`, 1),
			"app web: spec.clusters: ", "a selector has matchLabels, and matchExpressions with the operators In, NotIn, Exists and DoesNotExist",
		},
		{
			"selector label", strings.Replace(app, "%", `{"source":{"path":"a"},"approval":{"clusters":{"matchLabels":{"a b":"c"}}}}`, 1),
			"app web: spec.approval.clusters: ", "a selector has matchLabels, and matchExpressions with the operators In, NotIn, Exists and DoesNotExist",
		},
		{
			"another version", `{"apiVersion":"capstan.dev/v9","kind":"App"}`,
			`app: apiVersion "capstan.dev/v9", kind "App" is not an App`, "write apiVersion: capstan.dev/v1alpha1 and kind: App",
		},
		{"not JSON", `{`, "app: unexpected end of JSON input", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := v1alpha1.DecodeApp([]byte(c.doc))
			if err == nil || !strings.HasPrefix(err.Error(), c.err) {
				t.Errorf("error: got  %v\n              want %s", err, c.err)
			}
			if got := fleet.Hint(err); got != c.hint {
				t.Errorf("hint:  got  %s\n              want %s", got, c.hint)
			}
			if !errors.Is(err, fleet.ErrInvalid) {
				t.Errorf("%v is not ErrInvalid", err)
			}
		})
	}
}

func TestDecodeFillsInDefaultsAndDropsStatus(t *testing.T) {
	app, err := v1alpha1.DecodeApp([]byte(`{"apiVersion":"capstan.dev/v1alpha1","kind":"App",
		"metadata":{"name":"web","namespace":"shop"},
		"spec":{"source":{"path":"apps/web"},"approval":{}},"status":{"sync":"Synced"}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(app.Spec)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"source":{"path":"apps/web"},"approval":{"quorum":1},"targetNamespace":"default","sync":{"prune":true,"selfHeal":true}}`
	if string(got) != want {
		t.Errorf("spec: got  %s\n      want %s", got, want)
	}
	if app.Status.Sync != "" {
		t.Errorf("a status from the repository was kept: %+v", app.Status)
	}
	if app.AppName() != (fleet.AppName{Namespace: "shop", Name: "web"}) {
		t.Errorf("name: %v", app.AppName())
	}
}

// What is accepted is valid, and reads back as the same.
func FuzzDecodeApp(f *testing.F) {
	for _, dir := range []string{"valid", "invalid"} {
		for _, doc := range files(f, dir) {
			f.Add(toJSON(f, doc))
		}
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		app, err := v1alpha1.DecodeApp(doc)
		if err != nil {
			if !errors.Is(err, fleet.ErrInvalid) || app != nil {
				t.Fatalf("%v, %v", app, err)
			}
			return
		}
		if err := app.Validate(); err != nil {
			t.Fatal(err)
		}
		once, err := json.Marshal(app)
		if err != nil {
			t.Fatal(err)
		}
		again, err := v1alpha1.DecodeApp(once)
		if err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		if twice, _ := json.Marshal(again); string(twice) != string(once) {
			t.Fatalf("%s became %s", once, twice)
		}
	})
}
