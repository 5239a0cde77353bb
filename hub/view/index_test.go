package view_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/capstan-gitops/capstan/hub/view"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Whatever labels came and went, a selector finds what looking at every cluster
// would find.
func TestSelectorsFindWhatTheyWouldOneByOne(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	random := func() map[string]string {
		out := map[string]string{}
		for _, k := range []string{"a", "b", "c"} {
			if n := r.IntN(4); n > 0 {
				out[k] = fmt.Sprint(n)
			}
		}
		return out
	}
	v := view.New()
	for round := range 400 {
		name := fmt.Sprintf("c%02d", r.IntN(30))
		switch r.IntN(5) {
		case 0:
			v.Removed(name)
		case 1, 2:
			v.Heard(name, fleet.ClusterReport{Declared: random(), Assignable: []string{"a", "b", "c"}[:r.IntN(4)], Interval: every}, now)
		default:
			v.Assigned(name, random())
		}
		all, err := v.Clusters(fleet.ClusterFilter{}, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, selector := range []string{"a=1", "a=1,b=2", "a in (1,2),c", "b!=1", "!c,a==3", "a notin (1),b in (2,3)", "a=9"} {
			match, err := labels.Parse(selector)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, c := range all {
				if match.Matches(labels.Set(c.Labels)) {
					want = append(want, c.Cluster)
				}
			}
			found, err := v.Clusters(fleet.ClusterFilter{Selector: selector}, now)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range found {
				got = append(got, c.Cluster)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("round %d, %s: %v, want %v", round, selector, got, want)
			}
		}
	}
}
