// Command demo shows Capstan at work on this machine: three real Kubernetes
// control planes, an agent for each, the hub and a Git server. It walks to where
// a person has to decide, and stays up until it is interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	d := &demo{
		dir:         filepath.Join(build.Root(), ".demo"),
		kubeconfigs: os.Getenv("DEMO_KUBECONFIGS"),
		out:         os.Stdout,
	}
	if err := d.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		if hint := fleet.Hint(err); hint != "" {
			fmt.Fprintln(os.Stderr, "hint:", hint)
		}
		os.Exit(1)
	}
}

type demo struct {
	dir         string // everything the demo makes
	kubeconfigs string // a,b,c: somebody's own clusters; empty: start three
	out         io.Writer
}

// run shows everything, and ends well when it is interrupted, however far it got.
func (d *demo) run(ctx context.Context) (err error) {
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	defer func() {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil // the interruption, not a failure
		}
	}()
	spokes, err := d.spokes(ctx)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(d.dir); err != nil { // of a demo that could not clean up
		return err
	}
	programs, err := d.build(ctx)
	if err != nil {
		return interrupted(ctx, err)
	}
	if err := d.show(ctx, programs, spokes); err != nil {
		if err := interrupted(ctx, err); errors.Is(err, context.Canceled) {
			return errors.Join(err, os.RemoveAll(d.dir))
		}
		return fleet.WithHint(err, "the logs are in "+d.dir)
	}
	return os.RemoveAll(d.dir)
}

// interrupted makes whatever failed because of an interruption into just that.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Canceled
	}
	return err
}

// lock keeps two demos of one checkout apart. It is given up with the process,
// so that nothing stale can hold it.
func (d *demo) lock() (unlock func(), err error) {
	dir := filepath.Join(build.Root(), "e2e", ".build")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "demo.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fleet.WithHint(errors.New("a demo runs already in this checkout"),
			"end it with Ctrl-C, or use it: . "+filepath.Join(d.dir, "env"))
	}
	return func() { f.Close() }, nil
}

func (d *demo) say(format string, a ...any) { fmt.Fprintf(d.out, format+"\n", a...) }

func (d *demo) heading(text string) { d.say("\n== %s", text) }

// command shows a command as somebody would type it.
func (d *demo) command(line string) { d.say("$ %s", strings.ReplaceAll(line, d.dir, ".demo")) }
