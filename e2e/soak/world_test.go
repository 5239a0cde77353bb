package soak_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// object is one that a revision wants.
type object struct {
	ref    fleet.ObjectRef
	text   string // what is in it
	wave   int
	frozen bool // its text can't be changed: it is deleted and created anew
	hook   bool // it is made anew with every change of its app, and not healed
}

// within is the Namespace or CRD of the same app that an object goes with, or "".
func (o object) within() string {
	switch {
	case strings.HasPrefix(o.ref.Namespace, "own-"):
		return o.ref.Namespace
	case o.ref.Kind == "Widget":
		return "widgets." + o.ref.Group
	}
	return ""
}

// holds tells a Namespace and a CRD: others are in it.
func (o object) holds() bool {
	return o.ref.Kind == "Namespace" || o.ref.Kind == "CustomResourceDefinition"
}

const (
	playground = "play"
	textKey    = "example.com/text" // an annotation, where there is no better place
)

func (o object) yaml() string {
	meta := fmt.Sprintf("metadata:\n  name: %s\n", o.ref.Name)
	if o.ref.Namespace != "" {
		meta += fmt.Sprintf("  namespace: %s\n", o.ref.Namespace)
	}
	meta += fmt.Sprintf("  annotations: {%s: %q, capstan.dev/wave: \"%d\"", textKey, o.text, o.wave)
	if o.frozen {
		meta += `, capstan.dev/force: "true"`
	}
	if o.hook {
		meta += ", capstan.dev/hook: " + phases[int(o.ref.Name[len(o.ref.Name)-1])%len(phases)]
	}
	meta += "}\n"
	head := func(version string) string {
		return fmt.Sprintf("---\napiVersion: %s\nkind: %s\n", version, o.ref.Kind) + meta
	}
	switch o.ref.Kind {
	case "ConfigMap":
		return head("v1") + fmt.Sprintf("immutable: %t\ndata: {text: %q}\n", o.frozen, o.text)
	case "Secret":
		return head("v1") + fmt.Sprintf("data: {text: %s}\n", base64.StdEncoding.EncodeToString([]byte(o.text)))
	case "Service": // its labels are copied to its EndpointSlices
		return head("v1") + "spec:\n  clusterIP: None\n  selector: {app: nobody}\n  ports: [{port: 80}]\n"
	case "Deployment":
		return head("apps/v1") + fmt.Sprintf("spec:\n  replicas: 1\n  selector: {matchLabels: {app: %s}}\n  template:\n"+
			"    metadata: {labels: {app: %[1]s}, annotations: {%s: %q}}\n    spec: {containers: [{name: web, image: web}]}\n", o.ref.Name, textKey, o.text)
	case "Namespace":
		return head("v1")
	case "CustomResourceDefinition":
		_, group, _ := strings.Cut(o.ref.Name, ".")
		return head("apiextensions.k8s.io/v1") + fmt.Sprintf("spec:\n  group: %s\n  scope: Namespaced\n"+
			"  names: {kind: Widget, listKind: WidgetList, plural: widgets, singular: widget}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n"+
			"    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {text: {type: string}}}}}}\n", group)
	case "Widget":
		return head(o.ref.Group+"/v1") + fmt.Sprintf("spec: {text: %q}\n", o.text)
	}
	panic("no such kind: " + o.ref.Kind)
}

// textOf reads the text of a live object back.
func textOf(u *unstructured.Unstructured) string {
	switch u.GetKind() {
	case "ConfigMap":
		s, _, _ := unstructured.NestedString(u.Object, "data", "text")
		return s
	case "Secret":
		s, _, _ := unstructured.NestedString(u.Object, "data", "text")
		b, _ := base64.StdEncoding.DecodeString(s)
		return string(b)
	case "Deployment":
		s, _, _ := unstructured.NestedString(u.Object, "spec", "template", "metadata", "annotations", textKey)
		return s
	case "Widget":
		s, _, _ := unstructured.NestedString(u.Object, "spec", "text")
		return s
	}
	return u.GetAnnotations()[textKey]
}

// phases that a hook may have: by its name, so that it keeps its own.
var phases = []string{"PreSync", "Sync", "PostSync", `"PreSync,PostSync"`}

