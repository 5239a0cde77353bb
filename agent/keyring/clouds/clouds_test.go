package clouds_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/agent/keyring"
	"github.com/capstan-gitops/capstan/agent/keyring/clouds"
	"github.com/capstan-gitops/capstan/agent/keyring/clouds/cloudstest"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const keysArg = "capstan-keys"

// The test's own program is capstan-keys too.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == keysArg {
		if err := clouds.Main(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 3 && os.Args[1] == keysArg {
		misbehave(os.Args[2])
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

const (
	arn     = "arn:aws:kms:eu-west-1:111122223333:key/0123abcd-0123-4567-89ab-0123456789ab"
	role    = "arn:aws:iam::111122223333:role/sops"
	gcpID   = "projects/acme/locations/global/keyRings/sops/cryptoKeys/prod"
	dataKey = "0123456789abcdef0123456789abcdef"
)

// ring is of an app that may use the agent's keys, at this test's own program.
func ring(t *testing.T, kms keyring.KMSConfig, timeout time.Duration) unit.KeyRing {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := keyring.NewProgram(keyring.ProgramConfig{Command: []string{self, keysArg}, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(program.Close)
	k, err := keyring.New(keyring.Config{KMS: kms, Apps: keyring.AppMatch{MatchNames: []string{"*/*"}}}, "capstan-system", nil, program)
	if err != nil {
		t.Fatal(err)
	}
	r, err := k.Ring(t.Context(), fleet.AppName{Namespace: "a", Name: "b"}, true, "")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// services are all that answer here.
type services struct {
	aws, vault, gcp *cloudstest.Service
	kms             keyring.KMSConfig
}

func newServices(t *testing.T) services {
	t.Helper()
	s := services{aws: cloudstest.AWS(t), vault: cloudstest.Vault(t), gcp: cloudstest.GCP(t)}
	s.kms = keyring.KMSConfig{
		AWS:   []keyring.AWSKey{{ARN: arn}, {ARN: arn, Role: role}},
		Vault: []keyring.VaultKey{{Address: s.vault.URL + "/", EnginePath: "transit/", KeyName: "team-*"}},
		GCP:   []keyring.GCPKey{{ResourceID: "projects/acme/*"}},
	}
	return s
}

func (s services) keys() map[string]cloudstest.Key {
	return map[string]cloudstest.Key{
		"aws":                cloudstest.AWSKey(arn, "", "", nil),
		"aws with a context": cloudstest.AWSKey(arn, "", "", map[string]string{"App": "shop", "a.b": "c"}),
		"aws with a role":    cloudstest.AWSKey(arn, role, "", nil),
		"vault":              cloudstest.VaultKey(s.vault.URL, "transit", "team-a"),
		"gcp":                cloudstest.GCPKey(gcpID),
	}
}

func TestEveryServiceDecrypts(t *testing.T) {
	s := newServices(t)
	r := ring(t, s.kms, 0)
	for name, key := range s.keys() {
		got, err := r.Open(t.Context(), []unit.WrappedKey{key.Wrap(t, []byte(dataKey))})
		if err != nil || string(got) != dataKey {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if asked := s.aws.Asked(); !slices.Contains(asked, "assume "+role) || !slices.Contains(asked, "decrypt "+arn+" as the role") {
		t.Errorf("AWS was asked %q", asked)
	}
}

func TestADataKeyOfAnotherKeyIsRefusedForGood(t *testing.T) {
	s := newServices(t)
	r := ring(t, s.kms, 0)
	other := map[string][]byte{
		"aws":                cloudstest.AWSKey(strings.Replace(arn, "ab", "cd", 1), "", "", nil).Wrap(t, []byte(dataKey)).Ciphertext,
		"aws with a context": cloudstest.AWSKey(arn, "", "", map[string]string{"App": "other"}).Wrap(t, []byte(dataKey)).Ciphertext,
		"vault":              cloudstest.VaultKey(s.vault.URL, "transit", "other").Wrap(t, []byte(dataKey)).Ciphertext,
		"gcp":                cloudstest.GCPKey(gcpID+"-other").Wrap(t, []byte(dataKey)).Ciphertext,
		"aws with a role":    []byte("no base64"),
	}
	for name, key := range s.keys() {
		got, err := r.Open(t.Context(), []unit.WrappedKey{key.Wrapped(other[name])})
		if away := (*unit.KeysAway)(nil); err == nil || got != nil || errors.As(err, &away) || fleet.Hint(err) == "" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if err := cloudstest.Told(err); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatAServiceDoesNotDoIsTriedAgain(t *testing.T) {
	s := newServices(t)
	wrapped := map[string]unit.WrappedKey{}
	for name, key := range s.keys() {
		wrapped[name] = key.Wrap(t, []byte(dataKey))
	}
	for mood, name := range map[cloudstest.Mood]string{
		cloudstest.Denied: "denied", cloudstest.Broken: "broken", cloudstest.Garbage: "garbage", cloudstest.Stalled: "stalled", cloudstest.Endless: "endless",
	} {
		t.Run(name, func(t *testing.T) {
			timeout := 10 * time.Second
			if mood == cloudstest.Stalled || mood == cloudstest.Endless {
				timeout = time.Second
			}
			r := ring(t, s.kms, timeout)
			for _, one := range []*cloudstest.Service{s.aws, s.vault, s.gcp} {
				one.Set(mood)
			}
			var all sync.WaitGroup
			for name, w := range wrapped {
				all.Go(func() {
					got, err := r.Open(t.Context(), []unit.WrappedKey{w})
					if away := (*unit.KeysAway)(nil); got != nil || !errors.As(err, &away) {
						t.Errorf("%s: %q, %v", name, got, err)
					}
					if err := cloudstest.Told(err); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				})
			}
			all.Wait()
			for _, one := range []*cloudstest.Service{s.aws, s.vault, s.gcp} {
				one.Set(cloudstest.Well)
			}
			r = ring(t, s.kms, 0)
			for name, w := range wrapped {
				if got, err := r.Open(t.Context(), []unit.WrappedKey{w}); string(got) != dataKey {
					t.Errorf("%s, when it answers again: %q, %v", name, got, err)
				}
			}
		})
	}
}

func TestWhatIsNoDataKeyIsNotPassedOn(t *testing.T) {
	s := newServices(t)
	r := ring(t, s.kms, 0)
	for name, key := range s.keys() {
		w := key.Wrap(t, []byte(dataKey))
		for _, one := range []*cloudstest.Service{s.aws, s.vault, s.gcp} {
			one.Set(cloudstest.Long)
		}
		got, err := r.Open(t.Context(), []unit.WrappedKey{w})
		if err == nil || got != nil || len(err.Error()) > 300 || !strings.Contains(err.Error(), "no data key") {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		for _, one := range []*cloudstest.Service{s.aws, s.vault, s.gcp} {
			one.Set(cloudstest.Well)
		}
	}
}

// canary is an address that nobody may connect to.
func canary(t *testing.T) (address string, connected func() bool) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan struct{}, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			came <- struct{}{}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "http://" + l.Addr().String(), func() bool { return len(came) > 0 }
}

// A file says where its key is to be had. None of what it says is believed.
func TestAFileChoosesNoAddress(t *testing.T) {
	s := newServices(t)
	address, connected := canary(t)
	r := ring(t, s.kms, 0)
	host := strings.TrimPrefix(address, "http://")
	for name, k := range map[string]cloudstest.Key{
		"another Vault":              cloudstest.VaultKey(address, "transit", "team-a"),
		"a Vault with a user":        cloudstest.VaultKey("http://"+strings.TrimPrefix(s.vault.URL, "http://")+"@"+host, "transit", "team-a"),
		"a way out of the engine":    cloudstest.VaultKey(s.vault.URL, "transit", "team-a/../../sys/seal"),
		"another engine":             cloudstest.VaultKey(s.vault.URL, "secret", "team-a"),
		"another key":                cloudstest.VaultKey(s.vault.URL, "transit", "other"),
		"a region that is a host":    cloudstest.AWSKey("arn:aws:kms:"+host+"/x:111122223333:key/a", "", "", nil),
		"another AWS key":            cloudstest.AWSKey(arn+"0", "", "", nil),
		"another role":               cloudstest.AWSKey(arn, role+"-admin", "", nil),
		"a profile":                  cloudstest.AWSKey(arn, "", "admin", nil),
		"a profile besides the role": cloudstest.AWSKey(arn, role, "admin", nil),
		"another Google key":         cloudstest.GCPKey("projects/other/locations/global/keyRings/sops/cryptoKeys/prod"),
		"an Azure vault":             cloudstest.AzureKey(address, "sops", "1"),
	} {
		got, err := r.Open(t.Context(), []unit.WrappedKey{k.Wrapped([]byte("aGVsbG8="))})
		if err == nil || got != nil || fleet.Hint(err) == "" || !strings.Contains(err.Error(), "no key here is for it") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if connected() {
		t.Error("the address of a file's choice was called")
	}
	for _, one := range []*cloudstest.Service{s.aws, s.vault, s.gcp} {
		if asked := one.Asked(); len(asked) > 0 {
			t.Errorf("a service was asked %q", asked)
		}
	}
}

func TestOneServiceIsEnough(t *testing.T) {
	s := newServices(t)
	r := ring(t, s.kms, 0)
	keys := []unit.WrappedKey{
		{Kind: unit.KeyPGP, ID: "ABC", Ciphertext: []byte("x")},
		cloudstest.AWSKey(arn+"0", "", "", nil).Wrapped([]byte("x")),
		s.keys()["aws"].Wrap(t, []byte(dataKey)), s.keys()["vault"].Wrap(t, []byte(dataKey)),
	}
	s.aws.Set(cloudstest.Denied)
	if got, err := r.Open(t.Context(), keys); string(got) != dataKey {
		t.Errorf("%q, %v", got, err)
	}
	s.vault.Set(cloudstest.Broken)
	_, err := r.Open(t.Context(), keys)
	if away := (*unit.KeysAway)(nil); !errors.As(err, &away) || !strings.Contains(err.Error(), "AccessDenied") || !strings.Contains(fleet.Hint(err), "kms:Decrypt") {
		t.Errorf("%v", err)
	}
}

func TestManyAskAtOnce(t *testing.T) {
	s := newServices(t)
	r := ring(t, s.kms, 0)
	w := s.keys()["vault"].Wrap(t, []byte(dataKey))
	failed := make(chan error, 50)
	for range cap(failed) {
		go func() {
			got, err := r.Open(context.Background(), []unit.WrappedKey{w})
			if err == nil && string(got) != dataKey {
				err = fmt.Errorf("got %q", got)
			}
			failed <- err
		}()
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

func TestWhoStopsWaitingIsLetGo(t *testing.T) {
	s := newServices(t)
	r := ring(t, s.kms, 0)
	w := s.keys()["vault"].Wrap(t, []byte(dataKey))
	s.vault.Set(cloudstest.Stalled)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-s.vault.Stalls()
		cancel()
	}()
	_, err := r.Open(ctx, []unit.WrappedKey{w})
	if away := (*unit.KeysAway)(nil); !errors.As(err, &away) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	s.vault.Set(cloudstest.Well)
	if got, err := r.Open(t.Context(), []unit.WrappedKey{w}); string(got) != dataKey {
		t.Errorf("%q, %v", got, err)
	}
}
