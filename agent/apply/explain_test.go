package apply_test

import (
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// invalid is what an API server says of an object it refuses: it quotes the value.
func invalid(field, value string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonInvalid, Code: 422,
		Message: field + `: Invalid value: "` + value + `"`,
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Field: field, Message: `Invalid value: "` + value + `"`}}},
	}}
}

func TestAnErrorNamesTheObject(t *testing.T) {
	err := &apply.ObjectError{Ref: fleet.ObjectRef{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "shop", Name: "web"}, Err: invalid("spec.replicas", "-1")}
	for _, want := range []string{"Deployment.apps shop/web", "spec.replicas", "-1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestAnErrorAboutASecretNamesFieldsAndNoValue(t *testing.T) {
	ref := fleet.ObjectRef{Version: "v1", Kind: "Secret", Namespace: "shop", Name: "db"}
	for name, cause := range map[string]error{
		"refused by the API server": invalid("data[password]", "hunter2"),
		"not readable":              errors.New(`json: cannot unmarshal "hunter2"`),
	} {
		t.Run(name, func(t *testing.T) {
			err := &apply.ObjectError{Ref: ref, Err: cause}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q tells the value", err)
			}
			if !strings.Contains(err.Error(), "Secret shop/db") {
				t.Errorf("%q does not name the object", err)
			}
		})
	}
}
