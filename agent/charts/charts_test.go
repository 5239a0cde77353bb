package charts_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/agent/charts"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(h[:])
}

func index(repository string) unit.ChartFile {
	return unit.ChartFile{Kind: unit.ChartIndex, Repository: repository}
}

func archive(repository, at, digest string) unit.ChartFile {
	return unit.ChartFile{Kind: unit.ChartArchive, Repository: repository, Name: "shop", Ref: at, Digest: digest}
}

// failed is what can't be fetched, for a reason.
func failed(t *testing.T, c *charts.Client, f unit.ChartFile, own string, access unit.ChartAccess) *unit.ChartError {
	t.Helper()
	b, err := c.Fetch(t.Context(), f, own, access)
	var bad *unit.ChartError
	if !errors.As(err, &bad) {
		t.Fatalf("got %d bytes, %v", len(b), err)
	}
	if strings.Contains(bad.Message+bad.Hint, "hunter2") || bad.Hint == "" {
		t.Errorf("%+v", bad)
	}
	return bad
}

func fetched(t *testing.T, c *charts.Client, f unit.ChartFile, own string, access unit.ChartAccess) string {
	t.Helper()
	b, err := c.Fetch(t.Context(), f, own, access)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWhatWasFetchedAndCheckedIsKept(t *testing.T) {
	content := "first"
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, content) })
	c := newClient(t, charts.Config{})
	a := s.access("")
	good := archive(s.URL+"/x", s.URL+"/x/shop-1.tgz", sum("first"))
	for range 2 {
		if got := fetched(t, c, good, s.URL+"/x", a); got != "first" {
			t.Error(got)
		}
	}
	if s.times() != 1 {
		t.Errorf("asked %d times", s.times())
	}
	// What is not as announced is not kept: it is asked for again.
	other := archive(s.URL+"/x", s.URL+"/x/shop-2.tgz", sum("second"))
	if bad := failed(t, c, other, s.URL+"/x", a); !strings.Contains(bad.Message, sum("second")+" was announced") {
		t.Error(bad.Message)
	}
	content = "second"
	if got := fetched(t, c, other, s.URL+"/x", a); got != "second" {
		t.Error(got)
	}
	// Within a bound the last ones are kept.
	small := newClient(t, charts.Config{CacheBytes: 8})
	before := s.times()
	for range 2 {
		for _, name := range []string{"a", "b"} {
			fetched(t, small, archive(s.URL+"/x", s.URL+"/x/"+name, sum("second")), s.URL+"/x", a)
		}
	}
	if n := s.times() - before; n != 4 {
		t.Errorf("8 bytes kept 12: asked %d times", n)
	}
}

func TestCredentialsGoToTheirOwnHostAlone(t *testing.T) {
	stranger := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "elsewhere") })
	var s *server
	s = serve(t, withLogin("me", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away/index.yaml":
			http.Redirect(w, r, stranger.URL+"/stolen", http.StatusFound)
		case "/plain/index.yaml":
			http.Redirect(w, r, "http://"+s.host()+"/plain", http.StatusFound)
		case "/round/index.yaml":
			http.Redirect(w, r, "/round/index.yaml", http.StatusFound)
		default:
			fmt.Fprint(w, "hers")
		}
	}))
	c := newClient(t, charts.Config{})
	a := s.access("me")
	a.CA = append(a.CA, stranger.access("").CA...)
	at := func(path string) string { return s.URL + path }
	if got := fetched(t, c, index(at("/charts")), at("/charts"), a); got != "hers" || s.last() != "/charts/index.yaml me" {
		t.Errorf("%s, asked %s", got, s.last())
	}
	if got := fetched(t, c, index(at("/away")), at("/away"), a); got != "elsewhere" || stranger.last() != "/stolen -" {
		t.Errorf("after a redirect: %s, asked %s", got, stranger.last())
	}
	if got := fetched(t, c, archive(at("/charts"), stranger.URL+"/shop.tgz", ""), at("/charts"), a); got != "elsewhere" || stranger.last() != "/shop.tgz -" {
		t.Errorf("an archive elsewhere: %s, asked %s", got, stranger.last())
	}
	if bad := failed(t, c, index(at("/plain")), at("/plain"), a); !strings.Contains(bad.Message, "no TLS") {
		t.Error(bad.Message)
	}
	// What one may read, another may not, although it is kept.
	if bad := failed(t, c, index(at("/charts")), at("/charts"), s.access("")); !strings.Contains(bad.Message, "401") || !strings.Contains(bad.Hint, "secretRef") {
		t.Errorf("%+v", bad)
	}
	if s.last() != "/charts/index.yaml -" {
		t.Errorf("asked %s", s.last())
	}
}

