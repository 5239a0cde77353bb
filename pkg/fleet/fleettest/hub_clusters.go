package fleettest

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// LabelCluster implements fleet.Hub.
func (h *Hub) LabelCluster(ctx context.Context, cluster string, set map[string]string, remove []string) (fleet.Cluster, error) {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return fleet.Cluster{}, err
	}
	if err := fleet.ValidateName("cluster", cluster); err != nil {
		return fleet.Cluster{}, err
	}
	if err := h.mayLabel([]string{cluster}, set, remove); err != nil {
		return fleet.Cluster{}, err
	}
	c := h.label(ctx, cluster, set, remove)
	h.did(ctx, "LabelCluster", "%s set=%v remove=%v", cluster, set, remove)
	return c, nil
}

// LabelClusters implements fleet.Hub.
func (h *Hub) LabelClusters(ctx context.Context, clusters []string, set map[string]string, remove []string) ([]string, error) {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	names, err := fleet.Together(clusters)
	if err != nil {
		return nil, err
	}
	if err := h.mayLabel(names, set, remove); err != nil {
		return nil, err
	}
	for _, name := range names {
		h.label(ctx, name, set, remove)
	}
	h.did(ctx, "LabelClusters", "%v set=%v remove=%v", names, set, remove)
	return names, nil
}

// mayLabel and label expect mu to be held.
func (h *Hub) mayLabel(clusters []string, set map[string]string, remove []string) error {
	if err := fleet.ValidateLabels(set); err != nil {
		return err
	}
	for _, cluster := range clusters {
		c := h.cluster(cluster)
		if c == nil {
			return noCluster(cluster)
		}
		for _, k := range slices.Concat(slices.Sorted(maps.Keys(set)), remove) {
			if _, declared := c.Declared[k]; declared {
				return fleet.WithHint(fleet.Conflict("label %q of cluster %q is declared at the spoke", k, cluster),
					"change it in the agent's own configuration")
			}
			if h.seed.Assignable != nil && !slices.Contains(h.seed.Assignable, k) {
				return fleet.Conflict("label %q may not be assigned to cluster %q", k, cluster)
			}
		}
	}
	return nil
}

func (h *Hub) label(ctx context.Context, cluster string, set map[string]string, remove []string) fleet.Cluster {
	c := h.cluster(cluster)
	if c.Assigned == nil {
		c.Assigned = map[string]string{}
	}
	for _, k := range remove {
		delete(c.Assigned, k)
	}
	maps.Copy(c.Assigned, set)
	c.Labels = maps.Clone(c.Assigned)
	maps.Copy(c.Labels, c.Declared)
	h.changed(ctx, "label", "", cluster)
	out := *c
	out.Labels = maps.Clone(c.Labels)
	out.Assigned = maps.Clone(c.Assigned)
	return out
}

// Join implements fleet.Hub.
func (h *Hub) Join(ctx context.Context, cluster string, ttl time.Duration) (fleet.JoinGrant, error) {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return fleet.JoinGrant{}, err
	}
	if err := fleet.ValidateName("cluster", cluster); err != nil {
		return fleet.JoinGrant{}, err
	}
	if ttl <= 0 {
		return fleet.JoinGrant{}, fleet.Invalid("a join token must live longer than %s", ttl)
	}
	if h.cluster(cluster) != nil {
		return fleet.JoinGrant{}, fleet.Conflict("cluster %q is enrolled already", cluster)
	}
	h.did(ctx, "Join", "%s %s", cluster, ttl)
	return fleet.JoinGrant{Cluster: cluster, Token: "join-" + cluster, Expires: time.Now().Add(ttl).UTC()}, nil
}

// RemoveCluster implements fleet.Hub.
func (h *Hub) RemoveCluster(ctx context.Context, cluster string) error {
	err := h.begin(ctx)
	defer h.mu.Unlock()
	if err != nil {
		return err
	}
	if err := fleet.ValidateName("cluster", cluster); err != nil {
		return err
	}
	if h.cluster(cluster) == nil {
		return noCluster(cluster)
	}
	h.seed.Clusters = slices.DeleteFunc(h.seed.Clusters, func(c fleet.Cluster) bool { return c.Cluster == cluster })
	h.seed.Apps = slices.DeleteFunc(h.seed.Apps, func(s fleet.AppStatus) bool { return s.Cluster == cluster })
	h.changed(ctx, "remove-cluster", "", cluster)
	h.did(ctx, "RemoveCluster", "%s", cluster)
	return nil
}
