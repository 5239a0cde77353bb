package images_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/agent/images"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var site = images.Config{
	Mirrors: []images.Mirror{
		{From: "docker.io", To: "mirror.example:5000/hub"},
		{From: "docker.io/library", To: "mirror.example:5000/official"},
		{From: "docker.io/library/nginx", To: "mirror.example:5000/web/nginx"},
		{From: "ghcr.io/org", To: "mirror.example:5000/org"},
		{From: "internal.example", To: "internal.example/cache"},
		{From: "localhost:5000", To: "mirror.example:5000/local"},
	},
	Paths: []images.Path{
		{Group: "argoproj.io", Kind: "Rollout", Path: "spec.template.spec"},
		{Group: "example.com", Kind: "Fleet", Path: "spec.images[]"},
		{Group: "example.com", Kind: "Fleet", Path: "spec.sidecars.*.image"},
		{Group: "example.com", Kind: "Fleet", Path: "spec.groups[].members[].image"},
	},
}

func rewriter(t testing.TB, c images.Config) *images.Rewriter {
	t.Helper()
	r, err := images.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const sum = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestAnImageIsPulledFromTheLongestMirror(t *testing.T) {
	r := rewriter(t, site)
	for _, c := range []struct{ image, want string }{
		{"redis", "mirror.example:5000/official/redis"},
		{"redis:7", "mirror.example:5000/official/redis:7"},
		{"library/redis:7", "mirror.example:5000/official/redis:7"},
		{"docker.io/redis", "mirror.example:5000/official/redis"},
		{"index.docker.io/library/redis", "mirror.example:5000/official/redis"},
		{"nginx", "mirror.example:5000/web/nginx"},
		{"nginx:1.25" + sum, "mirror.example:5000/web/nginx:1.25" + sum},
		{"nginx" + sum, "mirror.example:5000/web/nginx" + sum},
		{"nginx-extra", "mirror.example:5000/official/nginx-extra"},
		{"grafana/grafana:11", "mirror.example:5000/hub/grafana/grafana:11"},
		{"docker.io/grafana/grafana", "mirror.example:5000/hub/grafana/grafana"},
		{"ghcr.io/org/tool/sub:v1", "mirror.example:5000/org/tool/sub:v1"},
		{"ghcr.io/organ/tool:v1", "ghcr.io/organ/tool:v1"},
		{"ghcr.io/other/tool", "ghcr.io/other/tool"},
		{"quay.io/x/y:z", "quay.io/x/y:z"},
		{"localhost:5000/x:1", "mirror.example:5000/local/x:1"},
		{"localhost/x", "localhost/x"},
		{"internal.example/x", "internal.example/cache/x"},
		{"internal.example/cache/x", "internal.example/cache/x"},
		{"mirror.example:5000/official/redis", "mirror.example:5000/official/redis"},
		{"", ""},
		{"$(IMAGE)", "$(IMAGE)"},
		{"has space", "has space"},
		{"Upper/Case", "Upper/Case"},
		{"docker.io/", "docker.io/"},
		{":5", ":5"},
		{"docker.io//x", "docker.io//x"},
	} {
		if got := r.Image(c.image); got != c.want {
			t.Errorf("%q becomes %q, want %q", c.image, got, c.want)
		}
	}
	var none *images.Rewriter
	if got := none.Image("redis"); got != "redis" {
		t.Errorf("without mirrors redis becomes %q", got)
	}
}

const pod = `
initContainers: [{name: i, image: %[1]s}]
containers: [{name: a, image: %[1]s, args: [redis]}, {name: b, image: %[1]s}, {name: c}]
ephemeralContainers: [{name: e, image: %[1]s}]
volumes: [{name: v, image: {reference: %[1]s, pullPolicy: Always}}, {name: w, configMap: {name: redis}}]
`

// in puts a pod's spec below a path.
func in(image, path string) string {
	text := fmt.Sprintf(pod, image)
	steps := strings.Split(path, ".")
	for _, step := range slices.Backward(steps) {
		text = step + ":\n  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
	}
	return text
}

func object(t testing.TB, apiVersion, kind, text string) unit.Object {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte("apiVersion: " + apiVersion + "\nkind: " + kind + "\nmetadata: {name: x, annotations: {image: redis}}\n" + text))
	if err != nil {
		t.Fatal(err)
	}
	b, err := fleet.Canonical(raw)
	if err != nil {
		t.Fatal(err)
	}
	group, version, ok := strings.Cut(apiVersion, "/")
	if !ok {
		group, version = "", apiVersion
	}
	return unit.Object{Ref: fleet.ObjectRef{Group: group, Version: version, Kind: kind, Name: "x"}, JSON: b}
}

