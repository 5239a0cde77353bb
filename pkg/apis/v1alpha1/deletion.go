package v1alpha1

import "github.com/capstan-gitops/capstan/pkg/fleet"

// DeletionPolicy says what becomes of an app's objects when the App goes.
type DeletionPolicy string

// What may become of them.
const (
	DeletionPrune   DeletionPolicy = "Prune"   // deleted
	DeletionOrphan  DeletionPolicy = "Orphan"  // left as they are, and given up
	DeletionConfirm DeletionPolicy = "Confirm" // deleted, when a person has confirmed it
)

func (p DeletionPolicy) validate() error {
	switch p {
	case "", DeletionPrune, DeletionOrphan, DeletionConfirm:
		return nil
	}
	return fleet.WithHint(fleet.Invalid("spec.deletionPolicy: %q is not known", string(p)), "it is Prune, Orphan or Confirm")
}

// Deletion is what becomes of the app's objects when it goes: never "".
func (s *AppSpec) Deletion() DeletionPolicy {
	switch {
	case s.DeletionPolicy != "":
		return s.DeletionPolicy
	case !s.Sync.PruneEnabled():
		return DeletionOrphan
	}
	return DeletionPrune
}
