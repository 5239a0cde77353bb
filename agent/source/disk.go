package source

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// disk is a repository on a volume, read in place as git wrote it. Nothing
// outside of its directory is read: it can't borrow another's objects.
type disk struct {
	cfg *Config
	dir string
}

var (
	_ place = (*disk)(nil)
	_ giver = (*disk)(nil)
	_ visit = (*diskVisit)(nil)
)

// diskVisit opens the repository anew: somebody else writes to it.
type diskVisit struct {
	cfg   *Config
	store *filesystem.Storage
	refs  references
}

func (d *disk) visit(context.Context) (visit, error) {
	dir, err := d.find()
	if err != nil {
		return nil, err
	}
	store := openStore(dir)
	v := &diskVisit{cfg: d.cfg, store: store, refs: references{}}
	all, err := store.IterReferences()
	if err != nil {
		return nil, unreadable(err)
	}
	err = all.ForEach(func(r *plumbing.Reference) error {
		if r.Type() == plumbing.HashReference {
			v.refs[r.Name().String()] = unit.Hash(r.Hash())
		}
		return nil
	})
	if err != nil {
		return nil, unreadable(err)
	}
	if len(v.refs) == 0 {
		return nil, fleet.WithHint(fleet.NotFound("the repository is empty"), "fetch into it what is to be followed")
	}
	return v, nil
}

// find is where the repository's own files are.
func (d *disk) find() (string, error) {
	dir, err := filepath.EvalSymlinks(d.dir)
	if err != nil {
		return "", fleet.WithHint(fleet.NotFound("%w", err), "is the volume mounted, and is the path right?")
	}
	if inner := filepath.Join(dir, ".git"); isDir(inner) {
		dir = inner
	}
	if !isDir(filepath.Join(dir, "objects")) || !isDir(filepath.Join(dir, "refs")) {
		return "", fleet.WithHint(fleet.NotFound("%s is not a Git repository", d.dir), "make one with: git clone --bare, or git init --bare")
	}
	return dir, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func unreadable(err error) error {
	return fleet.WithHint(fleet.Unavailable("%w", err), "may the agent read all of its files? Check it with git fsck")
}

func (v *diskVisit) references() references { return v.refs }

func (v *diskVisit) gives() bool { return true }

func (v *diskVisit) Close() error { return v.store.Close() }

// bring reads what we lack. Below a directory that we have, nothing is lacking.
func (v *diskVisit) bring(ctx context.Context, tip unit.Hash, have state) (got brought, err error) {
	defer func() {
		if p := recover(); p != nil { // as for packs, damage must not end the agent
			err = damaged(fmt.Errorf("it is malformed: %v", p))
		}
	}()
	have = have.whole()
	l := loader{ctx: ctx, from: v.store, into: newPackStore(have.objects), guard: guard{limits: v.cfg.Limits}}
	if err := l.tip(tip); err != nil {
		if ctx.Err() != nil {
			return brought{}, noAnswer(ctx, v.cfg.Timeout)
		}
		return brought{}, damaged(err)
	}
	all := l.into.added
	maps.Copy(all, have.objects)
	if got, err = all.of(tip, v.cfg.Limits, true); err != nil {
		return brought{}, damaged(err)
	}
	return got, nil
}

// give reads files by their names.
func (d *disk) give(ctx context.Context, wants []unit.Hash) (got objects, err error) {
	defer func() {
		if p := recover(); p != nil { // as above
			err = damaged(fmt.Errorf("it is malformed: %v", p))
		}
	}()
	dir, err := d.find()
	if err != nil {
		return nil, err
	}
	store := openStore(dir)
	defer func() { _ = store.Close() }() // it was only read
	l := loader{ctx: ctx, from: store, into: newPackStore(nil), guard: guard{limits: d.cfg.Limits}}
	for _, h := range wants {
		if _, err := l.load(plumbing.BlobObject, h); err != nil {
			return nil, damaged(err)
		}
		if l.into.added[h].kind != plumbing.BlobObject {
			return nil, damaged(fmt.Errorf("%s is not a file", h))
		}
	}
	return l.into.added, nil
}

func openStore(dir string) *filesystem.Storage {
	return filesystem.NewStorageWithOptions(osfs.New(dir, osfs.WithBoundOS()), cache.NewObjectLRU(8*cache.MiByte), filesystem.Options{})
}

// history reads commits until it has as many as asked for.
func (v *diskVisit) history(ctx context.Context, tip unit.Hash, depth int, _ state) (history, error) {
	l := loader{ctx: ctx, from: v.store, into: newPackStore(nil), guard: guard{limits: v.cfg.Limits}}
	known := history{}
	todo := []unit.Hash{tip}
	for len(todo) > 0 && len(known) < depth {
		commit := todo[0]
		todo = todo[1:]
		if _, ok := known[commit]; ok {
			continue
		}
		content, err := l.load(plumbing.CommitObject, commit)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			continue // a shallow repository ends here
		}
		if err != nil {
			return nil, damaged(err)
		}
		if known[commit], err = parseParents(content); err != nil {
			return nil, damaged(err)
		}
		todo = append(todo, known[commit]...)
	}
	return known, nil
}

