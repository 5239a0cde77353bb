package main_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/e2e/build"
)

const (
	upWithin   = 5 * time.Minute
	goneWithin = time.Minute
)

// demo is a demo that runs for a test, without a terminal.
type demo struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	out  *os.File
	done chan error
}

func startDemo(t *testing.T, binary, dir string) *demo {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	d := &demo{t: t, dir: dir, out: out, done: make(chan error, 1), cmd: exec.Command(binary, "--dir", dir)}
	d.cmd.Stdout, d.cmd.Stderr = out, out
	d.cmd.Env = append(os.Environ(), "DEMO_KUBECONFIGS=")
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.done <- d.cmd.Wait() }()
	t.Cleanup(func() {
		if d.cmd.ProcessState == nil {
			_ = d.cmd.Process.Kill() // fails only where it has ended meanwhile
		}
		out.Close()
	})
	return d
}

func (d *demo) said() string {
	b, err := os.ReadFile(d.out.Name())
	if err != nil {
		d.t.Error(err)
	}
	return string(b)
}

// up waits for the file that is written last.
func (d *demo) up() {
	d.t.Helper()
	deadline := time.After(upWithin)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(filepath.Join(d.dir, "env")); err == nil {
			return
		}
		select {
		case err := <-d.done:
			d.t.Fatalf("the demo ended: %v\n%s", err, d.said())
		case <-deadline:
			d.t.Fatalf("the demo is not up\n%s", d.said())
		case <-tick.C:
		}
	}
}

func (d *demo) end(sig os.Signal) error {
	d.t.Helper()
	if err := d.cmd.Process.Signal(sig); err != nil {
		d.t.Fatal(err)
	}
	select {
	case err := <-d.done:
		return err
	case <-time.After(goneWithin):
		d.t.Fatalf("the demo does not end\n%s", d.said())
		return nil
	}
}

// sourced runs a script as somebody who has sourced the demo's file, with an
// environment that is otherwise bare.
func (d *demo) sourced(ctx context.Context, script string) (string, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", ". "+d.dir+"/env && "+script)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.t.TempDir()}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// running lists the processes that work below a directory.
func running(dir string) []string {
	var found []string
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return []string{err.Error()}
	}
	for _, path := range paths {
		if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte(dir+"/")) {
			found = append(found, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return found
}

func nothingRuns(t *testing.T, dir string) {
	t.Helper()
	deadline := time.After(goneWithin)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		left := running(dir)
		if len(left) == 0 {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("still running:\n%s", strings.Join(left, "\n"))
		case <-tick.C:
		}
	}
}

// TestTheDemoComesUpAndGoesWithoutATrace starts a demo, kills it as a crash
// would, and starts the next on what is left of it.
func TestTheDemoComesUpAndGoesWithoutATrace(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "demo-program")
	compile := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/demo")
	compile.Dir = filepath.Join(build.Root(), "e2e")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := filepath.Join(t.TempDir(), "up")

	d := startDemo(t, binary, dir)
	d.up()
	out, err := d.sourced(t.Context(), `capstan get apps -o json && kubectl --kubeconfig "$KUBECONFIG_PROD" get namespaces &&
		kubectl --kubeconfig "$KUBECONFIG_STAGING" version && cd "$FLEET_REPO" && git status --short --branch`)
	if err != nil || !strings.Contains(out, "guestbook") || !strings.Contains(out, "## main...origin/main") {
		t.Errorf("what a user would do: %v\n%s", err, out)
	}
	if !regexp.MustCompile(`(?m)^== prod waits for your approval$`).MatchString(d.said()) {
		t.Errorf("the demo does not say that prod waits:\n%s", d.said())
	}
	again := startDemo(t, binary, dir)
	var exit *exec.ExitError
	if err := <-again.done; !errors.As(err, &exit) || !strings.Contains(again.said(), "hint:") {
		t.Errorf("a second demo in the same place: %v, want a refusal with a hint\n%s", err, again.said())
	}

	if err := d.end(syscall.SIGKILL); err == nil {
		t.Error("a killed demo ended well")
	}
	nothingRuns(t, dir)

	d = startDemo(t, binary, dir)
	d.up()
	if err := d.end(syscall.SIGTERM); err != nil {
		t.Errorf("%v\n%s", err, d.said())
	}
	nothingRuns(t, dir)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}
