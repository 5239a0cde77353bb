package sops_test

import (
	"bytes"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	library "github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	sopsage "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	"github.com/getsops/sops/v3/stores/json"
	"github.com/getsops/sops/v3/stores/yaml"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func storeOf(t testing.TB, format string) library.Store {
	t.Helper()
	switch format {
	case "yaml":
		return yaml.NewStore(&config.YAMLStoreConfig{})
	case "json":
		return json.NewStore(&config.JSONStoreConfig{Indent: -1})
	case "binary":
		return json.NewBinaryStore(&config.JSONBinaryStoreConfig{Indent: -1})
	case "dotenv":
		return dotenv.NewStore(&config.DotenvStoreConfig{})
	case "ini":
		return ini.NewStore(&config.INIStoreConfig{})
	}
	t.Fatalf("no format %q", format)
	return nil
}

func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// encrypt is what sops encrypt does, by its own library. Each group is a list of
// age recipients.
func encrypt(t testing.TB, format, plain string, rules library.Metadata, groups ...[]string) []byte {
	t.Helper()
	store := storeOf(t, format)
	branches, err := store.LoadPlainFile([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	for _, recipients := range groups {
		var group library.KeyGroup
		for _, r := range recipients {
			key, err := sopsage.MasterKeyFromRecipient(r)
			if err != nil {
				t.Fatal(err)
			}
			group = append(group, key)
		}
		rules.KeyGroups = append(rules.KeyGroups, group)
	}
	if rules.UnencryptedSuffix+rules.EncryptedSuffix+rules.UnencryptedRegex+rules.EncryptedRegex+rules.EncryptedCommentRegex == "" {
		rules.UnencryptedSuffix = library.DefaultUnencryptedSuffix // as the command does
	}
	rules.LastModified, rules.Version = time.Now().UTC(), "3.13.3"
	tree := library.Tree{Branches: branches, Metadata: rules}
	key, errs := tree.GenerateDataKey()
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	cipher := aes.NewCipher()
	mac, err := tree.Encrypt(key, cipher)
	if err != nil {
		t.Fatal(err)
	}
	if tree.Metadata.MessageAuthenticationCode, err = cipher.Encrypt(mac, key, tree.Metadata.LastModified.Format(time.RFC3339)); err != nil {
		t.Fatal(err)
	}
	out, err := store.EmitEncryptedFile(tree)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// opener asks identities, as whoever has the keys does.
func opener(ids ...age.Identity) func([]unit.WrappedKey) ([]byte, error) {
	return func(wrapped []unit.WrappedKey) ([]byte, error) {
		for _, k := range wrapped {
			if k.Kind != unit.KeyAge {
				continue
			}
			r, err := age.Decrypt(armor.NewReader(bytes.NewReader(k.Ciphertext)), ids...)
			if err != nil {
				continue
			}
			var b bytes.Buffer
			_, err = b.ReadFrom(r)
			return b.Bytes(), err
		}
		return nil, fleet.NotFound("no key")
	}
}
