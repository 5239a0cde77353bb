package render_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/render"
)

const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"

// bomb is YAML whose aliases stand for width^depth nodes.
func bomb(depth, width int) string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\nl0: &l0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := range depth {
		fmt.Fprintf(&b, "l%d: &l%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*l%d,", i), width), ","))
	}
	return b.String()
}

// diamond is bases of which each includes the one below twice, through two
// others with a prefix each.
func diamond(levels int) files {
	repo := files{"a/n0/kustomization.yaml": "configMapGenerator: [{name: x, literals: [a=b]}]\n"}
	for i := range levels {
		for _, side := range []string{"l", "r"} {
			repo[fmt.Sprintf("a/%s%d/kustomization.yaml", side, i)] = fmt.Sprintf("namePrefix: %s-\nresources: [../n%d]\n", side, i)
		}
		repo[fmt.Sprintf("a/n%d/kustomization.yaml", i+1)] = fmt.Sprintf("resources: [../l%d, ../r%d]\n", i, i)
	}
	return repo
}

// badRepo is one that somebody got wrong. What is written to do harm is in
// agent/attack_test.go, in real Git.
type badRepo struct {
	name string
	repo files
	path string   // "a" if not given
	want []string // in the message
	not  string   // nowhere
}

func kustomization(text string) files { return files{"a/kustomization.yaml": text} }

var programs = []badRepo{
	{name: "a Helm chart without a release's name", repo: kustomization("helmCharts: [{name: x, repo: 'https://charts.example'}]\n"), want: []string{"a/kustomization.yaml:1", "chart x (helmCharts[0])", "releaseName"}},
	{name: "a Helm chart at any version", repo: kustomization("helmCharts: [{name: x, releaseName: x, version: '>1', repo: 'https://charts.example'}]\n"), want: []string{"chart x", "not one exact version"}},
	{name: "a Helm chart that is not there", repo: kustomization("helmCharts: [{name: x, releaseName: x}]\n"), want: []string{"chart x is not at a/charts/x"}},
	{name: "a Helm chart out of the repository", repo: kustomization("helmGlobals: {chartHome: ../../../etc}\nhelmCharts: [{name: x, releaseName: x}]\n"), want: []string{"leaves the repository"}},
	{name: "a Helm chart's name that climbs", repo: kustomization("helmCharts: [{name: ../x, releaseName: x}]\n"), want: []string{"no name, or one that no chart can have"}},
	{name: "a Helm chart named like a flag", repo: kustomization("helmCharts: [{name: --post-renderer=/bin/sh, releaseName: x}]\n"), want: []string{"no name, or one that no chart can have"}},
	{name: "Helm's configuration", repo: kustomization("helmGlobals: {configHome: /root}\nhelmCharts: [{name: x, releaseName: x}]\n"), want: []string{"configHome is refused"}},
	{name: "a Helm chart's values out of the repository", repo: kustomization("helmCharts: [{name: x, releaseName: x, valuesFile: ../../etc/passwd}]\n").With(files{"a/charts/x/Chart.yaml": "apiVersion: v2\nname: x\nversion: 1.0.0\n"}), want: []string{"leaves the repository"}},
	{name: "a Helm generator", repo: kustomization("generators:\n- |-\n  apiVersion: builtin\n  kind: HelmChartInflationGenerator\n  metadata: {name: x}\n  name: x\n"), want: []string{"a/kustomization.yaml", "elm"}},
	{name: "a plugin", repo: kustomization("generators:\n- |-\n  apiVersion: evil.example/v1\n  kind: Run\n  metadata: {name: x}\n"), want: []string{"a/kustomization.yaml", "plugins", "refused"}},
	{name: "an exec function", repo: kustomization("generators:\n- |-\n  apiVersion: evil.example/v1\n  kind: Run\n  metadata:\n    name: x\n    annotations:\n      config.kubernetes.io/function: |\n        exec: {path: /bin/sh}\n"), want: []string{"a/kustomization.yaml", "refused"}},
	{name: "a container function", repo: kustomization("generators:\n- |-\n  apiVersion: evil.example/v1\n  kind: Run\n  metadata:\n    name: x\n    annotations:\n      config.kubernetes.io/function: |\n        container: {image: evil}\n"), want: []string{"a/kustomization.yaml", "refused"}},
}

