package source

import (
	"bytes"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// object is one Git object. The bytes are never written to once it is stored,
// so snapshots share them.
type object struct {
	kind   plumbing.ObjectType
	size   int64  // inflated
	packed []byte // zlib
}

// inflaters are kept: one is 40 KB, and a fetch reads every directory.
var inflaters sync.Pool

// inflate gives the object's content. The size was checked when it was stored.
func (o object) inflate() ([]byte, error) {
	z, ok := inflaters.Get().(io.Reader)
	var err error
	if ok {
		err = z.(zlib.Resetter).Reset(bytes.NewReader(o.packed), nil)
	} else {
		z, err = zlib.NewReader(bytes.NewReader(o.packed))
	}
	if err != nil {
		return nil, err
	}
	defer inflaters.Put(z)
	content := make([]byte, o.size)
	_, err = io.ReadFull(z, content)
	return content, err
}

// objects are all objects of one snapshot. Nothing writes to the map once the
// snapshot is handed out.
type objects map[unit.Hash]object

func (o objects) read(kind plumbing.ObjectType, h unit.Hash) ([]byte, error) {
	found, ok := o[h]
	if !ok {
		return nil, fmt.Errorf("%s %s: %w", kind, h, errMissing)
	}
	if found.kind != kind {
		return nil, fmt.Errorf("%s is a %s, not a %s", h, found.kind, kind)
	}
	content, err := found.inflate()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, h, err)
	}
	return content, nil
}

var errMissing = errors.New("the object is missing")

func (o objects) hasAll(names []unit.Hash) bool {
	for _, h := range names {
		if _, ok := o[h]; !ok {
			return false
		}
	}
	return true
}

// maxTags bounds tags of tags.
const maxTags = 8

// peel follows annotated tags to the commit.
func (o objects) peel(tip unit.Hash) (unit.Hash, error) {
	for range maxTags {
		if found, ok := o[tip]; !ok || found.kind != plumbing.TagObject {
			return tip, nil // whether it is a commit is found out when it is read
		}
		content, err := o.read(plumbing.TagObject, tip)
		if err != nil {
			return unit.Hash{}, err
		}
		of, kind, err := parseTag(content)
		if err != nil {
			return unit.Hash{}, fmt.Errorf("tag %s: %w", tip, err)
		}
		if kind != "commit" && kind != "tag" {
			return unit.Hash{}, fmt.Errorf("tag %s is of a %s, not of a commit", tip, plain(kind))
		}
		tip = of
	}
	return unit.Hash{}, fmt.Errorf("tag %s: more than %d tags lead to its commit", tip, maxTags)
}

// of takes out what a tip needs.
func (o objects) of(tip unit.Hash) (brought, error) {
	commit, err := o.peel(tip)
	if err != nil {
		return brought{}, err
	}
	kept, root, err := o.reachable(commit)
	if err != nil {
		return brought{}, err
	}
	kept[tip] = o[tip]
	return brought{commit: commit, root: root, objects: kept}, nil
}

// reachable is what the commit needs: itself, its tree and everything below.
// A new map is made, so that the old one can be freed as a whole; the bytes are
// shared. Each tree is visited once however often it appears.
func (o objects) reachable(commit unit.Hash) (objects, unit.Hash, error) {
	content, err := o.read(plumbing.CommitObject, commit)
	if err != nil {
		return nil, unit.Hash{}, err
	}
	root, err := parseCommit(content)
	if err != nil {
		return nil, unit.Hash{}, fmt.Errorf("commit %s: %w", commit, err)
	}
	kept := make(objects, len(o))
	kept[commit] = o[commit]
	todo := []unit.Hash{root}
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, ok := kept[dir]; ok {
			continue
		}
		content, err := o.read(plumbing.TreeObject, dir)
		if err != nil {
			return nil, unit.Hash{}, err
		}
		entries, err := parseTree(content)
		if err != nil {
			return nil, unit.Hash{}, fmt.Errorf("tree %s: %w", dir, err)
		}
		kept[dir] = o[dir]
		for _, e := range entries {
			switch e.Mode {
			case unit.ModeDir:
				todo = append(todo, e.Hash)
			case unit.ModeSubmodule: // another repository's commit
			default:
				blob, ok := o[e.Hash]
				if !ok || blob.kind != plumbing.BlobObject {
					return nil, unit.Hash{}, fmt.Errorf("%s %s: %w", e.Name, e.Hash, errMissing)
				}
				kept[e.Hash] = blob
			}
		}
	}
	return kept, root, nil
}

// within checks what many small fetches, each within the limits, add up to.
func (o objects) within(limits Limits) error {
	if len(o) > int(limits.Objects) {
		return fmt.Errorf("%w: %d objects, at most %d are read", errLimit, len(o), limits.Objects)
	}
	var total int64
	for _, each := range o {
		total += each.size
	}
	if total > limits.TotalBytes {
		return fmt.Errorf("%w: %d bytes in all, at most %d are read", errLimit, total, limits.TotalBytes)
	}
	return nil
}

// tree is a snapshot's unit.Tree.
type tree struct {
	objects objects
	parsed  *parsedTrees
}

var _ unit.Tree = (*tree)(nil)

// Entries lists a directory. The slice is shared: it must not be written to.
func (t *tree) Entries(ctx context.Context, dir unit.Hash) ([]unit.TreeEntry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if entries, ok := t.parsed.get(dir); ok {
		return entries, nil
	}
	content, err := t.objects.read(plumbing.TreeObject, dir)
	if err != nil {
		return nil, err
	}
	entries, err := parseTree(content)
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", dir, err)
	}
	t.parsed.put(dir, entries)
	return entries, nil
}

// Blob reads a file or a link's target.
func (t *tree) Blob(ctx context.Context, file unit.Hash, limit int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o, ok := t.objects[file]; ok && o.size > limit {
		return nil, fmt.Errorf("blob %s: %w", file, unit.ErrTooLarge)
	}
	return t.objects.read(plumbing.BlobObject, file)
}

// maxParsed bounds the entries kept parsed: about 2 MiB.
const maxParsed = 1 << 14

// parsedTrees keeps directories parsed. A hash always means the same content,
// so all snapshots of a repository share one.
type parsedTrees struct {
	mu      sync.Mutex
	byHash  map[unit.Hash][]unit.TreeEntry
	entries int
}

func newParsedTrees() *parsedTrees {
	return &parsedTrees{byHash: map[unit.Hash][]unit.TreeEntry{}}
}

func (p *parsedTrees) get(h unit.Hash) ([]unit.TreeEntry, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	entries, ok := p.byHash[h]
	return entries, ok
}

func (p *parsedTrees) put(h unit.Hash, entries []unit.TreeEntry) {
	cost := len(entries) + 1
	if cost > maxParsed {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.byHash[h]; ok {
		return
	}
	if p.entries+cost > maxParsed {
		clear(p.byHash)
		p.entries = 0
	}
	p.byHash[h] = entries
	p.entries += cost
}
