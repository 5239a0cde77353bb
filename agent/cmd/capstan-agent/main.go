// Command capstan-agent pulls a cluster's own overlay from Git and keeps the
// cluster as it says.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/capstan-gitops/capstan/agent"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		if hint := fleet.Hint(err); hint != "" {
			fmt.Fprintln(os.Stderr, "hint:", hint)
		}
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var file, kubeconfig, listen, level string
	cmd := &cobra.Command{
		Use:   "capstan-agent",
		Short: "Pull this cluster's overlay from Git and keep the cluster as it says",
		Example: `  # as it runs in a pod
  capstan-agent --config /etc/capstan/config/agent.yaml

  # outside of the cluster
  capstan-agent --config agent.yaml --kubeconfig ~/.kube/config

  # what would be applied to a cluster with this label?
  capstan-agent render apps/guestbook/overlays/dev --cluster-label env=dev`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(level)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return fleet.WithHint(err, "name the configuration with --config; docs/agent.md describes it")
			}
			cfg, err := agent.ParseConfig(file, data)
			if err != nil {
				return err
			}
			if err := cfg.Override(os.LookupEnv); err != nil {
				return err
			}
			if kubeconfig != "" {
				cfg.Kubeconfig = kubeconfig
			}
			if listen != "" {
				cfg.Listen = listen
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(50) // measured: a smaller heap for little CPU
			}
			return agent.Run(cmd.Context(), cfg, version, log)
		},
	}
	cmd.Flags().StringVar(&file, "config", "/etc/capstan/config/agent.yaml", "configuration file")
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig file (default: the pod's ServiceAccount)")
	cmd.Flags().StringVar(&listen, "listen", "", "address for /healthz, /readyz and /metrics, over the configuration's")
	cmd.Flags().StringVar(&level, "log-level", cmp.Or(os.Getenv("CAPSTAN_AGENT_LOG_LEVEL"), "info"), "debug, info, warn or error")
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fleet.WithHint(err, c.CommandPath()+" --help shows the flags")
	})
	cmd.AddCommand(newRenderCommand(), &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version) },
	})
	return cmd
}

func newLogger(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fleet.WithHint(fleet.Invalid("--log-level: %q is not known", level), "use debug, info, warn or error")
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l}))
	klog.SetSlogLogger(log) // client-go's own messages
	return log, nil
}