var wrongs = []badRepo{
	{name: "no such path", repo: guestbook, path: "apps/nowhere", want: []string{"apps/nowhere"}},
	{name: "a path that is a file", repo: guestbook, path: "apps/guestbook/base/deployment.yaml", want: []string{"apps/guestbook/base/deployment.yaml", "file"}},
	{name: "a path out of the repository", repo: guestbook, path: "../etc", want: []string{"../etc", "leaves"}},
	{name: "an absolute path", repo: guestbook, path: "/etc", want: []string{"/etc", "leaves"}},
	{name: "a path that goes up in the middle", repo: guestbook, path: "apps/../../etc", want: []string{"leaves"}},
	{name: "an unknown word in a path", repo: guestbook, path: "apps/{{ .cluster.uid }}", want: []string{".cluster.uid"}},
	{name: "a label the cluster has not", repo: guestbook, path: `apps/{{ label "region" }}`, want: []string{"region"}},
	{name: "no kustomization and no manifest", repo: files{"a/b.txt": fmt.Sprintf(configMap, "b")}, want: []string{"a has no kustomization"}},
	{name: "no kustomization in a base", repo: kustomization("resources: [../b]\n").With(files{"b/x.yaml": "x"}), want: []string{"b has no kustomization"}},
	{name: "two kustomizations", repo: kustomization("resources: []\n").With(files{"a/kustomization.yml": "resources: []\n"}), want: []string{"a", "multiple"}},
	{name: "a missing resource", repo: kustomization("resources:\n- here.yaml\n- gone.yaml\n").With(files{"a/here.yaml": fmt.Sprintf(configMap, "b")}), want: []string{"a/kustomization.yaml:3", "a/gone.yaml"}},
	{name: "a missing base", repo: kustomization("resources:\n- ../gone\n"), want: []string{"a/kustomization.yaml:2", "gone is not in"}},
	{name: "a missing generator file", repo: kustomization("configMapGenerator: [{name: x, files: [gone.txt]}]\n"), want: []string{"a/kustomization.yaml", "a/gone.txt"}},
	{name: "a base out of the repository", repo: kustomization("resources: [../../../etc]\n"), want: []string{"leaves the repository"}},
	{name: "a link out of the repository", repo: kustomization("resources: [b.yaml]\n").With(files{"a/b.yaml": linkTo + "../../etc/passwd"}), want: []string{"leaves the repository"}},
	{name: "an absolute link", repo: kustomization("resources: [b.yaml]\n").With(files{"a/b.yaml": linkTo + "/etc/passwd"}), want: []string{"a/b.yaml", "leaves the repository"}},
	{name: "links in a circle", repo: kustomization("resources: [b.yaml]\n").With(files{"a/b.yaml": linkTo + "c.yaml", "a/c.yaml": linkTo + "b.yaml"}), want: []string{"links"}},
	{name: "bases in a circle", repo: kustomization("resources: [../b]\n").With(files{"b/kustomization.yaml": "resources: [../a]\n"}), want: []string{"cycle"}},
	{name: "an unknown field", repo: kustomization("resourcse: [x]\n"), want: []string{"a/kustomization.yaml", "resourcse"}},
	{name: "an object without a kind", repo: kustomization("resources: [b.yaml]\n").With(files{"a/b.yaml": "apiVersion: v1\nmetadata: {name: x}\n"}), want: []string{"kind"}},
	{name: "an object without a name", repo: kustomization("resources: [b.yaml]\n").With(files{"a/b.yaml": "apiVersion: v1\nkind: ConfigMap\n"}), want: []string{"name"}},
	{name: "generateName", repo: kustomization("resources: [b.yaml]\n").With(files{"a/b.yaml": "apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: x-}\n"}), want: []string{"ame"}},
	{name: "one object twice", repo: kustomization("resources: [b.yaml, c.yaml]\n").With(files{"a/b.yaml": fmt.Sprintf(configMap, "x"), "a/c.yaml": fmt.Sprintf(configMap, "x")}), want: []string{"x"}},
	{name: "a patch that quotes a secret", repo: kustomization("resources: [s.yaml]\npatches:\n- path: p.yaml\n  target: {kind: Secret}\n").With(files{
		"a/s.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: hunter2hunter2}\n",
		"a/p.yaml": "kind: Secret\nstringData:\n  k: hunter2hunter2\n",
	}), want: []string{"a/"}, not: "hunter2"},
	{name: "an inline patch with a secret", repo: kustomization("resources: [s.yaml]\npatches:\n- target: {kind: Secret}\n  patch: |\n    kind: Secret\n    stringData:\n      password: hunter2hunter2\n      url: postgres://u:hunter2@a/kustomization\n").With(files{
		"a/s.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: old-hunter2, p: kustomization.yaml}\n",
	}), want: []string{"a/kustomization.yaml"}, not: "hunter2"},
	{name: "a secret that is no YAML", repo: kustomization("resources: [s.yaml]\n").With(files{
		"a/s.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n  k: *hunter2hunter2\n",
	}), want: []string{"a/s.yaml"}, not: "hunter2"},
	{name: "literals without a key", repo: kustomization("secretGenerator:\n- name: s\n  literals:\n  - hunter2hunter2\n"), want: []string{"a/kustomization.yaml"}, not: "hunter2"},
}

