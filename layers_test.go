package capstan_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const module = "github.com/capstan-gitops/capstan"

// layer is a depguard rule of .golangci.yml.
type layer struct {
	ListMode string   `json:"list-mode"`
	Files    []string `json:"files"`
	Allow    []string `json:"allow"`
	Deny     []struct {
		Pkg  string `json:"pkg"`
		Desc string `json:"desc"`
	} `json:"deny"`
}

func layers(t *testing.T) map[string]layer {
	t.Helper()
	b, err := os.ReadFile(".golangci.yml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Linters struct {
			Settings struct {
				Depguard struct {
					Rules map[string]layer `json:"rules"`
				} `json:"depguard"`
			} `json:"settings"`
		} `json:"linters"`
	}
	if err := yaml.Unmarshal(b, &config); err != nil {
		t.Fatal(err)
	}
	rules := config.Linters.Settings.Depguard.Rules
	if len(rules) == 0 {
		t.Fatal(".golangci.yml has no depguard rules")
	}
	return rules
}

// goFiles maps each file of this module to what it imports.
func goFiles(t *testing.T) map[string][]string {
	t.Helper()
	files := map[string][]string{}
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			if p != "." && (name == "e2e" || name == "testdata" || name == "bin" || strings.HasPrefix(name, ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(p) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		imports := []string{}
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
			imports = append(imports, name)
		}
		files[filepath.ToSlash(p)] = imports
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestImportsKeepTheLayers(t *testing.T) {
	files := goFiles(t)
	for name, rule := range layers(t) {
		t.Run(name, func(t *testing.T) {
			matches := rule.matcher(t)
			for _, f := range slices.Sorted(maps.Keys(files)) {
				if !matches(f) {
					continue
				}
				for _, imported := range files[f] {
					if why, ok := rule.allows(imported); !ok {
						t.Errorf("%s imports %s: %s", f, imported, why)
					}
				}
			}
		})
	}
}

// Only e2e, a module of its own, sees both houses.
func TestNothingImportsEndToEndTests(t *testing.T) {
	for f, imports := range goFiles(t) {
		for _, i := range imports {
			if i == module+"/e2e" || strings.HasPrefix(i, module+"/e2e/") {
				t.Errorf("%s imports %s", f, i)
			}
		}
	}
}

func TestEveryRoomHasARule(t *testing.T) {
	rules := layers(t)
	for f := range goFiles(t) {
		parts := strings.Split(f, "/")
		if len(parts) < 3 || parts[0] != "agent" && parts[0] != "hub" || parts[1] == "cmd" {
			continue
		}
		house := parts[0] + "-"
		if !slices.ContainsFunc(slices.Collect(maps.Keys(rules)), func(name string) bool {
			return strings.HasPrefix(name, house) && rules[name].matcher(t)(f)
		}) {
			t.Errorf("%s: no %s* rule of .golangci.yml says what the room may import", f, house)
		}
	}
}

func TestNoPackageIsNamedAfterNothing(t *testing.T) {
	for f := range goFiles(t) {
		for dir := range strings.SplitSeq(path.Dir(f), "/") {
			if slices.Contains([]string{"util", "utils", "common", "helpers", "misc"}, dir) {
				t.Errorf("%s: name the package after what it provides", f)
			}
		}
	}
}

// matcher tells which files a rule is about, as depguard does.
func (l layer) matcher(t *testing.T) func(string) bool {
	t.Helper()
	var with, without []*regexp.Regexp
	for _, f := range l.Files {
		pattern, negated := strings.CutPrefix(f, "!")
		re := glob(t, strings.TrimPrefix(pattern, "${config-path}/"))
		if negated {
			without = append(without, re)
		} else {
			with = append(with, re)
		}
	}
	among := func(list []*regexp.Regexp, f string) bool {
		return slices.ContainsFunc(list, func(re *regexp.Regexp) bool { return re.MatchString(f) })
	}
	return func(f string) bool { return (len(with) == 0 || among(with, f)) && !among(without, f) }
}

func glob(t *testing.T, pattern string) *regexp.Regexp {
	t.Helper()
	s := regexp.QuoteMeta(pattern)
	s = strings.ReplaceAll(s, `\*\*`, `.*`)
	s = strings.ReplaceAll(s, `\*`, `[^/]*`)
	s = regexp.MustCompile(`\\\{(.*?)\\\}`).ReplaceAllStringFunc(s, func(alt string) string {
		alt = strings.TrimSuffix(strings.TrimPrefix(alt, `\{`), `\}`)
		return "(" + strings.ReplaceAll(alt, ",", "|") + ")"
	})
	re, err := regexp.Compile("^" + s + "$")
	if err != nil {
		t.Fatalf("%s: %v", pattern, err)
	}
	return re
}

// allows tells whether a rule lets an import through, as depguard does: of the
// entries that match, the longer one wins.
func (l layer) allows(imported string) (why string, ok bool) {
	var denied []string
	desc := map[string]string{}
	for _, d := range l.Deny {
		denied = append(denied, d.Pkg)
		desc[d.Pkg] = d.Desc
	}
	allow, isAllowed := entry(l.Allow, imported)
	deny, isDenied := entry(denied, imported)
	switch l.ListMode {
	case "strict":
		return "not among what is allowed", isAllowed && (!isDenied || len(allow) > len(deny))
	case "lax":
		return desc[deny], !isDenied || isAllowed && len(allow) > len(deny)
	}
	return "list-mode " + l.ListMode + " is not known here", false
}

// entry finds the entry of a list that is about an import: the last one, in
// order, that is not greater, if it is a prefix.
func entry(list []string, imported string) (string, bool) {
	if slices.Contains(list, "$gostd") && !strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
		return "$gostd", true
	}
	list = slices.Clone(list)
	sort.Strings(list)
	i := sort.Search(len(list), func(i int) bool { return strings.TrimRight(list[i], "$") > imported }) - 1
	if i < 0 {
		return "", false
	}
	e := list[i]
	if exact, ok := strings.CutSuffix(e, "$"); ok {
		return e, exact == imported
	}
	if !strings.ContainsAny(e, "./") && strings.Contains(imported, ".") {
		return "", false
	}
	return e, strings.HasPrefix(imported, e)
}

// The rules say no where they should: a slip in a pattern would let all pass.
func TestLayersRefuseWhatTheyMust(t *testing.T) {
	rules := layers(t)
	allowed := func(file, imported string) bool {
		for _, r := range rules {
			if _, ok := r.allows(imported); r.matcher(t)(file) && !ok {
				return false
			}
		}
		return true
	}
	for _, c := range []struct {
		file, imported string
		want           bool
	}{
		{"agent/cmd/capstan-agent/main.go", module + "/agent", true},
		{"agent/agent.go", module + "/agent/source", true},
		{"agent/source/git.go", module + "/agent/unit", true},
		{"agent/source/git.go", module + "/agent/render", false},
		{"agent/source/git.go", module + "/agent", false},
		{"agent/apply/apply.go", module + "/agent/watch", false},
		{"agent/gate/decide.go", module + "/agent/apply", false},
		{"agent/gate/decide.go", "net/http", false},
		{"agent/images/images.go", module + "/agent/unit", true},
		{"agent/images/images.go", module + "/agent/render", false},
		{"agent/reconcile/render.go", module + "/agent/images", true},
		{"agent/unit/unit.go", module + "/agent/gate", false},
		{"agent/reconcile/pass.go", module + "/agent/source", false},
		{"agent/uplink/link.go", module + "/hub/broker", false},
		{"hub/hub.go", module + "/hub/api", true},
		{"hub/hub.go", module + "/agent/unit", false},
		{"hub/api/api.go", module + "/hub/store", false},
		{"hub/api/api.go", "k8s.io/client-go/rest", false},
		{"hub/api/api.go", "k8s.io/apimachinery/pkg/labels", true},
		{"pkg/wire/doc.go", module + "/pkg/fleet", true},
		{"pkg/wire/doc.go", module + "/agent/unit", false},
		{"pkg/wire/doc.go", module + "/hub/view", false},
		{"pkg/fleet/words.go", "encoding/json", true},
		{"pkg/fleet/words.go", module + "/pkg/wire", false},
		{"pkg/fleet/words.go", "k8s.io/apimachinery/pkg/labels", false},
		{"agent/source/git.go", "github.com/go-git/go-git/v5", true},
		{"agent/render/tree.go", "github.com/go-git/go-git/v5", false},
		{"agent/render/worker/build.go", "sigs.k8s.io/kustomize/api/krusty", true},
		{"agent/render/render.go", "sigs.k8s.io/kustomize/api/krusty", false},
		{"agent/render/worker/helm.go", "helm.sh/helm/v4/pkg/engine", true},
		{"agent/render/render.go", "helm.sh/helm/v4/pkg/engine", false},
		{"agent/render/render.go", module + "/agent/render/worker", false},
		{"agent/render/render_test.go", module + "/agent/render/worker", true},
		{"agent/cmd/capstan-render/main.go", module + "/agent/render/worker", true},
		{"agent/cmd/capstan-agent/main.go", module + "/agent/render/worker", false},
		{"agent/cmd/capstan-keys/main.go", module + "/agent/keyring/clouds", true},
		{"agent/cmd/capstan-agent/main.go", module + "/agent/keyring/clouds", false},
		{"agent/keyring/program.go", module + "/agent/keyring/clouds", false},
		{"agent/keyring/program.go", "github.com/getsops/sops/v3/kms", false},
		{"agent/keyring/clouds/decrypt.go", "github.com/getsops/sops/v3/kms", true},
		{"agent/cmd/capstan-agent/main.go", "sigs.k8s.io/kustomize/api/krusty", false},
		{"agent/apply/apply.go", "github.com/fluxcd/pkg/ssa", true},
		{"agent/watch/kind.go", "github.com/fluxcd/pkg/ssa", false},
		{"agent/health/health.go", "github.com/fluxcd/cli-utils/pkg/kstatus/status", true},
		{"agent/watch/kind.go", module + "/agent/health", true},
		{"agent/health/health.go", "k8s.io/client-go/rest", false},
		{"agent/watch/kind.go", "sigs.k8s.io/controller-runtime/pkg/client", false},
		{"hub/broker/server.go", "github.com/nats-io/nats-server/v2/server", true},
		{"hub/view/view.go", "github.com/nats-io/nats.go", false},
		{"pkg/signing/plan.go", "github.com/nats-io/nkeys", true},
		{"pkg/signing/plan.go", "github.com/nats-io/nats.go", false},
		{"hub/view/view.go", "github.com/nats-io/nkeys", false},
		{"hub/web/page.go", "html/template", true},
		{"hub/api/api.go", "html/template", false},
		{"hub/cmd/capstan/get.go", "github.com/spf13/cobra", true},
		{"hub/api/api.go", "github.com/spf13/cobra", false},
	} {
		if got := allowed(c.file, c.imported); got != c.want {
			t.Errorf("%s imports %s: allowed %t, want %t", c.file, c.imported, got, c.want)
		}
	}
}
