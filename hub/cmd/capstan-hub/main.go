// Command capstan-hub is the hub: agents dial in over NATS, people come over
// HTTP. It opens no connection to any cluster.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		if hint := fleet.Hint(err); hint != "" {
			fmt.Fprintln(os.Stderr, "hint:", hint)
		}
		os.Exit(1)
	}
}

// envPrefix comes before a flag's name in capitals: CAPSTAN_HUB_DATA_DIR.
const envPrefix = "CAPSTAN_HUB_"

func newCommand() *cobra.Command {
	cfg := hub.Config{Version: version}
	var level, form string
	cmd := &cobra.Command{
		Use:   "capstan-hub",
		Short: "Show a fleet of clusters, and relay what people want of it",
		Long: `Show a fleet of clusters, and relay what people want of it.

Agents dial in over NATS; the server is embedded. People come over HTTP: the
API, the page and the CLI. The hub opens no connection to any cluster and holds
no credential to one.

At the first start it makes its keys, its id and an administrator's token in
the data directory, which then is all there is to back up. Each flag can be set
by a variable of the environment as well: --data-dir by CAPSTAN_HUB_DATA_DIR.`,
		Example: `  # on this machine alone
  capstan-hub --data-dir ./hub
  export CAPSTAN_HUB=http://127.0.0.1:8080 CAPSTAN_TOKEN=$(cat ./hub/admin.token)

  # for a fleet, behind something that ends TLS for people; agents trust a CA
  # that the hub makes for itself
  capstan-hub --data-dir /var/lib/capstan --listen :8080 --url https://hub.example.com \
    --nats-listen :4222 --nats-url tls://agents.example.com:4222

  # with your own certificate, and for sites that let nothing but 443 out
  capstan-hub --data-dir /var/lib/capstan --listen :8080 --url https://hub.example.com \
    --nats-listen :4222 --nats-ws-listen :443 \
    --nats-url tls://agents.example.com:4222,wss://agents.example.com \
    --nats-tls-cert nats.crt --nats-tls-key nats.key --nats-ca ca.crt`,
		Version: version,
		Args:    cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return fromEnv(cmd.Flags(), os.LookupEnv) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.Log, err = newLog(cmd.ErrOrStderr(), level, form); err != nil {
				return err
			}
			tend := tendMemory(cmd.Context(), os.Getenv)
			cfg.Started = func(a hub.Addresses) {
				greet(cmd, a)
				tend()
			}
			return hub.Run(cmd.Context(), cfg)
		},
	}
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fleet.WithHint(err, c.CommandPath()+" --help shows the flags")
	})
	addFlags(cmd.Flags(), &cfg, &level, &form)
	cmd.AddCommand(newNotifyTest(), newNATSConfig(), newRotateKeys(), newRotateCA(), newOpsCreds(), newOpsRevoke(), newBackup(), newRestore())
	return cmd
}

func addFlags(f *pflag.FlagSet, cfg *hub.Config, level, form *string) {
	f.StringVar(&cfg.DataDir, "data-dir", "", "directory for everything the hub keeps (required)")
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:8080", "address of the API and the page")
	f.StringVar(&cfg.URL, "url", "", "URL of the hub as people reach it, for links")
	addPeopleFlags(f, cfg)
	f.StringVar(&cfg.NATSListen, "nats-listen", "127.0.0.1:4222", "address for agents")
	f.StringVar(&cfg.NATSKeys, "nats-keys", "", "directory of keys that nats-config made: use the NATS servers at --nats-url, with other hubs, and run none here")
	f.StringSliceVar(&cfg.NATSAgentURLs, "nats-agent-url", nil, "with --nats-keys, URL as agents dial those servers (default --nats-url)")
	f.IntVar(&cfg.NATSReplicas, "nats-replicas", 3, "with --nats-keys, how many of those servers keep each thing")
	f.StringVar(&cfg.NATSWSListen, "nats-ws-listen", "", "address for agents that come over WebSocket (default none can)")
	f.StringSliceVar(&cfg.NATSURLs, "nats-url", nil, "URL as agents dial it: tls://, wss:// or nats://; several with commas (default the addresses listened on)")
	f.StringVar(&cfg.NATSTLS, "nats-tls", "auto", "whether agents connect over TLS: auto (unless only this machine gets there), on, or off")
	f.StringVar(&cfg.NATSCert, "nats-tls-cert", "", "certificate file, read again when it changes (default the hub makes its own, with its own CA)")
	f.StringVar(&cfg.NATSKey, "nats-tls-key", "", "key file of that certificate")
	f.StringVar(&cfg.NATSCA, "nats-ca", "", "file with the certificates agents are told to trust, or system for what theirs trusts (default the certificate itself)")
	f.StringVar(&cfg.HookSecretsFile, "hook-secrets-file", "", "secrets of forges' webhooks, one a line: PROVIDER REPOSITORY SECRET; they call /hooks/PROVIDER (default none are taken)")
	f.StringVar(&cfg.NotifyFile, "notify-file", "", "whom to notify of what, in YAML; to try it: capstan-hub notify-test (default nobody is)")
	f.StringVar(&cfg.MetricsListen, "metrics-listen", "", "address for Prometheus, /metrics, without authentication (default none)")
	f.DurationVar(&cfg.DrainDelay, "drain-delay", 0, "how long to go on after SIGTERM with /readyz off, until nobody is sent here any more")
	f.StringVar(level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(form, "log-format", "json", "json for programs, text for people")
}

// newLog makes the log: constant messages, with what varies beside them.
func newLog(w io.Writer, level, form string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fleet.Invalid("log level %q is not one of debug, info, warn, error", level)
	}
	switch opts := (&slog.HandlerOptions{Level: l}); form {
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	}
	return nil, fleet.Invalid("log format %q is not one of json, text", form)
}

// fromEnv sets the flags that were not given from the environment.
func fromEnv(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := lookup(name)
		if !ok || f.Changed || failed != nil {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			failed = fleet.Invalid("%s: %w", name, err)
		}
	})
	return failed
}

// greet tells a person what to do next; the log tells programs.
func greet(cmd *cobra.Command, a hub.Addresses) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "capstan-hub %s is up: %s\n", version, a.URL)
	if a.AdminToken != "" {
		fmt.Fprintf(out, "  export CAPSTAN_HUB=%s CAPSTAN_TOKEN=$(cat %s)\n", a.URL, a.AdminToken)
	}
	if a.Plain {
		fmt.Fprintln(out, "  agents connect without TLS: see --nats-tls")
	}
}
