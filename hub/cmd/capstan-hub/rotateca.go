package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func newRotateCA() *cobra.Command {
	var dir string
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "rotate-ca",
		Short: "Change the CA that agents trust the hub by",
		Long: `Make a new CA for the certificates that the hub shows agents, where it made the
one there is itself.

A hub that runs takes it within seconds, and tells agents with their heartbeats to
trust it beside the old one, which signs until the grace is over. Then the new one
signs, and agents are told that alone with their next connection. An agent that was
away for all of the grace has to join anew, and so has one with a join token from
before; with a grace of 0s that is all of them.`,
		Example: `  capstan-hub rotate-ca --data-dir /var/lib/capstan
  kubectl -n capstan-hub exec deploy/capstan-hub -- capstan-hub rotate-ca --grace 168h`,
		Args:    cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return fromEnv(cmd.Flags(), os.LookupEnv) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return fleet.WithHint(fleet.Invalid("no data directory is named"), "name one with --data-dir")
			}
			now := time.Now()
			if err := hub.RotateCA(dir, grace, now); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "agents are told of the new CA; it signs from %s\n", now.Add(grace).UTC().Format(time.RFC3339))
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "the hub's data directory")
	cmd.Flags().DurationVar(&grace, "grace", 24*time.Hour, "how long the old CA signs yet; 90 days at most")
	return cmd
}