func TestABadRepositoryIsAClearErrorAndTheNextRenderWorks(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	for _, group := range [][]badRepo{programs, wrongs} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				if c.path == "" {
					c.path = "a"
				}
				bad := refused(t, r, ask(c.repo, c.path))
				t.Log(bad.Message, "|", bad.Hint)
				for _, w := range c.want {
					if !strings.Contains(bad.Message, w) {
						t.Errorf("message %q lacks %q", bad.Message, w)
					}
				}
				if c.not != "" && strings.Contains(fmt.Sprintf("%+v", bad), c.not) {
					t.Errorf("the error tells %q: %q", c.not, bad.Message)
				}
				if bad.Hint == "" {
					t.Error("no hint")
				}
				if len(bad.Reads.Renderer) == 0 {
					t.Error("no read-set")
				}
				if got, err := r.Render(t.Context(), ask(guestbook, devOverlay)); err != nil || len(got.Objects) != 2 {
					t.Errorf("the next render: %d objects, %v", len(got.Objects), err)
				}
			})
		}
	}
}

func TestARenderOverItsLimitsKillsTheWorkerAlone(t *testing.T) {
	var many strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&many, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%d}\ndata: {a: b, c: d, e: f}\n", i)
	}
	large := kustomization("resources: [b.yaml]\n").With(files{"a/b.yaml": many.String()})
	for _, c := range []struct {
		want string
		cfg  render.Config
		repo files
		path string
	}{
		{"took more than", render.Config{Timeout: 300 * time.Millisecond}, diamond(20), "a/n20"},
		{"MiB of memory", render.Config{MemoryLimit: smallMemory}, large, "a"},
	} {
		r := newRenderer(t, c.cfg)
		q := ask(c.repo, c.path)
		bad := refused(t, r, q)
		if !strings.Contains(bad.Message, c.want) || !strings.Contains(bad.Message, c.path) || bad.Hint == "" {
			t.Errorf("want %q in %+v", c.want, bad)
		}
		if same, err := bad.Reads.Holds(t.Context(), q.Snapshot.Tree, q.Snapshot.Root, q.Facts, r.Version()); err != nil || !same {
			t.Errorf("nothing changed, yet the read-set holds: %v, %v", same, err)
		}
		if got, err := r.Render(t.Context(), ask(guestbook, devOverlay)); err != nil || len(got.Objects) != 2 {
			t.Errorf("the next render: %d objects, %v", len(got.Objects), err)
		}
		if s := r.Stats(); s.Starts != 2 || s.Renders != 2 || s.PeakRSS == 0 {
			t.Errorf("stats %+v", s)
		}
	}
}
