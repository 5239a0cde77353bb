package render_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/agent/render"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Each directory below testdata/helm has a chart, values, and want.yaml: what
// Helm 4.3.1's own action.Install gives for them in a dry run with its CRDs, as
// release web in namespace store, for Kubernetes v1.36.3 and widgets.example/v1.
func TestAChartGivesWhatHelmGives(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	cases, err := filepath.Glob("testdata/helm/*/chart")
	if err != nil || len(cases) < 2 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, chart := range cases {
		dir := filepath.Dir(chart)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			got, err := r.Render(t.Context(), askChart(onDisk(t, dir), "chart", &unit.Helm{ValuesFiles: []string{"../values.yaml"}, APIVersions: []string{"widgets.example/v1"}}))
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, o := range got.Objects {
				all = append(all, string(o.JSON))
			}
			want, lists := printed(t, filepath.Join(dir, "want.yaml"))
			if lists { // Helm sends a List after all kinds that it knows, whatever is in it
				slices.Sort(all)
				slices.Sort(want)
			}
			if g, w := strings.Join(all, "\n"), strings.Join(want, "\n"); g != w {
				t.Errorf("got\n%s\nwant\n%s", g, w)
			}
		})
	}
}

func onDisk(t *testing.T, dir string) files {
	t.Helper()
	repo := files{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(p)
		name, _ := filepath.Rel(dir, p)
		repo[filepath.ToSlash(name)] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

var mark = regexp.MustCompile(`(?m)^---\s*$`)

// printed are the objects of what Helm prints, Lists taken apart.
func printed(t *testing.T, file string) (all []string, lists bool) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range mark.Split(string(content), -1) {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(doc), &object); err != nil {
			t.Fatal(err)
		}
		objects := []any{object}
		if items, ok := object["items"].([]any); ok && object["kind"] == "List" {
			objects, lists = items, true
		}
		for _, o := range objects {
			if m, _ := o.(map[string]any); len(m) > 0 {
				b, err := fleet.Canonical(m)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, string(b))
			}
		}
	}
	return all, lists
}
