package keyring_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"

	"github.com/capstan-gitops/capstan/agent/keyring"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

type secrets map[string]map[string][]byte

func (s secrets) Get(_ context.Context, namespace, name string) (map[string][]byte, error) {
	if name == "broken" {
		return nil, errors.New("the API server is away")
	}
	data, ok := s[namespace+"/"+name]
	if !ok {
		return nil, fleet.NotFound("no Secret")
	}
	return data, nil
}

func wrap(t testing.TB, text string, to age.Recipient) unit.WrappedKey {
	t.Helper()
	var b bytes.Buffer
	a := armor.NewWriter(&b)
	w, err := age.Encrypt(a, to)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte(text))
	if err := errors.Join(err, w.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	return unit.WrappedKey{Kind: unit.KeyAge, ID: "age1somebody", Ciphertext: b.Bytes()}
}

const dataKey = "0123456789abcdef0123456789abcdef"

func newKey(t testing.TB) (string, age.Recipient) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return "# created: today\n" + id.String() + "\n", id.Recipient()
}

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func sshKey(t testing.TB, passphrase string) (string, age.Recipient) {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	to, err := agessh.NewEd25519Recipient(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block)), to
}

func TestEveryKindOfKeyOpens(t *testing.T) {
	plain, to := newKey(t)
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	ssh, sshTo := sshKey(t, "")
	for name, c := range map[string]struct {
		file string
		to   age.Recipient
	}{
		"X25519": {plain, to}, "hybrid": {hybrid.String(), hybrid.Recipient()}, "ssh-ed25519": {ssh, sshTo},
	} {
		ring, err := keyring.NewRing([]string{write(t, t.TempDir(), "key", c.file)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := ring.Open(t.Context(), []unit.WrappedKey{{Kind: unit.KeyPGP, Ciphertext: []byte("x")}, wrap(t, dataKey, c.to)})
		if err != nil || string(got) != dataKey {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if strings.Contains(ring.Version(), "AGE") || len(ring.Version()) > 16 {
			t.Errorf("%s: version %q", name, ring.Version())
		}
	}
}

func TestABadKeyFileIsNamedAndNotQuoted(t *testing.T) {
	locked, _ := sshKey(t, "passphrase")
	for name, text := range map[string]string{
		"half a key":   "AGE-SECRET-KEY-1QQQQ\n",
		"a recipient":  "age1qqqq\n",
		"empty":        "# nothing\n",
		"a passphrase": locked,
		"no SSH key":   "-----BEGIN OPENSSH PRIVATE KEY-----\nQQQQ\n-----END OPENSSH PRIVATE KEY-----\n",
		"huge":         strings.Repeat("# x\n", 50_000),
		"a plugin":     "AGE-PLUGIN-YUBIKEY-1QQQQ\n",
	} {
		file := write(t, t.TempDir(), "key.txt", text)
		_, err := keyring.NewRing([]string{file})
		if err == nil || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "QQQQ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// team A's ciphertext in team B's directory must not be decrypted for team B.
func TestAnAppHasNoOtherKeysThanItsOwn(t *testing.T) {
	agents, agentTo := newKey(t)
	teamA, aTo := newKey(t)
	teamB, bTo := newKey(t)
	file := write(t, t.TempDir(), "agent.txt", agents)
	k, err := keyring.New(keyring.Config{
		Age: keyring.AgeConfig{KeyFiles: []string{file}}, Apps: keyring.AppMatch{MatchNames: []string{"platform/*", "foreign/*", "capstan-system/ingress"}},
	}, "capstan-system", secrets{
		"team-a/keys":                 {"a.agekey": []byte(teamA), "notes.txt": []byte("not a key")},
		"team-b/keys":                 {"b.agekey": []byte(teamB)},
		"team-b/none":                 {"key.txt": []byte(teamA)},
		"team-b/bad":                  {"x.agekey": []byte("AGE-SECRET-KEY-1QQQQ")},
		"capstan-system/capstan-keys": {"x.agekey": []byte(agents)},
		"capstan-system/shared":       {"x.agekey": []byte(teamA)},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		app, secret string
		to          age.Recipient
		want        string // of the refusal; "": it opens
	}{
		{"team-a/shop", "keys", aTo, ""},
		{"team-b/shop", "keys", bTo, ""},
		{"team-b/shop", "keys", aTo, "no key here is for it"},
		{"team-a/shop", "keys", agentTo, "no key here is for it"},
		{"platform/dns", "", agentTo, ""},
		{"capstan-system/ingress", "", agentTo, ""},
		{"team-b/shop", "", agentTo, "may not use the keys of this cluster's agent"},
		{"capstan-system/other", "", agentTo, "may not use the keys of this cluster's agent"},
		{"capstan-system/root", "", agentTo, "may not use the keys of this cluster's agent"},
		{"platform/dns", "keys", agentTo, "is not there"},
		{"foreign/shop", "", agentTo, "for its own repository alone"},
		{"team-b/shop", "none", aTo, "no entry that ends in .agekey"},
		{"team-b/shop", "bad", bTo, "Secret team-b/bad, x.agekey:1"},
		{"capstan-system/other", "capstan-keys", agentTo, "the agent's own"},
		{"capstan-system/other", "shared", aTo, ""},
	} {
		name, err := fleet.ParseAppName(c.app)
		if err != nil {
			t.Fatal(err)
		}
		ring, err := k.Ring(t.Context(), name, !strings.HasPrefix(c.app, "foreign/"), c.secret)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ring.Open(t.Context(), []unit.WrappedKey{wrap(t, dataKey, c.to)})
		if c.want == "" && (err != nil || string(got) != dataKey) || c.want != "" && (err == nil || got != nil || !strings.Contains(err.Error(), c.want) || fleet.Hint(err) == "") {
			t.Errorf("%s with %q: %q, %v", c.app, c.secret, got, err)
		}
	}
	if _, err := k.Ring(t.Context(), fleet.AppName{Namespace: "a", Name: "b"}, true, "broken"); err == nil {
		t.Error("a Secret that can't be read is taken for one that is not there")
	} else if away := (*unit.KeysAway)(nil); !errors.As(err, &away) {
		t.Errorf("got %v", err)
	}
}

func TestKeysAreReadAnew(t *testing.T) {
	one, oneTo := newKey(t)
	two, twoTo := newKey(t)
	dir := t.TempDir()
	write(t, dir, "one.txt", one)
	write(t, dir, ".hidden", "no key")
	k, err := keyring.New(keyring.Config{Age: keyring.AgeConfig{KeyFiles: []string{dir}}, Apps: keyring.AppMatch{MatchNames: []string{"*/*"}}}, "capstan-system", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ring := func() unit.KeyRing {
		r, err := k.Ring(t.Context(), fleet.AppName{Namespace: "a", Name: "b"}, true, "")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := ring()
	if before.Version() != ring().Version() {
		t.Error("the same keys have another version")
	}
	if _, err := before.Open(t.Context(), []unit.WrappedKey{wrap(t, dataKey, twoTo)}); err == nil {
		t.Error("a key that is not there opens")
	}
	write(t, dir, "two.txt", two)
	after := ring()
	if after.Version() == before.Version() {
		t.Error("another key does not move the version")
	}
	for _, to := range []age.Recipient{oneTo, twoTo} {
		if _, err := after.Open(t.Context(), []unit.WrappedKey{wrap(t, dataKey, to)}); err != nil {
			t.Error(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "two.txt")); err != nil {
		t.Fatal(err)
	}
	if ring().Version() != before.Version() {
		t.Error("the keys of before have another version")
	}
	// One bad file takes the others not away.
	write(t, dir, "bad.txt", "x")
	if _, err := ring().Open(t.Context(), []unit.WrappedKey{wrap(t, dataKey, oneTo)}); err != nil {
		t.Error(err)
	}
	if _, err := ring().Open(t.Context(), []unit.WrappedKey{wrap(t, dataKey, twoTo)}); err == nil || !strings.Contains(err.Error(), "bad.txt") {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsNoDataKeyIsNotOpened(t *testing.T) {
	private, to := newKey(t)
	ring, err := keyring.NewRing([]string{write(t, t.TempDir(), "key", private)})
	if err != nil {
		t.Fatal(err)
	}
	many := make([]unit.WrappedKey, 300)
	for name, wrapped := range map[string][]unit.WrappedKey{
		"a letter":       {wrap(t, strings.Repeat("x", 100), to)},
		"garbage":        {{Kind: unit.KeyAge, Ciphertext: []byte("garbage")}},
		"huge":           {{Kind: unit.KeyAge, Ciphertext: bytes.Repeat([]byte("x"), 1<<20)}},
		"300 keys":       many,
		"nothing":        nil,
		"PGP alone":      {{Kind: unit.KeyPGP, ID: "ABC\x1b[31m\n", Ciphertext: []byte("x")}},
		"a passphrase's": {wrapPassphrase(t)},
	} {
		got, err := ring.Open(t.Context(), wrapped)
		if err == nil || got != nil || strings.ContainsAny(err.Error(), "\x1b\n") || len(err.Error()) > 600 {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func wrapPassphrase(t testing.TB) unit.WrappedKey {
	t.Helper()
	to, err := age.NewScryptRecipient("passphrase")
	if err != nil {
		t.Fatal(err)
	}
	to.SetWorkFactor(10)
	return wrap(t, dataKey, to)
}

func TestConfigurationThatMeansNothingIsRefused(t *testing.T) {
	for name, c := range map[string]keyring.Config{
		"keys for nobody":    {Age: keyring.AgeConfig{KeyFiles: []string{"/x"}}},
		"apps without keys":  {Apps: keyring.AppMatch{MatchNames: []string{"*/*"}}},
		"a glob of one part": {Age: keyring.AgeConfig{KeyFiles: []string{"/x"}}, Apps: keyring.AppMatch{MatchNames: []string{"*"}}},
		"a bad glob":         {Age: keyring.AgeConfig{KeyFiles: []string{"/x"}}, Apps: keyring.AppMatch{MatchNames: []string{"[/x"}}},
		"an empty file":      {Age: keyring.AgeConfig{KeyFiles: []string{""}}, Apps: keyring.AppMatch{MatchNames: []string{"*/*"}}},
	} {
		if err := c.Validate(); !errors.Is(err, fleet.ErrInvalid) || !strings.HasPrefix(err.Error(), "decryption.") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (keyring.Config{}).Validate(); err != nil {
		t.Error(err)
	}
}

func FuzzOpen(f *testing.F) {
	private, to := newKey(f)
	ring, err := keyring.NewRing([]string{write(f, f.TempDir(), "key", private)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("age", "age1x", wrap(f, dataKey, to).Ciphertext)
	f.Add("pgp", "x", []byte("y"))
	f.Fuzz(func(t *testing.T, kind, id string, ciphertext []byte) {
		got, err := ring.Open(t.Context(), []unit.WrappedKey{{Kind: unit.KeyKind(kind), ID: id, Ciphertext: ciphertext}})
		if err == nil && len(got) > 64 {
			t.Errorf("%d bytes", len(got))
		}
	})
}
