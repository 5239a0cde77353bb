package gitserver_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/e2e/gitserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server starts a server with one empty repository, fleet.
func server(t *testing.T) *gitserver.Server {
	t.Helper()
	s, err := gitserver.Start(gitserver.Config{Dir: t.TempDir(), Users: map[string]gitserver.User{
		"reader": {Password: "r3ad"},
		"writer": {Password: "wr:te/?#", Write: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Create(t.Context(), "fleet"); err != nil {
		t.Fatal(err)
	}
	return s
}

func clone(ctx context.Context, s *gitserver.Server, dir, user, password string) (*gitserver.WorkTree, error) {
	return gitserver.NewWorkTree(ctx, gitserver.WorkTreeConfig{
		Dir: dir, URL: s.URL("fleet"), User: user, Password: password, Name: "Demo", Email: "demo@example.com",
	})
}

func writer(t *testing.T, s *gitserver.Server) *gitserver.WorkTree {
	t.Helper()
	w, err := clone(t.Context(), s, filepath.Join(t.TempDir(), "it's a clone"), "writer", "wr:te/?#")
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWhatIsPushedIsFetched(t *testing.T) {
	s := server(t)
	big := strings.Repeat("0123456789abcdef\n", 1000)
	commit, err := writer(t, s).Push(t.Context(), "first", map[string]string{"a/b.yaml": "x: 1\n", "big.txt": big})
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	w, err := clone(t.Context(), s, other, "reader", "r3ad")
	if err != nil {
		t.Fatal(err)
	}
	if head, err := w.Git(t.Context(), "rev-parse", "HEAD"); err != nil || head != commit {
		t.Errorf("fetched %s, want %s (%v)", head, commit, err)
	}
	if b, err := os.ReadFile(filepath.Join(other, "a", "b.yaml")); err != nil || string(b) != "x: 1\n" {
		t.Errorf("fetched file is %q (%v)", b, err)
	}
}

// TestALargePushGoesThrough: git sends what is over its buffer in chunks.
func TestALargePushGoesThrough(t *testing.T) {
	w := writer(t, server(t))
	if _, err := w.Git(t.Context(), "config", "http.postBuffer", "65536"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Git(t.Context(), "config", "core.compression", "0"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Push(t.Context(), "large", map[string]string{"large.txt": strings.Repeat("incompressible?", 20000)}); err != nil {
		t.Fatal(err)
	}
}

func TestProtocolV2AndPartialClonesAreServed(t *testing.T) {
	s := server(t)
	if _, err := writer(t, s).Push(t.Context(), "first", map[string]string{"a": "1\n"}); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL("fleet")+"/info/refs?service=git-upload-pack", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Git-Protocol", "version=2")
	req.SetBasicAuth("reader", "r3ad")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := new(strings.Builder)
	if err := resp.Write(body); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(body.String(), "version 2") || !strings.Contains(body.String(), "filter") {
		t.Errorf("advertisement lacks version 2 or filter:\n%s", body)
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	s := server(t)
	if _, err := writer(t, s).Push(t.Context(), "first", map[string]string{"a": "1\n"}); err != nil {
		t.Fatal(err)
	}
	reader, err := clone(t.Context(), s, filepath.Join(t.TempDir(), "r"), "reader", "r3ad")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Push(t.Context(), "mine", map[string]string{"a": "2\n"}); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a reader's push: %v, want 403", err)
	}
	for name, who := range map[string][2]string{"wrong password": {"reader", "guess"}, "no such user": {"mallory", ""}} {
		if _, err := clone(t.Context(), s, filepath.Join(t.TempDir(), "x"), who[0], who[1]); err == nil {
			t.Errorf("%s: fetched", name)
		}
	}
}

func TestTheServerCanBeDownOrRefuseAndRecover(t *testing.T) {
	s := server(t)
	w := writer(t, s)
	fetch := func() error { _, err := w.Git(t.Context(), "fetch"); return err }

	s.SetAvailable(false)
	if err := fetch(); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("down: %v, want 503", err)
	}
	s.SetAvailable(true)
	s.RefuseCredentials(true)
	if err := fetch(); err == nil || !strings.Contains(err.Error(), "Authentication failed") {
		t.Errorf("refusing: %v, want a failed authentication", err)
	}
	s.RefuseCredentials(false)
	if err := fetch(); err != nil {
		t.Errorf("recovered: %v", err)
	}
}

type hook struct {
	Repository struct{ URL string }
	Ref        string
	token      string
}

func TestAPushCallsTheWebhook(t *testing.T) {
	s := server(t)
	got := make(chan hook, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		h := hook{token: r.Header.Get("Authorization")}
		if r.Method == http.MethodPost && json.NewDecoder(r.Body).Decode(&h) == nil {
			got <- h
		}
	}))
	defer receiver.Close()
	s.SetWebhook(gitserver.Webhook{URL: receiver.URL + "/hooks/git", Token: "secret"})
	if _, err := writer(t, s).Push(t.Context(), "first", map[string]string{"a": "1\n"}); err != nil {
		t.Fatal(err)
	}
	select {
	case h := <-got:
		if h.Repository.URL != s.URL("fleet") || h.Ref != "refs/heads/main" || h.token != "Bearer secret" {
			t.Errorf("webhook got %+v", h)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no webhook call after a push")
	}
}

// TestAWorkTreeNeedsNothingFromItsUser runs git as a user would whose HOME has
// no configuration at all.
func TestAWorkTreeNeedsNothingFromItsUser(t *testing.T) {
	s := server(t)
	w := writer(t, s)
	if _, err := w.Push(t.Context(), "first", map[string]string{"a": "1\n"}); err != nil {
		t.Fatal(err)
	}
	script := `echo 2 > a && git commit -qam second && git push -q && git revert --no-edit HEAD && git push -q`
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Dir, cmd.Env = w.Dir(), []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GIT_TERMINAL_PROMPT=0"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n, err := w.Git(t.Context(), "rev-list", "--count", "origin/main"); err != nil || n != "3" {
		t.Errorf("%s commits on origin/main, want 3 (%v)", n, err)
	}
}
