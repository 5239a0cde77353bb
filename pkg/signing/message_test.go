package signing_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/signing"
)

func TestOnlyPinnedKeysSignForANamespace(t *testing.T) {
	key := loadKey(t, newKeyFile(t, "ed25519", "", ""))
	public := strings.TrimSpace(key.Public())
	message, now := []byte("a commit"), time.Now()
	signature, err := key.Sign("git", message)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, line, namespace, message string
		want                           error
	}{
		{"pinned", "bob,alice " + public, "git", "a commit", nil},
		{"pinned for it", `alice namespaces="git" ` + public, "git", "a commit", nil},
		{"by two lines", `alice namespaces="file" ` + public + "\nalice " + public, "git", "a commit", nil},
		{"nobody", "", "git", "a commit", signing.ErrNotPinned},
		{"for another", `alice namespaces="file" ` + public, "git", "a commit", signing.ErrWrongNamespace},
		{"no longer", `alice valid-before="20200101" ` + public, "git", "a commit", signing.ErrKeyNotValid},
		{"signed for another", "alice " + public, "file", "a commit", signing.ErrWrongNamespace},
		{"of another message", "alice " + public, "git", "another", signing.ErrBadSignature},
	} {
		allowed, err := signing.ParseAllowedSigners("allowed_signers", []byte(c.line))
		if err != nil {
			t.Fatal(err)
		}
		who, err := allowed.Verify([]byte(c.message), signature, c.namespace, now)
		if !errors.Is(err, c.want) || c.want == nil && (err != nil || who.Principal != "alice" || who.Fingerprint == "") {
			t.Errorf("%s: got %+v, %v", c.name, who, err)
		}
	}
}
