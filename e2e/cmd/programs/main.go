// Command programs builds what scenarios run, so that no test waits for a compiler.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/capstan-gitops/capstan/e2e/build"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	for _, p := range slices.Concat(build.All, build.Controllers) {
		start, compiled := time.Now(), 0
		if _, err := build.Make(ctx, p, func(string) { compiled++ }); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		fmt.Printf("%s: %d packages compiled, %s\n", p, compiled, time.Since(start).Round(time.Second))
	}
}
