//go:build linux && (amd64 || arm64)

package worker_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/capstan-gitops/capstan/agent/render/worker"
)

const probeArg = "probe-confinement"

// probe tries what a worker must not be able to do, on several threads.
func probe() {
	if err := worker.Confine(); err != nil {
		fmt.Println("confine:", err)
		return
	}
	self, _ := os.Executable()
	tries := map[string]func() error{
		"dial":   func() error { _, err := net.Dial("tcp", "127.0.0.1:1"); return err },
		"listen": func() error { _, err := net.Listen("unix", "@probe"); return err },
		"exec":   func() error { return exec.Command(self, "-test.list", "x").Run() },
		"open":   func() error { _, err := os.Open("/proc/self/environ"); return err },
		"kill":   func() error { return syscall.Kill(os.Getpid(), 0) },
	}
	results := make(chan string)
	for name, try := range tries {
		go func() {
			if err := try(); !errors.Is(err, syscall.EPERM) {
				results <- fmt.Sprintf("%s: %v", name, err)
				return
			}
			results <- ""
		}()
	}
	for range tries {
		if bad := <-results; bad != "" {
			fmt.Println(bad)
		}
	}
	fmt.Println("probed")
}

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == probeArg {
		probe()
		return
	}
	os.Exit(m.Run())
}

func TestAWorkerMayNotReachAnythingButItsPipes(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), self, probeArg).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "probed" {
		t.Errorf("%v: %s", err, out)
	}
}
