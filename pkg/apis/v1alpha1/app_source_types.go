package v1alpha1

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
