package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/keyring"
	"github.com/capstan-gitops/capstan/agent/keyring/pipe"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	arn  = "arn:aws:kms:eu-west-1:111122223333:key/0123abcd"
	role = "arn:aws:iam::111122223333:role/sops"
)

var listed = keyring.KMSConfig{
	AWS: []keyring.AWSKey{
		{ARN: arn},
		{ARN: arn, Role: role},
		{ARN: "arn:aws:kms:eu-west-1:111122223333:alias/team-a-*"},
		{ARN: "arn:aws:kms:eu-west-2:111122223333:key/*", Profile: "prod"},
	},
	GCP:   []keyring.GCPKey{{ResourceID: "projects/acme/locations/global/keyRings/sops/cryptoKeys/team-a-*"}, {ResourceID: "projects/acme/locations/global/keyRings/sops/cryptoKeys/prod"}},
	Azure: []keyring.AzureKey{{VaultURL: "https://acme.vault.azure.net/", Name: "team-a-*"}, {VaultURL: "https://acme.vault.azure.net", Name: "prod"}},
	Vault: []keyring.VaultKey{{Address: "https://vault.acme.com:8200", EnginePath: "teams/a/transit/", KeyName: "*"}, {Address: "http://127.0.0.1:8200/", EnginePath: "transit", KeyName: "prod"}},
}

func named(kind unit.KeyKind, attributes ...string) unit.WrappedKey {
	k := unit.WrappedKey{Kind: kind, ID: strings.Join(attributes, " "), Attributes: map[string]string{}, Ciphertext: []byte("x")}
	for i := 0; i < len(attributes); i += 2 {
		k.Attributes[attributes[i]] = attributes[i+1]
	}
	return k
}

