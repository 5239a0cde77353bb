package fleettest

import (
	"strings"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// parseSelector reads the equality part of Kubernetes' label selectors, which
// is what tests need: "k=v,k!=v,k,!k".
func parseSelector(s string) (func(map[string]string) bool, error) {
	var terms []func(map[string]string) bool
	for term := range strings.SplitSeq(s, ",") {
		if s == "" {
			break
		}
		key, value, equal := strings.Cut(term, "=")
		key, not := strings.CutSuffix(key, "!")
		absent := false
		if !equal {
			key, absent = strings.CutPrefix(key, "!")
		}
		if err := fleet.ValidateLabel(key, value); err != nil {
			return nil, fleet.Invalid("selector %q: %w", s, err)
		}
		terms = append(terms, func(labels map[string]string) bool {
			got, has := labels[key]
			if !equal {
				return has != absent
			}
			return (has && got == value) != not
		})
	}
	return func(labels map[string]string) bool {
		for _, match := range terms {
			if !match(labels) {
				return false
			}
		}
		return true
	}, nil
}
