package hub_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

func TestAJoinTokenIsForOneKeyOnce(t *testing.T) {
	o := newOffice(t)
	id := o.join(t, "dev")
	if cluster, err := o.spokes.Enrol(t.Context(), id, "key1"); err != nil || cluster != "dev" {
		t.Fatal(cluster, err)
	}
	if _, err := o.spokes.Enrol(t.Context(), id, "key1"); err != nil {
		t.Errorf("the same key again: %v", err)
	}
	if _, err := o.spokes.Enrol(t.Context(), id, "key2"); !errors.Is(err, fleet.ErrForbidden) || fleet.Hint(err) == "" {
		t.Errorf("another key: got %v, want ErrForbidden with a hint", err)
	}
	if _, err := o.spokes.Enrol(t.Context(), "nosuch", "key1"); !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("an unknown token: got %v, want ErrForbidden", err)
	}
	if _, err := o.Join(t.Context(), "dev", 0); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("a token for an enrolled cluster: got %v, want ErrConflict", err)
	}
}

func TestAJoinTokenExpires(t *testing.T) {
	o := newOffice(t)
	grant, err := o.Join(t.Context(), "dev", time.Minute)
	if err != nil || !grant.Expires.Equal(start.Add(time.Minute)) {
		t.Fatal(grant, err)
	}
	token, err := wire.ParseJoinToken(grant.Token)
	if err != nil || token.Cluster != "dev" || token.Instance != "hub1" || token.CA != "pem" || token.URLs[0] != "nats://hub:4222" {
		t.Errorf("token: %+v, %v", token, err)
	}
	o.clock.pass(time.Minute + time.Second)
	if _, err := o.spokes.Enrol(t.Context(), token.Join, "key1"); !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("got %v, want ErrForbidden", err)
	}
	for _, ttl := range []time.Duration{-1, time.Millisecond, 2 * time.Hour} {
		if _, err := o.Join(t.Context(), "dev", ttl); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("ttl %s: got %v, want ErrInvalid", ttl, err)
		}
	}
	if _, err := o.Join(t.Context(), "*", 0); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("a wildcard for a name: got %v, want ErrInvalid", err)
	}
}

func TestTwoTokensOneCluster(t *testing.T) {
	o := newOffice(t)
	first, second := o.join(t, "dev"), o.join(t, "dev")
	if _, err := o.spokes.Enrol(t.Context(), first, "key1"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.spokes.Enrol(t.Context(), second, "key2"); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
}

func TestARemovedClusterIsCutAndForgotten(t *testing.T) {
	o := newOffice(t)
	id := o.join(t, "dev")
	if _, err := o.spokes.Enrol(t.Context(), id, "key-dev"); err != nil {
		t.Fatal(err)
	}
	o.beat(t, "dev", 3)
	if _, err := o.LabelCluster(t.Context(), "dev", map[string]string{"env": "dev"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := o.report(t, "dev", 3, 1, "well"); err != nil {
		t.Fatal(err)
	}
	pushed := o.link.last("dev").Revision
	if err := o.RemoveCluster(t.Context(), "dev"); err != nil {
		t.Fatal(err)
	}
	for _, o := range []*office{o, o.open(t)} {
		if fmt.Sprint(o.link.revoked) != "[key-dev]" || o.link.last("dev").Revision != pushed {
			t.Errorf("revoked %v; the agent must not be told to take labels away", o.link.revoked)
		}
		if got := o.messages(t, "dev"); got != "" {
			t.Errorf("its apps are there: %s", got)
		}
		if _, err := o.spokes.Heartbeat(t.Context(), "dev", wire.Heartbeat{Epoch: 4}); !errors.Is(err, fleet.ErrForbidden) {
			t.Errorf("a heartbeat: got %v, want ErrForbidden", err)
		}
		if err := o.report(t, "dev", 3, 2, "zombie"); !errors.Is(err, fleet.ErrForbidden) {
			t.Errorf("a report: got %v, want ErrForbidden", err)
		}
		if _, err := o.spokes.Enrol(t.Context(), id, "key-dev"); !errors.Is(err, fleet.ErrForbidden) {
			t.Errorf("the old token: got %v, want ErrForbidden", err)
		}
		if err := o.RemoveCluster(t.Context(), "dev"); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("again: got %v, want ErrNotFound", err)
		}
	}
	// It may come back, with nothing of what was assigned, and its agent will
	// see that its epoch has been used.
	o = o.open(t)
	if _, err := o.spokes.Enrol(t.Context(), o.join(t, "dev"), "key2"); err != nil {
		t.Fatal(err)
	}
	ack := o.beat(t, "dev", 1)
	in, err := o.spokes.Intent(t.Context(), "dev")
	if err != nil || in.Revision <= pushed || len(in.Labels) != 0 || fmt.Sprint(in.Removed) != "[env]" || ack.Epoch != 3 {
		t.Errorf("got %+v, %v, %+v", in, err, ack)
	}
}

func TestAnUnknownClusterIsNotServed(t *testing.T) {
	o := newOffice(t)
	if _, err := o.spokes.Heartbeat(t.Context(), "ghost", wire.Heartbeat{Epoch: 1}); !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("got %v, want ErrForbidden", err)
	}
	if cs, err := o.Clusters(t.Context(), fleet.ClusterFilter{}); err != nil || len(cs) != 0 {
		t.Errorf("got %+v, %v", cs, err)
	}
	o.enrolled(t, "dev")
	if err := o.spokes.MayRenew(t.Context(), "dev", "key-dev"); err != nil {
		t.Error(err)
	}
	if err := o.spokes.MayRenew(t.Context(), "dev", "key2"); !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("got %v, want ErrForbidden", err)
	}
}
