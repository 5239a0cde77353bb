// Package health tells whether a live object works: what kstatus computes,
// and besides it what kstatus does not know of built-in kinds and of the kinds
// that widely used controllers bring. It is pure: an object in, a word out.
package health

import (
	"fmt"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// State is how an object is, and why where it is not healthy. The message is the
// object's own words, on one line.
type State struct {
	Health  fleet.Health
	Message string
}

// rule knows one kind. It says nothing (ok is false) where kstatus knows better.
type rule func(o object) (s State, ok bool)

// Of tells an object's health. Of several checks of its kind the first counts.
func Of(u *unstructured.Unstructured, checks ...*Checks) State {
	s := of(object{u}, checks)
	s.Message = strings.Join(strings.Fields(s.Message), " ")
	if s.Health == fleet.Healthy {
		s.Message = ""
	}
	return s
}

func of(o object, checks []*Checks) State {
	if o.GetDeletionTimestamp() != nil {
		return progressing("is being deleted")
	}
	kind := o.GroupVersionKind().GroupKind()
	check := checkOf(kind, checks)
	if s, ok := o.unobserved(); ok && (check == nil || !check.generation) {
		return s
	}
	if check != nil {
		return check.state(o)
	}
	for _, know := range []rule{rules[kind], suspendedByFlux, crossplane} {
		if know == nil {
			continue
		}
		if s, ok := know(o); ok {
			return s
		}
	}
	return byKstatus(o)
}

func byKstatus(o object) State {
	r, err := status.Compute(o.Unstructured)
	if err != nil {
		return State{fleet.HealthUnknown, "its status can't be read"}
	}
	switch r.Status {
	case status.CurrentStatus:
		return State{Health: fleet.Healthy}
	case status.InProgressStatus, status.TerminatingStatus:
		return progressing(r.Message)
	case status.FailedStatus:
		return degraded(r.Message)
	case status.NotFoundStatus:
		return State{Health: fleet.Missing}
	}
	return State{fleet.HealthUnknown, r.Message}
}

func healthy() (State, bool)          { return State{Health: fleet.Healthy}, true }
func progressing(why string) State    { return State{fleet.Progressing, why} }
func degraded(why string) State       { return State{fleet.Degraded, why} }
func suspended(why string) State      { return State{fleet.Suspended, why} }
func yes(s State) (State, bool)       { return s, true }
func kstatusKnows() (State, bool)     { return State{}, false }
func waits(what string) (State, bool) { return yes(progressing("waits for " + what)) }

// object reads what it needs and takes whatever is not as it should be for absent:
// what a controller wrote is not ours to judge.
type object struct{ *unstructured.Unstructured }

func (o object) text(path ...string) string {
	s, _, _ := unstructured.NestedString(o.Object, path...)
	return s
}

func (o object) flag(path ...string) bool {
	b, _, _ := unstructured.NestedBool(o.Object, path...)
	return b
}

func (o object) list(path ...string) []any {
	v, _, _ := unstructured.NestedFieldNoCopy(o.Object, path...)
	l, _ := v.([]any)
	return l
}

// unobserved tells an object whose controller has not seen its latest spec. Some
// controllers write the generation as a string.
func (o object) unobserved() (State, bool) {
	v, found, _ := unstructured.NestedFieldNoCopy(o.Object, "status", "observedGeneration")
	if !found || o.GetGeneration() == 0 {
		return State{}, false
	}
	if seen := fmt.Sprint(v); seen != fmt.Sprint(o.GetGeneration()) {
		return yes(progressing(fmt.Sprintf("its controller has seen generation %.20s of %d", seen, o.GetGeneration())))
	}
	return State{}, false
}

// condition is one of status.conditions. An absent one has no status.
type condition struct{ status, reason, message string }

func (o object) condition(kind string) condition {
	return find(o.list("status", "conditions"), kind)
}

func find(conditions []any, kind string) condition {
	for _, e := range conditions {
		m, _ := e.(map[string]any)
		if m["type"] != kind {
			continue
		}
		var c condition
		c.status, _ = m["status"].(string)
		c.reason, _ = m["reason"].(string)
		c.message, _ = m["message"].(string)
		return c
	}
	return condition{}
}

func (c condition) isTrue() bool  { return c.status == "True" }
func (c condition) isFalse() bool { return c.status == "False" }

// why is the condition in words: "DoesNotExist: secret not found".
func (c condition) why() string {
	switch {
	case c.message == "":
		return c.reason
	case c.reason == "" || strings.HasPrefix(c.message, c.reason):
		return c.message
	}
	return c.reason + ": " + c.message
}

// trueOr is a kind that is as healthy as one condition: False is degraded.
func trueOr(kind string) rule {
	return func(o object) (State, bool) {
		switch c := o.condition(kind); {
		case c.isTrue():
			return healthy()
		case c.isFalse():
			return yes(degraded(c.why()))
		default:
			return waits("its controller")
		}
	}
}

func gk(group string, kinds ...string) []schema.GroupKind {
	out := make([]schema.GroupKind, len(kinds))
	for i, k := range kinds {
		out[i] = schema.GroupKind{Group: group, Kind: k}
	}
	return out
}

// rules are all that know one kind.
var rules = func() map[schema.GroupKind]rule {
	all := map[schema.GroupKind]rule{}
	for _, each := range [][]known{builtIn, controllers} {
		for _, k := range each {
			for _, kind := range k.kinds {
				all[kind] = k.rule
			}
		}
	}
	return all
}()

type known struct {
	kinds []schema.GroupKind
	rule  rule
}
