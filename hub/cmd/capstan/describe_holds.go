package main

import (
	"context"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// describeHolds tells who keeps an app from following Git, and what Git has.
func (s *shell) describeHolds(ctx context.Context, h hub, a fleet.AppStatus) {
	for _, hold := range a.Holds {
		name, git := "Suspended", ""
		if hold.Kind == fleet.HoldRollback {
			name, git = "Rolled back", s.gitHas(ctx, h, a)
		}
		s.printf("%s:\n", name)
		s.facts([][2]string{
			{"  To", string(hold.Revision)},
			{"  Git has", git},
			{"  By", hold.By},
			{"  Since", s.when(hold.At)},
			{"  Why", hold.Why},
			{"  Refused", hold.Refused},
			{"  State", holdState(hold)},
		})
	}
}

// gitHas is the head of the branch that the cluster follows, where the app is
// read from there; "" where that is not known.
func (s *shell) gitHas(ctx context.Context, h hub, a fleet.AppStatus) string {
	clusters, err := h.Clusters(ctx, fleet.ClusterFilter{Names: []string{a.Cluster}})
	if err != nil || len(clusters) == 0 {
		return ""
	}
	c := clusters[0]
	if a.Source != nil && (len(c.Sources) == 0 || c.Sources[0].URL != a.Source.URL) {
		return ""
	}
	return string(c.Head)
}

// holdState is what is not settled about a hold; "": nothing.
func holdState(h fleet.Hold) string {
	switch {
	case h.Asked:
		return "asked for; the cluster has not said yet what it does about it"
	case h.Ending:
		return "its end was asked for; the cluster has not said yet that it is over"
	}
	return ""
}
