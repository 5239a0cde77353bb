// Package gate decides whether a plan may proceed, and if not, what it waits
// for. It is pure: values in, values out.
//
// The rules are the spoke's own configuration. What Git asks for on top can
// only add demands, and what the hub relays is believed only as far as a
// signature by a key pinned at the spoke carries it.
package gate

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signing"
)

// Config is the `approval` part of the agent's configuration.
type Config struct {
	Rules []Rule `json:"rules,omitempty"`
	// One of the two: the pinned keys themselves, or the file they are in.
	AllowedSigners     string `json:"allowedSigners,omitempty"`
	AllowedSignersFile string `json:"allowedSignersFile,omitempty"`
}

// Rule demands approval for the apps it matches.
type Rule struct {
	Apps      AppMatch `json:"apps,omitzero"`
	Approvers []string `json:"approvers"`        // principals of the allowed signers
	Quorum    int      `json:"quorum,omitempty"` // how many people; 0 means 1
}

// AppMatch selects apps. The zero value matches all.
type AppMatch struct {
	// MatchNames are globs over "namespace/name"; '*' does not match '/'.
	MatchNames []string `json:"matchNames,omitempty"`
}

// Policy is the rules with the keys that are pinned.
type Policy struct {
	Rules   []Rule
	Allowed *signing.AllowedSigners
}

// Policy reads the pinned keys and checks everything. read is called with
// AllowedSignersFile where that is set.
func (c Config) Policy(read func(file string) ([]byte, error)) (Policy, error) {
	name, data := "approval.allowedSigners", []byte(c.AllowedSigners)
	if c.AllowedSignersFile != "" {
		if c.AllowedSigners != "" {
			return Policy{}, fleet.Invalid("approval: allowedSigners and allowedSignersFile are both set: keep one")
		}
		var err error
		name = c.AllowedSignersFile
		if data, err = read(name); err != nil {
			return Policy{}, fmt.Errorf("approval: allowedSignersFile: %w", err)
		}
	}
	allowed, err := signing.ParseAllowedSigners(name, data)
	if err != nil {
		return Policy{}, fmt.Errorf("approval: %w", err)
	}
	p := Policy{Rules: c.Rules, Allowed: allowed}
	return p, p.Validate()
}

// Validate checks that each rule can be met. The error is ErrInvalid.
func (p Policy) Validate() error {
	for i, r := range p.Rules {
		if err := p.validateRule(r); err != nil {
			return fmt.Errorf("approval.rules[%d]: %w", i, err)
		}
	}
	return nil
}

func (p Policy) validateRule(r Rule) error {
	for _, glob := range r.Apps.MatchNames {
		// A pattern that can never match would be a gate that is never there.
		if _, err := path.Match(glob, ""); err != nil || strings.Count(glob, "/") != 1 {
			return fleet.WithHint(fleet.Invalid("apps.matchNames: %q is not a pattern over namespace/name", glob),
				`write it like "shop/*" or "*/*"`)
		}
	}
	if len(r.Approvers) == 0 {
		return fleet.Invalid("it names no approvers")
	}
	pinned := p.Allowed.Principals()
	for _, a := range r.Approvers {
		if !slices.Contains(pinned, a) {
			return fleet.WithHint(fleet.Invalid("approver %q has no key among the allowed signers", a),
				"add a line for them to the allowed signers, or correct the name")
		}
	}
	people := p.people(r.Approvers)
	switch {
	case r.Quorum < 0:
		return fleet.Invalid("quorum %d is not a number of people", r.Quorum)
	case r.Quorum > len(people):
		return fleet.WithHint(fleet.Invalid("quorum is %d, but its approvers make %d", r.Quorum, len(people)),
			"principals that share a key are one person")
	}
	return nil
}

func (p Policy) people(principals []string) map[string]bool {
	people := map[string]bool{}
	for _, a := range principals {
		people[p.Allowed.Person(a)] = true
	}
	return people
}

// Matches tells whether the app is among those selected.
func (m AppMatch) Matches(app fleet.AppName) bool {
	return len(m.MatchNames) == 0 || slices.ContainsFunc(m.MatchNames, func(glob string) bool {
		ok, err := path.Match(glob, app.String())
		return ok || err != nil // Validate refuses a bad pattern; if one is here all the same, it gates
	})
}

// AppApproval is what an App itself asks for, as far as it holds here.
type AppApproval struct {
	Approvers []string // empty: everybody whose key is pinned
	Quorum    int      // 0 means 1
}

// Demand is one condition: so many of these people.
type Demand struct {
	Approvers []string
	Quorum    int
}

// Demands collects what an app's plans need here: the demand of every rule
// that matches and the App's own, which can only add. All must be met; none
// means that no approval is needed.
func (p Policy) Demands(app fleet.AppName, fromApp *AppApproval) []Demand {
	var all []Demand
	for _, r := range p.Rules {
		if r.Apps.Matches(app) {
			all = append(all, Demand{Approvers: r.Approvers, Quorum: max(1, r.Quorum)})
		}
	}
	if fromApp != nil {
		d := Demand{Approvers: fromApp.Approvers, Quorum: max(1, fromApp.Quorum)}
		if len(d.Approvers) == 0 {
			d.Approvers = p.Allowed.Principals()
		}
		all = append(all, d)
	}
	return all
}
