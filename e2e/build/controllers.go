package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// Controllers of others that a scenario runs beside a cluster, as they are in
// their modules but for what is in patches. Each is in a module of its own,
// because it pins other versions than ours.
const (
	SealedSecrets   Program = "sealed-secrets"
	Kubeseal        Program = "kubeseal"
	ExternalSecrets Program = "external-secrets"
)

// Controllers lists them.
var Controllers = []Program{SealedSecrets, Kubeseal, ExternalSecrets}

const (
	sealedSecretsModule   = "github.com/bitnami-labs/sealed-secrets"
	externalSecretsModule = "github.com/external-secrets/external-secrets"
)

var controllers = map[Program]recipe{
	SealedSecrets: {
		dir: "e2e/sealedsecrets", module: sealedSecretsModule, crds: "helm/sealed-secrets/crds",
		pkg: sealedSecretsModule + "/cmd/controller", ldflags: "-s -w",
		patches: []patch{{file: "pkg/controller/main.go", replace: [][2]string{
			// It takes the API server's address and its token from files that are in
			// a pod; here there is a kubeconfig.
			{`"k8s.io/client-go/rest"`, `"k8s.io/client-go/tools/clientcmd"`},
			{`rest.InClusterConfig()`, `clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))`},
		}}},
	},
	Kubeseal: {
		dir: "e2e/sealedsecrets", module: sealedSecretsModule,
		pkg: sealedSecretsModule + "/cmd/kubeseal", ldflags: "-s -w",
	},
	ExternalSecrets: {
		dir: "e2e/externalsecrets", module: externalSecretsModule, crds: "config/crds/bases",
		pkg: externalSecretsModule, ldflags: "-s -w",
		patches: []patch{
			// These import every cloud's client. The fake provider is one among them.
			{file: "pkg/provider/register/register.go", source: "package register\n\nimport _ \"" + externalSecretsModule + "/pkg/provider/fake\"\n"},
			{file: "pkg/generator/register/register.go", source: "package register\n"},
		},
	},
}

// patch has one file of a module read otherwise than it is: other text in places
// that must be there exactly once, or another source.
type patch struct {
	file    string
	replace [][2]string
	source  string
}

func (p patch) apply(original []byte) ([]byte, error) {
	if p.source != "" {
		return []byte(p.source), nil
	}
	text := original
	for _, r := range p.replace {
		if n := bytes.Count(text, []byte(r[0])); n != 1 {
			return nil, fmt.Errorf("%s has %q %d times, not once: the module's version changed?", p.file, r[0], n)
		}
		text = bytes.ReplaceAll(text, []byte(r[0]), []byte(r[1]))
	}
	return text, nil
}

// CRDs is the directory of the CRDs that come with a controller.
func CRDs(ctx context.Context, program Program) (string, error) {
	r, ok := controllers[program]
	if !ok || r.crds == "" {
		return "", fmt.Errorf("%s brings no CRDs", program)
	}
	module, err := r.moduleDir(ctx)
	return filepath.Join(module, filepath.FromSlash(r.crds)), err
}

// moduleDir has a recipe's module in Go's cache, and says where.
func (r recipe) moduleDir(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", r.module)
	cmd.Dir = filepath.Join(Root(), r.dir)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	var module struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &module); jsonErr == nil && module.Error != "" {
		return "", fmt.Errorf("module %s: %s", r.module, module.Error)
	}
	if err != nil {
		return "", fmt.Errorf("module %s: %w", r.module, err)
	}
	return module.Dir, nil
}

// patched copies a recipe's module, with its patches, to below dir, and writes the
// go.mod that builds from there.
func (r recipe) patched(ctx context.Context, dir string) (modfile string, err error) {
	module, err := r.moduleDir(ctx)
	if err != nil {
		return "", err
	}
	files, sum := make(map[string][]byte, len(r.patches)), sha256.New()
	for _, p := range r.patches {
		original, err := os.ReadFile(filepath.Join(module, filepath.FromSlash(p.file)))
		if err != nil {
			return "", err
		}
		if files[p.file], err = p.apply(original); err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %q\n", p.file, files[p.file])
	}
	source := filepath.Join(dir, fmt.Sprintf("%s-%.8x", filepath.Base(module), sum.Sum(nil)))
	if err := copyOnce(source, module, files); err != nil {
		return "", err
	}
	modfile = source + ".mod"
	for _, name := range []string{"go.sum", "go.mod"} {
		b, err := os.ReadFile(filepath.Join(Root(), r.dir, name))
		if err != nil {
			return "", err
		}
		if name == "go.mod" {
			b = fmt.Appendf(b, "\nreplace %s => %q\n", r.module, source)
		}
		if err := os.WriteFile(source+filepath.Ext(name), b, 0o644); err != nil {
			return "", err
		}
	}
	return modfile, nil
}

// copyOnce makes a copy of a directory in which some files are others. One that is
// there is whole: its name says what is in it.
func copyOnce(to, from string, files map[string][]byte) error {
	if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	half := to + ".half"
	if err := os.RemoveAll(half); err != nil {
		return err
	}
	if err := os.CopyFS(half, os.DirFS(from)); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(half, filepath.FromSlash(name)), content, 0o644); err != nil {
			return err
		}
	}
	return os.Rename(half, to)
}
