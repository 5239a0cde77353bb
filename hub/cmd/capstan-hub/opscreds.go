package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/hub"
)

func newOpsCreds() *cobra.Command {
	var keys keyFlags
	var name string
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "ops-creds FILE",
		Short: "Make a credential for asking the hub over NATS",
		Long: `Write a credentials file with which somebody asks the hub over NATS how the fleet
is: its clusters, its apps, what waits for approval and what changed, all of them. It changes
nothing, and reaches nothing else. The file has the mode 0600.

A credential ends by itself. capstan-hub ops-revoke takes one back before that, and
capstan-hub rotate-keys ends all of them, once its grace is over.`,
		Example: `  capstan-hub ops-creds --data-dir /var/lib/capstan --name jane --expires 720h jane.creds
  nats --server tls://agents.example.com:4222 --tlsca ca.crt --creds jane.creds req capstan.pending ''
  nats --server tls://agents.example.com:4222 --tlsca ca.crt --creds jane.creds req capstan.apps '{"selector":"env=prod"}'

  # of hubs that share NATS servers
  capstan-hub ops-creds --nats-keys ./keys --name jane jane.creds`,
		Args:    cobra.ExactArgs(1),
		PreRunE: func(cmd *cobra.Command, _ []string) error { return fromEnv(cmd.Flags(), os.LookupEnv) },
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := keys.dir()
			if err != nil {
				return err
			}
			now := time.Now()
			creds, err := hub.OpsCredentials(dir, name, life, now)
			if err != nil {
				return err
			}
			if err := hub.WriteSecret(args[0], creds); err != nil {
				return fmt.Errorf("write the credential: %w", err)
			}
			key, err := hub.OpsKey(creds)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is good until %s\n", args[0], now.Add(life).UTC().Format(time.RFC3339))
			fmt.Fprintf(cmd.OutOrStdout(), "to take it back: capstan-hub ops-revoke %s\n", key)
			return nil
		},
	}
	f := cmd.Flags()
	keys.addFlags(f)
	f.StringVar(&name, "name", "ops", "name of who is to have it, for the server's own lists")
	f.DurationVar(&life, "expires", 30*24*time.Hour, "how long it is good; a year at most")
	return cmd
}
