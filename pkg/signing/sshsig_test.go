package signing_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signing"
)

const namespace = "test-namespace"

// newKeyFile has ssh-keygen make a key, as people do.
func newKeyFile(t testing.TB, kind, passphrase, comment string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "id_"+kind)
	run(t, nil, "ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", comment, "-f", path)
	return path
}

func run(t testing.TB, stdin []byte, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func loadKey(t testing.TB, path string) *signing.Key {
	t.Helper()
	key, err := signing.LoadKey(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSSHKeygenVerifiesWhatWeSign(t *testing.T) {
	message := []byte("some bytes\x00 to sign")
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		t.Run(kind, func(t *testing.T) {
			key := loadKey(t, newKeyFile(t, kind, "", "alice"))
			armored, err := key.Sign(namespace, message)
			if err != nil {
				t.Fatal(err)
			}
			allowed := writeFile(t, "allowed", "alice "+key.Public()+"\n")
			run(t, message, "ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "alice", "-n", namespace, "-s", writeFile(t, "sig", armored))
			public, err := signing.Verify(message, armored, namespace)
			if err != nil || signing.Fingerprint(public) != key.Fingerprint() {
				t.Errorf("own signature: key %v, error %v", public, err)
			}
		})
	}
}

func TestWeVerifyWhatSSHKeygenSigns(t *testing.T) {
	message := []byte("some bytes to sign\n")
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		for _, hash := range []string{"sha256", "sha512"} {
			t.Run(kind+" "+hash, func(t *testing.T) {
				path := newKeyFile(t, kind, "", "alice")
				file := writeFile(t, "message", string(message))
				run(t, nil, "ssh-keygen", "-q", "-Y", "sign", "-O", "hashalg="+hash, "-f", path, "-n", namespace, file)
				armored, err := os.ReadFile(file + ".sig")
				if err != nil {
					t.Fatal(err)
				}
				public, err := signing.Verify(message, string(armored), namespace)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := signing.Fingerprint(public), loadKey(t, path).Fingerprint(); got != want {
					t.Errorf("signed by %s, want %s", got, want)
				}
			})
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	message := []byte("message")
	key := loadKey(t, newKeyFile(t, "ed25519", "", "alice"))
	good, err := key.Sign(namespace, message)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(good))
	flipped := bytes.Clone(block.Bytes)
	flipped[len(flipped)-1] ^= 1
	armor := func(b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: b}))
	}
	for _, test := range []struct {
		name, armored, message string
		want                   error
	}{
		{"no signature", " \n", "message", signing.ErrUnsigned},
		{"another message", good, "massage", signing.ErrBadSignature},
		{"a flipped bit", armor(flipped), "message", signing.ErrBadSignature},
		{"cut short", armor(block.Bytes[:40]), "message", signing.ErrMalformed},
		{"no magic", armor([]byte("SSHSIX")), "message", signing.ErrMalformed},
		{"another PEM type", strings.ReplaceAll(good, "SSH SIGNATURE", "PGP SIGNATURE"), "message", signing.ErrMalformed},
		{"text before it", "hello\n" + good, "message", signing.ErrMalformed},
		{"text after it", good + "hello", "message", signing.ErrMalformed},
		{"far too long", good + strings.Repeat("\nx", 16<<10), "message", signing.ErrMalformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := signing.Verify([]byte(test.message), test.armored, namespace); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
	if _, err := signing.Verify(message, good, "file"); !errors.Is(err, signing.ErrWrongNamespace) {
		t.Errorf("another namespace: error %v", err)
	}
}

// handmade builds an SSHSIG from its parts, to make what no tool would.
func handmade(public ssh.PublicKey, message []byte, sign func(data []byte) *ssh.Signature) string {
	sum := sha512.Sum512(message)
	data := append([]byte("SSHSIG"), ssh.Marshal(struct{ NS, Reserved, Hash, Sum string }{namespace, "", "sha512", string(sum[:])})...)
	blob := append([]byte("SSHSIG"), ssh.Marshal(struct {
		Version                            uint32
		Key, NS, Reserved, Hash, Signature string
	}{1, string(public.Marshal()), namespace, "", "sha512", string(ssh.Marshal(sign(data)))})...)
	return string(pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: blob}))
}

