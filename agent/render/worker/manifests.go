package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime/debug"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// maxDepth bounds how deep plain directories are followed.
const maxDepth = 64

const excludeHint = "leave it out with spec.source.directory.exclude, or give it a name that does not end in .yaml, .yml or .json"

// isPlain tells whether a path is a directory of plain manifests: where the App
// says so, and where there is no kustomization file.
func (f *treeFS) isPlain(dir string, directory *unit.Directory) (bool, error) {
	if directory != nil {
		return true, nil
	}
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		if there, err := f.hasFile(dir, name); err != nil || there {
			return false, err
		}
	}
	return true, nil
}

// hasFile tells whether a directory has a file of a name.
func (f *treeFS) hasFile(dir, name string) (bool, error) {
	at, e, err := f.resolve(path.Join(mount, dir, name))
	switch {
	case f.broken != nil:
		return false, f.broken
	case f.refused != nil:
		return false, f.refused
	case err != nil:
		return false, nil //nolint:nilerr // it is not there, or not to be read: whoever needs it says so
	}
	f.noteFound(at, e)
	return e.Mode != unit.ModeDir, nil
}

// manifests reads a plain directory. Every error it gives is a *failure, or
// f.broken.
func (f *treeFS) manifests(dir string, directory *unit.Directory) (objects []unit.Object, err error) {
	m := manifests{fs: f, top: dir, seen: map[fleet.ObjectRef]document{}, odd: excludeHint}
	if directory != nil {
		m.chosen = *directory
	}
	defer func() {
		if p := recover(); p != nil {
			objects, err = nil, &failure{file: m.file, message: m.file + ": can't be read: " + panicPlace(debug.Stack())}
		}
	}()
	err = m.directory(dir, 0)
	switch {
	case f.broken != nil:
		return nil, f.broken
	case f.refused != nil:
		return nil, f.refused
	case err != nil:
		return nil, err
	case m.files == 0:
		return nil, m.nothing(directory != nil)
	}
	return m.objects, nil
}

// manifests is a plain directory while it is read.
type manifests struct {
	fs      *treeFS
	top     string
	chosen  unit.Directory
	file    string // at work on
	files   int
	objects []unit.Object
	seen    map[fleet.ObjectRef]document
	odd     string // what to do about a document that is no object
}

// document is one of a file. They count from 1, empty ones too.
type document struct {
	file         string
	line, number int
}

func (p document) String() string {
	return fmt.Sprintf("%s: document %d", at(p.file, p.line), p.number)
}

func (p document) fail(message, hint string) error {
	return &failure{file: p.file, line: p.line, message: p.String() + ": " + message, hint: hint}
}

// nothing is the error of a directory that holds no manifest: an empty one is
// more likely a mistake than a wish to remove all that runs.
func (m *manifests) nothing(chosen bool) error {
	dir := m.top
	if dir == "" {
		dir = "the repository's root"
	}
	if chosen {
		return &failure{file: m.top, message: dir + " has no manifest that spec.source.directory takes", hint: "manifests end in .yaml, .yml or .json; look at recurse, include and exclude"}
	}
	return &failure{file: m.top, message: dir + " has no kustomization file and no manifests", hint: "add a kustomization.yaml, or manifests that end in .yaml, .yml or .json; spec.source.directory.recurse takes those in directories below too"}
}

func (m *manifests) directory(dir string, depth int) error {
	if depth > maxDepth {
		return &failure{file: dir, message: fmt.Sprintf("%s: directories are nested more than %d deep", dir, maxDepth)}
	}
	_, entries, err := m.fs.list(path.Join(mount, dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if m.fs.lookups++; m.fs.lookups > maxLookups {
			return m.fs.refuse(&failure{file: dir, message: fmt.Sprintf("more than %d files and directories in one app", maxLookups), hint: "narrow spec.source.directory"})
		}
		name := path.Join(dir, e.Name)
		if strings.HasPrefix(e.Name, ".") || matchAny(m.chosen.Exclude, m.below(name)) {
			continue
		}
		switch {
		case e.Mode == unit.ModeDir && m.chosen.Recurse:
			err = m.directory(name, depth+1)
		case e.Mode == unit.ModeSubmodule && m.chosen.Recurse:
			err = submodule(name)
		case e.Mode == unit.ModeDir, e.Mode == unit.ModeSubmodule, !m.takes(name):
		default:
			err = m.read(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// below is a path as seen from the app's directory.
func (m *manifests) below(name string) string {
	if m.top == "" {
		return name
	}
	return strings.TrimPrefix(name, m.top+"/")
}

func (m *manifests) takes(name string) bool {
	switch path.Ext(name) {
	case ".yaml", ".yml", ".json":
	default:
		if !isKustomization(name) {
			return false
		}
	}
	return len(m.chosen.Include) == 0 || matchAny(m.chosen.Include, m.below(name))
}

// read takes one file's objects. A link to a directory is left alone.
func (m *manifests) read(name string) error {
	m.file = name
	at, e, err := m.fs.resolve(path.Join(mount, name))
	if err != nil {
		return &failure{file: name, message: name + ": the symbolic link points nowhere", hint: "mend the link, or take it away"}
	}
	if m.fs.noteFound(at, e); e.Mode == unit.ModeDir {
		return nil
	}
	if isKustomization(name) { // applied bare, what it patches would run unpatched
		return &failure{
			file: name, message: name + ": a kustomization file in a directory of plain manifests",
			hint: "take spec.source.directory away to have Kustomize build the path, or leave the file's directory out with spec.source.directory.exclude",
		}
	}
	content, err := m.fs.ReadFile(path.Join(mount, name))
	if err != nil {
		return err
	}
	m.files++
	if path.Ext(name) == ".json" {
		return m.readJSON(name, content)
	}
	return m.readYAML(name, content)
}

// add takes one document, as JSON.
func (m *manifests) add(p document, raw []byte) error {
	var id identity
	if json.Unmarshal(raw, &id) == nil && id.APIVersion == "" && id.Kind == "" {
		return p.fail("not a Kubernetes object: it has no apiVersion and no kind", m.odd)
	}
	before := len(m.objects)
	all, err := appendObject(m.objects, raw, 0)
	if bad, ok := errors.AsType[*failure](err); ok {
		return p.fail(bad.message, bad.hint)
	}
	m.objects = all
	for _, o := range all[before:] {
		key := o.Ref
		key.Version = ""
		if first, twice := m.seen[key]; twice {
			return p.fail(o.Ref.String()+" is there twice, first in "+first.String(), "keep one of the two, or give them different names")
		}
		m.seen[key] = p
	}
	return nil
}

func (m *manifests) readJSON(name string, content []byte) error {
	d := json.NewDecoder(bytes.NewReader(content))
	for n := 1; ; n++ {
		start := int(d.InputOffset())
		start += len(content[start:]) - len(bytes.TrimLeft(content[start:], " \t\r\n"))
		p := document{name, lineAt(content, start), n}
		var raw json.RawMessage
		err := d.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
				p.line = lineAt(content, int(syntax.Offset)-1)
			} else {
				p.line = lineAt(content, len(content))
			}
			return p.fail("not valid JSON", "mend the file: nothing of this app changes until it can be read")
		}
		if raw[0] != '{' {
			return p.fail("not a Kubernetes object", excludeHint)
		}
		if err := m.add(p, raw); err != nil {
			return err
		}
	}
}

// lineAt is the line of a position in a text.
func lineAt(content []byte, offset int) int {
	return 1 + bytes.Count(content[:max(0, min(offset, len(content)))], []byte("\n"))
}
