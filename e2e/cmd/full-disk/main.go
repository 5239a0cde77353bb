// Command full-disk fills the disk under a real hub to its last byte while
// people and an agent write, makes room again, now and then kills the hub as
// well, and looks that nothing acknowledged is lost.
//
// The disk is a small file system of its own, which takes a mount: the program
// starts itself anew where it may do that, in a namespace of its own. That needs
// root, or a kernel that lets users make such namespaces; so it is no test.
//
//	go run ./cmd/full-disk -rounds 6
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/capstan-gitops/capstan/e2e/build"
)

// inside is set where the program may mount.
const inside = "CAPSTAN_FULL_DISK"

func main() {
	rounds := flag.Int("rounds", 6, "how often the disk is filled")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	work := func() error { return run(ctx, *rounds) }
	if os.Getenv(inside) == "" {
		work = func() error { return again(ctx) }
	}
	if err := work(); err != nil {
		if _, told := errors.AsType[*exec.ExitError](err); !told {
			fmt.Fprintln(os.Stderr, "error:", err)
		}
		os.Exit(1)
	}
}

// again runs this program where it may mount, as who it is now.
func again(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGTERM,
	}
	return cmd.Run()
}

// size of the file system: with the hub's reserve, and room to begin again.
const size = "300m"

func run(ctx context.Context, rounds int) (err error) {
	program, err := build.Make(ctx, build.Hub, nil)
	if err != nil {
		return err
	}
	disk, err := os.MkdirTemp("", "capstan-full-disk-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(disk)) }()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size="+size); err != nil {
		return fmt.Errorf("mount a small file system: %w (it takes root, or user namespaces)", err)
	}
	defer func() { err = errors.Join(err, syscall.Unmount(disk, syscall.MNT_DETACH)) }()
	w, err := begin(ctx, program, filepath.Join(disk, "hub"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	for round := range rounds {
		if err := w.round(ctx, round, filepath.Join(disk, "filler")); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		fmt.Printf("round %d: %d changes acknowledged so far, none lost\n", round+1, len(w.acknowledged))
	}
	return nil
}
