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

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/cluster"
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

// binary builds the demo once, and nothing with it.
func binary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(build.Root(), "e2e", ".build", "demo-under-test")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func startDemo(t *testing.T, dir, kubeconfigs string) *demo {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	d := &demo{t: t, dir: dir, out: out, done: make(chan error, 1), cmd: exec.Command(binary(t), "--dir", dir)}
	d.cmd.Stdout, d.cmd.Stderr = out, out
	d.cmd.Env = append(os.Environ(), "DEMO_KUBECONFIGS="+kubeconfigs)
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

// up waits for the file that is written last; one may be there from before.
func (d *demo) up() {
	d.t.Helper()
	deadline := time.After(upWithin)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := os.Stat(filepath.Join(d.dir, "env"))
		if err == nil && strings.Contains(d.said(), "Ctrl-C ends everything") {
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
	dir := filepath.Join(t.TempDir(), "up")

	d := startDemo(t, dir, "")
	d.up()
	out, err := d.sourced(t.Context(), `capstan get apps -o json && kubectl --kubeconfig "$KUBECONFIG_PROD" get namespaces &&
		kubectl --kubeconfig "$KUBECONFIG_STAGING" version && cd "$FLEET_REPO" && git status --short --branch`)
	if err != nil || !strings.Contains(out, "guestbook") || !strings.Contains(out, "## main...origin/main") {
		t.Errorf("what a user would do: %v\n%s", err, out)
	}
	if !regexp.MustCompile(`(?m)^== prod waits for your approval$`).MatchString(d.said()) {
		t.Errorf("the demo does not say that prod waits:\n%s", d.said())
	}
	again := startDemo(t, dir, "")
	var exit *exec.ExitError
	if err := <-again.done; !errors.As(err, &exit) || !strings.Contains(again.said(), "hint:") {
		t.Errorf("a second demo in the same place: %v, want a refusal with a hint\n%s", err, again.said())
	}

	if err := d.end(syscall.SIGKILL); err == nil {
		t.Error("a killed demo ended well")
	}
	nothingRuns(t, dir)

	d = startDemo(t, dir, "")
	d.up()
	if err := d.end(syscall.SIGTERM); err != nil {
		t.Errorf("%v\n%s", err, d.said())
	}
	nothingRuns(t, dir)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}

// TestTheDemoUsesGivenClustersAndLeavesThemAsTheyWere also gives it one that has
// a Capstan already.
func TestTheDemoUsesGivenClustersAndLeavesThemAsTheyWere(t *testing.T) {
	testcluster, err := build.Make(t.Context(), build.TestCluster, nil)
	if err != nil {
		t.Fatal(err)
	}
	var kubeconfigs []string
	var clients []*kubernetes.Clientset
	for _, name := range []string{"a", "b", "c"} {
		c, err := cluster.Start(t.Context(), cluster.Options{Binary: testcluster, Dir: filepath.Join(t.TempDir(), name), Name: name})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		rest, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, kubernetes.NewForConfigOrDie(rest))
		kubeconfigs = append(kubeconfigs, c.Kubeconfig())
	}
	dir := filepath.Join(t.TempDir(), "up")
	d := startDemo(t, dir, strings.Join(kubeconfigs, ","))
	d.up()
	if out, err := d.sourced(t.Context(), `echo "$KUBECONFIG_DEV"`); err != nil || strings.TrimSpace(out) != kubeconfigs[0] {
		t.Errorf("dev is %s, want %s (%v)", out, kubeconfigs[0], err)
	}
	if _, err := clients[0].AppsV1().Deployments("default").Get(t.Context(), "guestbook-ui", metav1.GetOptions{}); err != nil {
		t.Errorf("guestbook on the given cluster: %v", err)
	}
	if err := d.end(syscall.SIGINT); err != nil {
		t.Errorf("%v\n%s", err, d.said())
	}
	for i, c := range clients {
		if _, err := c.CoreV1().Namespaces().Get(t.Context(), "capstan-system", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("cluster %d still has the agent's namespace: %v", i, err)
		}
		if _, err := c.AppsV1().Deployments("default").Get(t.Context(), "guestbook-ui", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("cluster %d still has the guestbook: %v", i, err)
		}
	}

	taken := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "capstan-system"}}
	if _, err := clients[1].CoreV1().Namespaces().Create(t.Context(), taken, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, given := range map[string]string{"taken": strings.Join(kubeconfigs, ","), "two": strings.Join(kubeconfigs[:2], ",")} {
		refused := startDemo(t, dir, given)
		if err := <-refused.done; err == nil || !strings.Contains(refused.said(), "hint:") {
			t.Errorf("%s: %v, want a refusal with a hint\n%s", name, err, refused.said())
		}
	}
}
