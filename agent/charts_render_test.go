package agent_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/charts"
	"github.com/capstan-gitops/capstan/agent/render"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/agent/unit/memtree"
)

// shelf is a server on which charts are kept, as a chart repository and as a registry.
type shelf struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string]string // by path
	asked []string
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{files: map[string]string{}}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		content, ok := s.files[r.URL.Path]
		s.asked = append(s.asked, r.URL.Path)
		s.mu.Unlock()
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprint(w, content)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *shelf) put(path, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = content
}

func (s *shelf) access() unit.ChartAccess {
	return unit.ChartAccess{CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})}
}

// packed is a chart's archive.
func packed(t *testing.T, name, version, template string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for file, content := range map[string]string{
		"Chart.yaml": "apiVersion: v2\nname: " + name + "\nversion: " + version + "\n", "values.yaml": "greeting: hello\n", "templates/x.yaml": template,
	} {
		if err := w.WriteHeader(&tar.Header{Name: name + "/" + file, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(content))
	}
	_ = w.Close()
	_ = z.Close()
	return b.String()
}

func digestOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

const shopTemplate = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {greeting: {{ .Values.greeting }}, chart: {{ .Chart.Version | quote }}}\n"

func fetchingRenderer(t *testing.T, entries ...charts.Entry) *render.Renderer {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	kept, err := charts.New(charts.Config{Entries: entries})
	if err != nil {
		t.Fatal(err)
	}
	r, err := render.New(render.Config{Worker: []string{self, workerArg}, Charts: kept, IdleAfter: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func (s *shelf) ask(repository string, c unit.Chart) unit.RenderRequest {
	c.Repository, c.Name = repository, "shop"
	return unit.RenderRequest{
		Snapshot: memtree.Snapshot(memtree.Files{"values/prod.yaml": "greeting: from Git\n"}), Access: s.access(),
		Release: unit.Release{Name: "web", Namespace: "store"},
		Helm:    &unit.Helm{ValuesFiles: []string{"values/prod.yaml"}, Chart: &c},
	}
}

// unavailable is a chart that can't be had, which is worth another try.
func unavailable(t *testing.T, r *render.Renderer, q unit.RenderRequest) string {
	t.Helper()
	_, err := r.Render(t.Context(), q)
	var bad *unit.ChartError
	if !errors.As(err, &bad) || bad.Hint == "" {
		t.Fatalf("got %v", err)
	}
	return bad.Message
}

func TestAChartIsRenderedFromWhereItIsKept(t *testing.T) {
	s := newShelf(t)
	shop := packed(t, "shop", "1.2.3", shopTemplate)
	s.put("/stable/index.yaml", "apiVersion: v1\nentries:\n  other:\n  - urls: [x]\n    version: 1.2.3\n  shop:\n  - digest: "+digestOf(shop)+"\n    urls:\n    - files/shop-1.2.3.tgz\n    version: 1.2.3\n  - urls: [files/old.tgz]\n    version: 1.0.0\n  zoo:\n  - version: 1.2.3\ngenerated: x\n")
	s.put("/flow/index.yaml", `{"apiVersion":"v1","entries":{"shop":[{"version":"v1.2.3","urls":["`+s.URL+`/stable/files/shop-1.2.3.tgz"]}]}}`)
	s.put("/stable/files/shop-1.2.3.tgz", shop)
	s.put("/v2/team/shop/manifests/1.2.3", `{"layers":[{"mediaType":"application/vnd.cncf.helm.chart.provenance.v1.prov","digest":"sha256:0"},{"mediaType":"application/vnd.cncf.helm.chart.content.v1.tar+gzip","digest":"sha256:`+digestOf(shop)+`"}]}`)
	s.put("/v2/team/shop/blobs/sha256:"+digestOf(shop), shop)
	for _, repository := range []string{s.URL + "/stable", s.URL + "/stable/", s.URL + "/flow", "oci://" + strings.TrimPrefix(s.URL, "https://") + "/team"} {
		r := fetchingRenderer(t)
		q := s.ask(repository, unit.Chart{Version: "1.2.3", Digest: "sha256:" + digestOf(shop)})
		got, err := r.Render(t.Context(), q)
		if err != nil {
			t.Fatalf("%s: %v", repository, err)
		}
		const want = `{"apiVersion":"v1","data":{"chart":"1.2.3","greeting":"from Git"},"kind":"ConfigMap","metadata":{"name":"web"}}`
		if len(got.Objects) != 1 || string(got.Objects[0].JSON) != want {
			t.Errorf("%s: %s", repository, got.Objects)
		}
		if got.Reads.Charts["shop 1.2.3 of "+repository] != "sha256:"+digestOf(shop) {
			t.Errorf("reads %v", got.Reads.Charts)
		}
	}
}

func TestAChartThatIsNotAsItShouldBeIsTriedAgain(t *testing.T) {
	s := newShelf(t)
	r := fetchingRenderer(t)
	shop := packed(t, "shop", "1.2.3", shopTemplate)
	for _, c := range []struct{ name, index, archive, digest, want string }{
		{"no index", "", "", "", "no such thing"},
		{"no YAML", "entries: [", "", "", "the repository's index is not valid"},
		{"no mapping", "entries:\n  shop:\n  - hunter2hunter2\n", "", "", "the repository's index is not valid"},
		{"no chart", "entries:\n  other: []\n", "", "", "the chart is not in the repository's index"},
		{"no version", "entries:\n  shop:\n  - {version: 1.2.4, urls: [shop.tgz]}\n", "", "", "the repository's index has no such version"},
		{"no place", "entries:\n  shop:\n  - {version: 1.2.3}\n", "", "", "does not say where its archive is"},
		{"a file", "entries:\n  shop:\n  - {version: 1.2.3, urls: ['file:///etc/passwd']}\n", "", "", "names no place for its archive"},
		{"a place without TLS", "entries:\n  shop:\n  - {version: 1.2.3, urls: ['http://169.254.169.254/x']}\n", "", "", "no TLS"},
		{"aliases", "entries:\n  shop:\n  - &a [x,x,x,x,x,x,x,x,x,x]\n  - &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n  - &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n  - &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n  - &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n  - &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n", "", "", "aliases"},
		{"no archive", "entries:\n  shop:\n  - {version: 1.2.3, urls: [gone.tgz]}\n", "", "", "no such thing"},
		{"another archive", "entries:\n  shop:\n  - {version: 1.2.3, urls: [shop.tgz], digest: " + digestOf("x") + "}\n", shop, "", "was announced"},
		{"another version", "entries:\n  shop:\n  - {version: 1.2.3, urls: [shop.tgz]}\n", packed(t, "shop", "1.3.0", shopTemplate), "", "serves is shop 1.3.0"},
		{"cut short", "entries:\n  shop:\n  - {version: 1.2.3, urls: [shop.tgz]}\n", shop[:len(shop)/2], "", "damaged or cut short"},
		{"garbage", "entries:\n  shop:\n  - {version: 1.2.3, urls: [shop.tgz]}\n", "<html>", "", "not a packed chart"},
		{"not the one that is wanted", "entries:\n  shop:\n  - {version: 1.2.3, urls: [shop.tgz]}\n", shop, "sha256:" + digestOf("x"), "is wanted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			place := "/" + strings.ReplaceAll(c.name, " ", "-")
			if c.index != "" {
				s.put(place+"/index.yaml", c.index)
			}
			if c.archive != "" {
				s.put(place+"/shop.tgz", c.archive)
			}
			if got := unavailable(t, r, s.ask(s.URL+place, unit.Chart{Version: "1.2.3", Digest: c.digest})); !strings.Contains(got, c.want) || strings.Contains(got, "hunter2") {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	for name, manifest := range map[string]string{"none": "", "html": "<html>", "image": `{"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:0"}]}`} {
		if manifest != "" {
			s.put("/v2/"+name+"/shop/manifests/1.2.3", manifest)
		}
		unavailable(t, r, s.ask("oci://"+strings.TrimPrefix(s.URL, "https://")+"/"+name, unit.Chart{Version: "1.2.3"}))
	}
	// A template that fails is not: no other try would help.
	s.put("/bad/index.yaml", "entries:\n  shop:\n  - {version: 1.2.3, urls: [shop.tgz]}\n")
	s.put("/bad/shop.tgz", packed(t, "shop", "1.2.3", `{{ fail "no" }}`))
	_, err := r.Render(t.Context(), s.ask(s.URL+"/bad", unit.Chart{Version: "1.2.3"}))
	var bad *unit.RenderError
	if !errors.As(err, &bad) || !strings.Contains(bad.Message, "shop 1.2.3/templates/x.yaml:1") || len(bad.Reads.Charts) != 1 {
		t.Errorf("%v", err)
	}
}

// A server that does not answer costs a render no time of its own.
func TestWaitingForAChartIsNotRendering(t *testing.T) {
	shop := packed(t, "shop", "1.2.3", shopTemplate)
	slow := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "index.yaml") {
			fmt.Fprint(w, "entries:\n  shop:\n  - {version: 1.2.3, urls: [shop.tgz]}\n")
			return
		}
		select {
		case <-time.After(1500 * time.Millisecond): // longer than a render may take
		case <-r.Context().Done():
		}
		fmt.Fprint(w, shop)
	}))
	defer slow.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	kept, err := charts.New(charts.Config{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := render.New(render.Config{Worker: []string{self, workerArg}, Charts: kept, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := &shelf{Server: slow}
	if _, err := r.Render(t.Context(), s.ask(slow.URL, unit.Chart{Version: "1.2.3"})); err != nil {
		t.Error(err)
	}
}

// What a kustomization names is fetched as the cluster's own configuration says:
// an App's credentials are not for it.
func TestAKustomizationsChartIsFetched(t *testing.T) {
	s := newShelf(t)
	s.put("/stable/index.yaml", "entries:\n  shop:\n  - {version: 1.2.3, urls: [shop.tgz]}\n")
	s.put("/stable/shop.tgz", packed(t, "shop", "1.2.3", shopTemplate))
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, s.access().CA, 0o600); err != nil {
		t.Fatal(err)
	}
	r := fetchingRenderer(t, charts.Entry{URL: s.URL, CAFile: ca})
	ask := func(version string) unit.RenderRequest {
		return unit.RenderRequest{Snapshot: memtree.Snapshot(memtree.Files{
			"a/kustomization.yaml": "namePrefix: p-\nhelmCharts: [{name: shop, releaseName: r, version: " + version + ", repo: '" + s.URL + "/stable'}]\n",
		}), Path: "a"}
	}
	got, err := r.Render(t.Context(), ask("1.2.3"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"apiVersion":"v1","data":{"chart":"1.2.3","greeting":"hello"},"kind":"ConfigMap","metadata":{"name":"p-r"}}`
	if len(got.Objects) != 1 || string(got.Objects[0].JSON) != want || len(got.Reads.Charts) != 1 {
		t.Errorf("%s, reads %v", got.Objects, got.Reads.Charts)
	}
	if said := unavailable(t, r, ask("1.2.4")); !strings.Contains(said, "no such version") {
		t.Error(said)
	}
	if said := unavailable(t, fetchingRenderer(t, charts.Entry{URL: "https://other.example"}), ask("1.2.3")); !strings.Contains(said, "does not let charts come from there") {
		t.Error(said)
	}
}
