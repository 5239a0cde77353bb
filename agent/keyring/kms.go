package keyring

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/agent/keyring/pipe"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// KMSConfig are the keys at key services that may be asked to decrypt. Whoever
// writes to the repository also writes, in a file's metadata, where its key is
// to be had: nothing is asked that is not here.
type KMSConfig struct {
	AWS   []AWSKey   `json:"aws,omitempty"`
	GCP   []GCPKey   `json:"gcp,omitempty"`
	Azure []AzureKey `json:"azure,omitempty"`
	Vault []VaultKey `json:"vault,omitempty"`
}

// AWSKey is a key of AWS KMS.
type AWSKey struct {
	// ARN of the key or alias; one that ends in '*' stands for all that begin so.
	ARN string `json:"arn"`
	// Role and Profile are those that a file must name; empty: it must name none.
	Role    string `json:"role,omitempty"`
	Profile string `json:"profile,omitempty"`
}

// GCPKey is a key of Google Cloud KMS.
type GCPKey struct {
	// ResourceID as projects/P/locations/L/keyRings/R/cryptoKeys/K; one that ends
	// in '*' stands for all that begin so.
	ResourceID string `json:"resourceID"`
}

// AzureKey is a key of an Azure Key Vault, in any version.
type AzureKey struct {
	VaultURL string `json:"vaultURL"`
	// Name of the key; one that ends in '*' stands for all that begin so.
	Name string `json:"name"`
}

// VaultKey is a key of a transit engine of HashiCorp Vault.
type VaultKey struct {
	Address    string `json:"address"`
	EnginePath string `json:"enginePath"`
	// KeyName of the key; one that ends in '*' stands for all that begin so.
	KeyName string `json:"keyName"`
}

// A key's name ends up in the address or path of a request: no other characters
// are let through than such names have.
var (
	awsARN     = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]+$`)
	awsRole    = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+$`)
	awsProfile = regexp.MustCompile(`^[\w.@+-]+$`)
	gcpID      = regexp.MustCompile(`^projects/[a-z0-9.:-]+/locations/[a-z0-9-]+/keyRings/[\w-]+/cryptoKeys/[\w-]+$`)
	gcpPrefix  = regexp.MustCompile(`^projects/[a-z0-9.:-]+/[\w/-]*$`)
	azureName  = regexp.MustCompile(`^[0-9A-Za-z-]+$`)
	azureLevel = regexp.MustCompile(`^[0-9A-Za-z]*$`)
	vaultPath  = regexp.MustCompile(`^\w[\w.-]*(/\w[\w.-]*)*$`)
	vaultName  = regexp.MustCompile(`^\w[\w.-]*$`)
)

func (c KMSConfig) empty() bool { return len(c.AWS)+len(c.GCP)+len(c.Azure)+len(c.Vault) == 0 }

// validate names the field.
func (c KMSConfig) validate() error {
	if err := c.validateAWS(); err != nil {
		return err
	}
	for i, k := range c.GCP {
		if id, all := strings.CutSuffix(k.ResourceID, "*"); all && !gcpPrefix.MatchString(id) || !all && !gcpID.MatchString(id) {
			return fleet.WithHint(fleet.Invalid("decryption.kms.gcp[%d].resourceID: %q is not the resource id of a key", i, k.ResourceID),
				`write it like "projects/acme/locations/global/keyRings/sops/cryptoKeys/prod" or "projects/acme/*"`)
		}
	}
	for i, k := range c.Azure {
		if !isBase(k.VaultURL, "https") {
			return fleet.WithHint(fleet.Invalid("decryption.kms.azure[%d].vaultURL: %q is not the URL of a vault", i, k.VaultURL), `write it like "https://acme.vault.azure.net"`)
		}
		if !isPattern(k.Name, azureName) {
			return fleet.WithHint(fleet.Invalid("decryption.kms.azure[%d].name: %q is not the name of a key", i, k.Name), `write it like "sops", "team-a-*" or "*"`)
		}
	}
	for i, k := range c.Vault {
		if !isBase(k.Address, "https", "http") {
			return fleet.WithHint(fleet.Invalid("decryption.kms.vault[%d].address: %q is not the address of a Vault", i, k.Address), `write it like "https://vault.example.com:8200", without a path`)
		}
		if !vaultPath.MatchString(strings.Trim(k.EnginePath, "/")) {
			return fleet.WithHint(fleet.Invalid("decryption.kms.vault[%d].enginePath: %q is not the path of a transit engine", i, k.EnginePath), `write it like "transit"`)
		}
		if !isPattern(k.KeyName, vaultName) {
			return fleet.WithHint(fleet.Invalid("decryption.kms.vault[%d].keyName: %q is not the name of a key", i, k.KeyName), `write it like "sops", "team-a-*" or "*"`)
		}
	}
	return nil
}

func (c KMSConfig) validateAWS() error {
	for i, k := range c.AWS {
		if arn, all := strings.CutSuffix(k.ARN, "*"); !awsARN.MatchString(arn) && (!all || !awsARN.MatchString(arn+"x")) {
			return fleet.WithHint(fleet.Invalid("decryption.kms.aws[%d].arn: %q is not the ARN of a key", i, k.ARN),
				`write it like "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-..." or "arn:aws:kms:eu-west-1:111122223333:key/*"`)
		}
		if k.Role != "" && !awsRole.MatchString(k.Role) {
			return fleet.WithHint(fleet.Invalid("decryption.kms.aws[%d].role: %q is not the ARN of a role", i, k.Role), `write it like "arn:aws:iam::111122223333:role/sops"`)
		}
		if k.Profile != "" && !awsProfile.MatchString(k.Profile) {
			return fleet.Invalid("decryption.kms.aws[%d].profile: %q is not the name of a profile", i, k.Profile)
		}
	}
	return nil
}

