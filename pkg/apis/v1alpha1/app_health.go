package v1alpha1

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// AppHealth says how the health of an app's objects is judged.
type AppHealth struct {
	// Checks judge the objects of single kinds, by expressions in CEL. They win over
	// those of the cluster, and over what is known of a kind.
	// +optional
	// +listType=map
	// +listMapKey=apiVersion
	// +listMapKey=kind
	// +kubebuilder:validation:MaxItems=32
	Checks []AppHealthCheck `json:"checks,omitempty"`

	// ProgressDeadline is how long an object may be Progressing before it counts as
	// Degraded. 0s: for ever. Absent: 10m.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="must be a duration like 10m; 0s is for ever"
	ProgressDeadline *metav1.Duration `json:"progressDeadline,omitempty"`
}

// AppHealthCheck judges the objects of one kind by expressions that are true or
// false. They are asked in the order inProgress, failed, suspended, current, and the
// first that is true counts; where none is, the object is Progressing. They see
// the object as "object", and its fields as metadata, spec, status and data.
// Functions are those of CEL's standard, and optional fields: status.?phase.
//
// +kubebuilder:validation:XValidation:rule="self.apiVersion != 'v1' || self.kind != 'Secret'",message="Secrets are not looked into"
type AppHealthCheck struct {
	// APIVersion is the kind's, as apps/v1. Its version does not count: an object is
	// judged as Git has it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	APIVersion string `json:"apiVersion"`

	// Kind is the objects' kind.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`

	// Current is true of an object that is healthy, like status.phase == 'Ready'.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	Current string `json:"current"`

	// InProgress is true of an object that is on its way.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	InProgress string `json:"inProgress,omitempty"`

	// Failed is true of an object that is degraded.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Failed string `json:"failed,omitempty"`

	// Suspended is true of an object that somebody stopped.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Suspended string `json:"suspended,omitempty"`

	// Message gives the words for an object that is not healthy, from its status
	// and metadata.name, namespace and generation. Absent: the object's own.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Message string `json:"message,omitempty"`
}

// DefaultProgressDeadline is how long an object may be Progressing where the App
// does not say.
const DefaultProgressDeadline = 10 * time.Minute

const (
	maxChecks     = 32
	maxExpression = 2048
)

// ProgressWithin is how long an object may be Progressing; 0: for ever.
func (s *AppSpec) ProgressWithin() time.Duration {
	if s.Health == nil || s.Health.ProgressDeadline == nil {
		return DefaultProgressDeadline
	}
	return s.Health.ProgressDeadline.Duration
}

// validate checks what the schema checks. Whether an expression is one, is for
// who evaluates it to say.
func (h *AppHealth) validate() error {
	if h == nil {
		return nil
	}
	if d := h.ProgressDeadline; d != nil && d.Duration < 0 {
		return fleet.WithHint(fleet.Invalid("spec.health.progressDeadline: %s is negative", d.Duration), "write it like 10m; 0s is for ever")
	}
	if len(h.Checks) > maxChecks {
		return fleet.Invalid("spec.health.checks: has %d checks, more than %d", len(h.Checks), maxChecks)
	}
	type kind struct{ apiVersion, kind string }
	seen := map[kind]bool{}
	for i, c := range h.Checks {
		if err := c.validate(); err != nil {
			return fmt.Errorf("spec.health.checks[%d]%w", i, err)
		}
		k := kind{c.APIVersion, c.Kind}
		if seen[k] {
			return fleet.Invalid("spec.health.checks[%d]: %s %s is there twice", i, c.APIVersion, c.Kind)
		}
		seen[k] = true
	}
	return nil
}

// validate's error begins with the field below the entry.
func (c AppHealthCheck) validate() error {
	for _, f := range []struct {
		name, text string
		required   bool
		most       int
	}{
		{"apiVersion", c.APIVersion, true, 317},
		{"kind", c.Kind, true, 63},
		{"current", c.Current, true, maxExpression},
		{"inProgress", c.InProgress, false, maxExpression},
		{"failed", c.Failed, false, maxExpression},
		{"suspended", c.Suspended, false, maxExpression},
		{"message", c.Message, false, maxExpression},
	} {
		if f.required && f.text == "" {
			return fleet.Invalid(".%s: is required", f.name)
		}
		if len(f.text) > f.most {
			return fleet.Invalid(".%s: is longer than %d bytes", f.name, f.most)
		}
	}
	if c.APIVersion == "v1" && c.Kind == "Secret" {
		return fleet.Invalid(".kind: Secrets are not looked into")
	}
	return nil
}
