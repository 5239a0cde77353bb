package render_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/render"
	"github.com/capstan-gitops/capstan/agent/unit"
)

func named(names ...string) string {
	var docs []string
	for _, n := range names {
		docs = append(docs, fmt.Sprintf(configMap, n))
	}
	return strings.Join(docs, "---\n")
}

// plain has manifests, and what is none.
var plain = files{
	"a/web.yaml":            "# a comment alone\n---\n" + named("web-1", "web-2") + "---\n",
	"a/db.yml":              named("db"),
	"a/list.json":           `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"l1"}},{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"l2"},"data":{"n":"1"}}]}`,
	"a/linked.yaml":         linkTo + "../shared/linked.yaml",
	"a/dir-link.yaml":       linkTo + "sub",
	"a/README.md":           "not: [yaml",
	"a/values.txt":          "x",
	"a/.hidden.yaml":        "not: [yaml",
	"a/.hidden/x.yaml":      "not: [yaml",
	"a/sub/sub.yaml":        named("sub"),
	"a/sub/deep/deep.yaml":  named("deep"),
	"a/sub/tests/test.yaml": named("test"),
	"shared/linked.yaml":    named("linked"),
	"other/x.yaml":          named("x"),
}

func namesOf(t *testing.T, r *render.Renderer, q unit.RenderRequest) string {
	t.Helper()
	got, err := r.Render(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range got.Objects {
		names = append(names, o.Ref.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestADirectoryOfManifestsNeedsNoKustomization(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	withOverlay := plain.With(files{"a/sub/overlay/kustomization.yaml": "resources: [../deep/deep.yaml]\nnamePrefix: p-\n"})
	for _, c := range []struct {
		name   string
		repo   files
		path   string
		choose *unit.Directory
		want   string
	}{
		{"of itself, its own files alone", plain, "a", nil, "db l1 l2 linked web-1 web-2"},
		{"chosen, the same", plain, "a", &unit.Directory{}, "db l1 l2 linked web-1 web-2"},
		{"with what is below", plain, "a", &unit.Directory{Recurse: true}, "db deep l1 l2 linked sub test web-1 web-2"},
		{"without a directory", plain, "a", &unit.Directory{Recurse: true, Exclude: []string{"tests"}}, "db deep l1 l2 linked sub web-1 web-2"},
		{"names alone", plain, "a", &unit.Directory{Recurse: true, Include: []string{"*e*.yaml"}}, "deep linked test web-1 web-2"},
		{"a path", plain, "a", &unit.Directory{Recurse: true, Include: []string{"sub/*.yaml"}}, "sub"},
		{"any directories", plain, "a", &unit.Directory{Recurse: true, Include: []string{"sub/**/*.yaml"}, Exclude: []string{"**/tests/**"}}, "deep sub"},
		{"exclude wins", plain, "a", &unit.Directory{Include: []string{"db.yml", "web.yaml"}, Exclude: []string{"web.*"}}, "db"},
		{"an overlay below is not entered", withOverlay, "a", nil, "db l1 l2 linked web-1 web-2"},
		{"an overlay that is left out", withOverlay, "a", &unit.Directory{Recurse: true, Include: []string{"sub/**"}, Exclude: []string{"overlay"}}, "deep sub test"},
		{"the repository's root", files{"x.yaml": named("x"), "a/y.yaml": named("y")}, ".", nil, "x"},
		{"the root with what is below", files{"x.yaml": named("x"), "a/y.yaml": named("y")}, ".", &unit.Directory{Recurse: true, Include: []string{"a/*"}}, "y"},
		{"a kustomization still rules", plain.With(files{"a/Kustomization": "resources: [db.yml]\n"}), "a", nil, "db"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := ask(c.repo, c.path)
			q.Directory = c.choose
			if got := namesOf(t, r, q); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// A kustomization that lists the same files gives the same bytes: what an app
// is does not change when somebody adds one.
func TestAPlainDirectoryIsWhatKustomizeMakesOfItsFiles(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	repo := files{
		"a/values.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: values}\ndata:\n  quoted: \"yes\"\n  block: |\n    one\n    two\n",
		"a/odd.yaml":    "apiVersion: example.com/v1\nkind: Odd\nmetadata: {name: odd}\nspec:\n  date: 2024-01-02\n  bool: yes\n  octal: 0o17\n  old: 017\n  float: 1.50\n  big: 12345678901234567\n  exp: 1e3\n  base: &b {x: 1, y: [2, ~]}\n  merged: {<<: *b, z: 3}\n  same: *b\n  empty:\n",
		"a/json.json":   "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"json\"}, \"data\": {\"n\": \"1\"}}\n",
	}
	want, _ := result(t, r, ask(repo.With(files{"a/kustomization.yaml": "resources: [json.json, odd.yaml, values.yaml]\nsortOptions: {order: fifo}\n"}), "a"))
	got, _ := result(t, r, ask(repo, "a"))
	if got != want || strings.HasPrefix(got, "error") {
		t.Errorf("as plain manifests\n%s\nthrough kustomize\n%s", got, want)
	}
}

func TestABadManifestIsNamedByFileLineAndDocument(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	for _, c := range []struct {
		name   string
		repo   files
		choose *unit.Directory
		want   []string
		line   int
		not    string
	}{
		{name: "not YAML", repo: files{"a/x.yaml": named("x", "y") + "---\nb: [\n"}, want: []string{"a/x.yaml:", "document 3", "not valid YAML"}, line: 9},
		{name: "not JSON", repo: files{"a/x.json": "{\"apiVersion\": \"v1\",\n\"kind\" \"x\"}"}, want: []string{"a/x.json:2: document 1", "not valid JSON"}, line: 2},
		{name: "JSON that ends early", repo: files{"a/x.json": "{\"apiVersion\":\n"}, want: []string{"a/x.json:", "not valid JSON"}, line: 2},
		{name: "no object", repo: files{"a/x.yaml": named("x") + "---\n- 1\n"}, want: []string{"a/x.yaml:5: document 2", "not a Kubernetes object"}, line: 5},
		{name: "another tool's file", repo: files{"a/values.yaml": "replicas: 3\n"}, want: []string{"a/values.yaml:1: document 1", "no apiVersion and no kind"}, line: 1},
		{name: "another tool's JSON", repo: files{"a/renovate.json": "[]"}, want: []string{"a/renovate.json:1", "not a Kubernetes object"}, line: 1},
		{name: "no name", repo: files{"a/x.yaml": named("x") + "---\napiVersion: v1\nkind: Secret\n"}, want: []string{"a/x.yaml:5: document 2", "metadata.name"}, line: 5},
		{name: "a name that the server makes up", repo: files{"a/x.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {generateName: x-}\n"}, want: []string{"a/x.yaml:1", "generateName"}, line: 1},
		{name: "an object in a list without a name", repo: files{"a/x.yaml": "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod}\n"}, want: []string{"a/x.yaml:1", "metadata.name"}, line: 1},
		{name: "one object twice", repo: files{"a/x.yaml": named("x"), "a/y.yaml": named("y", "x")}, want: []string{"a/y.yaml:5: document 2", "ConfigMap x", "a/x.yaml:1: document 1"}, line: 5},
		{name: "a key twice", repo: files{"a/x.yaml": named("x") + "data: {a: b}\ndata: {c: d}\n"}, want: []string{"a/x.yaml:5", "already defined"}, line: 5},
		{name: "a key that is a number", repo: files{"a/x.yaml": named("x") + "data:\n  1: b\n"}, want: []string{"a/x.yaml:5", "not a string"}, line: 5},
		{name: "infinity", repo: files{"a/x.yaml": named("x") + "data: {a: .inf}\n"}, want: []string{"a/x.yaml:1", "JSON"}, line: 1},
		{name: "a secret that is no YAML", repo: files{"a/x.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData:\n  k: *hunter2hunter2\n"}, want: []string{"a/x.yaml", "document 1"}, not: "hunter2"},
		{name: "a secret as a key", repo: files{"a/x.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData:\n  ? [hunter2hunter2]\n  : x\n"}, want: []string{"a/x.yaml", "document 1"}, not: "hunter2"},
		{name: "aliases of aliases", repo: files{"a/x.yaml": bomb(9, 10)}, want: []string{"a/x.yaml", "aliases"}},
		{name: "nesting without end", repo: files{"a/x.yaml": strings.Repeat("[", 200_000)}, want: []string{"a/x.yaml", "document 1"}},
		{name: "a link out of the repository", repo: files{"a/x.yaml": linkTo + "../../etc/passwd"}, want: []string{"leaves the repository"}},
		{name: "a link to nowhere", repo: files{"a/x.yaml": linkTo + "y"}, want: []string{"a/x.yaml", "nowhere"}},
		{name: "a large file", repo: files{"a/x.yaml": strings.Repeat("#", 9<<20)}, want: []string{"a/x.yaml", "limit"}},
		{name: "a kustomization among them", repo: plain.With(files{"a/sub/kustomization.yml": "resources: [sub.yaml]\n"}), choose: &unit.Directory{Recurse: true}, want: []string{"a/sub/kustomization.yml", "kustomization"}},
		{name: "a kustomization in the way", repo: plain.With(files{"a/Kustomization": "resources: [db.yml]\n"}), choose: &unit.Directory{}, want: []string{"a/Kustomization", "kustomization"}},
		{name: "nothing", repo: files{"a/README.md": "x"}, want: []string{"a has no kustomization file and no manifests"}},
		{name: "nothing that is taken", repo: plain, choose: &unit.Directory{Include: []string{"z*"}}, want: []string{"spec.source.directory"}},
		{name: "directories without end", repo: files{"a/" + strings.Repeat("d/", 70) + "x.yaml": named("x")}, choose: &unit.Directory{Recurse: true}, want: []string{"64 deep"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := ask(c.repo, "a")
			q.Directory = c.choose
			bad := refused(t, r, q)
			for _, w := range c.want {
				if !strings.Contains(bad.Message, w) {
					t.Errorf("%q does not say %q", bad.Message, w)
				}
			}
			if c.line != 0 && bad.Line != c.line {
				t.Errorf("line %d, want %d", bad.Line, c.line)
			}
			if c.not != "" && strings.Contains(bad.Message+bad.Hint, c.not) {
				t.Errorf("%q tells a secret", bad.Message)
			}
			if bad.File == "" && c.name != "a link out of the repository" {
				t.Errorf("%q names no file", bad.Message)
			}
		})
	}
}

// One directory that holds itself many times over is small in Git.
func TestATreeOfEqualDirectoriesIsBounded(t *testing.T) {
	tree := newMemTree()
	root := tree.Add(files{"x.yaml": named("x")})
	for range 12 {
		var entries []unit.TreeEntry
		for i := range 10 {
			entries = append(entries, unit.TreeEntry{Name: fmt.Sprint("d", i), Mode: unit.ModeDir, Hash: root})
		}
		root = tree.Put(entries)
	}
	r := newRenderer(t, render.Config{})
	bad := refused(t, r, unit.RenderRequest{Snapshot: unit.Snapshot{Root: root, Tree: tree}, Path: "d0/d1", Directory: &unit.Directory{Recurse: true, Include: []string{"no"}}})
	if !strings.Contains(bad.Message, "more than") {
		t.Error(bad.Message)
	}
}

func TestOnlyWhatAPlainDirectoryTakesHasItRenderedAgain(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	got, err := r.Render(t.Context(), ask(plain, "a"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		changes files
		holds   bool
	}{
		{"a file outside", files{"other/x.yaml": "x"}, true},
		{"a file that is no manifest", files{"a/README.md": "changed"}, true},
		{"a file below", files{"a/sub/sub.yaml": "changed", "a/sub/new.yaml": "x"}, true},
		{"a hidden file", files{"a/.hidden.yaml": "changed"}, true},
		{"a manifest", files{"a/db.yml": named("db2")}, false},
		{"a new manifest", files{"a/new.yaml": named("new")}, false},
		{"a manifest that goes", files{"a/db.yml": ""}, false},
		{"what a link points at", files{"shared/linked.yaml": named("z")}, false},
		{"a kustomization that comes", files{"a/kustomization.yml": "resources: []"}, false},
	} {
		s := snapshot(plain.With(c.changes))
		holds, err := got.Reads.Holds(t.Context(), s.Tree, s.Root, unit.Facts{}, r.Version())
		if err != nil || holds != c.holds {
			t.Errorf("%s: holds %t, %v", c.name, holds, err)
		}
	}
}

func TestWhileItsReadsHoldAPlainDirectoryGivesTheSame(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	rng := rand.New(rand.NewPCG(3, 4))
	tree := newMemTree()
	choices := []*unit.Directory{nil, {}, {Recurse: true}, {Recurse: true, Exclude: []string{"tests"}}, {Recurse: true, Include: []string{"sub/**"}}}
	held, renewed := 0, 0
	for range 60 {
		base := mutate(rng, plain)
		root := tree.Add(base)
		for _, choose := range choices {
			q := unit.RenderRequest{Snapshot: unit.Snapshot{Root: root, Tree: tree}, Path: "a", Directory: choose}
			before, reads := result(t, r, q)
			for range 5 {
				next := q
				next.Snapshot.Root = tree.Add(mutate(rng, base))
				holds, err := reads.Holds(t.Context(), tree, next.Snapshot.Root, next.Facts, r.Version())
				if err != nil {
					t.Fatal(err)
				}
				after, _ := result(t, r, next)
				if holds && after != before {
					t.Fatalf("%+v: its reads hold, and yet\n%s\nbecame\n%s", choose, before, after)
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
