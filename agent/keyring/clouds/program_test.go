package clouds_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/keyring"
	"github.com/capstan-gitops/capstan/agent/keyring/clouds"
	"github.com/capstan-gitops/capstan/agent/keyring/clouds/cloudstest"
	"github.com/capstan-gitops/capstan/agent/keyring/pipe"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// misbehave is a capstan-keys that does not keep to what was agreed.
func misbehave(how string) {
	hello := func(version int) { _ = pipe.Write(os.Stdout, pipe.Hello{Version: version}) }
	var q pipe.Request
	switch how {
	case "does not start":
		os.Exit(1)
	case "of another release":
		hello(pipe.Version + 1)
		_ = pipe.Read(os.Stdin, &q)
	case "ends":
		hello(pipe.Version)
		_ = pipe.Read(os.Stdin, &q)
	case "speaks garbage":
		hello(pipe.Version)
		_ = pipe.Read(os.Stdin, &q)
		_, _ = os.Stdout.WriteString("\x00\x00\x00\x04{\"x\"" + strings.Repeat("y", 1<<20))
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "says nothing":
		hello(pipe.Version)
		_, _ = io.Copy(io.Discard, os.Stdin)
		select {}
	case "answers others", "gives a long key":
		hello(pipe.Version)
		for pipe.Read(os.Stdin, &q) == nil {
			if how == "answers others" {
				_ = pipe.Write(os.Stdout, pipe.Answer{ID: q.ID + 1, DataKey: []byte("not for you")})
				_ = pipe.Write(os.Stdout, pipe.Answer{ID: q.ID, Message: "no", Final: true})
			} else {
				_ = pipe.Write(os.Stdout, pipe.Answer{ID: q.ID, DataKey: make([]byte, 100)})
			}
		}
	case "tells its environment":
		hello(pipe.Version)
		for pipe.Read(os.Stdin, &q) == nil {
			_ = pipe.Write(os.Stdout, pipe.Answer{ID: q.ID, Message: strings.Join(os.Environ(), " ")})
		}
	case "counts":
		hello(pipe.Version)
		for pipe.Read(os.Stdin, &q) == nil {
			_ = pipe.Write(os.Stdout, pipe.Answer{ID: q.ID, DataKey: fmt.Append(nil, os.Getpid())})
		}
	}
}

func program(t *testing.T, how string, cfg keyring.ProgramConfig) *keyring.Program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Command = []string{self, keysArg, how}
	p, err := keyring.NewProgram(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

var someKey = pipe.Key{Kind: unit.KeyAWS, Resource: arn, Ciphertext: []byte("aGVsbG8=")}

func TestAProgramThatMisbehavesIsNotBelieved(t *testing.T) {
	for how, want := range map[string]string{
		"does not start": "did not start", "of another release": "version", "ends": "ended by itself", "speaks garbage": "ended by itself",
	} {
		p := program(t, how, keyring.ProgramConfig{})
		for range 2 { // the second time another one is started
			got, err := p.Decrypt(t.Context(), someKey)
			if away := (*unit.KeysAway)(nil); got != nil || !errors.As(err, &away) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q, %v", how, got, err)
			}
		}
	}
	for how, want := range map[string]string{"answers others": "no", "gives a long key": "no data key"} {
		got, err := program(t, how, keyring.ProgramConfig{}).Decrypt(t.Context(), someKey)
		if away := (*unit.KeysAway)(nil); got != nil || err == nil || errors.As(err, &away) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", how, got, err)
		}
	}
}

func TestAProgramThatSaysNothingIsEnded(t *testing.T) {
	p := program(t, "says nothing", keyring.ProgramConfig{Timeout: time.Millisecond})
	_, err := p.Decrypt(t.Context(), someKey)
	if away := (*unit.KeysAway)(nil); !errors.As(err, &away) || !strings.Contains(err.Error(), "in time") {
		t.Errorf("%v", err)
	}
}

func TestTheProgramGetsOfTheEnvironmentWhatClientsRead(t *testing.T) {
	p := program(t, "tells its environment", keyring.ProgramConfig{Environ: []string{
		"AWS_ROLE_ARN=a", "AZURE_CLIENT_ID=b", "GOOGLE_APPLICATION_CREDENTIALS=c", "VAULT_TOKEN=d", "https_proxy=e", "SSL_CERT_FILE=f", "SOPS_GCP_KMS_ENDPOINT=g", "HOME=/h",
		"PATH=/bin", "CAPSTAN_AGENT_NAMESPACE=x", "KUBERNETES_SERVICE_HOST=x", "SOPS_AGE_KEY=x", "LD_PRELOAD=x", "GODEBUG=x", "XAWS_=x",
	}})
	_, err := p.Decrypt(t.Context(), someKey)
	want := "HOME=/h AWS_ROLE_ARN=a AZURE_CLIENT_ID=b GOOGLE_APPLICATION_CREDENTIALS=c VAULT_TOKEN=d https_proxy=e SSL_CERT_FILE=f SOPS_GCP_KMS_ENDPOINT=g"
	for e := range strings.FieldsSeq(want) {
		if err == nil || !strings.Contains(err.Error(), e) {
			t.Errorf("%s is missing: %v", e, err)
		}
	}
	if strings.Contains(err.Error(), "=x") || strings.Contains(err.Error(), "PATH") || strings.Contains(err.Error(), "HOME=/ ") {
		t.Errorf("it gets %v", err)
	}
}

func TestTheProgramRunsWhileThereIsSomethingToAsk(t *testing.T) {
	ask := func(p *keyring.Program) string {
		pid, err := p.Decrypt(t.Context(), someKey)
		if err != nil {
			t.Fatal(err)
		}
		return string(pid)
	}
	lasting := program(t, "counts", keyring.ProgramConfig{IdleAfter: time.Hour})
	if one, two := ask(lasting), ask(lasting); one != two {
		t.Error("another process is started for the second question")
	}
	brief := program(t, "counts", keyring.ProgramConfig{IdleAfter: time.Nanosecond})
	first := ask(brief)
	for ask(brief) == first { // until the idle one was ended
		if t.Context().Err() != nil {
			t.Fatal("an idle process is not ended")
		}
	}
	lasting.Close()
	if _, err := lasting.Decrypt(t.Context(), someKey); err == nil {
		t.Error("a closed one answers")
	}
}

func TestTheProgramIsMissed(t *testing.T) {
	if _, err := keyring.NewProgram(keyring.ProgramConfig{}); err == nil || !strings.Contains(fleet.Hint(err), "capstan-keys") {
		t.Errorf("%v", err)
	}
}

func TestGarbageEndsTheProgram(t *testing.T) {
	if err := clouds.Main(strings.NewReader("garbage garbage"), io.Discard); err == nil {
		t.Error("garbage is read")
	}
	if err := clouds.Main(strings.NewReader(""), io.Discard); err != nil {
		t.Error(err)
	}
}

func TestKindsThatNobodyAsksAreRefused(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := keyring.NewProgram(keyring.ProgramConfig{Command: []string{self, keysArg}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	for _, k := range []pipe.Key{{Kind: "pgp", Resource: "x", Ciphertext: []byte("x")}, {}} {
		_, err := p.Decrypt(t.Context(), k)
		if away := (*unit.KeysAway)(nil); err == nil || errors.As(err, &away) {
			t.Errorf("%v", err)
		}
		if err := cloudstest.Told(err); err != nil {
			t.Error(err)
		}
	}
}
