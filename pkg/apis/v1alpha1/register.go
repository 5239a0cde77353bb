package v1alpha1

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// What names App at an API server.
const (
	Group    = "capstan.dev"
	Version  = "v1alpha1"
	AppKind  = "App"
	AppsName = "apps" // the plural, as in URLs and RBAC rules
)

var (
	// GroupVersion is capstan.dev/v1alpha1.
	GroupVersion = schema.GroupVersion{Group: Group, Version: Version}
	// AppGVK identifies the kind App in a manifest.
	AppGVK = GroupVersion.WithKind(AppKind)
	// AppResource identifies Apps for a dynamic client.
	AppResource = GroupVersion.WithResource(AppsName)
)
