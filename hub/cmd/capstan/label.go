package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func newLabel(s *shell) *cobra.Command {
	c := &cobra.Command{
		Use:     "label",
		Short:   "Assign labels to clusters, or take them away",
		Example: "  capstan label cluster staging env=dev\n  capstan label cluster -l env=prod wave=2",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	c.AddCommand(newLabelCluster(s))
	return c
}

// labelFlags say which clusters are labelled where none is named.
type labelFlags struct {
	selector string
	all, yes bool
}

// many tells whether clusters are chosen by what they are, not by name.
func (f labelFlags) many() bool { return f.all || f.selector != "" }

func newLabelCluster(s *shell) *cobra.Command {
	var f labelFlags
	c := &cobra.Command{
		Use:   "cluster [NAME | -l SELECTOR | --all] KEY=VALUE... KEY-...",
		Short: "Assign labels to a cluster, or to many, or take them away",
		Long: `Assign labels to a cluster at the hub, or take them away. Apps whose selector
matches now are brought to the cluster, and those whose selector stopped
matching leave it.

A label that is declared at the cluster itself can't be changed from here, and
one whose key is not assignable there is refused. Of many clusters, all are
labelled or none: how many they are is shown first, and on a terminal you are
asked.`,
		Example: `  capstan label cluster staging env=dev
  capstan label cluster staging env- team=shop
  capstan label cluster -l env=prod,region=eu wave=2
  capstan label cluster --all frozen- --yes`,
		ValidArgsFunction: s.completeCluster,
		Args: func(c *cobra.Command, args []string) error {
			switch {
			case f.all && f.selector != "":
				return usage("usage: "+c.UseLine(), "label cluster takes -l or --all, not both")
			case f.many() && len(args) < 1:
				return usage("usage: "+c.UseLine(), "label cluster takes at least one KEY=VALUE or KEY-")
			case !f.many() && len(args) < 2:
				return usage("usage: "+c.UseLine(), "label cluster takes NAME and at least one KEY=VALUE or KEY-")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if f.many() {
				return s.labelMany(c.Context(), f, args)
			}
			return s.labelOne(c.Context(), args[0], args[1:])
		},
	}
	c.Flags().StringVarP(&f.selector, "selector", "l", "", "every cluster with these labels, for instance env=prod,tier!=edge")
	c.Flags().BoolVar(&f.all, "all", false, "every cluster")
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	return c
}

func (s *shell) labelOne(ctx context.Context, name string, changes []string) error {
	set, remove, err := parseLabelChange(changes)
	if err != nil {
		return usageError{err}
	}
	if err := fleet.ValidateName("cluster", name); err != nil {
		return usageError{err}
	}
	h, err := s.hub()
	if err != nil {
		return err
	}
	cluster, err := h.LabelCluster(ctx, name, set, remove)
	if err != nil {
		return err
	}
	s.printf("cluster %s has labels: %s\n", cluster.Cluster, dash(labels(cluster.Labels)))
	s.next("capstan get apps --cluster %s -w", cluster.Cluster)
	return nil
}

// labelMany labels the clusters that match now. Those are named to the hub: none
// that comes to match after somebody said yes is labelled as well.
func (s *shell) labelMany(ctx context.Context, f labelFlags, changes []string) error {
	set, remove, err := parseLabelChange(changes)
	if err != nil {
		return usageError{err}
	}
	h, err := s.hub()
	if err != nil {
		return err
	}
	found, err := h.Clusters(ctx, fleet.ClusterFilter{Selector: f.selector})
	if err != nil {
		return err
	}
	names := uniq(found, func(c fleet.Cluster) string { return c.Cluster })
	if len(names) == 0 {
		return fleet.WithHint(fleet.NotFound("no cluster matches"), "capstan get clusters lists them, with their labels")
	}
	s.say("%s on %s: %s", strings.Join(changes, " "), clusters(len(names)), some(names))
	if err := s.confirm(fmt.Sprintf("Change the labels of %s?", clusters(len(names))), f.yes); err != nil {
		return err
	}
	done, err := h.LabelClusters(ctx, names, set, remove)
	if err != nil {
		return err
	}
	s.printf("labelled: %s\n", clusters(len(done)))
	if f.selector != "" {
		s.next("capstan get apps -l '%s' -w", f.selector)
	} else {
		s.next("capstan get apps -w")
	}
	return nil
}

func clusters(n int) string {
	if n == 1 {
		return "1 cluster"
	}
	return fmt.Sprintf("%d clusters", n)
}

// some names the first few.
func some(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

// parseLabelChange reads KEY=VALUE and KEY-.
func parseLabelChange(args []string) (set map[string]string, remove []string, err error) {
	set = map[string]string{}
	seen := map[string]bool{}
	for _, arg := range args {
		key, value, assign := strings.Cut(arg, "=")
		if !assign {
			var ok bool
			if key, ok = strings.CutSuffix(arg, "-"); !ok {
				return nil, nil, fleet.WithHint(fmt.Errorf("label %q is neither KEY=VALUE nor KEY-", arg),
					"KEY=VALUE assigns, KEY- takes away")
			}
			remove = append(remove, key)
		} else {
			set[key] = value
		}
		if err := fleet.ValidateLabel(key, value); err != nil {
			return nil, nil, err
		}
		if seen[key] {
			return nil, nil, fmt.Errorf("label %q is given twice", key)
		}
		seen[key] = true
	}
	return set, remove, nil
}
