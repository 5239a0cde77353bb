package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func newRotateKeys() *cobra.Command {
	var dataDir, keys string
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
			dir := keys
			if dir == "" {
				if dataDir == "" {
					return fleet.WithHint(fleet.Invalid("no data directory is named"), "name one with --data-dir, or --nats-keys")
				}
				dir = filepath.Join(dataDir, "keys")
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
	f.StringVar(&dataDir, "data-dir", "", "the hub's data directory")
	f.StringVar(&keys, "nats-keys", "", "directory of the keys of hubs that share NATS servers")
	f.DurationVar(&grace, "grace", 24*time.Hour, "how long what the old keys signed is good yet")
	return cmd
}
