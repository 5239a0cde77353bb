// Command bench measures the agent against one real control plane, beside a
// floor measured in the same run: plain client-go sending the same objects. It
// prints a table and writes its sections of bench.json.
//
//	go run ./cmd/bench -apps 100,500 -idle 1m
//	go run ./cmd/bench -section source
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
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
	section string // "": all of them
	sizes   []int
	idle    time.Duration
	rounds  int // of the one-app commit and of the drift repair
	keep    string
	source  sourceOptions
}

func parseOptions() (options, error) {
	sizes := flag.String("apps", "100,500,1000", "how many apps; several sizes separated by commas")
	o := options{}
	flag.DurationVar(&o.idle, "idle", 10*time.Minute, "how long to watch an idle agent of the last size; those before a fifth of that")
	flag.IntVar(&o.rounds, "rounds", 10, "one-app commits, and drift repairs")
	flag.StringVar(&o.keep, "dir", "", "work here and keep it, instead of in a temporary directory")
	flag.StringVar(&o.section, "section", "", "measure this one alone: apply or source")
	flag.IntVar(&o.source.apps, "source-apps", 1000, "how many apps the monorepo of section source has, 20 files each")
	flag.DurationVar(&o.source.settle, "source-settle", 30*time.Second, "how long after a sync memory is looked at")
	flag.Parse()
	if !slices.Contains([]string{"", sectionApply, sectionSource}, o.section) {
		return o, fmt.Errorf("-section: %q is neither %s nor %s", o.section, sectionApply, sectionSource)
	}
	if o.source.apps < fewApps {
		return o, fmt.Errorf("-source-apps: %d is less than the %d that one cluster uses", o.source.apps, fewApps)
	}
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
	// The agent tells at this level what it renders.
	if err := os.Setenv("CAPSTAN_AGENT_LOG_LEVEL", "debug"); err != nil {
		return err
	}
	if o.section != sectionSource {
		if err := runApply(ctx, o, programs); err != nil {
			return err
		}
	}
	if o.section != sectionApply {
		return runSource(ctx, o, programs)
	}
	return nil
}

// The sections of bench.json.
const (
	sectionApply  = "apply"
	sectionSource = "source"
)

func runApply(ctx context.Context, o options, programs map[build.Program]string) error {
	var entries []entry
	for i, n := range o.sizes {
		one := o
		if i < len(o.sizes)-1 {
			one.idle /= 5
		}
		e, err := measure(ctx, one, programs, n)
		if err != nil {
			printTable(os.Stdout, entries)
			return fmt.Errorf("%d apps: %w", n, err)
		}
		entries = append(entries, e)
	}
	printTable(os.Stdout, entries)
	return gauge.WriteSection(filepath.Join(build.Root(), "bench.json"), sectionApply, entries)
}
