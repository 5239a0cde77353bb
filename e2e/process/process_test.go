package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/e2e/process"
)

// The thread that forks is there for good.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/capstan-gitops/capstan/e2e/process.spawn"))
}

func start(t *testing.T, script string) (p *process.Process, log string) {
	t.Helper()
	log = filepath.Join(t.TempDir(), "log")
	p, err := process.Start(process.Spec{Path: "/bin/sh", Args: []string{"-c", script}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	return p, log
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !check() {
		select {
		case <-deadline:
			t.Fatal("not in time: " + what)
		case <-tick.C:
		}
	}
}

// state is the letter that Linux has for what a process does; "" when it is gone.
func state(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, after, _ := bytes.Cut(stat, []byte(") "))
	return string(after[:1])
}

func TestStopFreezesAndContinueThaws(t *testing.T) {
	p, _ := start(t, "while :; do sleep 0.1; done")
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "frozen", func() bool { return state(p.PID()) == "T" })
	if err := p.Continue(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "thawed", func() bool { return state(p.PID()) != "T" })
}

func TestKillEndsWhatTheChildStarted(t *testing.T) {
	p, log := start(t, "sleep 1000 & echo $!; wait")
	child := 0
	eventually(t, "the child of the child", func() bool {
		b, err := os.ReadFile(log)
		if err != nil {
			return false
		}
		_, err = fmt.Sscan(string(b), &child)
		return err == nil && state(child) != ""
	})
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both gone", func() bool {
		left := state(child)
		return state(p.PID()) == "" && (left == "" || left == "Z")
	})
	if err := p.Stop(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("stopping what is gone: %v", err)
	}
}

func TestTerminateAsksAndThenKills(t *testing.T) {
	polite, _ := start(t, "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")
	eventually(t, "ready", func() bool { return strings.Contains(polite.LogTail(), "ready") })
	if err := polite.Terminate(t.Context()); err != nil || polite.Err() != nil {
		t.Errorf("a polite child: %v, ended with %v", err, polite.Err())
	}
	deaf, _ := start(t, "trap '' TERM; echo ready; while :; do sleep 0.05; done")
	eventually(t, "ready", func() bool { return strings.Contains(deaf.LogTail(), "ready") })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := deaf.Terminate(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a deaf child: %v, want a deadline", err)
	}
	if state(deaf.PID()) != "" {
		t.Error("a deaf child still runs")
	}
}

func TestAProgramThatIsNotThereIsNamed(t *testing.T) {
	_, err := process.Start(process.Spec{Path: filepath.Join(t.TempDir(), "absent")})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "absent") {
		t.Errorf("error %v, want one that names the program", err)
	}
}
