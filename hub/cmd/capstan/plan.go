package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signing"
)

// trustedPlan is a plan whose signature was checked: no hub altered it.
type trustedPlan struct {
	fleet.Plan
	key   string // of the agent that signed it
	known recognition
}

// fetchPlan gets the plan that waits and checks that it is from that cluster's
// agent, about that app, and has the digest of what it carries.
func (s *shell) fetchPlan(ctx context.Context, h hub, cluster string, app fleet.AppName) (trustedPlan, error) {
	signed, err := h.Plan(ctx, cluster, app)
	if err != nil {
		return trustedPlan{}, err
	}
	fail := func(err error) (trustedPlan, error) {
		return trustedPlan{}, fmt.Errorf("plan for %s on %s: %w", app, cluster, err)
	}
	p, err := signing.VerifyPlan(signed, signed.Key)
	if err != nil {
		return fail(fleet.WithHint(err, "do not approve it: what the hub gave is not what the agent made"))
	}
	if p.Cluster != cluster || p.App != app {
		return fail(fleet.WithHint(fmt.Errorf("the hub gave another plan, for %s on %s", p.App, p.Cluster), "do not approve it"))
	}
	known, err := s.knownAgentsFile()
	if err != nil {
		return fail(err)
	}
	how, err := known.recognize(s.hubAddress(), cluster, p.ClusterUID, signed.Key)
	if err != nil {
		return fail(err)
	}
	switch how {
	case firstSeen:
		s.say("note: the key of cluster %s's agent was not known, and is pinned from now on: %s", cluster, signed.Key)
	case rebuilt:
		s.say("note: cluster %s is not the one of that name you knew (its UID is %s now); its agent's key is pinned from now on: %s",
			cluster, oneLine(p.ClusterUID), signed.Key)
	}
	return trustedPlan{Plan: p, key: signed.Key, known: how}, nil
}

// showPlan prints what a plan would change, from the very document whose
// digest is signed. Secrets are masked already; their hashes say nothing here.
func (s *shell) showPlan(p trustedPlan) error {
	s.printf("%s on %s: %s %s\n", p.App, p.Cluster, p.Action, oneLine(p.Revision.Short()))
	s.printf("  plan %s, from %s to %s\n", oneLine(p.ID), digestName(p.From), digestName(p.To))
	if p.Wanted != nil {
		s.printf("  repository %s\n", oneLine(p.Wanted.RepoURL))
	}
	s.printf("  signature %s: by the cluster's agent (%s %s), over these very objects\n", s.paint(green, "good"), p.known, p.key)
	if p.Reason != "" {
		s.printf("  %s\n", oneLine(p.Reason))
	}
	for _, c := range p.Changes {
		if c.Action == fleet.Unchanged {
			continue
		}
		s.printf("\n")
		if err := s.showChange(p, c); err != nil {
			return err
		}
	}
	sum := fleet.Summarize(p.Changes)
	s.printf("\n%d to create, %d to update, %d to prune, ", sum.Create, sum.Update, sum.Prune)
	if sum.Recreate > 0 {
		s.printf("%d to recreate, ", sum.Recreate)
	}
	if sum.Hooks > 0 {
		s.printf("%d hooks, ", sum.Hooks)
	}
	s.printf("%d unchanged\n", sum.Unchanged)
	return nil
}

func (s *shell) showChange(p trustedPlan, c fleet.Change) error {
	name := oneLine(c.Object.String())
	if c.Unchecked {
		name += " (unchecked: the cluster could not be asked yet)"
	}
	switch c.Action {
	case fleet.Create:
		s.printf("%s\n", s.paint(green, "+++ create "+name))
		return s.showWanted(p, c)
	case fleet.Prune:
		s.printf("%s\n", s.paint(red, "--- prune "+name))
	case fleet.Recreate:
		s.printf("%s\n", s.paint(red, "-+- recreate "+name))
	case fleet.RunHook:
		s.printf("%s\n", s.paint(yellow, "*** hook "+name))
		s.printf("  %s\n", oneLine(c.Note))
		if len(c.Fields) == 0 && p.Wanted != nil { // when an app leaves, its hooks are those of what runs
			return s.showWanted(p, c)
		}
	default:
		s.printf("%s\n", s.paint(yellow, fmt.Sprintf("~~~ %s %s", c.Action, name)))
	}
	if c.Note != "" && c.Action != fleet.RunHook {
		s.printf("  %s\n", oneLine(c.Note))
	}
	for _, f := range c.Fields {
		if err := s.showField(f); err != nil {
			return err
		}
	}
	return nil
}

