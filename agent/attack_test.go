package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/plan"
	"github.com/capstan-gitops/capstan/agent/render"
	"github.com/capstan-gitops/capstan/agent/render/worker"
	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// attack is a repository that somebody wrote to do harm. It is pushed over a
// good one, in real Git over HTTP, and must end as the error of the app at evil/.
type attack struct {
	name  string
	files tree // added to the good repository
	// git does with Git's own commands what files can't, and gives the commit.
	git   func(g *repository) string
	ref   source.Ref      // instead of branch main
	path  string          // instead of "evil"
	plain *unit.Directory // plain manifests
	says  []string        // all of it is in the error
	hides string          // is nowhere in the error
	// works marks what is no error: the harm would be to the app beside it.
	works bool
}

// tree is the files of a repository. Content that begins with linkTo is a
// symbolic link; CANARY in content is an address that nobody may connect to.
type tree map[string]string

const linkTo = "-> "

// bounds of the suite: small, so that a bomb need not be large.
var (
	attackLimits  = source.Limits{PackBytes: 8 << 20, ObjectBytes: 2 << 20, TotalBytes: 24 << 20, Objects: 6000}
	attackTimeout = 20 * time.Second
)

const workerArg = "render-worker"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == workerArg {
		if err := worker.Main(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Each attack ends as an error of that one app, in bounded time and memory; no
// connection leaves the worker; what the repository was before stays readable;
// and the app beside it still renders the same digest.
func TestAHostileRepositoryHarmsNobodyElse(t *testing.T) {
	all := slices.Concat(gitAttacks, pathAttacks, remoteAttacks, programAttacks, bombAttacks, leakAttacks, helmAttacks, sealedAttacks)
	if len(all) < 60 {
		t.Errorf("only %d attacks", len(all))
	}
	canary := newCanary(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	renderer, err := render.New(render.Config{Worker: []string{self, workerArg}, MemoryLimit: attackMemory, Timeout: attackTimeout, IdleAfter: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = renderer.Close() })
	for _, a := range all {
		t.Run(a.name, func(t *testing.T) {
			a.strike(t, renderer, canary.address)
			if n := canary.met.Load(); n != 0 {
				t.Fatalf("%d connections were made", n)
			}
			if rss := renderer.Stats().PeakRSS; rss > attackMemory+64<<20 {
				t.Fatalf("a worker used %d MiB, and may use %d", rss>>20, attackMemory>>20)
			}
		})
	}
}

func (a attack) strike(t *testing.T, renderer *render.Renderer, canary string) {
	t.Helper()
	g := newRepository(t)
	ref := a.ref
	if ref.IsZero() {
		ref.Branch = "main"
	}
	first := g.commit(beside, nil)
	g.run("update-ref", "refs/heads/main", first)
	if ref.Tag != "" {
		g.run("update-ref", "refs/tags/"+ref.Tag, first)
	}
	src, err := source.New(source.Config{URL: g.serve(), Ref: ref, Limits: attackLimits})
	if err != nil {
		t.Fatal(err)
	}
	good := fetchNow(t, src)
	want := digestBeside(t, renderer, good)

	next := ""
	if a.git != nil {
		next = a.git(g)
	} else {
		files := maps.Clone(beside)
		for p, c := range a.files {
			files[p] = strings.ReplaceAll(c, "CANARY", canary)
		}
		next = g.commit(files, []string{first})
	}
	if next != "" { // not by update-ref: Git would not point at what it finds malformed
		if err := os.WriteFile(filepath.Join(g.dir, "refs/heads/main"), []byte(next+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	now, err := src.Fetch(t.Context())
	if err != nil {
		a.check(t, err)
		now = good // what was read before stays
	} else {
		path := a.path
		if path == "" {
			path = "evil"
		}
		got, err := renderer.Render(t.Context(), unit.RenderRequest{Snapshot: now, Path: path, Facts: attackFacts, Directory: a.plain, Release: unit.Release{Name: "evil", Namespace: "default"}})
		switch {
		case a.works && err != nil:
			t.Errorf("it is no error, and gave %v", err)
		case a.works:
		case err == nil:
			t.Errorf("it rendered %d objects", len(got.Objects))
		default:
			bad, ok := errors.AsType[*unit.RenderError](err)
			if _, away := errors.AsType[*unit.ChartError](err); !away && (!ok || bad.Hint == "") {
				t.Errorf("%v is not the app's own error with a hint", err)
			}
			a.check(t, err)
		}
	}
	if got := digestBeside(t, renderer, now); got != want {
		t.Errorf("the app beside it renders %s, and rendered %s before", got, want)
	}
}

var attackFacts = unit.Facts{Cluster: "edge-1", Labels: map[string]string{"env": "dev"}}

func (a attack) check(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	t.Log(text)
	if a.works {
		t.Errorf("it is no error, and gave %v", err)
	}
	for _, s := range a.says {
		if !strings.Contains(text, s) {
			t.Errorf("%q is not in: %s", s, text)
		}
	}
	if a.hides != "" && strings.Contains(fmt.Sprintf("%+v", err), a.hides) {
		t.Errorf("the error tells %q: %s", a.hides, text)
	}
	for _, r := range text {
		if r < ' ' || r == 0x7f {
			t.Errorf("control characters for whoever reads it: %q", text)
			break
		}
	}
	if len(text) > 2000 || strings.Contains(text, ".capstan-repository") {
		t.Errorf("an error for nobody: %.2000s", text)
	}
}

// beside is an app that notices when another one's schema is left behind: its
// patch merges containers by name.
var beside = tree{
	"beside/kustomization.yaml": "resources: [web.yaml]\nnamespace: shop\npatches:\n- patch: |\n    apiVersion: apps/v1\n    kind: Deployment\n    metadata: {name: web}\n    spec: {template: {spec: {containers: [{name: sidecar, image: registry.example/sidecar:v1}]}}}\n",
	"beside/web.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n" +
		"    metadata: {labels: {app: web}}\n    spec: {containers: [{name: web, image: registry.example/web:v1}]}\n",
}

func digestBeside(t *testing.T, renderer *render.Renderer, s unit.Snapshot) fleet.Digest {
	t.Helper()
	got, err := renderer.Render(t.Context(), unit.RenderRequest{Snapshot: s, Path: "beside", Facts: attackFacts})
	if err != nil {
		t.Fatalf("the app beside it: %v", err)
	}
	doc, err := plan.Document(nil, "", got.Objects, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := doc.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func fetchNow(t *testing.T, src *source.Repository) unit.Snapshot {
	t.Helper()
	s, err := src.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// canary listens where hostile repositories point.
type canary struct {
	address string
	met     atomic.Int64
}

func newCanary(t *testing.T) *canary {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &canary{address: l.Addr().String()}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.met.Add(1)
			_ = conn.Close()
		}
	}()
	return c
}

// repository is a bare one, written with Git's own commands.
type repository struct {
	t   *testing.T
	dir string
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	g := &repository{t: t, dir: filepath.Join(t.TempDir(), "fleet.git")}
	g.git(nil, "init", "-q", "--bare", "-b", "main", g.dir)
	return g
}

// serve serves it over smart HTTP.
func (g *repository) serve() string {
	g.t.Helper()
	path, err := exec.LookPath("git")
	if err != nil {
		g.t.Fatal(err)
	}
	h := &cgi.Handler{
		Path: path, Args: []string{"http-backend"}, Stderr: &bytes.Buffer{},
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(g.dir), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=" + g.dir},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.Header.Get("Git-Protocol"); p != "" {
			each := *h
			each.Env = append(slices.Clone(h.Env), "GIT_PROTOCOL="+p)
			each.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	}))
	g.t.Cleanup(s.Close)
	return s.URL + "/fleet.git"
}

func (g *repository) git(in []byte, args ...string) string {
	g.t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(g.t.Context()), "git", args...)
	cmd.Env = []string{
		"GIT_CONFIG_NOSYSTEM=1", "HOME=" + g.dir, "PATH=" + os.Getenv("PATH"),
		"GIT_AUTHOR_NAME=dev", "GIT_AUTHOR_EMAIL=dev@example.com", "GIT_COMMITTER_NAME=dev", "GIT_COMMITTER_EMAIL=dev@example.com",
	}
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("git %s: %v: %s", args[0], err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func (g *repository) run(args ...string) string {
	return g.git(nil, append([]string{"-C", g.dir}, args...)...)
}

// object writes one of any kind, well made or not.
func (g *repository) object(kind string, content []byte) string {
	return g.git(content, "-C", g.dir, "hash-object", "-w", "--stdin", "-t", kind, "--literally")
}

// commit writes files, in one go.
func (g *repository) commit(files tree, parents []string) string {
	g.t.Helper()
	var in bytes.Buffer
	fmt.Fprintf(&in, "commit refs/heads/next\ncommitter dev <dev@example.com> %d +0000\ndata 1\nx\n", 1_700_000_000+len(parents))
	for i, p := range parents {
		fmt.Fprintf(&in, "%s %s\n", []string{"from", "merge"}[min(i, 1)], p)
	}
	in.WriteString("deleteall\n")
	for _, p := range slices.Sorted(maps.Keys(files)) {
		mode, content := "100644", files[p]
		if target, ok := strings.CutPrefix(content, linkTo); ok {
			mode, content = "120000", target
		}
		fmt.Fprintf(&in, "M %s inline %s\ndata %d\n%s\n", mode, quoted(p), len(content), content)
	}
	g.git(in.Bytes(), "-C", g.dir, "fast-import", "--quiet", "--force")
	return g.run("rev-parse", "refs/heads/next")
}

// quoted writes a path as fast-import reads it.
func quoted(p string) string {
	if !strings.ContainsAny(p, "\"\\\n\x1b") && !strings.HasPrefix(p, " ") {
		return p
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\x1b", `\033`).Replace(p) + `"`
}

// withTree commits a tree that is made by hand.
func (g *repository) withTree(root string) string {
	return g.object("commit", fmt.Appendf(nil, "tree %s\nparent %s\nauthor dev <dev@example.com> 1700000001 +0000\ncommitter dev <dev@example.com> 1700000001 +0000\n\nx\n",
		root, g.run("rev-parse", "refs/heads/main")))
}

// entry is one of a tree object.
func entry(mode, name, hash string) []byte {
	var h [20]byte
	_, _ = fmt.Sscanf(hash, "%40x", new([]byte))
	for i := range h {
		_, _ = fmt.Sscanf(hash[2*i:2*i+2], "%02x", &h[i])
	}
	return append([]byte(mode+" "+name+"\x00"), h[:]...)
}

// besideTree is the directory of the app beside.
func (g *repository) besideTree() []byte {
	return entry("40000", "beside", g.run("rev-parse", "refs/heads/main:beside"))
}
