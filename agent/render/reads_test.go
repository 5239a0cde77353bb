package render_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/render"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// generated is a repository with bases, components, generators and links, and
// files that nobody uses.
func generated() files {
	repo := guestbook.With(files{
		"README.md":                   "hello",
		"shared/kustomization.yaml":   "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\ncommonAnnotations: {team: web}\n",
		"shared/unused.yaml":          "x: y\n",
		"conf/app.properties":         "a=1\n",
		"linked":                      linkTo + "apps/guestbook/base",
		"b/kustomization.yaml":        "resources: [../linked]\ncomponents: [../shared]\nconfigMapGenerator: [{name: c, files: [app.properties]}]\n",
		"b/app.properties":            "b=2\n",
		"c/dev/kustomization.yaml":    "resources: [../../b]\nnamePrefix: dev-\n",
		"c/prod/kustomization.yaml":   "resources: [../../b, extra]\npatches: [{path: patch.yaml}]\n",
		"c/prod/extra/x.yaml":         fmt.Sprintf(configMap, "x"),
		"c/prod/extra/Kustomization":  "resources: [x.yaml]\n",
		"c/prod/patch.yaml":           "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: guestbook-ui}\nspec: {replicas: 5}\n",
		"c/broken/kustomization.yaml": "resources: [../../b, later.yaml]\n",
	})
	return repo
}

// mutate changes, adds, removes or replaces a file or two.
func mutate(rng *rand.Rand, repo files) files {
	out := maps.Clone(repo)
	for range 1 + rng.IntN(2) {
		names := slices.Sorted(maps.Keys(out))
		name := names[rng.IntN(len(names))]
		other := names[rng.IntN(len(names))]
		switch rng.IntN(7) {
		case 0:
			delete(out, name)
		case 1:
			out[name] += "\n# changed\n"
		case 2:
			out[name] = out[other]
		case 3:
			delete(out, name)
			out[name+"x"] = repo[name]
		case 4: // what a broken or other render looks for
			for _, p := range []string{"c/broken/later.yaml", "c/dev/kustomization.yml", "shared/Kustomization", "b/later.yaml"} {
				if rng.IntN(2) == 0 {
					out[p] = fmt.Sprintf(configMap, "later")
				}
			}
		case 5: // a file becomes a directory
			delete(out, name)
			out[name+"/kustomization.yaml"] = "resources: []\n"
		case 6:
			out["linked"] = linkTo + []string{"b", "apps/guestbook/base", "nowhere", "c/prod/extra"}[rng.IntN(4)]
		}
	}
	return clean(out)
}

// clean drops files that stand where a directory is.
func clean(repo files) files {
	for p := range repo {
		for q := range repo {
			if len(q) > len(p) && q[:len(p)] == p && q[len(p)] == '/' {
				delete(repo, p)
			}
		}
	}
	return repo
}

// result is a render's outcome as text, with its reads.
func result(t *testing.T, r *render.Renderer, q unit.RenderRequest) (string, unit.ReadSet) {
	t.Helper()
	got, err := r.Render(t.Context(), q)
	if bad, ok := err.(*unit.RenderError); ok { //nolint:errorlint // never wrapped
		return "error: " + bad.Message, bad.Reads
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(got.Objects)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), got.Reads
}

func TestWhileItsReadsHoldARenderGivesTheSame(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	rng := rand.New(rand.NewPCG(1, 2))
	tree := newMemTree()
	paths := []string{"c/dev", "c/prod", "c/broken", "linked", devOverlay, "c/nowhere", `apps/guestbook/overlays/{{ label "env" }}`}
	held, renewed := 0, 0
	for range 60 {
		base := mutate(rng, generated())
		root := tree.Add(base)
		for _, p := range paths {
			q := unit.RenderRequest{Snapshot: unit.Snapshot{Root: root, Tree: tree}, Path: p, Facts: unit.Facts{Labels: map[string]string{"env": "dev"}}}
			before, reads := result(t, r, q)
			for range 4 {
				next := q
				next.Snapshot.Root = tree.Add(mutate(rng, base))
				if rng.IntN(4) == 0 {
					next.Facts.Labels = map[string]string{"env": "prod"}
				}
				holds, err := reads.Holds(t.Context(), tree, next.Snapshot.Root, next.Facts, r.Version())
				if err != nil {
					t.Fatal(err)
				}
				after, _ := result(t, r, next)
				if holds && after != before {
					t.Fatalf("%s: its reads hold, and yet\n%s\nbecame\n%s", p, before, after)
				}
				if holds {
					held++
				} else if after != before {
					renewed++
				}
			}
		}
	}
	if held < 100 || renewed < 100 {
		t.Errorf("%d held, %d had to be rendered again: too few of one to prove anything", held, renewed)
	}
}

func TestALabelThatIsNotThereIsRemembered(t *testing.T) {
	r := newRenderer(t, render.Config{})
	bad := refused(t, r, ask(guestbook, `apps/{{ label "region" }}/{{ .cluster.name }}`))
	if !slices.Equal(bad.Reads.Absent, []string{"region"}) || bad.Reads.Cluster != "" {
		t.Errorf("%+v", bad.Reads)
	}
	bad = refused(t, r, ask(guestbook, `apps/{{ .cluster.name }}`))
	if bad.Reads.Cluster != "dev-1" || bad.Reads.Paths["apps/dev-1"].Kind != unit.ReadMissing {
		t.Errorf("%+v", bad.Reads)
	}
}
