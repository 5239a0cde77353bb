// Package order decides what comes before what: the waves of an app's objects,
// and the apps that others depend on. It is pure: values in, values out.
package order

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// The annotations that put an object into a wave: a whole number, 0 if absent.
// Ours wins where both are there.
const (
	WaveAnnotation   = "capstan.dev/wave"
	ArgoCDAnnotation = "argocd.argoproj.io/sync-wave"
)

// Wave is objects that are applied together, before those of a higher number.
type Wave struct {
	Number  int
	Objects []unit.Object
}

// Waves sorts objects into their waves, the lowest first. The error names the
// object whose wave is no number.
func Waves(objects []unit.Object) ([]Wave, error) {
	byNumber := map[int][]unit.Object{}
	for _, o := range objects {
		n, err := WaveOf(o)
		if err != nil {
			return nil, err
		}
		byNumber[n] = append(byNumber[n], o)
	}
	out := make([]Wave, 0, len(byNumber))
	for n, some := range byNumber {
		out = append(out, Wave{n, some})
	}
	slices.SortFunc(out, func(a, b Wave) int { return cmp.Compare(a.Number, b.Number) })
	return out, nil
}

// WaveOf is an object's wave. more are annotations that count where ours and
// Argo CD's are absent. The error names the object.
func WaveOf(o unit.Object, more ...string) (int, error) {
	var head struct {
		Metadata struct {
			Annotations map[string]any `json:"annotations"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(o.JSON, &head); err != nil {
		return 0, fleet.Invalid("%s: its annotations can't be read", o.Ref)
	}
	for _, key := range append([]string{WaveAnnotation, ArgoCDAnnotation}, more...) {
		v, there := head.Metadata.Annotations[key]
		if !there {
			continue
		}
		text, _ := v.(string)
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, fleet.WithHint(fleet.Invalid("%s: annotation %s: %q is not a whole number", o.Ref, key, text), `write it in quotes, like "-1" or "2"`)
		}
		return n, nil
	}
	return 0, nil
}

// Cycles finds the apps that depend on themselves, by way of others, and gives
// for each the way: a, b, a.
func Cycles(dependsOn map[fleet.AppName][]fleet.AppName) map[fleet.AppName][]fleet.AppName {
	out := map[fleet.AppName][]fleet.AppName{}
	for start := range dependsOn {
		if way := wayBack(dependsOn, start); way != nil {
			out[start] = way
		}
	}
	return out
}

// wayBack is the shortest way from an app to itself, nil if there is none.
func wayBack(dependsOn map[fleet.AppName][]fleet.AppName, start fleet.AppName) []fleet.AppName {
	came := map[fleet.AppName]fleet.AppName{}
	todo := []fleet.AppName{start}
	for len(todo) > 0 {
		at := todo[0]
		todo = todo[1:]
		for _, next := range dependsOn[at] {
			if next == start {
				way := []fleet.AppName{start}
				for at != start {
					way = append(way, at)
					at = came[at]
				}
				way = append(way, start)
				slices.Reverse(way)
				return way
			}
			if _, seen := came[next]; !seen {
				came[next] = at
				todo = append(todo, next)
			}
		}
	}
	return nil
}