func TestEveryKindThatHoldsAPodIsRewritten(t *testing.T) {
	const to = "mirror.example:5000/official/redis"
	r := rewriter(t, site)
	for _, c := range []struct{ apiVersion, kind, before, after string }{
		{"v1", "Pod", in("redis", "spec"), in(to, "spec")},
		{"v1", "PodTemplate", in("redis", "template.spec"), in(to, "template.spec")},
		{"v1", "ReplicationController", in("redis", "spec.template.spec"), in(to, "spec.template.spec")},
		{"apps/v1", "Deployment", in("redis", "spec.template.spec"), in(to, "spec.template.spec")},
		{"apps/v1", "ReplicaSet", in("redis", "spec.template.spec"), in(to, "spec.template.spec")},
		{"apps/v1", "StatefulSet", in("redis", "spec.template.spec"), in(to, "spec.template.spec")},
		{"apps/v1", "DaemonSet", in("redis", "spec.template.spec"), in(to, "spec.template.spec")},
		{"batch/v1", "Job", in("redis", "spec.template.spec"), in(to, "spec.template.spec")},
		{"batch/v1", "CronJob", in("redis", "spec.jobTemplate.spec.template.spec"), in(to, "spec.jobTemplate.spec.template.spec")},
		{"argoproj.io/v1alpha1", "Rollout", in("redis", "spec.template.spec"), in(to, "spec.template.spec")},
		{
			"example.com/v1", "Fleet",
			"spec: {image: redis, images: [redis, quay.io/x/y, 3], sidecars: {a: {image: redis}, b: {}}, groups: [{members: [{image: redis}]}, {}]}\n",
			"spec: {image: redis, images: [" + to + ", quay.io/x/y, 3], sidecars: {a: {image: " + to + "}, b: {}}, groups: [{members: [{image: " + to + "}]}, {}]}\n",
		},
		{"example.com/v1", "Deployment", in("redis", "spec.template.spec"), in("redis", "spec.template.spec")},
		{"v1", "ConfigMap", "data: {image: redis}\n", "data: {image: redis}\n"},
		{"apps/v1", "Deployment", "spec: {replicas: 12345678901234567890, template: {spec: {containers: [{image: redis}]}}}\n", "spec: {replicas: 12345678901234567890, template: {spec: {containers: [{image: " + to + "}]}}}\n"},
		{"apps/v1", "Deployment", "spec: {template: {spec: {containers: {image: redis}}}}\n", "spec: {template: {spec: {containers: {image: redis}}}}\n"},
	} {
		before := object(t, c.apiVersion, c.kind, c.before)
		was := string(before.JSON)
		got, err := r.Rewrite([]unit.Object{before})
		if err != nil {
			t.Fatal(err)
		}
		if want := object(t, c.apiVersion, c.kind, c.after); string(got[0].JSON) != string(want.JSON) {
			t.Errorf("%s:\n%s\nwant\n%s", c.kind, got[0].JSON, want.JSON)
		}
		if string(before.JSON) != was {
			t.Errorf("%s: the object that was given has changed", c.kind)
		}
	}
}

func TestTheVersionMovesWithTheMirrorsAlone(t *testing.T) {
	reversed := images.Config{Paths: site.Paths}
	for _, m := range site.Mirrors {
		reversed.Mirrors = append([]images.Mirror{m}, reversed.Mirrors...)
	}
	if a, b := rewriter(t, images.Config{Paths: site.Paths}).Version(), (*images.Rewriter)(nil).Version(); a != "" || b != "" {
		t.Errorf("without mirrors there is a version: %q, %q", a, b)
	}
	other := images.Config{Mirrors: site.Mirrors[:2], Paths: site.Paths}
	if a, b := rewriter(t, site).Version(), rewriter(t, other).Version(); a == "" || a == b {
		t.Errorf("%q and %q", a, b)
	}
}

