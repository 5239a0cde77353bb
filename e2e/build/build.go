// Package build makes the programs that tests and the demo run, once: they stay
// in e2e/.build, and Go's own cache decides what has to be made anew.
package build

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Program names one program.
type Program string

// The programs there are.
const (
	TestCluster Program = "testcluster"
	Kubectl     Program = "kubectl"
	Agent       Program = "capstan-agent"
	Render      Program = "capstan-render" // the agent's worker: it must lie beside it
	Keys        Program = "capstan-keys"   // asks key services for the agent, which it lies beside
	Hub         Program = "capstan-hub"
	CLI         Program = "capstan"
	Kustomize   Program = "kustomize"
	NATSServer  Program = "nats-server"
)

// All lists every program that a demo or a scenario runs.
var All = []Program{TestCluster, Kubectl, Agent, Render, Keys, Hub, CLI}

type recipe struct {
	dir     string // below the checkout
	pkg     string
	ldflags string

	module  string  // that pkg is in, where it is patched or brings CRDs
	crds    string  // a directory of the module
	patches []patch // to the module
}

// kubernetesVersion is what a build by the Kubernetes project itself would be
// stamped with; without it servers say v0.0.0 and clients warn about skew.
const kubernetesVersion = "1.37.2"

func (p Program) recipe() recipe {
	switch p {
	case TestCluster:
		return recipe{dir: "e2e", pkg: "./cmd/testcluster", ldflags: kubernetesFlags()}
	case Kubectl:
		return recipe{dir: "e2e", pkg: "k8s.io/kubernetes/cmd/kubectl", ldflags: kubernetesFlags()}
	case Agent:
		return recipe{dir: ".", pkg: "./agent/cmd/capstan-agent", ldflags: "-s -w"}
	case Render:
		return recipe{dir: ".", pkg: "./agent/cmd/capstan-render", ldflags: "-s -w"}
	case Keys:
		return recipe{dir: ".", pkg: "./agent/cmd/capstan-keys", ldflags: "-s -w"}
	case Hub:
		return recipe{dir: ".", pkg: "./hub/cmd/capstan-hub", ldflags: "-s -w"}
	case CLI:
		return recipe{dir: ".", pkg: "./hub/cmd/capstan", ldflags: "-s -w"}
	case Kustomize:
		return recipe{dir: "e2e", pkg: "sigs.k8s.io/kustomize/kustomize/v5", ldflags: "-s -w"}
	case NATSServer:
		return recipe{dir: "e2e", pkg: "github.com/nats-io/nats-server/v2", ldflags: "-s -w"}
	}
	r, ok := controllers[p]
	if !ok {
		panic(fmt.Sprintf("no such program: %q", p))
	}
	return r
}

func kubernetesFlags() string {
	minor := strings.Split(kubernetesVersion, ".")[1]
	flags := []string{"-s", "-w"}
	for _, v := range [][2]string{
		{"gitVersion", "v" + kubernetesVersion},
		{"gitMajor", "1"},
		{"gitMinor", minor},
		{"gitTreeState", "clean"},
		{"gitCommit", "unknown"},
		{"buildDate", "2026-01-01T00:00:00Z"},
	} {
		flags = append(flags, "-X", "k8s.io/component-base/version."+v[0]+"="+v[1])
	}
	return strings.Join(flags, " ")
}

const interruptWithin = 10 * time.Second

// Progress is told the import path of each package as it is compiled. What Go
// has in its cache is not compiled.
type Progress func(pkg string)

// Make builds a program if it is out of date and returns its path. Builders
// that run at the same time wait for each other.
func Make(ctx context.Context, program Program, progress Progress) (string, error) {
	root := Root()
	out := filepath.Join(root, "e2e", ".build")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(out, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()

	r := program.recipe()
	path := filepath.Join(out, string(program))
	args := []string{"build", "-v", "-ldflags", r.ldflags, "-o", path}
	if len(r.patches) > 0 {
		modfile, err := r.patched(ctx, out)
		if err != nil {
			return "", fmt.Errorf("build %s: %w", program, err)
		}
		args = append(args, "-modfile", modfile)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, r.pkg)...)
	cmd.Dir = filepath.Join(root, r.dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	// Asked to end, go ends its compilers too; killed, it would leave them.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = interruptWithin
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("build %s: %w", program, err)
	}
	said := follow(stderr, progress)
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", program, err, said)
	}
	return path, nil
}

// MakeAll builds several programs and returns their paths.
func MakeAll(ctx context.Context, progress Progress, programs ...Program) (map[Program]string, error) {
	paths := make(map[Program]string, len(programs))
	for _, p := range programs {
		path, err := Make(ctx, p, progress)
		if err != nil {
			return nil, err
		}
		paths[p] = path
	}
	return paths, nil
}

// follow reads what go build says. With -v it names each package alone on a
// line; all else is kept, for when the build fails.
func follow(r io.Reader, progress Progress) string {
	var said []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if strings.ContainsAny(line, " \t") || strings.HasPrefix(line, "#") {
			said = append(said, line)
			continue
		}
		if progress != nil {
			progress(line)
		}
	}
	return strings.Join(said, "\n")
}

// Root is the checkout that this package was compiled from.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil // closing gives the lock up
}
