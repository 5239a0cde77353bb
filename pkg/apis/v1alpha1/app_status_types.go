package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// AppStatus is what the agent last found and did. Every word is a fleet word:
// the same as the hub, the CLI and the page print.
type AppStatus struct {
	// ObservedGeneration is the metadata.generation this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Sync says whether what runs is what Git wants: Synced, OutOfSync, Pending or Unknown.
	// +optional
	Sync fleet.Sync `json:"sync,omitempty"`

	// Health is the worst of the objects': Healthy, Suspended, Progressing,
	// Missing, Degraded or Unknown.
	// +optional
	Health fleet.Health `json:"health,omitempty"`

	// Revision is the commit that is applied, as "<ref>@sha1:<commit>": the
	// one at which the app last rendered anew. Empty: nothing is applied.
	// +optional
	Revision fleet.Revision `json:"revision,omitempty"`

	// Digest identifies the content that is applied, as "sha256:<hex>". Empty:
	// nothing is applied.
	// +optional
	Digest fleet.Digest `json:"digest,omitempty"`

	// Message says in one line what is going on, or what is wrong and in which
	// file or object.
	// +optional
	Message string `json:"message,omitempty"`

	// Source is what the app is read from, where it names a repository or a ref.
	// The App "root" has the agent's own repository.
	// +optional
	Source *SourceStatus `json:"source,omitempty"`

	// Pending is the plan that waits at a gate. Absent: nothing waits.
	// +optional
	Pending *PendingStatus `json:"pending,omitempty"`

	// Retry says when what failed is tried again by itself. Absent: nothing failed,
	// or only a commit can mend it.
	// +optional
	Retry *RetryStatus `json:"retry,omitempty"`

	// Objects is how many objects the app owns.
	// +optional
	Objects int `json:"objects,omitempty"`

	// Drift names objects that differ from what was applied and have not been put
	// right.
	// +optional
	// +listType=atomic
	Drift []DriftStatus `json:"drift,omitempty"`

	// Conditions are kstatus': Ready, Reconciling and Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SourceStatus says how a repository is that is followed. It is written when it
// changes its meaning, and not with every look.
type SourceStatus struct {
	// URL is the repository.
	// +required
	URL string `json:"url"`

	// Follows is what is followed there, as "branch main" or "tags in 1.x".
	// +required
	Follows string `json:"follows"`

	// ServedBy is the URL that the newest commit was read from: the repository's
	// own, or a mirror's. Empty: nothing could be read yet.
	// +optional
	ServedBy string `json:"servedBy,omitempty"`

	// Failing tells that the repository itself could not be read when it was last
	// asked, whether a mirror could or not. Absent: it was reached within the poll
	// interval.
	// +optional
	Failing bool `json:"failing,omitempty"`

	// Reached is when it last could, where it fails. Absent then: not since the
	// agent started.
	// +optional
	Reached *metav1.Time `json:"reached,omitempty"`
}

// RetryStatus says how often a try failed, and when the next one comes. A commit,
// and capstan sync, bring it forward.
type RetryStatus struct {
	// Failed is how many tries failed in a row.
	// +required
	Failed int `json:"failed"`

	// Next is when the next one comes.
	// +required
	Next metav1.Time `json:"next"`
}

// PendingStatus says what waits, and for what.
type PendingStatus struct {
	// Revision is the commit that is wanted.
	// +optional
	Revision fleet.Revision `json:"revision,omitempty"`

	// Digest identifies the content that is wanted. Empty: the plan takes the app
	// off the cluster.
	// +optional
	Digest fleet.Digest `json:"digest,omitempty"`

	// Gate is what the plan waits at: approval or confirm-prune.
	// +required
	Gate fleet.Gate `json:"gate"`

	// Plan is the plan's id: random, for one use, named in each approval of it.
	// +required
	Plan string `json:"plan"`

	// Since is when the plan was made.
	// +required
	Since metav1.Time `json:"since"`
}

// DriftStatus names one object that differs from what was applied. It never
// holds a value.
type DriftStatus struct {
	// Object is the object, as "Deployment.apps shop/web".
	// +required
	Object string `json:"object"`

	// Manager is the field manager that changed it, where the object tells.
	// +optional
	Manager string `json:"manager,omitempty"`

	// Fields are JSON pointers (RFC 6901) to what differs.
	// +optional
	// +listType=atomic
	Fields []string `json:"fields,omitempty"`

	// Since is when the difference was first seen.
	// +required
	Since metav1.Time `json:"since"`
}
