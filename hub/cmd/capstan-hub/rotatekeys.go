package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/hub"
)

func newRotateKeys() *cobra.Command {
	var keys keyFlags
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "rotate-keys",
		Short: "Sign agents' credentials with new keys",
		Long: `Make new keys for signing the credentials of agents, of join tokens and of
ops-creds.

A hub that runs takes them within seconds, and each agent gets itself a new
credential with its next heartbeat. What the old keys signed is good until the
grace is over; then whoever shows it is cut off. An agent that was away for all
of the grace has to join anew, and credentials of ops-creds have to be made anew. With a grace of 0s that is all of them: do that
where somebody got hold of the keys.`,
		Example: `  capstan-hub rotate-keys --data-dir /var/lib/capstan
  kubectl -n capstan-hub exec deploy/capstan-hub -- capstan-hub rotate-keys --grace 72h

  # of hubs that share NATS servers; give the directory to each of them then
  capstan-hub rotate-keys --nats-keys ./keys`,
		Args:    cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return fromEnv(cmd.Flags(), os.LookupEnv) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := keys.dir()
			if err != nil {
				return err
			}
			now := time.Now()
			if err := hub.RotateKeys(dir, grace, now); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "new keys sign; what the old ones signed is good until %s\n", now.Add(grace).UTC().Format(time.RFC3339))
			return nil
		},
	}
	f := cmd.Flags()
	keys.addFlags(f)
	f.DurationVar(&grace, "grace", 24*time.Hour, "how long what the old keys signed is good yet")
	return cmd
}
