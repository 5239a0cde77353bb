package render_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/capstan-gitops/capstan/agent/render"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// features are kustomizations over the guestbook's base, each with something
// else of what kustomize can do.
var features = map[string]string{
	"plain":      "",
	"names":      "namePrefix: a-\nnameSuffix: -z\nnamespace: shop\n",
	"labels":     "labels: [{pairs: {a: b}, includeSelectors: true}]\ncommonAnnotations: {c: d}\n",
	"images":     "images: [{name: registry.example/guestbook, newTag: v6}]\nreplicas: [{name: guestbook-ui, count: 7}]\n",
	"patch":      "patches:\n- patch: '[{\"op\": \"replace\", \"path\": \"/spec/replicas\", \"value\": 9}]'\n  target: {kind: Deployment}\n- path: patch.yaml\n",
	"generators": "configMapGenerator: [{name: c, files: [app.properties, k=app.properties], literals: [x=y]}, {name: e, envs: [app.properties]}]\nsecretGenerator: [{name: s, literals: [p=q]}]\n",
	"nohash":     "configMapGenerator: [{name: c, literals: [x=y]}]\ngeneratorOptions: {disableNameSuffixHash: true, labels: {g: h}}\n",
	"component":  "components: [../component]\n",
	"inline":     "transformers:\n- |-\n  apiVersion: builtin\n  kind: AnnotationsTransformer\n  metadata: {name: t}\n  annotations: {i: j}\n  fieldSpecs: [{path: metadata/annotations, create: true}]\n",
	"replace":    "replacements:\n- source: {kind: Service, name: guestbook-ui, fieldPath: metadata.name}\n  targets: [{select: {kind: Deployment}, fieldPaths: [spec.template.spec.hostname], options: {create: true}}]\n",
	"crds":       "crds: [crd.json]\n",
	"list":       "resources: [../../base, list.yaml]\n",
	"linked":     "resources: [../link]\n",
	"origin":     "buildMetadata: [originAnnotations, managedByLabel]\n",
	"sorted":     "sortOptions: {order: fifo}\n",
}

func featureRepo() files {
	repo := guestbook.With(files{
		"apps/guestbook/overlays/component/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nconfigMapGenerator: [{name: from-component, literals: [a=b]}]\n",
		"apps/guestbook/overlays/link":                         linkTo + "../base",
	})
	for name, text := range features {
		dir := "apps/guestbook/overlays/" + name + "/"
		if name == "component" {
			dir = "apps/guestbook/overlays/with-component/"
		}
		if !strings.Contains(text, "resources:") {
			text = "resources: [../../base]\n" + text
		}
		repo[dir+"kustomization.yaml"] = text
		repo[dir+"patch.yaml"] = "apiVersion: v1\nkind: Service\nmetadata: {name: guestbook-ui}\nspec: {type: NodePort}\n"
		repo[dir+"app.properties"] = "one=1\ntwo=2\n"
		repo[dir+"crd.json"] = "{}\n"
		repo[dir+"list.yaml"] = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: l1}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: l2}, data: {n: '1'}}\n"
	}
	return repo
}

func TestObjectsAreWhatKustomizeMakesOfACheckout(t *testing.T) {
	repo, dir := featureRepo(), t.TempDir()
	for p, content := range repo {
		full := filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, link := strings.CutPrefix(content, linkTo); link {
			err = os.Symlink(target, full)
		} else {
			err = os.WriteFile(full, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	for name := range features {
		if name == "component" {
			name = "with-component"
		}
		path := "apps/guestbook/overlays/" + name
		m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(dir, path))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := map[string]bool{}
		for _, res := range m.Resources() {
			raw, err := res.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			b, err := fleet.Canonical(raw)
			if err != nil {
				t.Fatal(err)
			}
			want[strings.ReplaceAll(string(b), "kustomize-(devel)", "kustomize-v5.8.2")] = true
		}
		got, err := r.Render(t.Context(), ask(repo, path))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(got.Objects) != len(want) {
			t.Errorf("%s: %d objects, kustomize makes %d", name, len(got.Objects), len(want))
		}
		for _, o := range got.Objects {
			if !want[string(o.JSON)] {
				t.Errorf("%s: kustomize does not make %s", name, o.JSON)
			}
		}
	}
}

func BenchmarkAHundredOverlaysInOneWorker(b *testing.B) {
	repo := files{}
	for i := range 100 {
		app := fmt.Sprintf("apps/a%d/", i)
		repo[app+"base/kustomization.yaml"] = "resources: [d.yaml, s.yaml, c.yaml, sa.yaml]\n"
		repo[app+"base/d.yaml"] = strings.ReplaceAll(guestbook["apps/guestbook/base/deployment.yaml"], "guestbook-ui", fmt.Sprintf("a%d", i))
		repo[app+"base/s.yaml"] = strings.ReplaceAll(guestbook["apps/guestbook/base/service.yaml"], "guestbook-ui", fmt.Sprintf("a%d", i))
		repo[app+"base/c.yaml"] = fmt.Sprintf(configMap, "c") + "data: {a: b}\n"
		repo[app+"base/sa.yaml"] = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sa}\n"
		repo[app+"overlays/dev/kustomization.yaml"] = fmt.Sprintf("namespace: a%d\nresources: [../../base]\nimages: [{name: registry.example/guestbook, newTag: v%d}]\n", i, i)
	}
	r := newRenderer(b, render.Config{IdleAfter: time.Minute})
	q := ask(repo, "")
	for b.Loop() {
		for i := range 100 {
			q.Path = fmt.Sprintf("apps/a%d/overlays/dev", i)
			if got, err := r.Render(b.Context(), q); err != nil || len(got.Objects) != 4 {
				b.Fatal(len(got.Objects), err)
			}
		}
	}
	b.ReportMetric(float64(r.Stats().PeakRSS>>20), "MiB-worker")
}
