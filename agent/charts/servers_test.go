package charts_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/capstan-gitops/capstan/agent/charts"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// server is a web server that remembers what it was asked, and as whom.
type server struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string // "path user"
}

func serve(t *testing.T, h http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "-"
		if user, _, ok := r.BasicAuth(); ok {
			who = user
		} else if r.Header.Get("Authorization") != "" {
			who = "token"
		}
		s.mu.Lock()
		s.asked = append(s.asked, r.URL.Path+" "+who)
		s.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func (s *server) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) == 0 {
		return ""
	}
	return s.asked[len(s.asked)-1]
}

func (s *server) host() string { return strings.TrimPrefix(s.URL, "https://") }

// ca has a client trust a server, and log in there.
func (s *server) access(user string) unit.ChartAccess {
	a := unit.ChartAccess{CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})}
	if user != "" {
		a.Username, a.Password = user, "pass"
	}
	return a
}

func newClient(t *testing.T, cfg charts.Config) *charts.Client {
	t.Helper()
	c, err := charts.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// withLogin lets a user in.
func withLogin(user string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != "pass" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, "hunter2")
			return
		}
		h(w, r)
	}
}

// registry is an OCI registry of one chart, which gives out tokens.
func registry(t *testing.T, user string, content string, layer string) *server {
	t.Helper()
	var s *server
	s = serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			if u, p, _ := r.BasicAuth(); user != "" && (u != user || p != "pass") {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"token": "let-me-in"})
			return
		}
		if r.Header.Get("Authorization") != "Bearer let-me-in" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.URL+`/token",service="s",scope="repository:team/shop:pull"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case "/v2/team/shop/manifests/1.2.3":
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			fmt.Fprint(w, manifestOf(layer))
		case "/v2/team/shop/blobs/" + layer:
			w.Header().Set("Content-Type", "application/octet-stream")
			fmt.Fprint(w, content)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	return s
}

func manifestOf(layer string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"layers":[{"mediaType":"application/vnd.cncf.helm.chart.content.v1.tar+gzip","digest":%q,"size":1}]}`, layer)
}
