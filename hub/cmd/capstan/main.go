// Command capstan is how people speak to a hub: they look at clusters and apps,
// label, join, read plans and approve them with their own SSH keys.
//
// Flags, arguments and output are a contract that scripts rely on: the result
// goes to stdout, everything said beside it to stderr, and the exit code is 0
// (done), 1 (failed) or 2 (asked in a way that makes no sense); `diff
// --exit-code` has 1 for "differs" and 3 for "failed".
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := newShell()
	return s.finish(newRoot(s).ExecuteContext(ctx))
}
