package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func newLabel(s *shell) *cobra.Command {
	c := &cobra.Command{
		Use:     "label",
		Short:   "Assign labels to a cluster, or take them away",
		Example: "  capstan label cluster staging env=dev\n  capstan label cluster staging env-",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	c.AddCommand(newLabelCluster(s))
	return c
}

func newLabelCluster(s *shell) *cobra.Command {
	return &cobra.Command{
		Use:   "cluster NAME KEY=VALUE... KEY-...",
		Short: "Assign labels to a cluster, or take them away",
		Long: `Assign labels to a cluster at the hub, or take them away. Apps whose selector
matches now are brought to the cluster, and those whose selector stopped
matching leave it.

A label that is declared at the cluster itself can't be changed from here, and
one whose key is not assignable there is refused.`,
		Example: `  capstan label cluster staging env=dev
  capstan label cluster staging env- team=shop`,
		ValidArgsFunction: s.completeCluster,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usage("usage: "+c.UseLine(), "label cluster takes NAME and at least one KEY=VALUE or KEY-")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			set, remove, err := parseLabelChange(args[1:])
			if err != nil {
				return usageError{err}
			}
			if err := fleet.ValidateName("cluster", args[0]); err != nil {
				return usageError{err}
			}
			h, err := s.hub()
			if err != nil {
				return err
			}
			cluster, err := h.LabelCluster(c.Context(), args[0], set, remove)
			if err != nil {
				return err
			}
			s.printf("cluster %s has labels: %s\n", cluster.Cluster, dash(labels(cluster.Labels)))
			s.next("capstan get apps --cluster %s -w", cluster.Cluster)
			return nil
		},
	}
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
