package v1alpha1

import "k8s.io/apimachinery/pkg/runtime"

// AppHelm says that the path is a Helm chart, and how it is rendered. It is
// rendered as helm install would: what helm template prints, with the chart's
// CRDs and without its test hooks. Nothing is installed as a Helm release.
type AppHelm struct {
	// Chart is a chart that is kept elsewhere, at one version. Absent: the path is
	// the chart. With it, the path is where valuesFiles are looked for, and may be
	// absent.
	// +optional
	Chart *AppChart `json:"chart,omitempty"`

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
	// after an install, upgrade or delete. Run, or absent: they run as hooks.
	// Ignore leaves them out; Apply makes them objects like the others. Hooks of
	// tests are always left out, and those of a rollback never run.
	// +optional
	// +kubebuilder:validation:Enum=Run;Ignore;Apply
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
	// Kind is ConfigMap or Secret. In the agent's own namespace, Secrets whose names
	// begin with "capstan-" are the agent's, and refused.
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

// AppChart names a chart at one version, in a chart repository or a registry.
type AppChart struct {
	// Repository is a chart repository, https://..., or a place in an OCI registry,
	// oci://..., without the chart's name. http:// has to be allowed by the
	// cluster's own configuration, which may bound which there may be.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="self.matches('^(https|http|oci)://[^/@?#]+(/[^@?#]*)?$')",message="must be a URL like https://charts.example.com/stable or oci://registry.example.com/charts, without credentials"
	// +kubebuilder:validation:XValidation:rule="!self.matches('[\\\\s\\\\x00-\\\\x1f\\\\x7f\\\\\\\\]')",message="must not hold white space, backslashes or control characters"
	Repository string `json:"repository"`

	// Name of the chart there.
	// +required
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$')",message="must be a chart's name: letters, digits, '-', '_' and '.'"
	Name string `json:"name"`

	// Version is one version, exactly: what runs does not change because somebody
	// published something.
	// +required
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^v?[0-9]+\\\\.[0-9]+\\\\.[0-9]+(-[-.0-9A-Za-z]+)?([+][-.0-9A-Za-z]+)?$')",message="must be one exact version like 1.2.3, not a range"
	Version string `json:"version"`

	// Digest of the chart's archive, sha256:<hex>. Absent: any; another archive of
	// the same version is then noted as an Event.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^sha256:[0-9a-f]{64}$')",message="must be sha256: and 64 lower case hex digits"
	// +kubebuilder:validation:MaxLength=71
	Digest string `json:"digest,omitempty"`

	// SecretRef names a Secret with what the repository asks for: username and
	// password; ca.crt, to trust. It is for the repository's own host alone.
	// +optional
	SecretRef *AppSecretRef `json:"secretRef,omitempty"`
}
