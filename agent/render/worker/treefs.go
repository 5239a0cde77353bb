package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/capstan-gitops/capstan/agent/render/worker/sops"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// mount is where kustomize finds the repository. It is not "/", so that a path
// that climbs too high is seen to have left.
const mount = "/.capstan-repository"

// Bounds of one render. They are far above what people write, and below what
// would hurt.
const (
	maxFile     = 8 << 20
	maxRead     = 64 << 20
	maxLookups  = 100_000
	maxLinks    = 32
	maxLinkSize = 4096
)

// treeFS lays a kustomize file system straight over a Git tree, read only, and
// records all that was looked at.
type treeFS struct {
	tree  unit.Tree
	root  unit.Hash
	reads *unit.ReadSet
	fetch fetcher

	charts *chartsOf // for kustomizations; nil: their charts are not rendered

	check   func(file string, content []byte) error // may refuse what is read
	keys    sops.Ask                                // nil: nothing is decrypted
	secrets []string                                // values that were decrypted
	plain   map[string][]byte                       // files that were, by name
	files   []readFile                              // in the order they were read
	missing []string                                // looked for and not there
	hidden  []string                                // what no message may show
	bytes   int64
	lookups int

	// refused is the first refusal. Kustomize swallows some errors, so it is
	// kept aside.
	refused error
	broken  error // an object that can't be had; nothing is wrong with the repository
}

// readFile is a file that was read, kept to explain errors with.
type readFile struct {
	name    string
	content []byte
}

var _ filesys.FileSystem = (*treeFS)(nil)

// refuse notes a refusal and gives it back.
func (f *treeFS) refuse(err error) error {
	if f.refused == nil {
		f.refused = err
	}
	return err
}

func (f *treeFS) fault(err error) error {
	if _, ok := errors.AsType[*failure](err); ok {
		return f.refuse(err)
	}
	if f.broken == nil {
		f.broken = err
	}
	return err
}

// note records a dependency; a weaker one does not replace a stronger one.
func (f *treeFS) note(p string, r unit.Read) {
	if old, ok := f.reads.Paths[p]; ok && r.Kind == unit.ReadDir && old.Kind != unit.ReadMissing {
		return
	}
	f.reads.Paths[p] = r
}

// noteFound records that a path is there. Of a file its content counts too.
func (f *treeFS) noteFound(p string, e unit.TreeEntry) {
	if e.Mode == unit.ModeDir {
		f.note(p, unit.Read{Kind: unit.ReadDir})
		return
	}
	f.note(p, unit.Read{Kind: unit.ReadFile, Mode: e.Mode, Hash: e.Hash})
}

func isFile(m unit.Mode) bool { return m&0o170000 == 0o100000 }

