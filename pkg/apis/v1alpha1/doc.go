// Package v1alpha1 holds Capstan's Kubernetes types, group capstan.dev.
//
// An App is read from two places: from a repository, where [DecodeApp] checks
// it strictly, and from an API server, which checked it by the schema generated
// from this package. Both know the same rules.
//
// +kubebuilder:object:generate=true
// +groupName=capstan.dev
package v1alpha1