// loader takes objects over from a repository on disk.
type loader struct {
	ctx   context.Context
	from  *filesystem.Storage
	into  *packStore
	guard guard
	count uint32
}

func (l *loader) tip(tip unit.Hash) error {
	commit := tip
	for range maxTags {
		content, err := l.load(plumbing.TagObject, commit)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			break // it is the commit
		}
		if err != nil {
			return err
		}
		if commit, _, err = parseTag(content); err != nil {
			return fmt.Errorf("tag %s: %w", tip, err)
		}
	}
	content, err := l.load(plumbing.CommitObject, commit)
	if err != nil {
		return err
	}
	root, err := parseCommit(content)
	if err != nil {
		return fmt.Errorf("commit %s: %w", commit, err)
	}
	return l.below(root)
}

// below loads a directory and all under it.
func (l *loader) below(root unit.Hash) error {
	todo := []unit.Hash{root}
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, ok := l.into.lookup(plumbing.Hash(dir)); ok {
			continue
		}
		content, err := l.load(plumbing.TreeObject, dir)
		if err != nil {
			return err
		}
		entries, err := parseTree(content)
		if err != nil {
			return fmt.Errorf("tree %s: %w", dir, err)
		}
		for _, e := range entries {
			switch e.Mode {
			case unit.ModeDir:
				todo = append(todo, e.Hash)
			case unit.ModeSubmodule:
			default:
				if _, err := l.load(plumbing.BlobObject, e.Hash); err != nil {
					return fmt.Errorf("%s: %w", e.Name, err)
				}
			}
		}
	}
	return nil
}

// load takes one object over, and gives the content of all but files. Its name
// is checked against what it holds.
func (l *loader) load(kind plumbing.ObjectType, h unit.Hash) ([]byte, error) {
	if err := l.ctx.Err(); err != nil {
		return nil, err
	}
	name := plumbing.Hash(h)
	if _, ok := l.into.lookup(name); !ok {
		if err := l.take(kind, name); err != nil {
			return nil, fmt.Errorf("%s %s: %w", kind, h, err)
		}
	}
	if kind == plumbing.BlobObject {
		return nil, nil
	}
	found, _ := l.into.lookup(name)
	if found.kind != kind {
		return nil, plumbing.ErrObjectNotFound
	}
	return found.inflate()
}

func (l *loader) take(kind plumbing.ObjectType, name plumbing.Hash) error {
	size, err := l.from.EncodedObjectSize(name)
	if err != nil {
		return err
	}
	if err := l.guard.add(uint64(size)); err != nil {
		return err
	}
	if l.count++; l.count > l.guard.limits.Objects {
		return fmt.Errorf("%w: more than %d objects", errLimit, l.guard.limits.Objects)
	}
	o, err := l.from.EncodedObject(kind, name)
	if err != nil {
		return err
	}
	got, err := l.into.SetEncodedObject(o)
	if err == nil && got != name {
		delete(l.into.added, unit.Hash(got))
		return errors.New("what is stored under this name is something else")
	}
	return err
}
