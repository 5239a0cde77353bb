package order_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/capstan-gitops/capstan/agent/order"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestWhatIsTakenAwayGoesInTheWavesBackwards(t *testing.T) {
	ref := func(name string) fleet.ObjectRef {
		return fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: "shop", Name: name}
	}
	var applied []unit.Object
	for name, wave := range map[string]string{"first": "-1", "last": "10", "later": "2", "broken": "x"} {
		r := ref(name)
		r.Version = "v1beta1" // it was applied at another version
		applied = append(applied, unit.Object{Ref: r, JSON: fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, order.WaveAnnotation, wave)})
	}
	things := []fleet.ObjectRef{ref("first"), ref("plain"), ref("last"), ref("broken"), ref("later")}
	var got [][]string
	for _, wave := range order.Backwards(things, func(r fleet.ObjectRef) fleet.ObjectRef { return r }, applied) {
		var names []string
		for _, r := range wave {
			names = append(names, r.Name)
		}
		got = append(got, names)
	}
	want := [][]string{{"last"}, {"later"}, {"plain", "broken"}, {"first"}}
	if !slices.EqualFunc(got, want, func(a, b []string) bool { return slices.Equal(a, b) }) {
		t.Errorf("got %v, want %v", got, want)
	}
	if waves := order.Backwards(nil, func(r fleet.ObjectRef) fleet.ObjectRef { return r }, applied); len(waves) != 0 {
		t.Errorf("of nothing: %v", waves)
	}
}
