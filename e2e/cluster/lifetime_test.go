package cluster_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/cluster"
)

// parentDir is set for a copy of this test binary that is to start a cluster
// there, print its process ids, and wait to be killed.
const parentDir = "CAPSTAN_TEST_PARENT_DIR"

func beParent(dir string) {
	ctx := context.Background()
	binary, err := build.Make(ctx, build.TestCluster, nil)
	if err == nil {
		var c *cluster.Cluster
		c, err = cluster.Start(ctx, cluster.Options{Binary: binary, Dir: dir, Name: "orphan"})
		if err == nil {
			fmt.Println(strings.Trim(fmt.Sprint(c.PIDs()), "[]"))
			select {}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// alive says whether a process runs; one that only waits to be reaped does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := bytes.Cut(stat, []byte(") "))
	return !bytes.HasPrefix(after, []byte("Z"))
}

func allGone(pids []int) func() error {
	return func() error {
		if left := slices.DeleteFunc(slices.Clone(pids), func(pid int) bool { return !alive(pid) }); len(left) > 0 {
			return fmt.Errorf("still running: %v", left)
		}
		return nil
	}
}

// TestNothingOutlivesItsParent kills a parent that has no chance to clean up,
// then starts a cluster in the directory that was left, and closes that.
func TestNothingOutlivesItsParent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), parentDir+"="+dir)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for field := range strings.FieldsSeq(line) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if len(pids) != len(cluster.Parts) || allGone(pids)() == nil {
		t.Fatalf("%d processes of %d run", len(pids), len(cluster.Parts))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("a killed parent ended well")
	}
	eventually(t, allGone(pids))

	c, err := cluster.Start(t.Context(), cluster.Options{Binary: binary, Dir: dir, Name: "next"})
	if err != nil {
		t.Fatal(err)
	}
	pids = c.PIDs()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := allGone(pids)(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}