func TestOnlyListedKeysAreAsked(t *testing.T) {
	gcp := "projects/acme/locations/global/keyRings/sops/cryptoKeys/"
	azure := func(url, name, version string) unit.WrappedKey {
		return named(unit.KeyAzure, "vault_url", url, "name", name, "version", version)
	}
	vault := func(address, engine, name string) unit.WrappedKey {
		return named(unit.KeyVault, "vault_address", address, "engine_path", engine, "key_name", name)
	}
	x := []byte("x")
	for _, c := range []struct {
		key  unit.WrappedKey
		want *pipe.Key // nil: it is not asked
	}{
		{named(unit.KeyAWS, "arn", arn), &pipe.Key{Kind: unit.KeyAWS, Resource: arn, Ciphertext: x}},
		{named(unit.KeyAWS, "arn", arn, "context.App", "shop", "context.a.b", "c"), &pipe.Key{Kind: unit.KeyAWS, Resource: arn, Context: map[string]string{"App": "shop", "a.b": "c"}, Ciphertext: x}},
		{named(unit.KeyAWS, "arn", arn, "role", role), &pipe.Key{Kind: unit.KeyAWS, Resource: arn, Role: role, Ciphertext: x}},
		{named(unit.KeyAWS, "arn", "arn:aws:kms:eu-west-1:111122223333:alias/team-a-x/y"), &pipe.Key{Kind: unit.KeyAWS, Resource: "arn:aws:kms:eu-west-1:111122223333:alias/team-a-x/y", Ciphertext: x}},
		{named(unit.KeyAWS, "arn", "arn:aws:kms:eu-west-2:111122223333:key/any", "aws_profile", "prod"), &pipe.Key{Kind: unit.KeyAWS, Resource: "arn:aws:kms:eu-west-2:111122223333:key/any", Profile: "prod", Ciphertext: x}},
		{named(unit.KeyAWS, "arn", arn+"0"), nil},
		{named(unit.KeyAWS, "arn", arn, "role", role+"2"), nil},
		{named(unit.KeyAWS, "arn", arn, "aws_profile", "prod"), nil},
		{named(unit.KeyAWS, "arn", arn, "role", role, "aws_profile", "prod"), nil},
		{named(unit.KeyAWS, "arn", "arn:aws:kms:eu-west-2:111122223333:key/any"), nil},
		{named(unit.KeyAWS, "arn", "arn:aws:kms:eu-west-1:111122223333:alias/team-b"), nil},
		{named(unit.KeyAWS, "arn", "arn:aws:kms:eu-west-1:111122223333:alias/team-a-x y"), nil},
		{named(unit.KeyAWS, "arn", "arn:aws:kms:eu-west-1:111122223333:alias/team-a-x\n"), nil},
		{named(unit.KeyAWS), nil},

		{named(unit.KeyGCP, "resource_id", gcp+"prod"), &pipe.Key{Kind: unit.KeyGCP, Resource: gcp + "prod", Ciphertext: x}},
		{named(unit.KeyGCP, "resource_id", gcp+"team-a-x"), &pipe.Key{Kind: unit.KeyGCP, Resource: gcp + "team-a-x", Ciphertext: x}},
		{named(unit.KeyGCP, "resource_id", gcp+"team-b"), nil},
		{named(unit.KeyGCP, "resource_id", gcp+"team-a-x/../prod"), nil},
		{named(unit.KeyGCP, "resource_id", gcp+"team-a-x:encrypt?"), nil},

		{azure("https://acme.vault.azure.net", "prod", "1a"), &pipe.Key{Kind: unit.KeyAzure, Resource: "https://acme.vault.azure.net", Name: "prod", Version: "1a", Ciphertext: x}},
		{azure("https://acme.vault.azure.net/", "team-a-x", ""), &pipe.Key{Kind: unit.KeyAzure, Resource: "https://acme.vault.azure.net", Name: "team-a-x", Ciphertext: x}},
		{azure("https://evil.vault.azure.net", "prod", ""), nil},
		{azure("https://acme.vault.azure.net.evil.com", "prod", ""), nil},
		{azure("https://acme.vault.azure.net//", "prod", ""), nil},
		{azure("http://acme.vault.azure.net", "prod", ""), nil},
		{azure("https://acme.vault.azure.net", "team-a-/../prod", ""), nil},
		{azure("https://acme.vault.azure.net", "prod", "../x"), nil},

		{vault("https://vault.acme.com:8200", "teams/a/transit", "k.1"), &pipe.Key{Kind: unit.KeyVault, Resource: "https://vault.acme.com:8200", Engine: "teams/a/transit", Name: "k.1", Ciphertext: x}},
		{vault("http://127.0.0.1:8200/", "/transit", "prod"), &pipe.Key{Kind: unit.KeyVault, Resource: "http://127.0.0.1:8200", Engine: "transit", Name: "prod", Ciphertext: x}},
		{vault("https://vault.acme.com:8200", "teams/b/transit", "k"), nil},
		{vault("https://vault.acme.com:8200@evil.com", "teams/a/transit", "k"), nil},
		{vault("http://vault.acme.com:8200", "teams/a/transit", "k"), nil},
		{vault("https://vault.acme.com:8200", "teams/a/transit", "../../../b/transit/decrypt/k"), nil},
		{vault("https://vault.acme.com:8200", "teams/a/transit", ".."), nil},
		{vault("https://vault.acme.com:8200", "teams/a/transit", "k?x"), nil},
		{vault("https://vault.acme.com:8200", "teams/a/transit", ""), nil},

		{named(unit.KeyPGP, "fp", "ABC"), nil},
		{named(unit.KeyOther, "key_id", "ABC"), nil},
		{unit.WrappedKey{Kind: unit.KeyAWS, Attributes: map[string]string{"arn": arn}}, nil},
		{unit.WrappedKey{Kind: unit.KeyAWS, Attributes: map[string]string{"arn": arn}, Ciphertext: bytes.Repeat(x, 20_000)}, nil},
	} {
		got, err := listed.Admit(c.key)
		switch {
		case c.want == nil && (!errors.Is(err, fleet.ErrForbidden) || fleet.Hint(err) == "" || !reflect.DeepEqual(got, pipe.Key{})):
			t.Errorf("%s %q: %+v, %v", c.key.Kind, c.key.ID, got, err)
		case c.want != nil && (err != nil || !reflect.DeepEqual(got, *c.want)):
			t.Errorf("%s %q: %+v, %v", c.key.Kind, c.key.ID, got, err)
		}
	}
}

