package v1alpha1

import (
	"fmt"
	"regexp"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const maxAccountName = 253

var accountName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)

// ValidateServiceAccountName checks the name of a ServiceAccount that an app is
// applied as. The error is fleet.ErrInvalid.
func ValidateServiceAccountName(name string) error {
	if len(name) > maxAccountName || !accountName.MatchString(name) {
		return fleet.WithHint(fleet.Invalid("%q is not a ServiceAccount's name", name), "it is in the App's own namespace: give its name alone")
	}
	return nil
}

// validateDestination checks where the objects go, as whom they are applied, and
// what becomes of them.
func (s *AppSpec) validateDestination() error {
	if s.TargetNamespace != "" {
		if err := fleet.ValidateName("namespace", s.TargetNamespace); err != nil {
			return fmt.Errorf("spec.targetNamespace: %w", err)
		}
	}
	if s.ServiceAccountName != "" {
		if err := ValidateServiceAccountName(s.ServiceAccountName); err != nil {
			return fmt.Errorf("spec.serviceAccountName: %w", err)
		}
	}
	return s.DeletionPolicy.validate()
}
