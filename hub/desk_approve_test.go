package hub_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func approval(clusters ...string) fleet.SignedApproval {
	a := fleet.Approval{Action: fleet.ActionApply, App: web.String(), Approver: "ada@example.com", NotBefore: start, Expires: start.Add(time.Hour)}
	for _, c := range clusters {
		a.Targets = append(a.Targets, fleet.Target{ClusterUID: "uid-" + c, Cluster: c, To: "sha256:x", Plan: "plan-web"})
	}
	b, err := fleet.Canonical(a)
	if err != nil {
		panic(err)
	}
	return fleet.SignedApproval{Statement: b, Signature: "-----BEGIN SSH SIGNATURE-----"}
}

func TestAnApprovalIsPassedOnToTheClustersItNames(t *testing.T) {
	o := newOffice(t)
	for _, c := range []string{"dev", "prod", "edge"} {
		o.enrolled(t, c)
	}
	a := approval("dev", "prod")
	for range 2 { // twice is once
		if err := o.Approve(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	for cluster, want := range map[string]int{"dev": 1, "prod": 1, "edge": 0} {
		in := o.link.last(cluster)
		if len(in.Approvals) != want || want == 1 && string(in.Approvals[0].Statement) != string(a.Statement) {
			t.Errorf("%s: got %+v", cluster, in)
		}
	}
	o.clock.pass(2 * time.Hour)
	o.beat(t, "dev", 1)
	if _, err := o.LabelCluster(t.Context(), "dev", map[string]string{"env": "x"}, nil); err != nil {
		t.Fatal(err)
	}
	if in := o.link.last("dev"); len(in.Approvals) != 0 {
		t.Errorf("an expired approval is still passed on: %+v", in)
	}
}

func TestAnApprovalThatMakesNoSenseIsRefused(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	ok := approval("dev")
	for name, c := range map[string]struct {
		a    fleet.SignedApproval
		want error
	}{
		"no JSON":           {fleet.SignedApproval{Statement: []byte("{"), Signature: "s"}, fleet.ErrInvalid},
		"no target":         {approvalOf(t, func(a *fleet.Approval) { a.Targets = nil }), fleet.ErrInvalid},
		"too long a life":   {approvalOf(t, func(a *fleet.Approval) { a.Expires = start.Add(8 * 24 * time.Hour) }), fleet.ErrInvalid},
		"expired":           {approvalOf(t, func(a *fleet.Approval) { a.NotBefore = start.Add(-2 * time.Hour); a.Expires = start.Add(-time.Hour) }), fleet.ErrInvalid},
		"an unknown action": {approvalOf(t, func(a *fleet.Approval) { a.Action = "sudo" }), fleet.ErrInvalid},
		"not signed":        {fleet.SignedApproval{Statement: ok.Statement}, fleet.ErrInvalid},
		"too long":          {fleet.SignedApproval{Statement: ok.Statement, Signature: strings.Repeat("x", 100000)}, fleet.ErrInvalid},
		"unknown cluster":   {approval("dev", "nowhere"), fleet.ErrNotFound},
	} {
		if err := o.Approve(t.Context(), c.a); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if in := o.link.last("dev"); in.Revision != 0 {
		t.Errorf("something was pushed: %+v", in)
	}
}

func TestJunkApprovalsDoNotCrowdOutOthers(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	o.enrolled(t, "prod")
	vandal, ada := fleet.WithActor(t.Context(), "vandal"), fleet.WithActor(t.Context(), "ada")
	var refused error
	taken := 0
	for i := 0; i < 100 && refused == nil; i++ {
		junk := approvalOf(t, func(a *fleet.Approval) {
			a.Approver = fmt.Sprintf("person%d@example.com", i) // whoever it claims to be of
			a.Comment = strings.Repeat("x", 900)
		})
		junk.Signature = strings.Repeat("y", 8000)
		if refused = o.Approve(vandal, junk); refused == nil {
			taken++
		}
	}
	if !errors.Is(refused, fleet.ErrConflict) || fleet.Hint(refused) == "" || taken > 7 {
		t.Errorf("%d were taken, then %v; want ErrConflict with a hint", taken, refused)
	}
	before := o.link.last("dev").Revision
	if err := o.Approve(ada, approval("dev", "prod")); err != nil {
		t.Errorf("somebody else's: %v", err)
	}
	if in := o.link.last("dev"); in.Revision != before+1 || len(in.Approvals) != taken+1 {
		t.Errorf("pushed %d approvals", len(in.Approvals))
	}
	// What is full on one cluster is handed to no other either.
	before = o.link.last("prod").Revision
	both := approvalOf(t, func(a *fleet.Approval) {
		a.Targets = append(a.Targets, fleet.Target{ClusterUID: "uid-prod", Cluster: "prod", To: "sha256:x", Plan: "p"})
	})
	both.Signature = strings.Repeat("z", 30000)
	if err := o.Approve(vandal, both); !errors.Is(err, fleet.ErrConflict) || o.link.last("prod").Revision != before {
		t.Errorf("got %v", err)
	}
	o.clock.pass(2 * time.Hour)
	later := approvalOf(t, func(a *fleet.Approval) { a.NotBefore, a.Expires = o.clock.Now(), o.clock.Now().Add(time.Hour) })
	if err := o.Approve(vandal, later); err != nil {
		t.Errorf("once the others have expired: %v", err)
	}
}

func approvalOf(t *testing.T, alter func(*fleet.Approval)) fleet.SignedApproval {
	t.Helper()
	var a fleet.Approval
	if err := json.Unmarshal(approval("dev").Statement, &a); err != nil {
		t.Fatal(err)
	}
	alter(&a)
	b, err := fleet.Canonical(a)
	if err != nil {
		t.Fatal(err)
	}
	return fleet.SignedApproval{Statement: b, Signature: "s"}
}

func TestRejectingNotesItAtTheSpoke(t *testing.T) {
	o := newOffice(t)
	o.enrolled(t, "dev")
	if err := o.report(t, "dev", 1, 1, "waits"); err != nil {
		t.Fatal(err)
	}
	ctx := fleet.WithActor(t.Context(), "ada")
	if err := o.Reject(ctx, "dev", web, "plan-web", "too early"); err != nil {
		t.Fatal(err)
	}
	if in := o.link.last("dev"); len(in.Rejected) != 1 || in.Rejected[0].By != "ada" || in.Rejected[0].Why != "too early" {
		t.Errorf("pushed %+v", in)
	}
	if err := o.Reject(ctx, "dev", web, "another", ""); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("another plan: got %v, want ErrNotFound", err)
	}
	if err := o.Reject(ctx, "dev", fleet.AppName{Namespace: "shop", Name: "api"}, "plan-web", ""); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("another app's plan: got %v, want ErrNotFound", err)
	}
}
