package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/hub"
)

func newNATSConfig() *cobra.Command {
	var c hub.NATSServer
	cmd := &cobra.Command{
		Use:   "nats-config",
		Short: "Print the configuration of a NATS server that hubs share",
		Long: `Print the configuration of one nats-server, for hubs that share a NATS cluster.

The accounts and permissions are the embedded server's: agents reach nothing but
the hubs, JetStream is in an account of the hubs alone, and who has a credential
of ops-creds reaches the hubs' answers. At the first call
the keys are made in the directory. The configuration holds no secret. The keys
sign for everything: give them to each hub with --nats-keys, and to nobody else.`,
		Example: `  # three servers
  for i in 1 2 3; do
    capstan-hub nats-config --keys ./keys --name nats-$i --store-dir /var/lib/nats \
      --cluster-listen 0.0.0.0:6222 --route nats-1:6222 --route nats-2:6222 --route nats-3:6222 \
      --tls-cert /etc/nats/tls.crt --tls-key /etc/nats/tls.key > nats-$i.conf
  done
  nats-server -c nats-1.conf

  # each of the hubs
  capstan-hub --data-dir /var/lib/capstan --nats-keys ./keys --nats-ca ca.crt \
    --nats-url tls://nats-1:4222,tls://nats-2:4222,tls://nats-3:4222 --token-file tokens`,
		Args:    cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return fromEnv(cmd.Flags(), os.LookupEnv) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := c.Text()
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Keys, "keys", "", "directory of the keys; they are made if they are not there (required)")
	f.StringVar(&c.Name, "name", "nats-1", "name of this server; each has its own")
	f.StringVar(&c.Listen, "listen", "0.0.0.0:4222", "address for agents and hubs")
	f.StringVar(&c.WSListen, "ws-listen", "", "address for agents that come over WebSocket (default none can)")
	f.StringVar(&c.StoreDir, "store-dir", "/var/lib/nats", "directory of the server for all it keeps")
	f.StringVar(&c.MaxFileStore, "max-file-store", "8GB", "the most it may keep")
	f.StringVar(&c.CertFile, "tls-cert", "", "certificate file of this server, as it will find it")
	f.StringVar(&c.KeyFile, "tls-key", "", "key file of that certificate")
	f.StringVar(&c.ClusterListen, "cluster-listen", "", "address for the other servers (default it is alone)")
	f.StringSliceVar(&c.Routes, "route", nil, "host:port of each of the servers; several with commas")
	return cmd
}
