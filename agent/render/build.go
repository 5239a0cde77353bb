package render

import (
	"errors"
	"fmt"
	"path"
	"runtime/debug"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/openapi"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// version says what rendered: a read-set of another one does not hold. The
// number after the slash is this package's own, raised when the same files come
// to give other objects.
const version = "kustomize v0.21.2/2"

// build renders one job. The error is one that ends the worker.
func build(tree unit.Tree, network *noNetwork, j job) (outcome, error) {
	o := outcome{reads: unit.ReadSet{Paths: map[string]unit.Read{}, Renderer: version}}
	network.refused.Store(nil)
	var err error
	if o.path, err = fillPath(j.path, facts{known: j.facts, reads: &o.reads}); err == nil {
		f := &treeFS{tree: tree, root: j.root, reads: &o.reads}
		o.objects, err = f.render(network, o.path, j.directory)
		if f.broken != nil && !errors.Is(f.broken, errLost) {
			return outcome{}, f.broken // the pipe
		}
	}
	if err == nil {
		return o, nil
	}
	if !errors.As(err, &o.failure) {
		o.failure = &failure{message: err.Error()}
	}
	o.objects = nil
	return o, nil
}

// render gives the objects of a directory. Every error it gives is a *failure.
func (f *treeFS) render(network *noNetwork, dir string, directory *unit.Directory) ([]unit.Object, error) {
	if err := f.findRoot(dir); err != nil {
		return nil, err
	}
	var g gatekeeper
	f.check = g.check
	plain, err := f.isPlain(dir, directory)
	if err != nil {
		return nil, err
	}
	if plain {
		return f.manifests(dir, directory)
	}
	return f.build(network, &g, dir)
}

// build runs kustomize.
func (f *treeFS) build(network *noNetwork, g *gatekeeper, dir string) ([]unit.Object, error) {
	found, err := f.kustomize(dir)
	if g.ownSchema || errors.Is(err, errPanic) {
		openapi.ResetOpenAPI() // else the next app would be merged by this one's schema
	}
	switch {
	case f.broken != nil:
		return nil, f.broken
	case f.refused != nil: // even where kustomize went on without it
		return nil, f.refused
	case network.refused.Load() != nil:
		return nil, network.refused.Load()
	case err != nil:
		return nil, f.explain(err)
	}
	return objects(found)
}

// findRoot names a path that is not there in our own words.
func (f *treeFS) findRoot(dir string) error {
	at, e, err := f.resolve(path.Join(mount, dir))
	switch {
	case f.broken != nil:
		return f.broken
	case f.refused != nil:
		return f.refused
	case err != nil:
		return &failure{file: dir, message: "path " + dir + " is not in the repository", hint: "check the path and that it was pushed to the branch this cluster follows"}
	}
	f.noteFound(at, e)
	if e.Mode == unit.ModeSubmodule {
		return submodule(at)
	}
	if e.Mode != unit.ModeDir {
		return &failure{file: dir, message: "path " + dir + " is a file", hint: "name the directory that holds the kustomization file or the manifests"}
	}
	return nil
}

var errPanic = errors.New("kustomize failed unexpectedly")

func (f *treeFS) kustomize(dir string) (m resmap.ResMap, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("%w: %s", errPanic, panicPlace(debug.Stack()))
		}
	}()
	return krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(f, path.Join(mount, dir))
}

// panicPlace is the function that panicked. The panic's own text may quote what
// was read.
func panicPlace(stack []byte) string {
	_, after, _ := strings.Cut(string(stack), "panic(")
	for _, line := range strings.Split(after, "\n")[1:] {
		if strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "runtime.") || strings.HasPrefix(line, "panic(") || line == "" {
			continue
		}
		name, _, _ := strings.Cut(line, "(0x")
		name, _, _ = strings.Cut(name, "({")
		return "in " + strings.TrimSuffix(path.Base(name), "(...)")
	}
	return "in an unknown place"
}
