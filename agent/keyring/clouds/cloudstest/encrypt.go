package cloudstest

import (
	"testing"
	"time"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	"github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/azkv"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/gcpkms"
	"github.com/getsops/sops/v3/hcvault"
	"github.com/getsops/sops/v3/keys"
	"github.com/getsops/sops/v3/kms"
	"github.com/getsops/sops/v3/stores/yaml"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// Key is one that a file is encrypted for.
type Key struct {
	kind       unit.KeyKind
	attributes map[string]string
	master     keys.MasterKey
}

// AWSKey is a key of AWS KMS, used as a role and with an encryption context.
func AWSKey(arn, role, profile string, context map[string]string) Key {
	k := Key{kind: unit.KeyAWS, attributes: map[string]string{"arn": arn}}
	var bound map[string]*string
	for name, value := range context {
		if bound == nil {
			bound = map[string]*string{}
		}
		bound[name] = &value
		k.attributes["context."+name] = value
	}
	for name, value := range map[string]string{"role": role, "aws_profile": profile} {
		if value != "" {
			k.attributes[name] = value
		}
	}
	k.master = kms.NewMasterKeyWithProfile(arn, role, bound, profile)
	return k
}

// VaultKey is a key of a transit engine.
func VaultKey(address, engine, name string) Key {
	return Key{unit.KeyVault, map[string]string{"vault_address": address, "engine_path": engine, "key_name": name}, hcvault.NewMasterKey(address, engine, name)}
}

// GCPKey is a key of Google Cloud KMS.
func GCPKey(id string) Key {
	return Key{unit.KeyGCP, map[string]string{"resource_id": id}, gcpkms.NewMasterKeyFromResourceID(id)}
}

// AzureKey is a key of Azure Key Vault.
func AzureKey(vault, name, version string) Key {
	return Key{unit.KeyAzure, map[string]string{"vault_url": vault, "name": name, "version": version}, azkv.NewMasterKey(vault, name, version)}
}

// AgeKey is an age recipient.
func AgeKey(t testing.TB, recipient string) Key {
	t.Helper()
	k, err := age.MasterKeyFromRecipient(recipient)
	if err != nil {
		t.Fatal(err)
	}
	return Key{unit.KeyAge, map[string]string{"recipient": recipient}, k}
}

// Wrap has a data key encrypted, and gives it as a file would name it.
func (k Key) Wrap(t testing.TB, dataKey []byte) unit.WrappedKey {
	t.Helper()
	if err := k.master.Encrypt(dataKey); err != nil {
		t.Fatal(err)
	}
	return k.Wrapped(k.master.EncryptedDataKey())
}

// Wrapped is a data key that is encrypted already, as a file would name it.
func (k Key) Wrapped(ciphertext []byte) unit.WrappedKey {
	return unit.WrappedKey{Kind: k.kind, ID: k.master.ToString(), Attributes: k.attributes, Ciphertext: ciphertext}
}

// YAML is what sops encrypt makes of a file, by its own library. Of several
// groups as many are needed as threshold says.
func YAML(t testing.TB, plain, encryptedRegex string, threshold int, groups ...[]Key) string {
	t.Helper()
	store := yaml.NewStore(&config.YAMLStoreConfig{})
	branches, err := store.LoadPlainFile([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	tree := sops.Tree{Branches: branches, Metadata: sops.Metadata{EncryptedRegex: encryptedRegex, ShamirThreshold: threshold, LastModified: time.Now().UTC(), Version: "3.13.3"}}
	for _, keys := range groups {
		var group sops.KeyGroup
		for _, k := range keys {
			group = append(group, k.master)
		}
		tree.Metadata.KeyGroups = append(tree.Metadata.KeyGroups, group)
	}
	dataKey, errs := tree.GenerateDataKey()
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	cipher := aes.NewCipher()
	mac, err := tree.Encrypt(dataKey, cipher)
	if err != nil {
		t.Fatal(err)
	}
	if tree.Metadata.MessageAuthenticationCode, err = cipher.Encrypt(mac, dataKey, tree.Metadata.LastModified.Format(time.RFC3339)); err != nil {
		t.Fatal(err)
	}
	out, err := store.EmitEncryptedFile(tree)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