func TestSecurityKeysCountOnlyWhenTouched(t *testing.T) {
	const application = "ssh:"
	raw, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.ParsePublicKey(ssh.Marshal(struct{ Type, Key, Application string }{ssh.KeyAlgoSKED25519, string(raw), application}))
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("message")
	signed := func(flags byte) string {
		return handmade(public, message, func(data []byte) *ssh.Signature {
			app, sum := sha256.Sum256([]byte(application)), sha256.Sum256(data)
			rest := []byte{flags, 0, 0, 0, 7}
			blob := append(append(bytes.Clone(app[:]), rest...), sum[:]...)
			return &ssh.Signature{Format: public.Type(), Blob: ed25519.Sign(private, blob), Rest: rest}
		})
	}
	if _, err := signing.Verify(message, signed(1), namespace); err != nil {
		t.Errorf("touched: %v", err)
	}
	allowed := writeFile(t, "allowed", "alice "+string(ssh.MarshalAuthorizedKey(public)))
	run(t, message, "ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "alice", "-n", namespace, "-s", writeFile(t, "sig", signed(1)))
	if _, err := signing.Verify(message, signed(0), namespace); !errors.Is(err, signing.ErrBadSignature) {
		t.Errorf("not touched: error %v", err)
	}
}

func TestWeakSignaturesAreRefused(t *testing.T) {
	message := []byte("message")
	signerOf := func(key any) ssh.Signer {
		s, err := ssh.NewSignerFromKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		signer ssh.Signer
		algo   string
		rest   []byte
	}{
		{"RSA with SHA-1", signerOf(strong), ssh.KeyAlgoRSA, nil},
		{"a short RSA key", signerOf(short), ssh.KeyAlgoRSASHA512, nil},
		{"bytes after the signature", signerOf(p256), ssh.KeyAlgoECDSA256, []byte{1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			armored := handmade(test.signer.PublicKey(), message, func(data []byte) *ssh.Signature {
				sig, err := test.signer.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, data, test.algo)
				if err != nil {
					t.Fatal(err)
				}
				sig.Rest = test.rest
				return sig
			})
			if _, err := signing.Verify(message, armored, namespace); !errors.Is(err, signing.ErrBadSignature) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestProtectedKeyFilesAskForThePassphrase(t *testing.T) {
	path := newKeyFile(t, "ed25519", "open sesame", "alice@example.com")
	key, err := signing.LoadKey(path, func(asked string) ([]byte, error) {
		if asked != path {
			t.Errorf("asked for %s", asked)
		}
		return []byte("open sesame"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if key.Comment() != "alice@example.com" {
		t.Errorf("comment %q", key.Comment())
	}
	if _, err := signing.LoadKey(path, func(string) ([]byte, error) { return []byte("guess"), nil }); err == nil {
		t.Error("a wrong passphrase opens it")
	}
	if _, err := signing.LoadKey(path, nil); err == nil || fleet.Hint(err) == "" {
		t.Errorf("nobody to ask: error %v, hint %q", err, fleet.Hint(err))
	}
	if _, err := signing.LoadKey(path+".pub", nil); err == nil || !strings.Contains(err.Error(), "public key") {
		t.Errorf("a public key file: error %v", err)
	}
}

func TestKeyFilesSayWhoseTheyAre(t *testing.T) {
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		path := newKeyFile(t, kind, "", "alice@example.com")
		if got := loadKey(t, path).Comment(); got != "alice@example.com" {
			t.Errorf("%s with its public file: comment %q", kind, got)
		}
		if err := os.Remove(path + ".pub"); err != nil {
			t.Fatal(err)
		}
		if got := loadKey(t, path).Comment(); got != "alice@example.com" {
			t.Errorf("%s alone: comment %q", kind, got)
		}
	}
}

func TestAgentKeysSign(t *testing.T) {
	ring := agent.NewKeyring()
	var publics []string
	for _, kind := range []string{"ed25519", "rsa"} {
		path := newKeyFile(t, kind, "", "")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := ssh.ParseRawPrivateKey(data)
		if err != nil {
			t.Fatal(err)
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: raw, Comment: kind + "@example.com"}); err != nil {
			t.Fatal(err)
		}
		publics = append(publics, loadKey(t, path).Public())
	}
	socket := serveAgent(t, ring)
	for i, kind := range []string{"ed25519", "rsa"} {
		key, err := signing.AgentKey(t.Context(), socket, publics[i])
		if err != nil {
			t.Fatal(err)
		}
		armored, err := key.Sign(namespace, []byte("message"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signing.Verify([]byte("message"), armored, namespace); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if key.Comment() != kind+"@example.com" {
			t.Errorf("comment %q", key.Comment())
		}
		if err := key.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := signing.AgentKey(t.Context(), socket, ""); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("two keys and none named: error %v", err)
	}
	stranger := loadKey(t, newKeyFile(t, "ed25519", "", "")).Public()
	if _, err := signing.AgentKey(t.Context(), socket, stranger); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("a key it does not hold: error %v", err)
	}
	if _, err := signing.AgentKey(t.Context(), "", ""); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("no agent: error %v", err)
	}
}

func serveAgent(t *testing.T, ring agent.Agent) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed by the cleanup
			}
			_ = agent.ServeAgent(ring, conn) // ends with the client's connection
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return socket
}