// isBase tells an address that has nothing but a scheme and a host.
func isBase(address string, schemes ...string) bool {
	u, err := url.Parse(address)
	return err == nil && slices.Contains(schemes, u.Scheme) && u.Hostname() != "" && strings.Trim(u.Path, "/") == "" &&
		u.User == nil && u.RawQuery == "" && u.Fragment == "" && !strings.ContainsAny(address, "?#")
}

func isPattern(pattern string, name *regexp.Regexp) bool {
	prefix, all := strings.CutSuffix(pattern, "*")
	return name.MatchString(prefix) || all && prefix == ""
}

// matches tells whether a name is the one that a pattern stands for, or begins as it says.
func matches(pattern, name string) bool {
	if prefix, all := strings.CutSuffix(pattern, "*"); all {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// Admit gives what a key service is to be asked for a key that a file names. The
// error says why it is not asked: it is fleet.ErrForbidden and has a hint.
func (c KMSConfig) Admit(k unit.WrappedKey) (pipe.Key, error) {
	if len(k.Ciphertext) == 0 || len(k.Ciphertext) > pipe.MaxCiphertext {
		return pipe.Key{}, fleet.WithHint(fleet.Forbidden("the data key for %s %s has %d bytes", k.Kind, printable(k.ID), len(k.Ciphertext)), "encrypt the file anew")
	}
	switch k.Kind {
	case unit.KeyAWS:
		return c.admitAWS(k)
	case unit.KeyGCP:
		id := k.Attributes["resource_id"]
		if gcpID.MatchString(id) && slices.ContainsFunc(c.GCP, func(e GCPKey) bool { return matches(e.ResourceID, id) }) {
			return pipe.Key{Kind: k.Kind, Resource: id, Ciphertext: k.Ciphertext}, nil
		}
		return pipe.Key{}, notListed(k, "decryption.kms.gcp")
	case unit.KeyAzure:
		name, version := k.Attributes["name"], k.Attributes["version"]
		for _, e := range c.Azure {
			if sameBase(e.VaultURL, k.Attributes["vault_url"]) && azureName.MatchString(name) && azureLevel.MatchString(version) && matches(e.Name, name) {
				return pipe.Key{Kind: k.Kind, Resource: strings.TrimRight(e.VaultURL, "/"), Name: name, Version: version, Ciphertext: k.Ciphertext}, nil
			}
		}
		return pipe.Key{}, notListed(k, "decryption.kms.azure")
	case unit.KeyVault:
		engine, name := strings.Trim(k.Attributes["engine_path"], "/"), k.Attributes["key_name"]
		for _, e := range c.Vault {
			if sameBase(e.Address, k.Attributes["vault_address"]) && strings.Trim(e.EnginePath, "/") == engine && vaultName.MatchString(name) && matches(e.KeyName, name) {
				return pipe.Key{Kind: k.Kind, Resource: strings.TrimRight(e.Address, "/"), Engine: engine, Name: name, Ciphertext: k.Ciphertext}, nil
			}
		}
		return pipe.Key{}, notListed(k, "decryption.kms.vault")
	}
	return pipe.Key{}, fleet.WithHint(fleet.Forbidden("keys of the kind %s are not used here", k.Kind), "add an age recipient, or a key that decryption.kms of the agent's configuration lists")
}

const contextPrefix = "context."

func (c KMSConfig) admitAWS(k unit.WrappedKey) (pipe.Key, error) {
	arn, role, profile := k.Attributes["arn"], k.Attributes["role"], k.Attributes["aws_profile"]
	listed := false
	for _, e := range c.AWS {
		if !awsARN.MatchString(arn) || !matches(e.ARN, arn) {
			continue
		}
		listed = true
		if e.Role != role || e.Profile != profile {
			continue
		}
		key := pipe.Key{Kind: k.Kind, Resource: arn, Role: role, Profile: profile, Ciphertext: k.Ciphertext}
		for name, value := range k.Attributes {
			if name, ok := strings.CutPrefix(name, contextPrefix); ok {
				if key.Context == nil {
					key.Context = map[string]string{}
				}
				key.Context[name] = value
			}
		}
		return key, nil
	}
	if !listed {
		return pipe.Key{}, notListed(k, "decryption.kms.aws")
	}
	asked := "no role and no profile"
	switch {
	case role != "":
		asked = "the role " + printable(role)
	case profile != "":
		asked = "the profile " + printable(profile)
	}
	return pipe.Key{}, fleet.WithHint(fleet.Forbidden("%s %s is to be used with %s, and is not listed so", k.Kind, printable(k.ID), asked),
		"list the key with that role and profile in decryption.kms.aws of the agent's configuration, or encrypt the file without them")
}

// sameBase compares addresses, but for a slash at their end.
func sameBase(listed, named string) bool {
	return strings.TrimRight(listed, "/") == strings.TrimSuffix(named, "/")
}

func notListed(k unit.WrappedKey, field string) error {
	return fleet.WithHint(fleet.Forbidden("%s %s is not a key that may be asked here", k.Kind, printable(k.ID)),
		"list it in "+field+" of the agent's configuration, or add an age recipient to the file: sops updatekeys")
}
