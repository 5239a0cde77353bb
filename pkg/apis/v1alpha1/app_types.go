package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/pkg/fleet"
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

// AppSource says where an app is described: in which repository, at which ref
// of it, and at which path there. Absent repoURL and ref: as the agent's own
// root path, at the same commit.
//
// +kubebuilder:validation:XValidation:rule="!has(self.secretRef) || has(self.repoURL)",message="secretRef needs a repoURL: the agent has its own credentials for its own repository"
// +kubebuilder:validation:XValidation:rule="!has(self.directory) || !has(self.helm)",message="directory and helm exclude each other",fieldPath=".helm"
// +kubebuilder:validation:XValidation:rule="has(self.path) || has(self.helm) && has(self.helm.chart)",message="is required: name the directory to build, from the repository's root",fieldPath=".path"
type AppSource struct {
	// RepoURL is a repository: https, http, ssh, or [user@]host:path, without
	// credentials in it. The cluster's own configuration may bound which there may
	// be, and says how they are read. Absent: the agent's own.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="!self.matches('[\\\\s\\\\x00-\\\\x1f\\\\x7f\\\\\\\\]')",message="must not hold white space, backslashes or control characters"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[a-z]+://[^/]*:[^/]*@')",message="must not hold credentials: put them into a Secret, and name it in secretRef"
	// +kubebuilder:validation:XValidation:rule="self.contains(':')",message="must be a URL like https://git.example.com/team/shop.git"
	RepoURL string `json:"repoURL,omitempty"`

	// Ref is what is followed there. Absent: what the agent follows in its own
	// repository; in another one the branch main.
	// +optional
	Ref *AppRef `json:"ref,omitempty"`

	// SecretRef names a Secret with what the repository's server asks for. It is
	// for repoURL's own host alone.
	// +optional
	SecretRef *AppSecretRef `json:"secretRef,omitempty"`

	// Path is a directory, from the repository's root. With a kustomization file
	// in it Kustomize builds it; without one, a Chart.yaml makes it a Helm chart,
	// and without either it is a directory of plain manifests.
	// It may be a template over the cluster's facts: {{ .cluster.name }} and
	// {{ label "env" }}. A label that is absent, or a path that is not there, is
	// an error of the app; what runs is left alone then.
	// Only an App with spec.source.helm.chart may be without.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('/')",message="must be relative to the repository's root: take the leading '/' away"
	// +kubebuilder:validation:XValidation:rule="!self.split('/').exists(s, s == '..')",message="must stay inside the repository: '..' is not allowed"
	// +kubebuilder:validation:XValidation:rule="!self.matches('[\\\\x00-\\\\x1f\\\\x7f\\\\\\\\]')",message="must not hold a backslash or control characters: directories are separated by '/'"
	Path string `json:"path,omitempty"`

	// Directory says that the path is a directory of plain manifests, whatever is
	// in it, and which of them count. Absent: a kustomization file is built, and
	// without one the manifests right in the directory are taken.
	// +optional
	Directory *AppDirectory `json:"directory,omitempty"`

	// Helm says that the path is a Helm chart, whatever else is in it, and how it
	// is rendered. Absent: a path with a Chart.yaml and without a kustomization
	// file is a chart, rendered with its own values.
	// +optional
	Helm *AppHelm `json:"helm,omitempty"`
}

// AppRef names what is followed in a repository: exactly one of its fields.
//
// +kubebuilder:validation:XValidation:rule="(has(self.branch) ? 1 : 0) + (has(self.tag) ? 1 : 0) + (has(self.semver) ? 1 : 0) + (has(self.commit) ? 1 : 0) == 1",message="exactly one of branch, tag, semver and commit must be set"
type AppRef struct {
	// Branch is followed wherever it moves.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Branch string `json:"branch,omitempty"`

	// Tag is followed by its name.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Tag string `json:"tag,omitempty"`

	// Semver is a range of versions, like ">=1.2.0 <2.0.0": of the tags within it
	// the one with the highest version is followed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Semver string `json:"semver,omitempty"`

	// Commit is all 40 digits of one commit. It never moves.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9a-f]{40}$')",message="must be all 40 digits of a commit, in lower case"
	// +kubebuilder:validation:MaxLength=40
	Commit string `json:"commit,omitempty"`
}

// AppSecretRef names a Secret in the App's own namespace. Its keys: username and
// password, or bearerToken; identity and, if it has a passphrase, password, with
// known_hosts, for ssh; ca.crt, to trust; tls.crt and tls.key, to show. It may
// rotate: a change counts at once.
type AppSecretRef struct {
	// Name is the Secret's. In the agent's own namespace, names that begin with
	// "capstan-" are the agent's, and refused.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="must be a Secret's name: lower case letters, digits, '-' and '.'"
	Name string `json:"name"`
}

// AppDirectory chooses among plain manifests: files that end in .yaml, .yml or
// .json. Hidden files and directories never count. A file that holds anything
// but Kubernetes objects is an error, and so is a kustomization file.
//
// A glob without a slash is about names at any depth; one with a slash is about
// the whole path below the directory, and ** stands for any directories.
type AppDirectory struct {
	// Recurse takes the manifests in directories below, too.
	// +optional
	Recurse bool `json:"recurse,omitempty"`

	// Include are globs, one of which a manifest must match. Absent or empty: all
	// manifests.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.all(g, !g.split('/').exists(s, s == '' || s == '.' || s == '..'))",message="each must be a glob over paths below the directory, like *.yaml, jobs/*.yaml or **/tests/**"
	Include []string `json:"include,omitempty"`

	// Exclude are globs over manifests and directories that do not count. It wins
	// over include.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.all(g, !g.split('/').exists(s, s == '' || s == '.' || s == '..'))",message="each must be a glob over paths below the directory, like *.yaml, jobs/*.yaml or **/tests/**"
	Exclude []string `json:"exclude,omitempty"`
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

// AppDecryption says how encrypted files are decrypted. What was decrypted is
// told to nobody: not by plans, reports or errors.
type AppDecryption struct {
	// Provider is sops.
	// +required
	// +kubebuilder:validation:Enum=sops
	Provider string `json:"provider"`

	// SecretRef names a Secret with the app's own keys. Absent: the keys of the
	// cluster's agent, if its configuration lets this app use them.
	// +optional
	SecretRef *AppKeysRef `json:"secretRef,omitempty"`
}

// AppKeysRef names a Secret in the App's own namespace. Its entries whose names
// end in .agekey are age identities or SSH private keys.
type AppKeysRef struct {
	// Name is the Secret's. In the agent's own namespace, names that begin with
	// "capstan-" are the agent's, and refused.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="must be a Secret's name: lower case letters, digits, '-' and '.'"
	Name string `json:"name"`
}

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

// AppList is a list of Apps.
//
// +kubebuilder:object:root=true
type AppList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []App `json:"items"`
}