func TestListsThatSayLessThanTheySeemAreRefused(t *testing.T) {
	for field, k := range map[string]keyring.KMSConfig{
		"aws[0].arn":          {AWS: []keyring.AWSKey{{ARN: "arn:aws:kms:eu-*"}}},
		"aws[1].arn":          {AWS: []keyring.AWSKey{{ARN: arn}, {ARN: "*"}}},
		"aws[0].arn: \"arn:":  {AWS: []keyring.AWSKey{{ARN: "arn:aws:kms:eu-west-1:111122223333:key/"}}},
		"aws[0].role":         {AWS: []keyring.AWSKey{{ARN: arn, Role: "arn:aws:iam::111122223333:role/*"}}},
		"aws[0].profile":      {AWS: []keyring.AWSKey{{ARN: arn, Profile: "a b"}}},
		"gcp[0].resourceID":   {GCP: []keyring.GCPKey{{ResourceID: "*"}}},
		"gcp[0].resourceID: ": {GCP: []keyring.GCPKey{{ResourceID: "projects/ac*"}}},
		"gcp[0].":             {GCP: []keyring.GCPKey{{ResourceID: "projects/acme/locations/global/keyRings/sops"}}},
		"azure[0].vaultURL":   {Azure: []keyring.AzureKey{{VaultURL: "http://acme.vault.azure.net", Name: "x"}}},
		"azure[0].name":       {Azure: []keyring.AzureKey{{VaultURL: "https://acme.vault.azure.net", Name: ""}}},
		"azure[0].vaultURL: ": {Azure: []keyring.AzureKey{{VaultURL: "https://*.vault.azure.net/keys", Name: "x"}}},
		"vault[0].address":    {Vault: []keyring.VaultKey{{Address: "vault:8200", EnginePath: "transit", KeyName: "x"}}},
		"vault[0].address: ":  {Vault: []keyring.VaultKey{{Address: "https://me:secret@vault:8200", EnginePath: "transit", KeyName: "x"}}},
		"vault[0].enginePath": {Vault: []keyring.VaultKey{{Address: "https://vault:8200", EnginePath: "../transit", KeyName: "x"}}},
		"vault[0].keyName":    {Vault: []keyring.VaultKey{{Address: "https://vault:8200", EnginePath: "transit", KeyName: "a/*"}}},
	} {
		err := keyring.Config{KMS: k, Apps: keyring.AppMatch{MatchNames: []string{"*/*"}}}.Validate()
		if !errors.Is(err, fleet.ErrInvalid) || !strings.HasPrefix(err.Error(), "decryption.kms."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := (keyring.Config{KMS: listed}).Validate(); !errors.Is(err, fleet.ErrInvalid) || !strings.Contains(err.Error(), "decryption.apps") {
		t.Errorf("keys for nobody: %v", err)
	}
	if err := (keyring.Config{KMS: listed, Apps: keyring.AppMatch{MatchNames: []string{"*/*"}}}).Validate(); err != nil {
		t.Error(err)
	}
}

// cloud answers for AWS keys.
type cloud struct{ asked []string }

func (c *cloud) Decrypt(_ context.Context, k pipe.Key) ([]byte, error) {
	c.asked = append(c.asked, k.String())
	return []byte(dataKey), nil
}

func TestKeyServicesAreForTheAppsThatAreListed(t *testing.T) {
	private, to := newKey(t)
	file := write(t, t.TempDir(), "key.txt", private)
	asked := &cloud{}
	k, err := keyring.New(keyring.Config{
		Age: keyring.AgeConfig{KeyFiles: []string{file}}, KMS: listed, Apps: keyring.AppMatch{MatchNames: []string{"shop/*"}},
	}, "capstan-system", secrets{"shop/keys": {"a.agekey": []byte(private)}}, asked)
	if err != nil {
		t.Fatal(err)
	}
	wrapped := named(unit.KeyAWS, "arn", arn)
	for _, c := range []struct {
		namespace, secret string
		own, opens        bool
	}{{"shop", "", true, true}, {"shop", "", false, false}, {"shop", "keys", true, false}, {"other", "", true, false}} {
		ring, err := k.Ring(t.Context(), fleet.AppName{Namespace: c.namespace, Name: "x"}, c.own, c.secret)
		if err != nil {
			t.Fatal(err)
		}
		asked.asked = nil
		got, err := ring.Open(t.Context(), []unit.WrappedKey{wrapped})
		if (err == nil) != c.opens || (string(got) == dataKey) != c.opens || (len(asked.asked) > 0) != c.opens {
			t.Errorf("%+v: %q, %v, asked %q", c, got, err, asked.asked)
		}
		if !c.opens && fleet.Hint(err) == "" {
			t.Errorf("%+v: no hint", c)
		}
	}
	// What an age key here opens is asked of nobody.
	ring, err := k.Ring(t.Context(), fleet.AppName{Namespace: "shop", Name: "x"}, true, "")
	if err != nil {
		t.Fatal(err)
	}
	asked.asked = nil
	if got, err := ring.Open(t.Context(), []unit.WrappedKey{wrapped, wrap(t, dataKey, to)}); string(got) != dataKey || len(asked.asked) > 0 {
		t.Errorf("%q, %v, asked %q", got, err, asked.asked)
	}
	// A file for a thousand keys does not ask a thousand times.
	refusing := &refuser{}
	k, err = keyring.New(keyring.Config{KMS: listed, Apps: keyring.AppMatch{MatchNames: []string{"*/*"}}}, "capstan-system", nil, refusing)
	if err != nil {
		t.Fatal(err)
	}
	other, err := k.Ring(t.Context(), fleet.AppName{Namespace: "shop", Name: "x"}, true, "")
	if err != nil {
		t.Fatal(err)
	}
	many := make([]unit.WrappedKey, 200)
	for i := range many {
		many[i] = wrapped
	}
	if _, err := other.Open(t.Context(), many); err == nil || refusing.asked > 10 {
		t.Errorf("asked %d times, %v", refusing.asked, err)
	}
	if other.Version() == ring.Version() {
		t.Error("other keys have the same version")
	}
}

type refuser struct{ asked int }

func (r *refuser) Decrypt(context.Context, pipe.Key) ([]byte, error) {
	r.asked++
	return nil, fleet.Invalid("no")
}

func FuzzAdmit(f *testing.F) {
	f.Add("vault", "vault_address", "https://vault.acme.com:8200", "engine_path", "teams/a/transit", "key_name", "k")
	f.Add("aws-kms", "arn", arn, "role", role, "context.a", "b")
	f.Fuzz(func(t *testing.T, kind, a, b, c, d, e, g string) {
		k, err := listed.Admit(named(unit.KeyKind(kind), a, b, c, d, e, g))
		if err != nil {
			return
		}
		for _, part := range []string{k.Resource, k.Engine, k.Name, k.Version, k.Role, k.Profile} {
			if strings.Contains(part, "..") || strings.ContainsAny(part, " \n?#@%*\x1b") {
				t.Errorf("%+v", k)
			}
		}
		if k.Kind == unit.KeyVault && k.Resource != "https://vault.acme.com:8200" && k.Resource != "http://127.0.0.1:8200" {
			t.Errorf("%+v", k)
		}
	})
}
