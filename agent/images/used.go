package images

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// maxReference is more than any image's name, tag and digest take.
const maxReference = 512

// Used lists the images of objects' pods, sorted, each once. It looks where
// Kubernetes' own kinds keep a pod's spec; what is no image's reference is left
// out, and so is a pod that can't be read.
func Used(objects []unit.Object) []string {
	var out []string
	for _, o := range objects {
		path, ok := podSpecs[groupKind{o.Ref.Group, o.Ref.Kind}]
		if !ok {
			continue
		}
		var tree map[string]any
		if json.Unmarshal(o.JSON, &tree) != nil {
			continue
		}
		for _, p := range podImages {
			visit(tree, append(split(path), p...), func(v any) any {
				if s, ok := v.(string); ok && isReference(s) {
					out = append(out, s)
				}
				return v
			})
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func isReference(s string) bool {
	return s != "" && len(s) <= maxReference &&
		strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789-_./:@") == ""
}
