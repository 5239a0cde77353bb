package worker

import (
	"errors"
	"fmt"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"unicode"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/provenance"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/openapi"

	"github.com/capstan-gitops/capstan/agent/render/pipe"
	"github.com/capstan-gitops/capstan/agent/render/worker/sops"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// command is the kustomize command whose library this is.
const command = "v5.8.2"

// failure is a render that went wrong through what the repository holds.
type failure struct {
	file, message, hint string
	line                int
	again               bool // it may go well without a change to anything that was read
}

func (f *failure) Error() string { return f.message }

// build renders one job. The error is one that ends the worker.
func build(tree unit.Tree, keys sops.Ask, network *noNetwork, fetch fetcher, j pipe.Job) (pipe.Outcome, error) {
	o := pipe.Outcome{Reads: unit.ReadSet{Paths: map[string]unit.Read{}, Renderer: pipe.Version, Values: j.Facts.Values}}
	network.refused.Store(nil)
	known := facts{known: j.Facts, reads: &o.Reads}
	var err error
	if o.Path, err = fillPath(j.Path, known); err == nil {
		f := &treeFS{tree: tree, root: j.Root, reads: &o.Reads, fetch: fetch}
		if j.Decrypt {
			f.keys = keys
		}
		o.Objects, err = f.render(network, o.Path, j, known)
		if err == nil {
			err = f.guardSecrets(o.Objects)
		}
		if f.broken != nil && !errors.Is(f.broken, errLost) {
			return pipe.Outcome{}, f.broken // the pipe
		}
	}
	if err == nil {
		return o, nil
	}
	bad, ok := errors.AsType[*failure](err)
	if !ok {
		bad = &failure{message: err.Error()}
	}
	o.Objects, o.Failure = nil, bad.told()
	return o, nil
}

// Again tells whether it may go well without a change to anything that was read.
func (f *failure) Again() bool { return f.again }

// told is what leaves the worker. The words may hold names and values of the
// repository: they are to command no terminal, and to begin no line of their own.
func (f *failure) told() *pipe.Failure {
	hint := f.hint
	if hint == "" {
		hint = "capstan-agent render shows the same error on a checkout"
	}
	return &pipe.Failure{File: printable(f.file), Line: f.line, Message: printable(f.message), Hint: printable(hint), Again: f.again}
}

// printable puts a text on one line, and writes out what is not to be seen.
func printable(text string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(text, "\uFFFD") {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			b.WriteByte(' ')
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// render gives the objects of a directory. Every error it gives is a *failure.
func (f *treeFS) render(network *noNetwork, dir string, j pipe.Job, known facts) ([]unit.Object, error) {
	if err := f.findRoot(dir); err != nil {
		return nil, err
	}
	var g gatekeeper
	f.check = g.check
	plain, err := f.isPlain(dir, j.Directory)
	if err != nil {
		return nil, err
	}
	chart := j.Helm != nil
	if plain && !chart && j.Directory == nil {
		if chart, err = f.hasFile(dir, chartFile); err != nil {
			return nil, err
		}
	}
	switch {
	case chart:
		return f.helm(dir, j, known)
	case plain:
		return f.manifests(dir, j.Directory)
	}
	f.charts = &chartsOf{known: known, made: map[string][]byte{}}
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
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified // the order of the command, where sortOptions say nothing
	if m, err = krusty.MakeKustomizer(options).Run(f, path.Join(mount, dir)); err == nil {
		err = nameCommand(m)
	}
	return m, err
}

// nameCommand mends buildMetadata's managedByLabel: as a library kustomize
// takes itself for "(devel)", which is no value that a label may have.
func nameCommand(m resmap.ResMap) error {
	unnamed := "kustomize-" + provenance.GetProvenance().Semver()
	for _, r := range m.Resources() {
		labels := r.GetLabels()
		if labels[konfig.ManagedbyLabelKey] != unnamed {
			continue
		}
		labels[konfig.ManagedbyLabelKey] = "kustomize-" + command
		if err := r.SetLabels(labels); err != nil {
			return err
		}
	}
	return nil
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