// showWanted prints a new object whole, as it is in the signed document.
func (s *shell) showWanted(p trustedPlan, c fleet.Change) error {
	object, err := wantedObject(p.Wanted, c.Object)
	if err != nil {
		return err
	}
	if object == nil {
		return fleet.WithHint(fmt.Errorf("plan %s creates %s, which is not among its objects", p.ID, c.Object), "do not approve it")
	}
	text, err := yaml.Marshal(object)
	if err != nil {
		return err
	}
	s.printLines(green, "+ ", string(text))
	return nil
}

func wantedObject(doc *fleet.Document, ref fleet.ObjectRef) (map[string]any, error) {
	if doc == nil {
		return nil, nil
	}
	for _, raw := range doc.Objects {
		var object map[string]any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&object); err != nil {
			return nil, fmt.Errorf("an object of the plan can't be read: %w", err)
		}
		if sameObject(refOf(object), ref) {
			maskSecret(object)
			return object, nil
		}
	}
	return nil, nil
}

func refOf(object map[string]any) fleet.ObjectRef {
	text := func(m map[string]any, key string) string {
		v, _ := m[key].(string)
		return v
	}
	group, version, grouped := strings.Cut(text(object, "apiVersion"), "/")
	if !grouped {
		group, version = "", group
	}
	meta, _ := object["metadata"].(map[string]any)
	return fleet.ObjectRef{
		Group: group, Version: version, Kind: text(object, "kind"),
		Namespace: text(meta, "namespace"), Name: text(meta, "name"),
	}
}

// sameObject: a document may leave a namespace out that the cluster fills in,
// or name one for an object that has none.
func sameObject(wanted, ref fleet.ObjectRef) bool {
	if wanted.Namespace == "" || ref.Namespace == "" {
		wanted.Namespace, ref.Namespace = "", ""
	}
	return wanted.Same(ref)
}

const secretValue = "(secret)"

func maskSecret(object map[string]any) {
	if ref := refOf(object); ref.Kind != "Secret" || ref.Group != "" {
		return
	}
	for _, field := range []string{"data", "stringData"} {
		values, _ := object[field].(map[string]any)
		for k := range values {
			values[k] = secretValue
		}
	}
}

func (s *shell) showField(f fleet.FieldDiff) error {
	s.printf("    %s\n", oneLine(f.Path))
	if f.Masked {
		s.printLines(yellow, "~   ", "(secret, changed)\n")
		return nil
	}
	for _, side := range []struct {
		color, mark string
		value       json.RawMessage
	}{{red, "-   ", f.From}, {green, "+   ", f.To}} {
		if len(side.value) == 0 {
			continue
		}
		text, err := yaml.JSONToYAML(side.value)
		if err != nil {
			return fmt.Errorf("field %s of the plan can't be read: %w", f.Path, err)
		}
		s.printLines(side.color, side.mark, string(text))
	}
	return nil
}

func (s *shell) printLines(color, mark, text string) {
	for line := range strings.Lines(text) {
		// Not oneLine: the blanks in front are YAML's.
		s.printf("%s\n", s.paint(color, mark+oneLine(strings.TrimSuffix(line, "\n"))))
	}
}

func digestName(d fleet.Digest) string {
	if d == fleet.NoDigest {
		return "nothing"
	}
	return oneLine(string(d))
}

// nothingWaits tells a plan that is not there (any more) from a failure.
func nothingWaits(err error) bool { return errors.Is(err, fleet.ErrNotFound) }
