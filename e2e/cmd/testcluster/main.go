// Command testcluster is every part of a Kubernetes control plane in one
// program, linked from the projects' own Go modules:
//
//	testcluster etcd|apiserver|controller-manager|scheduler|fakekubelet [flags]
//
// Package cluster runs one process of it for each part of each cluster.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // CronJobs with a time zone, on machines without the database

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"

	"github.com/capstan-gitops/capstan/e2e/fakekubelet"
)

const usage = "usage: testcluster etcd|apiserver|controller-manager|scheduler|fakekubelet [flags]"

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	part, args := os.Args[1], os.Args[2:]
	// Only the command asked for is constructed: the upstream commands share
	// process-wide feature gates, flags and signal handlers.
	switch part {
	case "etcd":
		exit(runEtcd(args))
	case "apiserver":
		os.Exit(runUpstream("kube-apiserver", args, apiserver.NewAPIServerCommand))
	case "controller-manager":
		os.Exit(runUpstream("kube-controller-manager", args, controllermanager.NewControllerManagerCommand))
	case "scheduler":
		os.Exit(runUpstream("kube-scheduler", args, func() *cobra.Command { return scheduler.NewSchedulerCommand() }))
	case "fakekubelet":
		exit(runFakeKubelet(args))
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
}

// runUpstream runs one of Kubernetes' own commands. client-go takes the user
// agent, and so the field manager, from the program's name: hence args[0].
func runUpstream(name string, args []string, command func() *cobra.Command) int {
	os.Args = append([]string{name}, args...)
	return cli.Run(command())
}

func runFakeKubelet(args []string) error {
	var cfg fakekubelet.Config
	flags := pflag.NewFlagSet("fakekubelet", pflag.ContinueOnError)
	flags.StringVar(&cfg.Kubeconfig, "kubeconfig", "", "kubeconfig file of a cluster administrator")
	flags.IntVar(&cfg.Nodes, "nodes", 2, "how many nodes to play")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return fakekubelet.Run(ctx, cfg)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
