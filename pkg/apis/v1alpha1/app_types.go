package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// App is one unit of deployment: one source path, rendered for this cluster,
// with one inventory. The name becomes part of what the app is called
// everywhere, so it must be a DNS label.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,categories=capstan
// +kubebuilder:printcolumn:name="Sync",type=string,JSONPath=`.status.sync`
// +kubebuilder:printcolumn:name="Health",type=string,JSONPath=`.status.health`
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.revision`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",message="metadata.name must be a DNS label: lower case letters, digits and '-', 63 characters at most, starting and ending with a letter or digit"
type App struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// Spec is what is wanted. It comes from Git; the agent puts back what is
	// edited by hand.
	// +required
	Spec AppSpec `json:"spec"`

	// Status is what the agent found and did. Nobody else writes it.
	// +optional
	Status AppStatus `json:"status,omitzero"`
}

// AppSpec says what an App deploys, where, and under which conditions.
type AppSpec struct {
	// Source says where the objects are described.
	// +required
	Source AppSource `json:"source"`

	// Clusters selects the clusters the app is for, by the clusters' labels.
	// Absent or empty: every cluster that reads this repository. A selector that
	// can't be parsed is an error of the app, and never a deselection.
	// +optional
	Clusters *metav1.LabelSelector `json:"clusters,omitempty"`

	// Approval asks for signatures before a change is applied. It only ever adds
	// to what the cluster's own configuration demands: it can't take a gate away.
	// +optional
	Approval *AppApproval `json:"approval,omitempty"`

	// TargetNamespace is where namespaced objects go that name no namespace. It
	// is not created: a namespace that does not exist is an error of the app.
	// +optional
	// +default="default"
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",message="must be a DNS label: lower case letters, digits and '-', 63 characters at most, starting and ending with a letter or digit"
	TargetNamespace string `json:"targetNamespace,omitempty"`

	// ServiceAccountName is the ServiceAccount, in the App's own namespace, that the
	// app's objects are applied, read, healed and pruned as. The agent must be
	// allowed to act as it. Absent: what the cluster's own configuration says, or
	// the agent's own.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="must be a ServiceAccount's name: lower case letters, digits, '-' and '.'"
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// Decryption says that the source holds files that SOPS encrypted. Absent: an
	// encrypted file is an error of the app.
	// +optional
	Decryption *AppDecryption `json:"decryption,omitempty"`

	// Sync says what the agent may do by itself to keep the cluster as Git has it.
	// +optional
	// +default={}
	Sync AppSync `json:"sync,omitzero"`

	// DependsOn are apps of this cluster that must be synced and healthy, at what
	// Git has now, before a change of this one is applied. One that is not for this
	// cluster keeps this app waiting, and says so.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	DependsOn []AppDependency `json:"dependsOn,omitempty"`

	// Suspend leaves the app as it is: nothing is rendered, applied, pruned or
	// healed. Drift is reported still. Taking it away goes on. An App that is
	// taken out of Git is removed, whether it is suspended or not.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// DeletionPolicy says what becomes of the app's objects when the App leaves Git,
	// or this cluster. Prune: they are deleted, those of the last wave and what they
	// own first. Orphan: they stay as they are, and are nobody's. Confirm: they are
	// deleted when a person has confirmed it. Absent: Prune, or Orphan where sync.prune
	// is false. What was applied last counts.
	// +optional
	// +kubebuilder:validation:Enum=Prune;Orphan;Confirm
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// IgnoreDifferences names fields that are left to others: once somebody else
	// has changed such a field, it is neither drift nor put back, and later changes
	// from Git leave it out. What an autoscaler sets as replicas, and the CA bundles
	// that a controller injects, are left alone without being named.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	IgnoreDifferences []IgnoreDifference `json:"ignoreDifferences,omitempty"`

	// Health says how the health of the app's objects is judged, besides what is
	// known of their kinds.
	// +optional
	Health *AppHealth `json:"health,omitempty"`
}

// AppDependency names an app that comes first.
type AppDependency struct {
	// Name is the App's.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",message="must be a DNS label: lower case letters, digits and '-', 63 characters at most, starting and ending with a letter or digit"
	Name string `json:"name"`

	// Namespace is where the App is. Absent: where this one is.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",message="must be a DNS label: lower case letters, digits and '-', 63 characters at most, starting and ending with a letter or digit"
	Namespace string `json:"namespace,omitempty"`
}

// IgnoreDifference names fields that are left to others, by the object, the
// field, and who changed it. What is absent matches all; where both jsonPointers
// and managers are given, both must match.
//
// +kubebuilder:validation:XValidation:rule="has(self.jsonPointers) && self.jsonPointers.size() > 0 || has(self.managers) && self.managers.size() > 0",message="needs jsonPointers or managers: without both it would leave the whole object to others"
type IgnoreDifference struct {
	// Group is the objects' API group, as "apps". Absent: any.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`

	// Kind is the objects' kind. Absent: any.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Kind string `json:"kind,omitempty"`

	// Namespace is where the objects are. Absent: anywhere.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Namespace string `json:"namespace,omitempty"`

	// Name is one object's. Absent: any.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// JSONPointers are fields, and all below them (RFC 6901): /spec/replicas. A *
	// stands for any key or index: /spec/template/spec/containers/*/resources.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.all(p, p.startsWith('/') && p != '/')",message="each must be a JSON pointer like /spec/replicas"
	JSONPointers []string `json:"jsonPointers,omitempty"`

	// Managers are field managers whose changes are left alone, as
	// kubectl get --show-managed-fields shows them.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	Managers []string `json:"managers,omitempty"`
}

// AppApproval asks for signatures on the plans of an app.
//
// +kubebuilder:validation:XValidation:rule="!has(self.approvers) || self.approvers.size() == 0 || !has(self.quorum) || self.quorum <= self.approvers.size()",message="quorum must not be larger than the number of approvers",fieldPath=".quorum"
type AppApproval struct {
	// Clusters selects the clusters on which approval is asked for, by the labels
	// that are declared at the cluster itself. Absent or empty: all of them.
	// +optional
	Clusters *metav1.LabelSelector `json:"clusters,omitempty"`

	// Approvers are the people whose signatures count: principals of the
	// allowed_signers file that is pinned at the cluster. Absent or empty:
	// everybody in that file. A name that is not in the file can't sign.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.all(a, !a.matches('[\\\\s*?!,\"]'))",message="each must be one principal: no white space, quotes, commas or wildcards"
	Approvers []string `json:"approvers,omitempty"`

	// Quorum is how many different people must sign, at least. Absent: 1.
	// +optional
	// +default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	Quorum *int `json:"quorum,omitempty"`
}

// AppList is a list of Apps.
//
// +kubebuilder:object:root=true
type AppList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []App `json:"items"`
}
