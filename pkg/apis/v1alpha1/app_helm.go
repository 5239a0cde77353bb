package v1alpha1

import "k8s.io/apimachinery/pkg/runtime"

// AppHelm says that the path is a Helm chart, and how it is rendered. It is
// rendered as helm install would: what helm template prints, with the chart's
// CRDs and without its test hooks. Nothing is installed as a Helm release.
type AppHelm struct {
	// ReleaseName is the release's name that the chart sees. Absent: the App's name.
	// +optional
	// +kubebuilder:validation:MaxLength=53
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be lower case letters, digits, '-' and '.', 53 characters at most, starting and ending with a letter or digit"
	ReleaseName string `json:"releaseName,omitempty"`

	// ValuesFiles are files of values in the repository, in order: later ones win.
	// They are relative to the path; one that begins with a slash is from the
	// repository's root. Each may be a template, as the path may.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.all(f, !f.matches('[\\\\x00-\\\\x1f\\\\x7f\\\\\\\\]'))",message="must not hold a backslash or control characters: directories are separated by '/'"
	ValuesFiles []string `json:"valuesFiles,omitempty"`

	// ValuesFrom are ConfigMaps and Secrets of the App's namespace that hold values,
	// in order. They win over valuesFiles. They are read every poll interval of the
	// agent.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	ValuesFrom []AppValuesReference `json:"valuesFrom,omitempty"`

	// Values win over all others. Their strings may be templates over the cluster's
	// facts, as the path may; {{ "{{" }} stands for two braces.
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	Values *runtime.RawExtension `json:"values,omitempty"`

	// SkipCRDs leaves out what is in the chart's crds directory.
	// +optional
	SkipCRDs bool `json:"skipCRDs,omitempty"`

	// Hooks says what becomes of objects that Helm would run as hooks before or
	// after an install, upgrade, rollback or delete. Hooks are not run. Absent: a
	// chart that has some is an error of the app. Ignore leaves them out; Apply
	// makes them objects like the others. Test hooks are always left out.
	// +optional
	// +kubebuilder:validation:Enum=Ignore;Apply
	Hooks string `json:"hooks,omitempty"`

	// APIVersions are API versions, or kinds as group/version/Kind, that the chart
	// may count on besides Kubernetes' own (.Capabilities.APIVersions).
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	APIVersions []string `json:"apiVersions,omitempty"`
}

// AppValuesReference names values in the App's namespace.
type AppValuesReference struct {
	// Kind is ConfigMap or Secret. Secrets of the agent's own namespace are not read.
	// +required
	// +kubebuilder:validation:Enum=ConfigMap;Secret
	Kind string `json:"kind"`

	// Name of the object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Key whose value is a YAML mapping.
	// +optional
	// +default="values.yaml"
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`

	// Optional: without the object or its key there are no values from here. What
	// is not optional has to be there; until it is, what runs is left alone.
	// +optional
	Optional bool `json:"optional,omitempty"`
}
