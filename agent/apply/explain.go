package apply

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// ObjectError is what went wrong with one object.
type ObjectError struct {
	Ref fleet.ObjectRef
	Err error
	// Hidden: it holds values that came out of encrypted files.
	Hidden bool
}

func (e *ObjectError) Error() string { return fmt.Sprintf("%s: %s", e.Ref, e.text()) }
func (e *ObjectError) Unwrap() error { return e.Err }

// text is the API server's message, except for Secrets and what holds decrypted
// values: there it could quote a value, so only the fields at fault are named.
func (e *ObjectError) text() string {
	isSecret := e.Ref.Group == "" && e.Ref.Kind == "Secret"
	if !isSecret && !e.Hidden {
		return e.Err.Error()
	}
	if refused, ok := errors.AsType[*RefusedError](e.Err); ok {
		return refused.Error() // it quotes nothing of the object
	}
	var status apierrors.APIStatus
	if !errors.As(e.Err, &status) {
		return "it could not be read as a " + e.Ref.Kind
	}
	s := status.Status()
	if s.Reason == metav1.StatusReasonNotFound || s.Reason == metav1.StatusReasonForbidden {
		return s.Message
	}
	var fields []string
	if s.Details != nil {
		for _, c := range s.Details.Causes {
			if c.Field != "" {
				fields = append(fields, c.Field)
			}
		}
	}
	if len(fields) == 0 {
		return fmt.Sprintf("the API server refused it (%s)", s.Reason)
	}
	return fmt.Sprintf("the API server refused it (%s): %s", s.Reason, strings.Join(fields, ", "))
}

// explain adds the object and, where there is something to do, a hint.
func (c *Client) explain(ref fleet.ObjectRef, err error) error {
	if e, ok := errors.AsType[*ObjectError](err); ok && e.Ref == ref {
		return err // it is explained
	}
	e := &ObjectError{Ref: ref, Err: err}
	if refused := c.actor.refusal(err); refused != nil {
		e.Err = refused
		return fleet.WithHint(e, grant([]*RefusedError{refused}))
	}
	if h := refusedHint(ref, err); h != "" {
		return fleet.WithHint(e, h)
	}
	switch {
	case isMissingNamespace(err, ref):
		return fleet.WithHint(e, fmt.Sprintf("add a Namespace object for %q to this app, or to one that comes before it", ref.Namespace))
	case apierrors.IsNotFound(err):
		return &ObjectError{Ref: ref, Err: fleet.NotFound("not there")}
	case meta.IsNoMatchError(err):
		return fleet.WithHint(e, fmt.Sprintf("the cluster does not know %s %s: add its CustomResourceDefinition to the app, or correct the apiVersion", ref.Group, ref.Kind))
	case apierrors.IsForbidden(err):
		return fleet.WithHint(e, "whom it is applied as has fewer rights than it would grant, or a quota or policy does not allow it: see docs/rbac.md")
	case isImmutable(err):
		return fleet.WithHint(e, fmt.Sprintf("the field can't be changed on an existing object: give the object a new name; or annotate it with %s: \"true\" in Git, and an object that this app applied is deleted and created anew", inventory.ForceAnnotation))
	case apierrors.IsConflict(err):
		return fleet.WithHint(e, fmt.Sprintf("another manager than %q holds a field", inventory.FieldManager))
	}
	return e
}

// explainOf is explain for an object that was sent.
func (c *Client) explainOf(o unit.Object, err error) error {
	explained := c.explain(o.Ref, err)
	if e, ok := errors.AsType[*ObjectError](explained); ok {
		e.Hidden = len(o.Masked) > 0
	}
	return explained
}

// isImmutable tells a field that can't change from one that is merely wrong:
// the API server calls both invalid. What it quotes of the object says nothing.
func isImmutable(err error) bool {
	if !apierrors.IsInvalid(err) {
		return false
	}
	text := quoted.ReplaceAllString(err.Error(), "")
	for _, words := range []string{"immutable", "may not change once set", "cannot change roleRef", "may not change fields other than"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return strings.Contains(text, "updates to") && strings.Contains(text, "are forbidden")
}

var quoted = regexp.MustCompile(`"(\\.|[^"\\])*"`)

func isMissingNamespace(err error, ref fleet.ObjectRef) bool {
	var status apierrors.APIStatus
	if ref.Namespace == "" || !errors.As(err, &status) || !apierrors.IsNotFound(err) {
		return false
	}
	d := status.Status().Details
	return d != nil && d.Kind == "namespaces" && d.Name == ref.Namespace
}
