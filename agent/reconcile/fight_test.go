package reconcile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestAFightIsToldWithWhoAndWhatAndSinceWhen(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a")}, nil)
	s.synced("web")
	applied := s.cluster.content(configMap("a"))
	theirs := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"shop","managedFields":[
		{"manager":"tuner","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:value":{}}}}]},"data":{"value":"9"}}`
	for range 5 {
		s.cluster.edit(configMap("a"), theirs)
		s.until("web", "put back", func(fleet.AppStatus) bool { return s.cluster.content(configMap("a")) == applied })
	}
	got := s.because("web", "Fight")
	for _, want := range []string{"ConfigMap shop/a", "/data/value", "tuner", "5 times since " + s.now.UTC().Format("2006-")} {
		if !strings.Contains(got.Message, want) {
			t.Errorf("%q does not say %q", got.Message, want)
		}
	}
	if got.Hint == "" {
		t.Error("nothing is said of what to do")
	}
	for _, c := range s.conditions("web", "Fight") {
		if c.Type == fleet.ConditionReady && c.Status == "True" {
			t.Error("it reads Ready")
		}
	}
}

func TestManyChangesOfDifferentFieldsAreNoFight(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": strings.TrimSuffix(configMaps("1", "a"), "}\n") + ", b: x, c: x, d: x, e: x}\n"}, nil)
	s.synced("web")
	applied := s.cluster.content(configMap("a"))
	for _, key := range []string{"b", "c", "d", "e", "b"} {
		s.cluster.edit(configMap("a"), strings.Replace(applied, fmt.Sprintf(`%q:"x"`, key), fmt.Sprintf(`%q:"y"`, key), 1))
		s.until("web", "put back", func(fleet.AppStatus) bool { return s.cluster.content(configMap("a")) == applied })
	}
	if got := s.synced("web"); got.Reason == "Fight" {
		t.Errorf("told as one: %s", got.Message)
	}
}
