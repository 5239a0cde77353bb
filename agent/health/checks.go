package health

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Check says for one kind how its objects are, by expressions in CEL that are
// true or false. It wins over what this package knows of the kind. They are asked
// in the order InProgress, Failed, Suspended, Current; where none is true, the
// object is Progressing.
type Check struct {
	APIVersion string `json:"apiVersion"` // its version does not count: an object is judged as it is watched
	Kind       string `json:"kind"`
	Current    string `json:"current"`
	InProgress string `json:"inProgress,omitempty"`
	Failed     string `json:"failed,omitempty"`
	Suspended  string `json:"suspended,omitempty"`
	// Message is an expression too: the words for an object that is not healthy,
	// from its metadata and status. "": its own.
	Message string `json:"message,omitempty"`
}

// Checks are compiled, one a kind. They are safe for concurrent use; nil: none.
type Checks struct {
	kinds map[schema.GroupKind]*compiled
	text  string // what they were compiled from
}

// compiled is a Check. Programs that were not asked for are nil.
type compiled struct {
	asked      [4]question
	message    *program
	generation bool // it looks itself whether the controller has seen the latest spec
}

// question is one of a check's expressions, and what it means if it is true.
type question struct {
	field string
	*program
	health fleet.Health
}

// Same tells whether two have the same to say.
func (c *Checks) Same(other *Checks) bool {
	if c == nil || other == nil {
		return c == other
	}
	return c.text == other.text
}

// Has tells whether there is a check for a kind.
func (c *Checks) Has(kind schema.GroupKind) bool { return c.of(kind) != nil }

func (c *Checks) of(kind schema.GroupKind) *compiled {
	if c == nil {
		return nil
	}
	return c.kinds[kind]
}

func checkOf(kind schema.GroupKind, all []*Checks) *compiled {
	for _, c := range all {
		if k := c.of(kind); k != nil {
			return k
		}
	}
	return nil
}

// maxChecks is how many kinds one list may be about.
const maxChecks = 32

// Compile compiles checks. Nothing to check gives nil. The error is
// fleet.ErrInvalid and begins with the entry and the field: "[0].current: ...".
func (c *Compiler) Compile(list []Check) (*Checks, error) {
	if len(list) == 0 {
		return nil, nil
	}
	if len(list) > maxChecks {
		return nil, fleet.Invalid(": is about %d kinds, more than %d", len(list), maxChecks)
	}
	out := &Checks{kinds: make(map[schema.GroupKind]*compiled, len(list)), text: fmt.Sprintf("%q", list)}
	for i, check := range list {
		kind, err := check.kind()
		if err == nil && out.kinds[kind] != nil {
			err = fleet.Invalid(".kind: there is a check of %s already", kind)
		}
		if err == nil {
			out.kinds[kind], err = c.check(check)
		}
		if err != nil {
			return nil, fmt.Errorf("[%d]%w", i, err)
		}
	}
	return out, nil
}

func (k Check) kind() (schema.GroupKind, error) {
	gv, err := schema.ParseGroupVersion(k.APIVersion)
	switch {
	case err != nil || gv.Version == "":
		return schema.GroupKind{}, fleet.WithHint(fleet.Invalid(".apiVersion: %q is none", k.APIVersion), "write it as the objects have it, like apps/v1")
	case k.Kind == "":
		return schema.GroupKind{}, fleet.Invalid(".kind: is required")
	case gv.Group == "" && k.Kind == "Secret":
		return schema.GroupKind{}, fleet.Invalid(".kind: Secrets are not looked into")
	}
	return schema.GroupKind{Group: gv.Group, Kind: k.Kind}, nil
}

func (c *Compiler) check(k Check) (*compiled, error) {
	if k.Current == "" {
		return nil, fleet.WithHint(fleet.Invalid(".current: is required"), "write when the object is healthy, like status.phase == 'Ready'")
	}
	out := &compiled{}
	var err error
	for i, q := range []struct {
		field, text string
		health      fleet.Health
	}{
		{"inProgress", k.InProgress, fleet.Progressing},
		{"failed", k.Failed, fleet.Degraded},
		{"suspended", k.Suspended, fleet.Suspended},
		{"current", k.Current, fleet.Healthy},
	} {
		out.asked[i] = question{field: q.field, health: q.health}
		if out.asked[i].program, err = c.compile(q.text, trueOrFalse); err != nil {
			return nil, fmt.Errorf(".%s: %w", q.field, err)
		}
		out.generation = out.generation || strings.Contains(q.text, "observedGeneration")
	}
	if out.message, err = c.compile(k.Message, words); err != nil {
		return nil, fmt.Errorf(".message: %w", err)
	}
	return out, nil
}

// state judges an object.
func (k *compiled) state(o object) State {
	for _, q := range k.asked {
		if q.program == nil {
			continue
		}
		yes, why := q.isTrue(o)
		switch {
		case why != "" && o.unreported():
			return progressing(fmt.Sprintf("has no status yet (%s: %s)", q.field, why))
		case why != "":
			return State{fleet.HealthUnknown, fmt.Sprintf("the health check's %s can't be told: %s", q.field, why)}
		case yes:
			return State{q.health, k.words(o, q.field+" is true: "+q.text)}
		}
	}
	current := k.asked[len(k.asked)-1]
	return progressing(k.words(o, "current is not true yet: "+current.text))
}

// words are the check's own, or the object's, or otherwise.
func (k *compiled) words(o object, otherwise string) string {
	if k.message != nil {
		if s := k.message.words(o); s != "" {
			return s
		}
	}
	for _, kind := range []string{"Ready", "Available", "Synced"} {
		if c := o.condition(kind); c.isFalse() && c.why() != "" {
			return c.why()
		}
	}
	return otherwise
}

// unreported tells an object that no controller has said anything about.
func (o object) unreported() bool {
	status, _, _ := unstructured.NestedFieldNoCopy(o.Object, "status")
	m, _ := status.(map[string]any)
	return len(m) == 0
}
