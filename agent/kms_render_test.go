package agent_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/keyring"
	"github.com/capstan-gitops/capstan/agent/keyring/clouds/cloudstest"
	"github.com/capstan-gitops/capstan/agent/render"
	"github.com/capstan-gitops/capstan/agent/render/worker/sops/sopstest"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/agent/unit/memtree"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	kmsARN     = "arn:aws:kms:eu-west-1:111122223333:key/0123abcd"
	kmsPlain   = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2-at-a-cloud}\n"
	kmsPlanted = "hunter2-at-a-cloud"
)

// builtKeys is capstan-keys as it is installed.
func builtKeys(t *testing.T) []string {
	t.Helper()
	program := filepath.Join(t.TempDir(), keyring.ProgramName)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", program, "./cmd/capstan-keys")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return []string{program}
}

// Worker, agent and capstan-keys are each what runs on a spoke; the services are
// imitations, and SOPS' own library encrypts for them.
func TestFilesForKeyServicesAreRendered(t *testing.T) {
	aws, vault := cloudstest.AWS(t), cloudstest.Vault(t)
	program, err := keyring.NewProgram(keyring.ProgramConfig{Command: builtKeys(t), Timeout: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(program.Close)
	private, recipient := sopstest.NewKey(t)
	_, strange := sopstest.NewKey(t)
	file := filepath.Join(t.TempDir(), "key.txt")
	if err := os.WriteFile(file, []byte(private), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := keyring.New(keyring.Config{
		Age:  keyring.AgeConfig{KeyFiles: []string{file}},
		KMS:  keyring.KMSConfig{AWS: []keyring.AWSKey{{ARN: kmsARN}}, Vault: []keyring.VaultKey{{Address: vault.URL, EnginePath: "transit", KeyName: "sops"}}},
		Apps: keyring.AppMatch{MatchNames: []string{"shop/*"}},
	}, "capstan-system", nil, program)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	renderer, err := render.New(render.Config{Worker: []string{self, workerArg}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = renderer.Close() })
	ring, err := keys.Ring(t.Context(), fleet.AppName{Namespace: "shop", Name: "a"}, true, "")
	if err != nil {
		t.Fatal(err)
	}
	try := func(text string) (unit.Rendered, error) {
		return renderer.Render(t.Context(), unit.RenderRequest{
			Snapshot: memtree.Snapshot(memtree.Files{"a/kustomization.yaml": "resources: [s.yaml]\n", "a/s.yaml": text}), Path: "a", Keys: ring, Facts: unit.Facts{Keys: ring.Version()},
		})
	}
	opens := func(name, text string) {
		t.Helper()
		got, err := try(text)
		if err != nil || len(got.Objects) != 1 || !strings.Contains(string(got.Objects[0].JSON), kmsPlanted) || got.Reads.Keys != ring.Version() {
			t.Errorf("%s: %v", name, err)
		}
	}
	bound := map[string]string{"App": "shop"}
	atAWS, atVault := cloudstest.AWSKey(kmsARN, "", "", bound), cloudstest.VaultKey(vault.URL, "transit", "sops")
	one := func(k cloudstest.Key) []cloudstest.Key { return []cloudstest.Key{k} }
	encrypt := func(threshold int, groups ...[]cloudstest.Key) string {
		return cloudstest.YAML(t, kmsPlain, "^stringData$", threshold, groups...)
	}
	forAWS, forVault := encrypt(0, one(atAWS)), encrypt(0, one(atVault))
	all := encrypt(3, one(cloudstest.AgeKey(t, recipient)), one(atAWS), one(atVault))
	two := encrypt(2, one(atAWS), one(cloudstest.AgeKey(t, recipient)), one(atVault))
	either := encrypt(2, one(cloudstest.AgeKey(t, strange)), one(atAWS), one(cloudstest.AgeKey(t, recipient)))
	opens("AWS", forAWS)
	opens("Vault", forVault)
	opens("groups of age, AWS and Vault", all)
	opens("two groups of three", two)

	again := func(name, text, want string) {
		t.Helper()
		_, err := try(text)
		var bad *unit.RenderError
		var away *unit.KeysAway
		if errors.As(err, &bad) || !errors.As(err, &away) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "a/s.yaml") || fleet.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
		if err := cloudstest.Told(err); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	aws.Set(cloudstest.Denied)
	again("denied", forAWS, "AccessDeniedException")
	again("denied, of three groups", all, kmsARN)
	again("denied, and a group that nobody here opens", either, kmsARN)
	opens("one of three is denied", two)
	aws.Set(cloudstest.Stalled)
	again("stalled", forAWS, "in time")
	aws.Set(cloudstest.Endless)
	again("endless", forAWS, kmsARN)
	aws.Set(cloudstest.Well)
	opens("AWS, when it answers again", forAWS)

	_, err = try(strings.Replace(forAWS, kmsARN, kmsARN+"0", 1))
	var bad *unit.RenderError
	if !errors.As(err, &bad) || bad.File != "a/s.yaml" || !strings.Contains(bad.Message, kmsARN+"0") || !strings.Contains(bad.Hint, "decryption.kms.aws") || bad.Reads.Keys != ring.Version() {
		t.Errorf("a key that is not listed: %+v", bad)
	}
}
