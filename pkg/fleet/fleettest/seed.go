package fleettest

import (
	"encoding/json"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// When is the time at which everything in Sample happened.
var When = time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)

// Guestbook is the app of Sample.
var Guestbook = fleet.AppName{Namespace: "default", Name: "guestbook"}

const (
	digestA = fleet.Digest("sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	digestB = fleet.Digest("sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
	revA    = fleet.Revision("main@sha1:1111111111111111111111111111111111111111")
	revB    = fleet.Revision("main@sha1:2222222222222222222222222222222222222222")
)

// Sample is a small fleet: the guestbook runs on dev and waits for approval on
// prod; staging has labels but no app, and went silent.
func Sample() Seed {
	deployment := fleet.ObjectRef{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "default", Name: "guestbook-ui"}
	secret := fleet.ObjectRef{Version: "v1", Kind: "Secret", Namespace: "default", Name: "guestbook"}
	changes := []fleet.Change{
		{Object: deployment, Action: fleet.Update, Fields: []fleet.FieldDiff{
			{Path: "/spec/replicas", From: json.RawMessage(`1`), To: json.RawMessage(`3`)},
			{Path: "/spec/template/spec/containers/0/args", To: json.RawMessage("[\"a<b&&c>d\",\"\u2028\"]")},
		}},
		{Object: secret, Action: fleet.Create, Fields: []fleet.FieldDiff{{Path: "/data/password", Masked: true}}},
	}
	plan, err := fleet.Canonical(fleet.Plan{
		ID: "plan-1", Action: fleet.ActionApply, App: Guestbook, Cluster: "prod", ClusterUID: "uid-prod",
		From: digestA, To: digestB, Revision: revB, Gate: fleet.GateApproval, Reason: "needs one approval",
		Created: When, Changes: changes,
	})
	if err != nil {
		panic(err) // of constants
	}
	return Seed{
		Assignable: []string{"env", "team"},
		Clusters: []fleet.Cluster{
			{
				Cluster: "dev", Labels: map[string]string{"env": "dev"}, Assigned: map[string]string{"env": "dev"},
				LastSeen: When, AgentVersion: "v0.1.0", KubernetesVersion: "v1.37.2", Head: revB, UID: "uid-dev",
				Apps: fleet.AppCounts{Total: 1, Synced: 1},
			},
			{
				Cluster: "prod", Labels: map[string]string{"env": "prod"}, Declared: map[string]string{"env": "prod"},
				LastSeen: When, AgentVersion: "v0.1.0", KubernetesVersion: "v1.37.2", Head: revB, UID: "uid-prod",
				Sources: []fleet.SourceStatus{
					{URL: "https://git.example.com/fleet.git", Follows: "branch main", Head: revB, ServedBy: "https://mirror.example.com/fleet.git", Failing: true, Reached: When.Add(-time.Hour), Message: "read from the mirror"},
					{URL: "https://git.example.com/shop.git", Follows: "tags in 1.x", Head: revB, ServedBy: "https://git.example.com/shop.git"},
				},
				Apps: fleet.AppCounts{Total: 1, Pending: 1},
			},
			{
				Cluster: "staging", Labels: map[string]string{"team": "a"}, Assigned: map[string]string{"team": "a"},
				LastSeen: When.Add(-time.Hour), Stale: true, UID: "uid-staging",
			},
		},
		Apps: []fleet.AppStatus{
			{
				Cluster: "dev", Namespace: "default", App: "guestbook", Revision: revB, Digest: digestB,
				Sync: fleet.Synced, Health: fleet.Healthy, Objects: 2, Path: "apps/guestbook/overlays/dev", Changed: When,
				Images: []string{"registry.example.com/guestbook:v2", "registry.example.com/redis:7"},
				Drift:  []fleet.DriftSummary{{Object: deployment, Manager: "kubectl-edit", Fields: []string{"/spec/replicas"}, Since: When}},
			},
			{
				Cluster: "prod", Namespace: "default", App: "guestbook", Revision: revA, Digest: digestA,
				Sync: fleet.Pending, Health: fleet.Healthy, Objects: 1, Path: "apps/guestbook/overlays/prod", Changed: When,
				Images:  []string{"registry.example.com/guestbook:v1"},
				Message: "waits for approval", Hint: "capstan approve guestbook --cluster prod",
				Pending: &fleet.PendingPlan{
					Revision: revB, Digest: digestB, Gate: fleet.GateApproval, Plan: "plan-1", Action: fleet.ActionApply,
					Summary: fleet.Summarize(changes), Since: When, Need: 1,
				},
			},
		},
		Plans: map[Key]fleet.SignedPlan{
			{"prod", Guestbook}: {Plan: plan, Key: "UAGENT", Signature: "c2lnbmF0dXJl"},
		},
		History: map[Key][]fleet.HistoryEntry{
			{"dev", Guestbook}: {
				{Revision: revB, Digest: digestB, Applied: When, Summary: fleet.Summary{Update: 1, Unchanged: 1}},
				{Revision: revA, Digest: digestA, Applied: When.Add(-time.Hour), ApprovedBy: []string{"jane"}, Summary: fleet.Summary{Create: 2}},
			},
		},
		Changes: []fleet.Event{
			{ID: "1", At: When.Add(-time.Hour), Actor: "agent", Action: fleet.ChangeApplied, Cluster: "dev", App: "default/guestbook", After: json.RawMessage(`{"revision":"` + string(revA) + `"}`)},
			{ID: "2", At: When, Actor: "agent", Action: fleet.ChangeApplied, Cluster: "dev", App: "default/guestbook", Before: json.RawMessage(`{"revision":"` + string(revA) + `"}`), After: json.RawMessage(`{"revision":"` + string(revB) + `"}`)},
			{ID: "3", At: When, Actor: "agent", Action: fleet.ChangeDrifted, Cluster: "dev", App: "default/guestbook", Detail: json.RawMessage(`["<a> & b"]`)},
			{ID: "4", At: When.Add(time.Hour), Actor: "agent", Action: fleet.ChangeGone, Cluster: "prod", App: "default/other"},
		},
		Trees: map[Key][]fleet.Object{
			{"dev", Guestbook}: {
				{Object: deployment, Health: fleet.Progressing, Message: "1 of 3 ready"},
				{Object: secret, Health: fleet.Healthy},
			},
		},
	}
}
