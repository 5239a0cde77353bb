package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func newCluster(s *shell) *cobra.Command {
	c := &cobra.Command{
		Use:     "cluster",
		Short:   "Take a cluster out of the fleet",
		Example: "  capstan cluster remove old-edge",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	c.AddCommand(newClusterRemove(s))
	return c
}

func newClusterRemove(s *shell) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "Revoke a cluster's agent and forget the cluster",
		Long: `Revoke the credentials of a cluster's agent, cutting its connection, and forget
the cluster. What runs there is left alone, and its agent goes on pulling from
Git until you delete it.

Of a cluster that has not joined yet, the tokens made for it are taken back.`,
		Example: `  capstan cluster remove old-edge
  capstan cluster remove old-edge --yes`,
		Args:              exactly("NAME"),
		ValidArgsFunction: s.completeCluster,
		RunE: func(c *cobra.Command, args []string) error {
			if err := fleet.ValidateName("cluster", args[0]); err != nil {
				return usageError{err}
			}
			h, err := s.hub()
			if err != nil {
				return err
			}
			if err := s.confirm(fmt.Sprintf("Remove cluster %s from the fleet?", args[0]), yes); err != nil {
				return err
			}
			if err := h.RemoveCluster(c.Context(), args[0]); err != nil {
				return err
			}
			s.printf("removed: cluster %s\n", args[0])
			s.next("kubectl delete namespace capstan-system   # on that cluster, to stop its agent")
			return nil
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
