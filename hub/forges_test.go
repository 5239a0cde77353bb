package hub_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/hub"
)

func TestAHubTakesWebhooksOnceItHasSecrets(t *testing.T) {
	const key, body = "correct-horse-battery", `{"ref":"refs/heads/main","repository":{"clone_url":"https://github.com/acme/fleet.git"}}`
	secrets := filepath.Join(t.TempDir(), "secrets")
	if err := os.WriteFile(secrets, []byte("github * "+key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(body))
	for name, c := range map[string]struct {
		cfg  hub.Config
		want int
	}{
		"with":    {hub.Config{DataDir: t.TempDir(), HookSecretsFile: secrets}, 200},
		"without": {hub.Config{DataDir: t.TempDir()}, 404},
	} {
		a, stop := run(t, c.cfg)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL+"/hooks/github", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-GitHub-Event", "push")
		req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s secrets: got %s", name, resp.Status)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}
