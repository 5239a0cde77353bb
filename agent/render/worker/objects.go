package worker

import (
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/kustomize/api/resmap"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// identity is what names an object.
type identity struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name         string `json:"name"`
		Namespace    string `json:"namespace"`
		GenerateName string `json:"generateName"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

// objects takes what kustomize made apart: identified, flat, each once, in the
// order in which kustomize prints them.
func objects(m resmap.ResMap) ([]unit.Object, error) {
	all := make([]unit.Object, 0, m.Size())
	for _, r := range m.Resources() {
		raw, err := r.MarshalJSON()
		if err != nil {
			return nil, &failure{message: r.CurId().String() + ": can't be written as JSON", hint: "look for keys that are not strings, or numbers such as .inf"}
		}
		if all, err = appendObject(all, raw, 0); err != nil {
			return nil, err
		}
	}
	seen := make(map[fleet.ObjectRef]bool, len(all))
	for _, o := range all {
		key := o.Ref
		key.Version = ""
		if seen[key] {
			return nil, &failure{message: o.Ref.String() + " is rendered twice", hint: "keep one of the two, or give them different names"}
		}
		seen[key] = true
	}
	return all, nil
}

func appendObject(all []unit.Object, raw []byte, depth int) ([]unit.Object, error) {
	var id identity
	if err := json.Unmarshal(raw, &id); err != nil {
		return nil, &failure{message: "an object's apiVersion, kind or metadata is not as Kubernetes has them", hint: "apiVersion, kind, metadata.name and metadata.namespace are strings"}
	}
	if strings.HasSuffix(id.Kind, "List") && id.Metadata.Name == "" && id.Items != nil {
		if depth > 8 {
			return nil, &failure{message: "lists in lists are nested too deep"}
		}
		for _, item := range id.Items {
			var err error
			if all, err = appendObject(all, item, depth+1); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	ref, err := id.ref()
	if err != nil {
		return nil, err
	}
	canonical, err := fleet.Canonical(raw)
	if err != nil {
		return nil, &failure{message: ref.String() + ": can't be written as JSON"}
	}
	return append(all, unit.Object{Ref: ref, JSON: canonical}), nil
}

// generateHint is about metadata.generateName, which people give to hooks.
const generateHint = "give the object a fixed metadata.name; a hook that has one runs for every change all the same"

func (id identity) ref() (fleet.ObjectRef, error) {
	m := id.Metadata
	group, v, found := strings.Cut(id.APIVersion, "/")
	if !found {
		group, v = "", id.APIVersion
	}
	ref := fleet.ObjectRef{Group: group, Version: v, Kind: id.Kind, Namespace: m.Namespace, Name: m.Name}
	const hint = "every object needs apiVersion, kind and metadata.name"
	switch {
	case m.Name == "" && m.GenerateName != "":
		return ref, &failure{
			message: fmt.Sprintf("%s: metadata.generateName %q gives a new object each time", id.Kind, m.GenerateName),
			hint:    generateHint,
		}
	case id.Kind == "" || v == "":
		return ref, &failure{message: fmt.Sprintf("object %q has no apiVersion or no kind", m.Name), hint: hint}
	case m.Name == "":
		return ref, &failure{message: id.Kind + " without a metadata.name", hint: hint}
	}
	return ref, nil
}
