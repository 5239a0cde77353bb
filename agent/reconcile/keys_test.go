package reconcile_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// sealedValue is what the repository's fake takes for encrypted.
const sealedValue = "SEALED"

// unseal puts what the ring gives in the place of what is sealed.
func unseal(ctx context.Context, text string, ring unit.KeyRing) (plain string, hidden []string, err error) {
	if !strings.Contains(text, sealedValue) {
		return text, nil, nil
	}
	if ring == nil {
		return "", nil, errors.New("it is encrypted")
	}
	key, err := ring.Open(ctx, []unit.WrappedKey{{Kind: unit.KeyAge}})
	return strings.ReplaceAll(text, sealedValue, string(key)), []string{"/data/value"}, err
}

// keys are a spoke's, for the apps that are named.
type keys struct {
	mu    sync.Mutex
	value string // "": there is no key
	away  bool
	asked map[fleet.AppName]string // with which Secret
}

func (k *keys) set(value string, away bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.value, k.away = value, away
}

func (k *keys) Ring(_ context.Context, app fleet.AppName, own bool, secret string) (unit.KeyRing, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.asked == nil {
		k.asked = map[fleet.AppName]string{}
	}
	k.asked[app] = secret
	if !own {
		return ring(""), nil
	}
	if k.away && secret != "" {
		return nil, &unit.KeysAway{Err: errors.New("the Secret can't be read")}
	}
	return ring(k.value), nil
}

type ring string

func (r ring) Version() string { return "version of " + string(r) }

func (r ring) Open(context.Context, []unit.WrappedKey) ([]byte, error) {
	if r == "" {
		return nil, fleet.WithHint(fleet.NotFound("no key here is for it"), "add it")
	}
	return []byte(r), nil
}

const secretive = "apiVersion: capstan.dev/v1alpha1\nkind: App\nmetadata: {name: web}\nspec: {source: {path: web}, decryption: {provider: sops, secretRef: {name: team}}}\n"

func sealedSpoke(t *testing.T, k *keys, files map[string]string, adapt func(*reconcile.Config)) *spoke {
	t.Helper()
	return newSpoke(t, files, func(c *reconcile.Config) {
		c.KeysEvery = 5 * time.Millisecond
		if adapt != nil {
			adapt(c)
		}
	}, k)
}

func TestAKeyThatIsAddedMendsTheAppWithoutACommit(t *testing.T) {
	k := &keys{}
	s := sealedSpoke(t, k, map[string]string{"root": secretive, "web": configMaps(sealedValue, "web")}, nil)
	if got := s.because("web", "RenderFailed"); !strings.Contains(got.Message, "no key here is for it") {
		t.Errorf("message: %s", got.Message)
	}
	if k.mu.Lock(); k.asked[app("web")] != "team" {
		t.Errorf("the App's Secret is not asked for: %q", k.asked)
	}
	k.mu.Unlock()
	k.set("hunter2", false)
	s.synced("web")
	if got := s.cluster.content(configMap("web")); !strings.Contains(got, "hunter2") {
		t.Errorf("applied %s", got)
	}

	// With the key gone the app keeps what runs, and says why.
	k.set("", false)
	s.because("web", "RenderFailed")
	if got := s.cluster.content(configMap("web")); !strings.Contains(got, "hunter2") {
		t.Errorf("what ran is gone: %s", got)
	}
	k.set("hunter2", false)
	s.synced("web")
}

func TestKeysThatCantBeAskedAreAskedAgain(t *testing.T) {
	k := &keys{away: true}
	s := sealedSpoke(t, k, map[string]string{"root": secretive, "web": configMaps(sealedValue, "web")}, nil)
	if got := s.because("web", "RenderFailed"); !strings.Contains(got.Message, "keys can't be asked") {
		t.Errorf("message: %s", got.Message)
	}
	k.set("hunter2", false)
	s.synced("web")
}

func TestAnAppThatAsksForNoDecryptionGetsNoKeys(t *testing.T) {
	k := &keys{value: "hunter2"}
	s := sealedSpoke(t, k, map[string]string{"root": rootOf("web"), "web": configMaps(sealedValue, "web")}, nil)
	s.because("web", "RenderFailed")
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, asked := k.asked[app("web")]; asked {
		t.Error("keys were asked for it")
	}
}

func TestNothingThatWasDecryptedIsTold(t *testing.T) {
	_, line := newKey(t, alice)
	k := &keys{value: "hunter2-planted"}
	s := newSpoke(t, map[string]string{"root": secretive, "web": configMaps(sealedValue, "web")}, nil, k)
	s.synced("web")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	policyOf(t, line)(&s.cfg)
	s.start()
	s.push(map[string]string{"web": configMaps(sealedValue+"-more", "web", "other")})
	s.because("web", "WaitsForApproval")
	signed, err := s.engine.Plan(app("web"))
	if err != nil {
		t.Fatal(err)
	}
	report, err := json.Marshal([]any{s.engine.Report(), s.engine.Statuses()})
	if err != nil {
		t.Fatal(err)
	}
	s.told.mu.Lock()
	objects, err := json.Marshal(s.told.objects[app("web")])
	s.told.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"plan": string(signed.Plan), "report": string(report), "status": string(objects)} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("the %s tells it: %s", what, text)
		}
	}
	if !strings.Contains(string(signed.Plan), "hmac-sha256:") {
		t.Errorf("the plan does not mask it: %s", signed.Plan)
	}
}
