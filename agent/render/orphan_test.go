//go:build linux

package render_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/render"
)

const orphanArg = "leave-a-worker-behind"

// leaveWorker renders something endless, and tells its worker's process.
func leaveWorker() {
	r, err := render.New(withWorker(render.Config{}))
	if err != nil {
		panic(err)
	}
	go func() { _, _ = r.Render(context.Background(), ask(diamond(20), "a/n20")) }()
	for r.Stats().Starts == 0 {
		continue
	}
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, l := range lists {
		if b, err := os.ReadFile(l); err == nil {
			fmt.Print(string(b))
		}
	}
	fmt.Println()
	select {}
}

func TestAWorkerDoesNotOutliveItsParent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.CommandContext(t.Context(), self, orphanArg)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_ = parent.Process.Kill()
	_ = parent.Wait()
	pid := strings.TrimSpace(line)
	if err != nil || pid == "" || strings.Contains(pid, " ") {
		t.Fatalf("worker %q, %v", line, err)
	}
	eventually(t, "the worker's end", func() bool {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || bytes.Contains(stat, []byte(") Z "))
	})
}

func TestTheVersionIsTheOneThatIsLinked(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	v, _, _ := strings.Cut(newRenderer(t, render.Config{}).Version(), "/")
	for library := range strings.SplitSeq(v, ", ") {
		want := strings.NewReplacer("kustomize ", "sigs.k8s.io/kustomize/api ", "helm ", "helm.sh/helm/v4 ").Replace(library)
		if !bytes.Contains(mod, []byte(want+"\n")) {
			t.Errorf("it says %q, and go.mod has no %q", v, want)
		}
	}
}