func notThere(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

// walk is a path on its way down the tree.
type walk struct {
	at   []unit.TreeEntry // the directories above, the root first
	rest []string
}

func (w *walk) path() string {
	names := make([]string, 0, len(w.at))
	for _, e := range w.at[1:] {
		names = append(names, e.Name)
	}
	return strings.Join(names, "/")
}

func (w *walk) here() unit.TreeEntry { return w.at[len(w.at)-1] }

// resolve finds a path, following links, and gives its real path.
func (f *treeFS) resolve(name string) (string, unit.TreeEntry, error) {
	inside, err := f.inside(name)
	if err != nil {
		return "", unit.TreeEntry{}, err
	}
	w := walk{at: []unit.TreeEntry{{Mode: unit.ModeDir, Hash: f.root}}, rest: inside}
	for links := 0; len(w.rest) > 0; {
		next := w.rest[0]
		w.rest = w.rest[1:]
		switch next {
		case "", ".":
			continue
		case "..":
			if len(w.at) == 1 {
				return "", unit.TreeEntry{}, f.refuse(leaves(name))
			}
			w.at = w.at[:len(w.at)-1]
			continue
		}
		e, err := f.step(&w, next, name)
		if err != nil {
			return "", unit.TreeEntry{}, err
		}
		if e.Mode != unit.ModeSymlink {
			w.at = append(w.at, e)
			continue
		}
		if links++; links > maxLinks {
			return "", unit.TreeEntry{}, f.refuse(&failure{file: shown(name), message: shown(name) + ": too many symbolic links", hint: "make the link point at a file or directory"})
		}
		if err := f.follow(&w, e); err != nil {
			return "", unit.TreeEntry{}, err
		}
	}
	return w.path(), w.here(), nil
}

// inside splits a path that kustomize gave, which must be below the mount.
func (f *treeFS) inside(name string) ([]string, error) {
	clean := path.Clean("/" + filepath.ToSlash(name))
	rest, ok := strings.CutPrefix(clean, mount)
	if !ok || rest != "" && rest[0] != '/' {
		return nil, f.refuse(leaves(name))
	}
	if rest == "" {
		return nil, nil
	}
	return strings.Split(rest[1:], "/"), nil
}

func leaves(name string) error {
	return &failure{message: "path " + shown(name) + " leaves the repository", hint: "keep everything a kustomization names inside the repository"}
}

// shown is a path as people know it.
func shown(name string) string {
	if name == mount {
		return "."
	}
	return strings.TrimPrefix(strings.TrimPrefix(name, mount), "/")
}

// step finds one name in the directory that w stands in.
func (f *treeFS) step(w *walk, name, whole string) (unit.TreeEntry, error) {
	dir := w.here()
	if dir.Mode != unit.ModeDir {
		f.noteFound(w.path(), dir)
		if dir.Mode == unit.ModeSubmodule {
			return unit.TreeEntry{}, f.refuse(submodule(w.path()))
		}
		return unit.TreeEntry{}, notThere("open", whole)
	}
	if f.lookups++; f.lookups > maxLookups {
		return unit.TreeEntry{}, f.refuse(&failure{message: fmt.Sprintf("more than %d lookups of files in one render", maxLookups), hint: "look for bases that include each other many times"})
	}
	entries, err := f.tree.Entries(context.Background(), dir.Hash)
	if err != nil {
		return unit.TreeEntry{}, f.fault(err)
	}
	for i := range entries {
		if entries[i].Name == name {
			return entries[i], nil
		}
	}
	gone := path.Join(w.path(), name)
	f.note(gone, unit.Read{Kind: unit.ReadMissing})
	f.missing = append(f.missing, path.Join(append([]string{gone}, w.rest...)...))
	return unit.TreeEntry{}, notThere("open", whole)
}

// follow puts a link's target in front of what is left of the way.
func (f *treeFS) follow(w *walk, link unit.TreeEntry) error {
	at := path.Join(w.path(), link.Name)
	f.note(at, unit.Read{Kind: unit.ReadLink, Mode: link.Mode, Hash: link.Hash})
	target, err := f.tree.Blob(context.Background(), link.Hash, maxLinkSize)
	if errors.Is(err, unit.ErrTooLarge) {
		return f.refuse(&failure{file: at, message: at + ": the symbolic link's target is too long"})
	}
	if err != nil {
		return f.fault(err)
	}
	if path.IsAbs(string(target)) {
		return f.refuse(&failure{file: at, message: at + ": the symbolic link leaves the repository", hint: "make it relative, to a place inside the repository"})
	}
	w.rest = append(strings.Split(string(target), "/"), w.rest...)
	return nil
}

func submodule(at string) error {
	return &failure{file: at, message: at + " is a Git submodule, which is not fetched", hint: "keep the files in this repository"}
}

// CleanedAbs splits a path into the real directory and the file's name.
func (f *treeFS) CleanedAbs(name string) (filesys.ConfirmedDir, string, error) {
	if _, at, ok := f.madeUp(name); ok {
		dir, base := path.Split(path.Join(mount, at))
		return filesys.ConfirmedDir(path.Clean(dir)), base, nil
	}
	at, e, err := f.resolve(name)
	if err != nil {
		return "", "", err
	}
	f.noteFound(at, e)
	if e.Mode == unit.ModeDir {
		return filesys.ConfirmedDir(path.Join(mount, at)), "", nil
	}
	dir, base := path.Split(path.Join(mount, at))
	return filesys.ConfirmedDir(path.Clean(dir)), base, nil
}

// ReadFile reads a file, within the render's bounds.
func (f *treeFS) ReadFile(name string) ([]byte, error) {
	if b, at, ok := f.madeUp(name); ok {
		f.files = append(f.files, readFile{at, b})
		return bytes.Clone(b), nil
	}
	at, e, err := f.resolve(name)
	if err != nil {
		return nil, err
	}
	f.noteFound(at, e)
	switch {
	case e.Mode == unit.ModeSubmodule:
		return nil, f.refuse(submodule(at))
	case !isFile(e.Mode):
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is a directory")}
	}
	b, err := f.tree.Blob(context.Background(), e.Hash, maxFile)
	if errors.Is(err, unit.ErrTooLarge) {
		return nil, f.refuse(&failure{file: at, message: fmt.Sprintf("%s: the file is over the limit of %d MiB", at, maxFile>>20), hint: "split it: no object that a cluster takes is that large"})
	}
	if err != nil {
		return nil, f.fault(err)
	}
	if f.bytes += int64(len(b)); f.bytes > maxRead {
		return nil, f.refuse(&failure{file: at, message: fmt.Sprintf("%s: the render reads more than %d MiB", at, maxRead>>20), hint: "look for bases that include each other many times"})
	}
	if b, err = f.decrypt(at, b); err != nil {
		return nil, f.fault(err)
	}
	f.files = append(f.files, readFile{at, b})
	if f.check != nil {
		if err := f.check(at, b); err != nil {
			return nil, f.refuse(err)
		}
	}
	if b, err = f.withCharts(at, b); err != nil {
		return nil, err
	}
	return bytes.Clone(b), nil // the original stays in the cache
}

// Exists tells whether a path is there.
func (f *treeFS) Exists(name string) bool {
	if _, _, ok := f.madeUp(name); ok {
		return true
	}
	at, e, err := f.resolve(name)
	if err != nil {
		return false
	}
	f.noteFound(at, e)
	return true
}

// IsDir tells whether a path is a directory.
func (f *treeFS) IsDir(name string) bool {
	if _, _, ok := f.madeUp(name); ok {
		return false
	}
	at, e, err := f.resolve(name)
	if err != nil {
		return false
	}
	f.noteFound(at, e)
	return e.Mode == unit.ModeDir
}

func (f *treeFS) list(name string) (string, []unit.TreeEntry, error) {
	at, e, err := f.resolve(name)
	if err != nil {
		return "", nil, err
	}
	if e.Mode != unit.ModeDir {
		f.noteFound(at, e)
		return "", nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	entries, err := f.tree.Entries(context.Background(), e.Hash)
	if err != nil {
		return "", nil, f.fault(err)
	}
	f.note(at, unit.Read{Kind: unit.ReadNames, Hash: unit.NamesHash(entries)})
	return at, entries, nil
}

// ReadDir lists a directory's names.
func (f *treeFS) ReadDir(name string) ([]string, error) {
	_, entries, err := f.list(name)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name
	}
	return names, nil
}

// Glob matches names in one directory.
func (f *treeFS) Glob(pattern string) ([]string, error) {
	dir, names := path.Split(pattern)
	if strings.ContainsAny(dir, "*?[") {
		return nil, fmt.Errorf("%s: patterns in a directory's name are not supported", shown(pattern))
	}
	at, entries, err := f.list(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if ok, err := path.Match(names, e.Name); err != nil {
			return nil, err
		} else if ok {
			found = append(found, path.Join(mount, at, e.Name))
		}
	}
	return found, nil
}

// Walk visits files and directories by name, and follows no link.
func (f *treeFS) Walk(name string, visit filepath.WalkFunc) error {
	at, entries, err := f.list(name)
	if err != nil {
		return visit(name, nil, err)
	}
	for _, e := range entries {
		p := path.Join(mount, at, e.Name)
		err := visit(p, info{e}, nil)
		if e.Mode == unit.ModeDir && err == nil {
			err = f.Walk(p, visit)
		}
		if err != nil && !(e.Mode == unit.ModeDir && errors.Is(err, filepath.SkipDir)) {
			return err
		}
	}
	return nil
}

// Open reads a file as a stream.
func (f *treeFS) Open(name string) (filesys.File, error) {
	b, err := f.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return file{bytes.NewReader(b), info{unit.TreeEntry{Name: path.Base(name), Mode: unit.ModeRegular}}}, nil
}
