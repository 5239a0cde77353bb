// Command bench-fleet measures the hub with a fleet of simulated agents, which
// speak the real protocol from this process to a real capstan-hub in another.
// It prints a table and writes its section of bench.json.
//
//	go run ./cmd/bench-fleet -agents 1000,5000,10000
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/gauge"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// options are what one run measures.
type options struct {
	sizes   []int
	apps    int
	idle    time.Duration
	queries time.Duration
	within  time.Duration
	keep    string
}

func parseOptions() (options, error) {
	sizes := flag.String("agents", "1000,5000,10000", "how many agents; several sizes separated by commas")
	o := options{}
	flag.IntVar(&o.apps, "apps", 10, "apps of each agent")
	flag.DurationVar(&o.idle, "idle", time.Minute, "how long to watch the hub while nothing but heartbeats come")
	flag.DurationVar(&o.queries, "queries", 20*time.Second, "how long to query while reports come")
	flag.DurationVar(&o.within, "within", 10*time.Minute, "how long one size may take in all")
	flag.StringVar(&o.keep, "dir", "", "work here and keep it, instead of in a temporary directory")
	flag.Parse()
	for s := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 || n > mostAgents {
			return o, fmt.Errorf("-agents: %q is not a number of agents, at most %d", s, mostAgents)
		}
		o.sizes = append(o.sizes, n)
	}
	if o.apps < 1 || o.apps > 1000 {
		return o, fmt.Errorf("-apps: %d is not between 1 and 1000", o.apps)
	}
	return o, nil
}

// mostAgents bounds what one machine is asked for; each takes a descriptor here
// and one at the hub.
const mostAgents = 20000

func run(ctx context.Context) error {
	o, err := parseOptions()
	if err != nil {
		return err
	}
	if err := enoughFiles(o.sizes); err != nil {
		return err
	}
	program, err := build.Make(ctx, build.Hub, nil)
	if err != nil {
		return err
	}
	var entries []entry
	for _, n := range o.sizes {
		e, err := measure(ctx, o, program, n)
		entries = append(entries, e)
		if err != nil { // what was measured by then is not lost with it
			printTable(os.Stdout, entries)
			return fmt.Errorf("%d agents: %w", n, err)
		}
	}
	printTable(os.Stdout, entries)
	return gauge.WriteSection(filepath.Join(build.Root(), "bench.json"), "fleet", entries)
}

// enoughFiles says before an hour's work that the last step can't be done.
func enoughFiles(sizes []int) error {
	const others = 200
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	for _, n := range sizes {
		if uint64(n+others) > limit.Max {
			return fmt.Errorf("%d agents need %d open files, the limit is %d: raise it with ulimit -Hn, or measure fewer", n, n+others, limit.Max)
		}
	}
	return nil
}
