// Command demo shows Capstan at work on this machine: three real Kubernetes
// control planes, an agent for each, the hub and a Git server. It walks to where
// a person has to decide, and stays up until it is interrupted.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
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
	dir := flag.String("dir", filepath.Join(build.Root(), defaultDir), "where everything is kept while the demo is up")
	flag.Parse()
	d := &demo{
		dir:         *dir,
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

// defaultDir is in the checkout, and ignored by git: it is the demo's alone.
const defaultDir = ".demo"

// marker is a file that says that a directory is a demo's, and may be removed.
const marker = "demo"

// run shows everything, and ends well when it is interrupted, however far it got.
func (d *demo) run(ctx context.Context) (err error) {
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return err
	}
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
	if err := d.clear(); err != nil {
		return err
	}
	programs, err := d.build(ctx)
	if err != nil {
		return errors.Join(interrupted(ctx, err), os.RemoveAll(d.dir))
	}
	if err := d.show(ctx, programs, spokes); err != nil {
		if err := interrupted(ctx, err); errors.Is(err, context.Canceled) {
			return errors.Join(err, os.RemoveAll(d.dir))
		}
		if fleet.Hint(err) == "" {
			err = fleet.WithHint(err, "the logs are in "+d.dir)
		}
		return err
	}
	return os.RemoveAll(d.dir)
}

// clear makes an empty directory, also where a demo could not clean up.
func (d *demo) clear() error {
	entries, err := os.ReadDir(d.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		_, err := os.Stat(filepath.Join(d.dir, marker))
		if err != nil && filepath.Base(d.dir) != defaultDir {
			return fleet.WithHint(fmt.Errorf("%s is not empty, and not a demo's", d.dir), "move it away")
		}
		if err := os.RemoveAll(d.dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.dir, marker), []byte("made by the demo, removed with it\n"), 0o600)
}

// interrupted makes whatever failed because of an interruption into just that.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Canceled
	}
	return err
}

// lock keeps two demos out of one directory. It is given up with the process, so
// that nothing stale can hold it.
func (d *demo) lock() (unlock func(), err error) {
	dir := filepath.Join(build.Root(), "e2e", ".build")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(d.dir))
	name := fmt.Sprintf("demo-%x.lock", sum[:8])
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fleet.WithHint(errors.New("a demo is up here already"),
			"end it with Ctrl-C, or use it: . "+filepath.Join(d.dir, "env"))
	}
	return func() { f.Close() }, nil
}

func (d *demo) say(format string, a ...any) { fmt.Fprintf(d.out, format+"\n", a...) }

func (d *demo) heading(text string) { d.say("\n== %s", text) }

// command shows a command as somebody would type it.
func (d *demo) command(line string) { d.say("$ %s", strings.ReplaceAll(line, d.dir, ".demo")) }
