package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AppSync says what the agent may do by itself.
//
// +kubebuilder:validation:XValidation:rule="!has(self.selfHealAfter) || !has(self.selfHeal) || self.selfHeal",message="nothing is undone where selfHeal is false: take one of the two away",fieldPath=".selfHealAfter"
type AppSync struct {
	// Prune deletes objects that the app no longer describes. Where it is false
	// they are left running, and the app reads OutOfSync.
	// +optional
	// +default=true
	Prune *bool `json:"prune,omitempty"`

	// SelfHeal undoes what others change on the app's objects. Where it is false
	// the difference is reported as drift, and the app reads OutOfSync.
	// +optional
	// +default=true
	SelfHeal *bool `json:"selfHeal,omitempty"`

	// SelfHealAfter lets what others change stand for a while: it is reported at
	// once, and undone when it was there for so long. Absent: undone at once.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="must be a positive duration like 5m"
	SelfHealAfter *metav1.Duration `json:"selfHealAfter,omitempty"`

	// Force deletes an object and creates it anew where the API server refuses a
	// change of it as immutable. An object says so for itself by the annotation
	// capstan.dev/force. A Namespace, a CustomResourceDefinition and a
	// PersistentVolumeClaim need a person's confirmation besides.
	// +optional
	Force bool `json:"force,omitempty"`

	// Retry says when what failed is tried again by itself.
	// +optional
	Retry *AppRetry `json:"retry,omitempty"`

	// WaveTimeout is how long the objects of a wave may take to become healthy, and
	// a hook to end, before the app reads Stalled. It goes on waiting then. Absent: 10m.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="must be a positive duration like 10m"
	WaveTimeout *metav1.Duration `json:"waveTimeout,omitempty"`
}

// AppRetry says when what failed is tried again: after interval, and each time
// after twice as long, up to maxInterval. A commit, and capstan sync, bring the
// next try forward.
type AppRetry struct {
	// Interval is the time to the first. Absent: 1s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be a duration of 1s or more"
	Interval *metav1.Duration `json:"interval,omitempty"`

	// MaxInterval is the longest. One that is shorter than interval counts as that.
	// Absent: 2m.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be a duration of 1s or more"
	MaxInterval *metav1.Duration `json:"maxInterval,omitempty"`
}