// pools are the names that objects may have: few, so that one name is taken,
// given up and taken again, by this app or another.
var pools = []struct {
	ref    fleet.ObjectRef
	names  int
	frozen bool
	hook   bool
	often  int
}{
	{fleet.ObjectRef{Kind: "ConfigMap", Name: "item"}, 24, false, false, 8},
	{fleet.ObjectRef{Kind: "ConfigMap", Name: "frozen"}, 4, true, false, 3},
	{fleet.ObjectRef{Kind: "ConfigMap", Name: "hook"}, 8, false, true, 4},
	{fleet.ObjectRef{Kind: "Secret", Name: "key"}, 5, false, false, 3},
	{fleet.ObjectRef{Kind: "Service", Name: "svc"}, 3, false, false, 2},
	{fleet.ObjectRef{Group: "apps", Kind: "Deployment", Name: "web"}, 2, false, false, 1},
}

type wantedApp struct {
	name    string
	ringed  bool // it is for clusters with the label alone
	objects map[fleet.ObjectRef]object
}

// world is what Git and the cluster's label say now.
type world struct {
	random *rand.Rand
	apps   map[string]*wantedApp
	ring   bool   // the cluster has the label
	root   object // beside the Apps, in the root path
	count  int    // of everything that was ever made
	groups []string
	did    []string // since the last revision
}

const (
	mostApps    = 5
	mostObjects = 8 // of one app, but for those of a Namespace or CRD
)

var appNames = []string{"ant", "bee", "cow", "dog", "elk", "fox"}

func newWorld(random *rand.Rand) *world {
	w := &world{random: random, apps: map[string]*wantedApp{}}
	w.root = object{ref: fleet.ObjectRef{Kind: "ConfigMap", Namespace: playground, Name: "of-the-root"}, text: "0"}
	for range 3 {
		w.addApp()
	}
	return w
}

// wanted are the objects of each app that is for this cluster now.
func (w *world) wanted() map[string]map[fleet.ObjectRef]object {
	out := map[string]map[fleet.ObjectRef]object{}
	for name, a := range w.apps {
		if !a.ringed || w.ring {
			out[name] = a.objects
		}
	}
	return out
}

// files are the whole repository at this revision.
func (w *world) files() map[string]string {
	root := "resources:\n- root.yaml\n"
	files := map[string]string{"clusters/fleet/root.yaml": w.root.yaml()}
	for _, name := range slices.Sorted(maps.Keys(w.apps)) {
		a := w.apps[name]
		root += "- app-" + name + ".yaml\n"
		app := fmt.Sprintf("apiVersion: capstan.dev/v1alpha1\nkind: App\nmetadata: {name: %s}\nspec:\n  source: {path: apps/%[1]s}\n", name)
		if a.ringed {
			app += "  clusters: {matchLabels: {ring: \"on\"}}\n"
		}
		files["clusters/fleet/app-"+name+".yaml"] = app
		var objects strings.Builder
		for _, ref := range slices.SortedFunc(maps.Keys(a.objects), fleet.ObjectRef.Compare) {
			objects.WriteString(a.objects[ref].yaml())
		}
		files["apps/"+name+"/kustomization.yaml"] = "resources: [objects.yaml]\n"
		files["apps/"+name+"/objects.yaml"] = objects.String()
	}
	files["clusters/fleet/kustomization.yaml"] = root
	return files
}

// resources is where all of these kinds are found.
func (w *world) resources() map[schema.GroupVersionResource]string {
	all := map[schema.GroupVersionResource]string{
		{Version: "v1", Resource: "configmaps"}:                                               "ConfigMap",
		{Version: "v1", Resource: "secrets"}:                                                  "Secret",
		{Version: "v1", Resource: "services"}:                                                 "Service",
		{Version: "v1", Resource: "namespaces"}:                                               "Namespace",
		{Group: "apps", Version: "v1", Resource: "deployments"}:                               "Deployment",
		{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}: "CustomResourceDefinition",
	}
	for _, g := range w.groups {
		all[schema.GroupVersionResource{Group: g, Version: "v1", Resource: "widgets"}] = "Widget"
	}
	return all
}

func versionless(r fleet.ObjectRef) fleet.ObjectRef {
	r.Version = ""
	return r
}
