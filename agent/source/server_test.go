package source_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gitServer serves one bare repository over smart HTTP with git itself.
type gitServer struct {
	t    *testing.T
	bare string
	work string // a working clone
	url  string
	http *httptest.Server

	sent     atomic.Int64 // bytes of answers
	requests atomic.Int64
	packs    atomic.Int64 // answers with a pack

	mu     sync.Mutex
	user   string // "" lets everybody in
	pass   string
	bearer string
	status int // when set, the answer to everything
}

func newGitServer(t *testing.T) *gitServer {
	t.Helper()
	return newGitServerOn(t, httptest.NewServer)
}

func newGitServerOn(t *testing.T, start func(http.Handler) *httptest.Server) *gitServer {
	t.Helper()
	s := &gitServer{t: t, bare: filepath.Join(t.TempDir(), "fleet.git"), work: t.TempDir()}
	run(t, "", "init", "-q", "--bare", "-b", "main", s.bare)
	run(t, s.work, "init", "-q", "-b", "main")
	run(t, s.work, "remote", "add", "origin", s.bare)
	if flavour(t) == large {
		run(t, s.bare, "config", "uploadpack.allowFilter", "true")
	}
	s.http = start(s)
	t.Cleanup(s.http.Close)
	s.url = s.http.URL + "/fleet.git"
	return s
}

func (s *gitServer) allow(user, pass, bearer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user, s.pass, s.bearer = user, pass, bearer
}

func (s *gitServer) fail(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *gitServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	s.mu.Lock()
	user, pass, bearer, status := s.user, s.pass, s.bearer, s.status
	s.mu.Unlock()
	if status != 0 {
		http.Error(w, "the page says "+r.Header.Get("Authorization"), status)
		return
	}
	gotUser, gotPass, _ := r.BasicAuth()
	if user+pass != "" && (gotUser != user || gotPass != pass) || bearer != "" && r.Header.Get("Authorization") != "Bearer "+bearer {
		http.Error(w, "no: "+r.Header.Get("Authorization"), http.StatusUnauthorized)
		return
	}
	out := io.MultiWriter(w, counter{&s.sent})
	switch r.URL.Path {
	case "/fleet.git/info/refs":
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		if protocol(s.t, r.Header.Get("Git-Protocol")) == "" { // as git http-backend does
			fmt.Fprint(out, "001e# service=git-upload-pack\n0000")
		}
		s.uploadPack(r, out, nil, "--advertise-refs")
	case "/fleet.git/git-upload-pack":
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if !bytes.Contains(body, []byte("command=ls-refs")) {
			s.packs.Add(1)
		}
		w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
		s.uploadPack(r, out, bytes.NewReader(body))
	default:
		http.NotFound(w, r)
	}
}

func (s *gitServer) uploadPack(r *http.Request, out io.Writer, in io.Reader, flags ...string) {
	cmd := exec.CommandContext(r.Context(), "git", append(append([]string{"upload-pack", "--stateless-rpc"}, flags...), s.bare)...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = in, out, &stderr, append(gitEnv(), "GIT_PROTOCOL="+protocol(s.t, r.Header.Get("Git-Protocol")))
	if err := cmd.Run(); err != nil {
		s.t.Logf("git upload-pack: %v: %s", err, stderr.String())
	}
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) { c.n.Add(int64(len(p))); return len(p), nil }

// write puts a file into the working clone.
func (s *gitServer) write(path, content string) {
	s.t.Helper()
	writeFile(s.t, filepath.Join(s.work, path), content)
}

// push commits everything in the working clone and gives the commit.
func (s *gitServer) push(flags ...string) string {
	s.t.Helper()
	run(s.t, s.work, "add", "-A")
	run(s.t, s.work, append([]string{"commit", "-q", "--allow-empty", "-m", "change"}, flags...)...)
	run(s.t, s.work, "push", "-q", "--force", "origin", "HEAD:main")
	return run(s.t, s.work, "rev-parse", "HEAD")
}

func (s *gitServer) open(change ...func(*source.Config)) *source.Repository {
	s.t.Helper()
	cfg := source.Config{URL: s.url, Ref: source.Ref{Branch: "main"}}
	if flavour(s.t) == large {
		source.Blobless(&cfg)
	}
	for _, c := range change {
		c(&cfg)
	}
	r, err := source.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func fetch(t *testing.T, r *source.Repository) unit.Snapshot {
	t.Helper()
	snapshot, err := r.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

// read gives the content of a file in a snapshot.
func read(t *testing.T, s unit.Snapshot, path string) string {
	t.Helper()
	e, ok, err := unit.Lookup(t.Context(), s.Tree, s.Root, path)
	if err != nil || !ok {
		t.Fatalf("look up %s: found %v, %v", path, ok, err)
	}
	b, err := s.Tree.Blob(t.Context(), e.Hash, 1<<20)
	if err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	return string(b)
}

func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir, cmd.Env = dir, gitEnv()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// gitEnv keeps the machine's own settings out of the tests.
func gitEnv() []string {
	return append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=dev", "GIT_AUTHOR_EMAIL=dev@example.com", "GIT_COMMITTER_NAME=dev", "GIT_COMMITTER_EMAIL=dev@example.com")
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
