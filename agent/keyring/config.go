// Package keyring holds the private keys that decrypt what is encrypted in Git, and
// decides which app may have what decrypted with them. Nothing that comes from a
// repository is read here but small, encrypted data keys. Key services of clouds are
// asked by a program of its own, capstan-keys: package clouds is what runs there, and
// package pipe what is said.
package keyring

import (
	"path"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Config is the `decryption` part of the agent's configuration.
type Config struct {
	Age AgeConfig `json:"age,omitzero"`
	KMS KMSConfig `json:"kms,omitzero"`
	// Apps may have files decrypted with the agent's own keys: those of Age and KMS.
	Apps AppMatch `json:"apps,omitzero"`
}

// AgeConfig names age keys.
type AgeConfig struct {
	// KeyFiles are files with age identities or SSH private keys, or directories
	// of such files. They are read anew when they change.
	KeyFiles []string `json:"keyFiles,omitempty"`
}

// AppMatch selects apps. The zero value matches none: whoever may have another
// team's ciphertext decrypted has its secrets.
type AppMatch struct {
	// MatchNames are globs over "namespace/name"; '*' does not match '/'.
	MatchNames []string `json:"matchNames,omitempty"`
}

// Validate checks the configuration. The error is fleet.ErrInvalid and begins
// with the field.
func (c Config) Validate() error {
	for i, f := range c.Age.KeyFiles {
		if f == "" {
			return fleet.Invalid("decryption.age.keyFiles[%d]: is empty", i)
		}
	}
	for _, glob := range c.Apps.MatchNames {
		if _, err := path.Match(glob, ""); err != nil || strings.Count(glob, "/") != 1 {
			return fleet.WithHint(fleet.Invalid("decryption.apps.matchNames: %q is not a pattern over namespace/name", glob),
				`write it like "shop/*" or "*/*"`)
		}
	}
	if err := c.KMS.validate(); err != nil {
		return err
	}
	own, apps := len(c.Age.KeyFiles) > 0 || c.HasKMS(), len(c.Apps.MatchNames) > 0
	switch {
	case own && !apps:
		return fleet.WithHint(fleet.Invalid("decryption.apps.matchNames: is empty, so that no App may use the keys of decryption.age and decryption.kms"),
			`name the Apps, like "shop/*"; "*/*" is all of them`)
	case apps && !own:
		return fleet.WithHint(fleet.Invalid("decryption.apps: there are no keys that it could be about"), "set decryption.age.keyFiles or decryption.kms")
	}
	return nil
}

// HasKMS tells whether key services may be asked.
func (c Config) HasKMS() bool { return !c.KMS.empty() }

func (m AppMatch) matches(app fleet.AppName) bool {
	return slices.ContainsFunc(m.MatchNames, func(glob string) bool {
		ok, err := path.Match(glob, app.String())
		return ok && err == nil
	})
}