func TestAMistakeNamesItsField(t *testing.T) {
	for _, c := range []struct {
		cfg  images.Config
		want string
	}{
		{images.Config{Mirrors: []images.Mirror{{To: "a.example"}}}, "images.mirrors[0].from is not set"},
		{images.Config{Mirrors: []images.Mirror{{From: "docker.io"}}}, "images.mirrors[0].to is not set"},
		{images.Config{Mirrors: []images.Mirror{{From: "nginx", To: "a.example"}}}, `images.mirrors[0].from: "nginx"`},
		{images.Config{Mirrors: []images.Mirror{{From: "docker.io", To: "https://a.example"}}}, "images.mirrors[0].to"},
		{images.Config{Mirrors: []images.Mirror{{From: "docker.io", To: "a.example/x:tag"}}}, "images.mirrors[0].to"},
		{images.Config{Mirrors: []images.Mirror{{From: "docker.io/", To: "a.example"}}}, "images.mirrors[0].from"},
		{images.Config{Mirrors: []images.Mirror{{From: "docker.io", To: "a.example"}, {From: "index.docker.io", To: "b.example"}}}, "images.mirrors[1].from"},
		{images.Config{Paths: []images.Path{{Path: "spec"}}}, "images.paths[0].kind"},
		{images.Config{Paths: []images.Path{{Group: "a/v1", Kind: "X", Path: "spec"}}}, "images.paths[0].group"},
		{images.Config{Paths: []images.Path{{Kind: "X"}}}, "images.paths[0].path"},
		{images.Config{Paths: []images.Path{{Kind: "X", Path: "spec..x"}}}, "images.paths[0].path"},
		{images.Config{Paths: []images.Path{{Kind: "X", Path: "spec.[].x"}}}, "images.paths[0].path"},
	} {
		_, err := images.New(c.cfg)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func FuzzImage(f *testing.F) {
	for _, s := range []string{"nginx", "nginx:1@sha256:00", "a.example:5000/b/c:d", "[::1]:5/x", "@", ":", "/", "docker.io/library/"} {
		f.Add(s)
	}
	r := rewriter(f, site)
	f.Fuzz(func(t *testing.T, image string) {
		got := r.Image(image)
		if got == image {
			return
		}
		if r.Image(got) != got {
			t.Errorf("%q becomes %q, and then %q", image, got, r.Image(got))
		}
		if i := strings.IndexByte(image, '@'); i >= 0 && !strings.HasSuffix(got, image[i:]) {
			t.Errorf("%q becomes %q without its digest", image, got)
		}
		if !strings.HasPrefix(got, "mirror.example:5000/") && !strings.HasPrefix(got, "internal.example/cache/") {
			t.Errorf("%q becomes %q, which is no mirror", image, got)
		}
	})
}

func FuzzRewrite(f *testing.F) {
	f.Add(`{"spec":{"template":{"spec":{"containers":[{"image":"nginx"}]}}}}`)
	f.Add(`{"spec":{"template":{"spec":{"volumes":[{"image":{"reference":1}}],"containers":{}}}}}`)
	f.Add(`{"spec":[]}`)
	r := rewriter(f, site)
	f.Fuzz(func(t *testing.T, text string) {
		b, err := fleet.Canonical([]byte(text))
		if err != nil || b[0] != '{' {
			return
		}
		o := unit.Object{Ref: fleet.ObjectRef{Group: "apps", Kind: "Deployment"}, JSON: b}
		once, err := r.Rewrite([]unit.Object{o})
		if err != nil {
			t.Fatal(err)
		}
		twice, err := r.Rewrite(once)
		if err != nil || string(twice[0].JSON) != string(once[0].JSON) {
			t.Errorf("%s became %s, and then %s, %v", b, once[0].JSON, twice[0].JSON, err)
		}
	})
}
