package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/hub"
)

func newOpsRevoke() *cobra.Command {
	var keys keyFlags
	cmd := &cobra.Command{
		Use:   "ops-revoke FILE|KEY",
		Short: "Take back a credential for asking the hub over NATS",
		Long: `Make a credential of ops-creds worthless: by its file, or by the key that was
printed when it was made. A hub that runs notices within seconds and cuts whoever
is there with it. Hubs that share NATS servers each need the file that this writes
into the directory of keys: one that lacks it lets the credential in again if the
servers lose theirs.`,
		Example: `  capstan-hub ops-revoke --data-dir /var/lib/capstan jane.creds

  # of hubs that share NATS servers; give the directory to each of them then
  capstan-hub ops-revoke --nats-keys ./keys jane.creds`,
		Args:    cobra.ExactArgs(1),
		PreRunE: func(cmd *cobra.Command, _ []string) error { return fromEnv(cmd.Flags(), os.LookupEnv) },
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := keys.dir()
			if err != nil {
				return err
			}
			creds, err := os.ReadFile(args[0])
			switch {
			case errors.Is(err, fs.ErrNotExist):
				err = hub.RevokeOps(dir, args[0], time.Now())
			case err == nil:
				err = hub.RevokeOpsFile(dir, creds, time.Now())
			}
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is good no more\n", args[0])
			if keys.shared != "" {
				fmt.Fprintf(cmd.OutOrStdout(), "give %s to every hub that shares the servers: where the servers lose their files, one that was not given it lets the credential in again\n", dir)
			}
			return nil
		},
	}
	keys.addFlags(cmd.Flags())
	return cmd
}
