package v1alpha1

import (
	"regexp"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// SOPS is the one provider of decryption.
const SOPS = "sops"

const maxKeysName = 253

var keysName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)

func (d *AppDecryption) validate() error {
	if d == nil {
		return nil
	}
	if d.Provider != SOPS {
		return fleet.WithHint(fleet.Invalid("spec.decryption.provider: %q is not known", d.Provider), "write provider: "+SOPS)
	}
	if r := d.SecretRef; r != nil && (len(r.Name) > maxKeysName || !keysName.MatchString(r.Name)) {
		return fleet.WithHint(fleet.Invalid("spec.decryption.secretRef.name: %q is not a Secret's name", r.Name), "it is in the App's own namespace: give its name alone")
	}
	return nil
}

// KeysName is the Secret that is named, or "".
func (d *AppDecryption) KeysName() string {
	if d == nil || d.SecretRef == nil {
		return ""
	}
	return d.SecretRef.Name
}
