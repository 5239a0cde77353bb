// Package images points what is rendered at the registries a site has: an
// air-gapped cluster pulls docker.io's images from its own mirror. It is pure:
// objects in, objects out.
package images

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Config says which registries are mirrored where.
type Config struct {
	// Mirrors replace the beginning of image names. The longest From wins.
	Mirrors []Mirror `json:"mirrors,omitempty"`
	// Paths are where objects of other kinds than Kubernetes' own hold images.
	Paths []Path `json:"paths,omitempty"`
}

// Mirror replaces From, a registry or a part of it, by To.
type Mirror struct {
	From string `json:"from"` // docker.io, docker.io/library, ghcr.io/org
	To   string `json:"to"`   // registry.example/mirror
}

// Path leads to an image, or to a pod's spec, in objects of one kind.
type Path struct {
	Group string `json:"group,omitempty"`
	Kind  string `json:"kind"`
	// Path is written with dots; [] stands for every item of a list and * for
	// every value: spec.template.spec, spec.images[], spec.sidecars.*.image.
	Path string `json:"path"`
}

// Rewriter points images at mirrors. The zero value, and nil, leave all alone.
type Rewriter struct {
	mirrors []Mirror // the longest From first
	paths   map[groupKind][][]string
	version string
}

type groupKind struct{ group, kind string }

// New checks a configuration. The error is fleet.ErrInvalid and begins with the
// field.
func New(c Config) (*Rewriter, error) {
	r := &Rewriter{paths: map[groupKind][][]string{}}
	for i, m := range c.Mirrors {
		if err := m.validate(i); err != nil {
			return nil, err
		}
		m.From = canonicalHost(m.From)
		if slices.ContainsFunc(r.mirrors, func(o Mirror) bool { return o.From == m.From }) {
			return nil, fleet.Invalid("images.mirrors[%d].from: %q is there twice", i, c.Mirrors[i].From)
		}
		r.mirrors = append(r.mirrors, m)
	}
	slices.SortStableFunc(r.mirrors, func(a, b Mirror) int { return len(b.From) - len(a.From) })
	for kind, path := range podSpecs {
		r.paths[kind] = [][]string{split(path)}
	}
	for i, p := range c.Paths {
		if err := p.validate(i); err != nil {
			return nil, err
		}
		k := groupKind{p.Group, p.Kind}
		r.paths[k] = append(r.paths[k], split(p.Path))
	}
	if len(r.mirrors) == 0 {
		return r, nil
	}
	text, err := fleet.Canonical(Config{Mirrors: r.mirrors, Paths: c.Paths})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	r.version = "images " + hex.EncodeToString(sum[:8])
	return r, nil
}

// Version identifies what is rewritten and how; empty where nothing is.
func (r *Rewriter) Version() string {
	if r == nil {
		return ""
	}
	return r.version
}

// podSpecs is where Kubernetes' own kinds keep a pod's spec.
var podSpecs = map[groupKind]string{
	{"", "Pod"}:                   "spec",
	{"", "PodTemplate"}:           "template.spec",
	{"", "ReplicationController"}: "spec.template.spec",
	{"apps", "Deployment"}:        "spec.template.spec",
	{"apps", "ReplicaSet"}:        "spec.template.spec",
	{"apps", "StatefulSet"}:       "spec.template.spec",
	{"apps", "DaemonSet"}:         "spec.template.spec",
	{"batch", "Job"}:              "spec.template.spec",
	{"batch", "CronJob"}:          "spec.jobTemplate.spec.template.spec",
}

// Rewrite gives the objects with their images pointed at the mirrors. What has
// none is given back as it is.
func (r *Rewriter) Rewrite(objects []unit.Object) ([]unit.Object, error) {
	if r == nil || len(r.mirrors) == 0 {
		return objects, nil
	}
	out := slices.Clone(objects)
	for i, o := range out {
		paths := r.paths[groupKind{o.Ref.Group, o.Ref.Kind}]
		if len(paths) == 0 {
			continue
		}
		changed, err := r.rewrite(o.JSON, paths)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Ref, err)
		}
		if changed != nil {
			out[i].JSON = changed
		}
	}
	return out, nil
}

// rewrite gives nil where nothing changes.
func (r *Rewriter) rewrite(object json.RawMessage, paths [][]string) (json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	d.UseNumber()
	var tree map[string]any
	if err := d.Decode(&tree); err != nil {
		return nil, err
	}
	changed := false
	for _, p := range paths {
		visit(tree, p, func(at any) any {
			now, moved := r.found(at)
			changed = changed || moved
			return now
		})
	}
	if !changed {
		return nil, nil
	}
	return fleet.Canonical(tree)
}

// visit replaces every value that a path leads to. A path that leads nowhere is
// no error: not every object of a kind has every field.
func visit(at any, path []string, replace func(any) any) {
	last := len(path) == 1
	step := func(value any, put func(any)) {
		if last {
			put(replace(value))
			return
		}
		visit(value, path[1:], replace)
	}
	switch at := at.(type) {
	case map[string]any:
		for key, value := range at {
			if path[0] == key || path[0] == "*" {
				step(value, func(v any) { at[key] = v })
			}
		}
	case []any:
		if path[0] == "[]" {
			for i, value := range at {
				step(value, func(v any) { at[i] = v })
			}
		}
	}
}

// found is what a path led to: an image, or a pod's spec.
func (r *Rewriter) found(at any) (any, bool) {
	switch at := at.(type) {
	case string:
		now := r.Image(at)
		return now, now != at
	case map[string]any:
		changed := false
		for _, p := range podImages {
			visit(at, p, func(v any) any {
				s, ok := v.(string)
				if !ok {
					return v
				}
				now := r.Image(s)
				changed = changed || now != s
				return now
			})
		}
		return at, changed
	}
	return at, false
}

// podImages are the images of a pod's spec.
var podImages = [][]string{
	split("containers[].image"), split("initContainers[].image"), split("ephemeralContainers[].image"), split("volumes[].image.reference"),
}

// split cuts spec.list[].x into spec, list, [], x.
func split(path string) []string {
	return strings.Split(strings.ReplaceAll(path, "[]", ".[]"), ".")
}
