package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func newGetClusters(s *shell) *cobra.Command {
	var l listing
	c := &cobra.Command{
		Use:     "clusters [NAME...]",
		Aliases: []string{"cluster"},
		Short:   "List clusters with their labels and when they were last heard of",
		Example: `  capstan get clusters
  capstan get clusters -l env=prod -o wide
  capstan get clusters -o json`,
		ValidArgsFunction: s.completeClusters,
		RunE: func(c *cobra.Command, args []string) error {
			h, err := s.hub()
			if err != nil {
				return err
			}
			l.clusters = slices.Concat(l.clusters, args)
			if err := l.check(); err != nil {
				return err
			}
			filter := fleet.ClusterFilter{Selector: l.selector, Names: l.clusters}
			items, err := list(c.Context(), s, h, &l, s.clusterTable(), func(ctx context.Context) ([]fleet.Cluster, error) {
				return h.Clusters(ctx, filter)
			})
			if err != nil {
				return err
			}
			if l.watch {
				return nil
			}
			for _, name := range l.clusters {
				if !slices.ContainsFunc(items, func(c fleet.Cluster) bool { return c.Cluster == name }) {
					return fleet.WithHint(fleet.NotFound("cluster %q is not known", name), "capstan get clusters lists them")
				}
			}
			if len(items) == 0 && !l.named() {
				s.next("capstan join NAME --repo URL --path PATH | kubectl apply -f -")
			}
			return nil
		},
	}
	l.addFlags(c, s)
	return c
}

func (s *shell) clusterTable() table[fleet.Cluster] {
	return table[fleet.Cluster]{
		what:    "clusters",
		columns: []string{"CLUSTER", "STATE", "LAST SEEN", "APPS", "SYNCED", "PENDING", "DEGRADED", "LABELS", "MESSAGE"},
		wide:    []string{"AGENT", "KUBERNETES", "HEAD", "UID"},
		row: func(c fleet.Cluster) []string {
			state := "live"
			if c.Stale {
				state = "stale"
			}
			message := c.Message
			if c.LinkDown != nil {
				message = "link down for " + s.ago(*c.LinkDown)
			}
			return []string{
				c.Cluster, state, s.ago(c.LastSeen), strconv.Itoa(c.Apps.Total), strconv.Itoa(c.Apps.Synced),
				strconv.Itoa(c.Apps.Pending), strconv.Itoa(c.Apps.Degraded), dash(labels(c.Labels)), dash(message),
				dash(c.AgentVersion), dash(c.KubernetesVersion), dash(c.Head.Short()), dash(c.UID),
			}
		},
		name: func(c fleet.Cluster) string { return c.Cluster },
		key:  func(c fleet.Cluster) string { return c.Cluster },
		stable: func(c fleet.Cluster) any {
			c.LastSeen = time.Time{} // every heartbeat moves it
			return c
		},
	}
}

func labels(all map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		out = append(out, fmt.Sprintf("%s=%s", k, all[k]))
	}
	return strings.Join(out, ",")
}
