package apply_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// says is an answer of an API server, in the words that it has for it.
func says(code int32, reason metav1.StatusReason, message string, causes ...metav1.StatusCause) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message, Details: &metav1.StatusDetails{Causes: causes},
	}}
}

type pauses time.Duration

func (p pauses) Error() string             { return "the API server is busy" }
func (p pauses) RetryAfter() time.Duration { return time.Duration(p) }

func TestWhatIsRefusedHasAHint(t *testing.T) {
	ref := fleet.ObjectRef{Group: "example.com", Version: "v1", Kind: "Widget", Namespace: "shop", Name: "one"}
	for _, tt := range []struct {
		name string
		err  error
		hint string
	}{
		{
			"a webhook that is down", says(500, metav1.StatusReasonInternalError,
				`Internal error occurred: failed calling webhook "policy.example.com": failed to call webhook: Post "https://policy.example.svc:443/": dial tcp 10.0.0.7:443: connect: connection refused`),
			`admission webhook "policy.example.com" does not answer`,
		},
		{"a webhook that refuses", says(403, metav1.StatusReasonForbidden, `admission webhook "policy.example.com" denied the request: no`), `"policy.example.com" does not want it`},
		{"a policy that refuses", says(422, metav1.StatusReasonInvalid, `widgets.example.com "one" is forbidden: ValidatingAdmissionPolicy 'small' with binding 'small' denied request: too large`), "ValidatingAdmissionPolicy small"},
		{"a conversion that fails", says(500, metav1.StatusReasonInternalError, `conversion webhook for example.com/v2, Kind=Widget failed: Post "https://x/": EOF`), "conversion webhook of Widget.example.com"},
		{"a quota", says(403, metav1.StatusReasonForbidden, `widgets "one" is forbidden: exceeded quota: tight, requested: count/widgets=1, used: count/widgets=1, limited: count/widgets=1`), "raise the ResourceQuota tight in namespace shop"},
		{"a quota that wants to know", says(403, metav1.StatusReasonForbidden, `pods "one" is forbidden: failed quota: tight: must specify cpu for: c`), "the ResourceQuota tight in namespace shop wants"},
		{
			"a verb", says(403, metav1.StatusReasonForbidden, `widgets.example.com "one" is forbidden: User "system:serviceaccount:capstan-system:capstan-agent" cannot patch resource "widgets" in API group "example.com" in the namespace "shop"`),
			`system:serviceaccount:capstan-system:capstan-agent lacks the verb "patch" on widgets.example.com: docs/rbac.md`,
		},
		{"a verb on a subresource of the core", says(403, metav1.StatusReasonForbidden, `User "a" cannot get resource "pods/log" in API group "" at the cluster scope`), `lacks the verb "get" on pods/log:`},
		{"a namespace on its way out", says(403, metav1.StatusReasonForbidden, "no new content", metav1.StatusCause{Type: "NamespaceTerminating"}), "namespace shop is being deleted"},
		{"a kind that is gone", says(404, metav1.StatusReasonNotFound, "the server could not find the requested resource", metav1.StatusCause{Type: metav1.CauseTypeUnexpectedServerResponse, Message: "404 page not found"}), "does not serve Widget.example.com any more"},
		{"a kind on its way out", says(405, metav1.StatusReasonMethodNotAllowed, "create not allowed while custom resource definition is terminating"), "CustomResourceDefinition of Widget.example.com is being deleted"},
		{"too many requests", apierrors.NewTooManyRequests("later", 1), "overloaded"},
		{"a long pause", fmt.Errorf("patch: %w", pauses(30*time.Second)), "after the 30s that it asks for"},
		{"no answer in time", fmt.Errorf("patch: %w", context.DeadlineExceeded), "takes too long"},
		{"the server's own limit", apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0), "takes too long"},
		{"something else", errors.New("no"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := apply.Explain(ref, tt.err)
			if got := fleet.Hint(err); !strings.Contains(got, tt.hint) || tt.hint == "" && got != "" {
				t.Errorf("hint %q, want %q", got, tt.hint)
			}
			if !strings.Contains(err.Error(), "Widget.example.com shop/one: ") {
				t.Errorf("%q does not name the object", err)
			}
		})
	}
}

// The words around a hint may quote a value; the hint does not.
func TestAHintAboutASecretTellsNoValue(t *testing.T) {
	ref := fleet.ObjectRef{Version: "v1", Kind: "Secret", Namespace: "shop", Name: "db"}
	err := apply.Explain(ref, says(500, metav1.StatusReasonInternalError, `Internal error occurred: failed calling webhook "policy.example.com": hunter2`))
	if text := err.Error() + fleet.Hint(err); strings.Contains(text, "hunter2") || !strings.Contains(text, `"policy.example.com"`) {
		t.Error(text)
	}
}

// An API server that is busy for a moment is asked again, when it says.
func TestAShortPauseIsWaitedFor(t *testing.T) {
	c := serveCluster(t)
	c.busy.Store(2)
	client, err := apply.New(c.Config, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	done, err := client.Apply(t.Context(), fleet.AppName{Namespace: "capstan-system", Name: "web"}, []unit.Object{object(t, widget)})
	if err != nil || len(done) != 1 || len(c.sent) != 1 {
		t.Errorf("%v, sent %v, %d applied", err, c.sent, len(done))
	}
}
