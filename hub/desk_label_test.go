package hub_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestLabelsReachTheAgentAsIntent(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	c, err := o.LabelCluster(t.Context(), "dev", map[string]string{"env": "dev", "tier": "gold"}, nil)
	if err != nil || c.Labels["env"] != "dev" || c.Labels["zone"] != "a" || c.Assigned["tier"] != "gold" {
		t.Fatal(c, err)
	}
	if in := o.link.last("dev"); in.Instance != "hub1" || in.Revision != 1 || in.Labels["env"] != "dev" {
		t.Errorf("pushed %+v", in)
	}
	if _, err := o.LabelCluster(t.Context(), "dev", nil, []string{"env"}); err != nil {
		t.Fatal(err)
	}
	in := o.link.last("dev")
	if _, there := in.Labels["env"]; there || in.Revision != 2 || fmt.Sprint(in.Removed) != "[env]" {
		t.Errorf("a removal must be said, pushed %+v", in)
	}
	if _, err := o.LabelCluster(t.Context(), "dev", map[string]string{"env": "qa"}, nil); err != nil {
		t.Fatal(err)
	}
	if in := o.link.last("dev"); len(in.Removed) != 0 || in.Labels["env"] != "qa" {
		t.Errorf("set again: pushed %+v", in)
	}
	if ack := o.beat(t, "dev", 1); ack.Revision != 3 {
		t.Errorf("the heartbeat's answer says revision %d", ack.Revision)
	}
	if _, err := o.LabelCluster(t.Context(), "dev", map[string]string{"env": "qa"}, nil); err != nil {
		t.Fatal(err)
	}
	if ack := o.beat(t, "dev", 1); ack.Revision != 3 {
		t.Errorf("what changes nothing raised the revision to %d", ack.Revision)
	}
}

func TestASpokeDecidesWhatMayBeAssigned(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	for _, c := range []struct {
		name    string
		cluster string
		set     map[string]string
		remove  []string
		want    error
		says    string
	}{
		{"declared", "dev", map[string]string{"zone": "b"}, nil, fleet.ErrConflict, "zone is declared at the spoke and can't be changed from the hub"},
		{"declared, removed", "dev", nil, []string{"zone"}, fleet.ErrConflict, "zone is declared at the spoke"},
		{"not assignable", "dev", map[string]string{"team": "x"}, nil, fleet.ErrConflict, "team is not assignable"},
		{"one of two", "dev", map[string]string{"env": "x", "team": "x"}, nil, fleet.ErrConflict, "team"},
		{"unknown cluster", "nowhere", map[string]string{"env": "x"}, nil, fleet.ErrNotFound, "nowhere"},
		{"bad key", "dev", map[string]string{"a b": "x"}, nil, fleet.ErrInvalid, "a b"},
		{"bad value", "dev", map[string]string{"env": "a b"}, nil, fleet.ErrInvalid, "a b"},
		{"both ways", "dev", map[string]string{"env": "x"}, []string{"env"}, fleet.ErrInvalid, "at once"},
		{"nothing", "dev", nil, nil, fleet.ErrInvalid, "no label"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := o.LabelCluster(t.Context(), c.cluster, c.set, c.remove)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v saying %q", err, c.want, c.says)
			}
			if errors.Is(err, fleet.ErrConflict) && fleet.Hint(err) == "" {
				t.Error("it has no hint")
			}
		})
	}
	if in := o.link.last("dev"); in.Revision != 0 {
		t.Errorf("something was pushed: %+v", in)
	}
}