// An App's credentials, and what it trusts, are for the place it names; a worker may ask for others.
func TestAnAppsCredentialsAreForThePlaceItNames(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") })
	c := newClient(t, charts.Config{})
	if bad := failed(t, c, index(s.URL+"/other"), s.URL+"/mine", s.access("me")); !strings.Contains(bad.Message, "certificate") || s.times() != 0 {
		t.Errorf("%s, asked %d times", bad.Message, s.times())
	}
}

func TestPlacesAreWhatTheSpokeAllows(t *testing.T) {
	plain := httptest.NewServer(withLogin("file-user", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "plain") }))
	defer plain.Close()
	any := newClient(t, charts.Config{})
	for repository, want := range map[string]string{
		plain.URL:                                "without TLS",
		"https://user:hunter2@charts.example":    "holds credentials",
		"git://charts.example/x":                 "not one of a chart repository",
		"https://charts.example/?token=x":        "not one of a chart repository",
		"https://169.254.169.254/latest":         "link-local",
		"https://[fe80::1]/x":                    "link-local",
		"oci://169.254.169.254/latest/meta-data": "link-local",
	} {
		f := index(repository)
		if strings.HasPrefix(repository, "oci") {
			f = unit.ChartFile{Kind: unit.ChartManifest, Repository: repository, Name: "x", Ref: "1.0.0"}
		}
		if bad := failed(t, any, f, repository, unit.ChartAccess{}); !strings.Contains(bad.Message, want) {
			t.Errorf("%s: %s", repository, bad.Message)
		}
	}
	for _, f := range []unit.ChartFile{
		archive("https://charts.example", "http://charts.example/x.tgz", ""), archive("https://charts.example", "file:///etc/passwd", ""),
		archive("https://charts.example", "https://u:hunter2@charts.example/x", ""), archive("oci://r.example", "https://r.example/x", ""),
		{Kind: unit.ChartLayer, Repository: "https://charts.example"},
		{Kind: 9, Repository: "https://charts.example"},
		{Kind: unit.ChartManifest, Repository: "oci://r.example", Name: "../../x", Ref: "1.0.0"},
	} {
		failed(t, any, f, "", unit.ChartAccess{})
	}

	dir := t.TempDir()
	write := func(name, content string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	listed := newClient(t, charts.Config{Entries: []charts.Entry{
		{URL: plain.URL + "/team", PlainHTTP: true, UsernameFile: write("user", "file-user\n"), PasswordFile: write("password", "wrong")},
		{URL: "https://charts.example/"},
	}})
	if bad := failed(t, listed, index(plain.URL+"/team/a"), "", unit.ChartAccess{}); !strings.Contains(bad.Message, "401") {
		t.Error(bad.Message)
	}
	write("password", "pass\n") // it rotates
	if got := fetched(t, listed, index(plain.URL+"/team/a"), "", unit.ChartAccess{}); got != "plain" {
		t.Error(got)
	}
	for _, repository := range []string{plain.URL + "/teammate", plain.URL, "https://other.example", "oci://charts.example"} {
		if bad := failed(t, listed, index(repository), repository, unit.ChartAccess{}); !strings.Contains(bad.Message, "does not let charts come from there") {
			t.Errorf("%s: %s", repository, bad.Message)
		}
	}
	for _, e := range []charts.Entry{
		{URL: "http://charts.example"}, {URL: "charts.example"}, {URL: "https://u:hunter2@x"}, {URL: "https://x", UsernameFile: "u"},
	} {
		if _, err := charts.New(charts.Config{Entries: []charts.Entry{e}}); !errors.Is(err, fleet.ErrInvalid) || !strings.HasPrefix(err.Error(), "charts[0]") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%+v: %v", e, err)
		}
	}
}

