package order_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/order"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func object(name, annotations string) unit.Object {
	return unit.Object{Ref: fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Name: name}, JSON: fmt.Appendf(nil, `{"metadata":{"annotations":%s}}`, annotations)}
}

func TestWavesComeInOrder(t *testing.T) {
	waves, err := order.Waves([]unit.Object{
		object("plain", `null`), object("late", `{"capstan.dev/wave":"2"}`), object("first", `{"argocd.argoproj.io/sync-wave":"-5"}`),
		object("ours-wins", `{"capstan.dev/wave":"-5","argocd.argoproj.io/sync-wave":"9"}`), object("zero", `{"capstan.dev/wave":"0"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range waves {
		for _, o := range w.Objects {
			got = append(got, fmt.Sprintf("%d:%s", w.Number, o.Ref.Name))
		}
	}
	if s := strings.Join(got, " "); s != "-5:first -5:ours-wins 0:plain 0:zero 2:late" {
		t.Error(s)
	}
}

func TestAWaveThatIsNoNumberIsNamed(t *testing.T) {
	for _, bad := range []string{`{"capstan.dev/wave":"soon"}`, `{"capstan.dev/wave":1}`, `{"argocd.argoproj.io/sync-wave":"1.5"}`, `["x"]`} {
		_, err := order.Waves([]unit.Object{object("odd", bad)})
		if !errors.Is(err, fleet.ErrInvalid) || !strings.Contains(err.Error(), "ConfigMap odd") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestAppsThatDependOnThemselvesAreFound(t *testing.T) {
	app := func(s string) fleet.AppName { return fleet.AppName{Namespace: "n", Name: s} }
	on := map[fleet.AppName][]fleet.AppName{
		app("a"): {app("b")}, app("b"): {app("c"), app("x")}, app("c"): {app("a")},
		app("self"): {app("self")}, app("fine"): {app("a"), app("x")}, app("x"): nil,
	}
	var got []string
	for name, way := range order.Cycles(on) {
		got = append(got, fmt.Sprint(name, way))
		if way[0] != name || way[len(way)-1] != name {
			t.Errorf("%s: %v", name, way)
		}
		for i := range len(way) - 1 {
			found := false
			for _, next := range on[way[i]] {
				found = found || next == way[i+1]
			}
			if !found {
				t.Errorf("%s does not depend on %s", way[i], way[i+1])
			}
		}
	}
	if len(got) != 4 { // a, b, c and self
		t.Errorf("cycles: %v", got)
	}
}
