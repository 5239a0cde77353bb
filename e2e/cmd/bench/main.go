// Command bench measures the agent against one real control plane, beside a
// floor measured in the same run: plain client-go sending the same objects. It
// prints a table and writes its section of bench.json.
//
//	go run ./cmd/bench -apps 100,500
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/klog/v2"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/gauge"
)

func main() {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // client-go's words about watches that end
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// options are what one run measures.
type options struct {
	sizes  []int
	idle   time.Duration
	rounds int // of the one-app commit and of the drift repair
	keep   string
}

func parseOptions() (options, error) {
	sizes := flag.String("apps", "100", "how many apps; several sizes separated by commas")
	o := options{}
	flag.DurationVar(&o.idle, "idle", 2*time.Minute, "how long to watch an idle agent")
	flag.IntVar(&o.rounds, "rounds", 10, "one-app commits, and drift repairs")
	flag.StringVar(&o.keep, "dir", "", "work here and keep it, instead of in a temporary directory")
	flag.Parse()
	for s := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 {
			return o, fmt.Errorf("-apps: %q is not a number of apps", s)
		}
		o.sizes = append(o.sizes, n)
	}
	return o, nil
}

func run(ctx context.Context) error {
	o, err := parseOptions()
	if err != nil {
		return err
	}
	fmt.Println("building; the first time takes some minutes")
	programs, err := build.MakeAll(ctx, nil, build.TestCluster, build.Kubectl, build.Agent, build.Render, build.Hub, build.CLI)
	if err != nil {
		return err
	}
	var entries []entry
	for _, n := range o.sizes {
		e, err := measure(ctx, o, programs, n)
		if err != nil {
			return fmt.Errorf("%d apps: %w", n, err)
		}
		entries = append(entries, e)
	}
	printTable(os.Stdout, entries)
	return gauge.WriteSection(filepath.Join(build.Root(), "bench.json"), "apply", entries)
}
