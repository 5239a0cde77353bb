package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// where narrows a command to clusters.
type where struct {
	clusters []string
	selector string
}

func (w *where) addFlags(c *cobra.Command, s *shell) {
	c.Flags().StringArrayVar(&w.clusters, "cluster", nil, "only this cluster (repeatable)")
	c.Flags().StringVarP(&w.selector, "selector", "l", "", "only clusters with these labels, for instance env=prod,tier!=edge")
	// Fails only for a flag that does not exist.
	_ = c.RegisterFlagCompletionFunc("cluster", s.completeClusters)
}

func (w *where) named() bool { return len(w.clusters) > 0 || w.selector != "" }

func (w *where) check() error {
	for _, c := range w.clusters {
		if err := fleet.ValidateName("cluster", c); err != nil {
			return usageError{err}
		}
	}
	return nil
}

// chosen is an app with its statuses on the clusters asked for.
type chosen struct {
	name  fleet.AppName
	where []fleet.AppStatus
}

// choose opens the hub and finds an app there.
func (s *shell) choose(ctx context.Context, arg string, w where) (hub, chosen, error) {
	h, err := s.hub()
	if err != nil {
		return nil, chosen{}, err
	}
	app, err := choose(ctx, h, arg, w)
	return h, app, err
}

// choose finds an app by "namespace/name", or by its bare name where that is
// unique, on the clusters asked for.
func choose(ctx context.Context, h hub, arg string, w where) (chosen, error) {
	if err := w.check(); err != nil {
		return chosen{}, err
	}
	filter := fleet.AppFilter{Selector: w.selector, Clusters: w.clusters}
	if strings.Contains(arg, "/") {
		name, err := fleet.ParseAppName(arg)
		if err != nil {
			return chosen{}, usageError{err}
		}
		filter.Namespace, filter.Name = name.Namespace, name.Name
	} else {
		if err := fleet.ValidateName("app", arg); err != nil {
			return chosen{}, usageError{err}
		}
		filter.Name = arg
	}
	found, err := h.Apps(ctx, filter)
	if err != nil {
		return chosen{}, err
	}
	if len(found) == 0 {
		if err := w.checkKnown(ctx, h); err != nil {
			return chosen{}, err
		}
		return chosen{}, fleet.WithHint(fleet.NotFound("app %q is on no cluster%s", arg, w.phrase()), "capstan get apps lists them")
	}
	names := uniq(found, func(a fleet.AppStatus) string { return a.Name().String() })
	if len(names) > 1 {
		return chosen{}, usage("say which: "+strings.Join(names, ", "), "app %q is in several namespaces", arg)
	}
	for _, cluster := range w.clusters {
		if !has(found, cluster) {
			return chosen{}, fleet.WithHint(fleet.NotFound("app %s is not on cluster %q", names[0], cluster), "capstan get apps lists them")
		}
	}
	return chosen{name: found[0].Name(), where: found}, nil
}

// checkKnown tells a cluster that is misspelt from one on which there is nothing.
func (w *where) checkKnown(ctx context.Context, h hub) error {
	if len(w.clusters) == 0 {
		return nil
	}
	known, err := h.Clusters(ctx, fleet.ClusterFilter{Names: w.clusters})
	if err != nil {
		return err
	}
	for _, name := range w.clusters {
		if !slices.ContainsFunc(known, func(c fleet.Cluster) bool { return c.Cluster == name }) {
			return fleet.WithHint(fleet.NotFound("cluster %q is not known", name), "capstan get clusters lists them")
		}
	}
	return nil
}

func has(apps []fleet.AppStatus, cluster string) bool {
	for _, a := range apps {
		if a.Cluster == cluster {
			return true
		}
	}
	return false
}

func (w *where) phrase() string {
	switch {
	case len(w.clusters) > 0:
		return " among " + strings.Join(w.clusters, ", ")
	case w.selector != "":
		return " with labels " + w.selector
	}
	return ""
}

// clusters lists those that the app is on.
func (c chosen) clusters() []string {
	names := make([]string, len(c.where))
	for i, a := range c.where {
		names[i] = a.Cluster
	}
	return names
}

// pending lists the clusters on which the app has a plan that waits.
func (c chosen) pending() []string {
	var names []string
	for _, a := range c.where {
		if a.Pending != nil {
			names = append(names, a.Cluster)
		}
	}
	return names
}

func (s *shell) completeClusters(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	h, err := s.hub()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	clusters, err := h.Clusters(c.Context(), fleet.ClusterFilter{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return uniq(clusters, func(c fleet.Cluster) string { return c.Cluster }), cobra.ShellCompDirectiveNoFileComp
}

// completeCluster and completeApp complete a command's only argument.
func (s *shell) completeCluster(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return s.completeClusters(c, args, prefix)
}

func (s *shell) completeApp(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	h, err := s.hub()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	apps, err := h.Apps(c.Context(), fleet.AppFilter{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return uniq(apps, func(a fleet.AppStatus) string { return a.Name().String() }), cobra.ShellCompDirectiveNoFileComp
}
