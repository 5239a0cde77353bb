package apply

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Explain says what an error about a kind or an object means that the agent met
// for itself, and adds a hint where there is something to do and none is yet.
func Explain(ref fleet.ObjectRef, err error) error {
	e := &ObjectError{Ref: ref, Err: err}
	if h := refusedHint(ref, err); h != "" && fleet.Hint(err) == "" {
		return fleet.WithHint(e, h)
	}
	return e
}

// What the API server says in words alone. Names are those of Kubernetes' own
// objects, and hold nothing of ours.
var (
	webhookDown   = regexp.MustCompile(`failed calling webhook "([^"]+)"`)
	webhookDenies = regexp.MustCompile(`admission webhook "([^"]+)" denied the request`)
	policyDenies  = regexp.MustCompile(`ValidatingAdmissionPolicy '([^']+)'`)
	quotaExceeded = regexp.MustCompile(`exceeded quota: ([^, ]+)`)
	quotaAsks     = regexp.MustCompile(`failed quota: ([^:, ]+): must specify`)
	verbMissing   = regexp.MustCompile(`User "([^"]+)" cannot (\S+) resource "([^"]+)" in API group "([^"]*)"`)
)

// refusedHint says what to do about an object that is refused, or that can't be
// sent just now, for a reason that is not in the object; "" where that is
// another one.
func refusedHint(ref fleet.ObjectRef, err error) string {
	text := err.Error()
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return fmt.Sprintf("namespace %s is being deleted, and the app goes on when it is gone: kubectl get namespace %[1]s -o yaml says in its conditions what holds it", ref.Namespace)
	case isNotServed(err):
		return fmt.Sprintf("the cluster does not serve %s any more: bring its CustomResourceDefinition back, or take its objects out of the app", kindOf(ref))
	case apierrors.IsMethodNotSupported(err) && strings.Contains(text, "terminating"):
		return fmt.Sprintf("the CustomResourceDefinition of %s is being deleted: bring it back when it is gone, or take its objects out of the app", kindOf(ref))
	}
	for _, known := range []struct {
		says *regexp.Regexp
		hint func(m []string) string
	}{
		{webhookDown, func(m []string) string {
			return fmt.Sprintf("the admission webhook %q does not answer, and lets nothing through meanwhile: mend what serves it (kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations -o yaml shows where it is); the app tries again by itself", m[1])
		}},
		{webhookDenies, func(m []string) string {
			return fmt.Sprintf("the admission webhook %q does not want it like this: change the object, or ask who runs the webhook", m[1])
		}},
		{policyDenies, func(m []string) string {
			return fmt.Sprintf("change the object, or the ValidatingAdmissionPolicy %s", m[1])
		}},
		{quotaExceeded, func(m []string) string {
			return fmt.Sprintf("raise the ResourceQuota %s in namespace %s, or ask for less: kubectl -n %[2]s describe resourcequota %[1]s", m[1], ref.Namespace)
		}},
		{quotaAsks, func(m []string) string {
			return fmt.Sprintf("the ResourceQuota %s in namespace %s wants it to say how much it takes", m[1], ref.Namespace)
		}},
		{verbMissing, func(m []string) string {
			what := m[3]
			if m[4] != "" {
				what += "." + m[4]
			}
			return fmt.Sprintf("%s lacks the verb %q on %s: docs/rbac.md shows how to grant it", m[1], m[2], what)
		}},
	} {
		if m := known.says.FindStringSubmatch(text); m != nil {
			return known.hint(m)
		}
	}
	if strings.Contains(text, "conversion webhook for ") {
		return fmt.Sprintf("the conversion webhook of %s does not answer, or refuses: mend what serves it (spec.conversion of the CustomResourceDefinition says where it is); the app tries again by itself", kindOf(ref))
	}
	return busyHint(err)
}

// busyHint is about an API server that can't take anything just now.
func busyHint(err error) string {
	var asks interface{ RetryAfter() time.Duration }
	switch {
	case errors.As(err, &asks):
		return fmt.Sprintf("the API server is overloaded: the app tries again by itself, after the %s that it asks for", asks.RetryAfter())
	case apierrors.IsTooManyRequests(err):
		return "the API server is overloaded: the app tries again by itself"
	case errors.Is(err, context.DeadlineExceeded), apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		return "the API server, or an admission webhook that it asks, takes too long: the app tries again by itself"
	case utilnet.IsConnectionRefused(err), utilnet.IsConnectionReset(err), apierrors.IsServiceUnavailable(err):
		return "the API server is away: the app tries again by itself"
	}
	return ""
}

// isNotServed tells that there is no such kind from that there is no such object:
// then it is not the API server's own word, but that of whoever knows no such path.
func isNotServed(err error) bool {
	return apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

func kindOf(ref fleet.ObjectRef) string {
	if ref.Group == "" {
		return ref.Kind
	}
	return ref.Kind + "." + ref.Group
}
