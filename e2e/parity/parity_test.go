// Package parity_test compares what the agent renders with what the kustomize
// command prints, byte for byte.
package parity_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/capstan-gitops/capstan/e2e/build"
)

// enough is how many overlays there must be: a list that lost some by mistake
// would prove less than it says.
const enough = 50

// checkout writes the repository of testdata/overlays.txtar.
func checkout(t *testing.T) string {
	t.Helper()
	archive, err := txtar.ParseFile("testdata/overlays.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range archive.Files {
		content := bytes.ReplaceAll(f.Data, []byte("BINARY"), []byte{0, 1, 0xff, 0xfe})
		write(t, filepath.Join(dir, f.Name), content)
	}
	// A text archive has no links, and nothing that is not text.
	for link, target := range map[string]string{"overlays/linked/linked.yaml": "real/config.yaml", "linked-base": "crd"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func run(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return stderr.String(), err
	}
	return string(out), nil
}

func TestTheAgentRendersWhatKustomizePrints(t *testing.T) {
	programs, err := build.MakeAll(t.Context(), nil, build.Agent, build.Render, build.Kustomize)
	if err != nil {
		t.Fatal(err)
	}
	repo := checkout(t)
	overlays, err := os.ReadDir(filepath.Join(repo, "overlays"))
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, o := range overlays {
		compared++
		t.Run(o.Name(), func(t *testing.T) {
			t.Parallel()
			path := "overlays/" + o.Name()
			want, err := run(t.Context(), repo, programs[build.Kustomize], "build", path)
			if err != nil || want == "" {
				t.Fatalf("kustomize build: %v\n%s", err, want)
			}
			got, err := run(t.Context(), repo, programs[build.Agent], "render", path, "--root", repo)
			if err != nil {
				t.Fatalf("capstan-agent render: %v\n%s", err, got)
			}
			if got != want {
				t.Error(firstDifference(got, want))
			}
		})
	}
	if compared < enough {
		t.Errorf("%d overlays, and at least %d are meant to be there", compared, enough)
	}
}

// firstDifference shows where two texts part.
func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			from := max(0, i-5)
			return "the agent:\n" + strings.Join(g[from:min(len(g), i+8)], "\n") + "\n\nkustomize:\n" + strings.Join(w[from:min(len(w), i+8)], "\n")
		}
	}
	return "the same lines, but the agent has " + got[min(len(got), len(want)):] + " and kustomize " + want[min(len(got), len(want)):] + " besides"
}
