package apply

import (
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// ErrReplaced says that an object which was to be changed was not there any more under
// its uid: nothing was changed, and nothing made in its place.
var ErrReplaced = errors.New("it was deleted a moment ago")

// isReplaced tells the refusal of a uid that was sent. Where nothing has the name it is
// a conflict, and where something else has, the uid is a field that can't change.
func isReplaced(o unit.Object, err error) bool {
	if o.UID == "" {
		return false
	}
	if apierrors.IsConflict(err) {
		return true
	}
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	for _, c := range status.Status().Details.Causes {
		if c.Field == "metadata.uid" && c.Type == metav1.CauseTypeFieldValueInvalid {
			return true
		}
	}
	return false
}

// Replaced are the objects that were not sent for ErrReplaced.
func Replaced(err error) []fleet.ObjectRef {
	switch e := err.(type) { //nolint:errorlint // every branch of it is looked at
	case nil:
		return nil
	case interface{ Unwrap() []error }:
		var out []fleet.ObjectRef
		for _, each := range e.Unwrap() {
			out = append(out, Replaced(each)...)
		}
		return out
	case *ObjectError:
		if errors.Is(e.Err, ErrReplaced) {
			return []fleet.ObjectRef{e.Ref}
		}
	case interface{ Unwrap() error }:
		return Replaced(e.Unwrap())
	}
	return nil
}