func TestAServerThatFailsIsToldAndLeftAloneForAWhile(t *testing.T) {
	block := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone/index.yaml":
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "hunter2")
		case "/large/index.yaml":
			part := make([]byte, 1<<20)
			for range 25 {
				_, _ = w.Write(part)
			}
		case "/short/index.yaml":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "x")
		case "/silent/index.yaml":
			select {
			case <-block:
			case <-r.Context().Done():
			}
		}
	})
	defer close(block)
	a := s.access("")
	for path, want := range map[string]string{"/gone": "no such thing", "/large": "over the limit of 24 MiB", "/short": "no answer"} {
		c := newClient(t, charts.Config{})
		if bad := failed(t, c, index(s.URL+path), s.URL+path, a); !strings.Contains(bad.Message, want) || !strings.Contains(bad.Message, "the chart repository "+s.URL+path) {
			t.Errorf("%s: %s", path, bad.Message)
		}
	}
	c := newClient(t, charts.Config{Timeout: 100 * time.Millisecond})
	failed(t, c, index(s.URL+"/silent"), s.URL+"/silent", a)
	before := s.times()
	if bad := failed(t, c, index(s.URL+"/silent"), s.URL+"/silent", a); !strings.Contains(bad.Message, "no answer") || s.times() != before {
		t.Errorf("%s, asked %d times more", bad.Message, s.times()-before)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newClient(t, charts.Config{}).Fetch(ended, index(s.URL+"/silent"), s.URL+"/silent", a); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestARegistryGivesManifestsAndLayers(t *testing.T) {
	const content = "the chart"
	layer := sum(content)
	manifest := func(repository string) unit.ChartFile {
		return unit.ChartFile{Kind: unit.ChartManifest, Repository: repository, Name: "shop", Ref: "1.2.3"}
	}
	blob := func(repository, digest string) unit.ChartFile {
		return unit.ChartFile{Kind: unit.ChartLayer, Repository: repository, Name: "shop", Ref: digest}
	}
	for _, user := range []string{"", "me"} {
		s := registry(t, user, content, layer)
		at := "oci://" + s.host() + "/team"
		c := newClient(t, charts.Config{})
		if got := fetched(t, c, manifest(at), at, s.access(user)); got != manifestOf(layer) {
			t.Error(got)
		}
		if got := fetched(t, c, blob(at, layer), at, s.access(user)); got != content {
			t.Error(got)
		}
		if user != "" {
			if bad := failed(t, c, manifest(at), at, s.access("")); !strings.Contains(bad.Message, "401") || !strings.Contains(bad.Hint, "secretRef") {
				t.Errorf("%+v", bad)
			}
			if bad := failed(t, c, manifest(at), at, s.access("stranger")); !strings.Contains(bad.Message, "401") {
				t.Errorf("%+v", bad)
			}
		}
		missing := manifest(at)
		missing.Ref = "9.9.9"
		if bad := failed(t, c, missing, at, s.access(user)); !strings.Contains(bad.Message, "no such thing") || !strings.Contains(bad.Message, "chart shop 9.9.9 of "+at) {
			t.Errorf("%+v", bad)
		}
	}
	// Other bytes than the digest says.
	s := registry(t, "", "something else", layer)
	at := "oci://" + s.host() + "/team"
	if bad := failed(t, newClient(t, charts.Config{}), blob(at, layer), at, s.access("")); !strings.Contains(bad.Message, layer) {
		t.Errorf("%+v", bad)
	}
	// A registry that would have the password sent without TLS.
	var downgrade *server
	downgrade = serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+downgrade.host()+`/token",service="s"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	at = "oci://" + downgrade.host() + "/team"
	if bad := failed(t, newClient(t, charts.Config{}), manifest(at), at, downgrade.access("me")); !strings.Contains(bad.Message, "uses http") {
		t.Errorf("%+v", bad)
	}
}
