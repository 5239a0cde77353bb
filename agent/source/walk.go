package source

import (
	"fmt"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// walk visits all that a commit needs, each directory once however often it
// appears. A new map is made, so that the old one can be freed as a whole; the
// bytes are shared.
type walk struct {
	from    objects
	limits  Limits
	blobs   bool // files must be there, and are kept
	kept    objects
	heights map[unit.Hash]int // of directories: how many are below each other there
	named   map[unit.Hash]struct{}
	files   uint32
}

// of takes out what a tip needs, with its files or without.
func (o objects) of(tip unit.Hash, limits Limits, blobs bool) (brought, error) {
	commit, err := o.peel(tip)
	if err != nil {
		return brought{}, err
	}
	content, err := o.read(plumbing.CommitObject, commit)
	if err != nil {
		return brought{}, err
	}
	root, err := parseCommit(content)
	if err != nil {
		return brought{}, fmt.Errorf("commit %s: %w", commit, err)
	}
	w := walk{from: o, limits: limits, blobs: blobs, kept: objects{commit: o[commit]}, heights: map[unit.Hash]int{}, named: map[unit.Hash]struct{}{}}
	if _, err := w.directory(root, 1); err != nil {
		return brought{}, err
	}
	for tag := tip; tag != commit; { // the way to the commit was walked before
		w.kept[tag] = o[tag]
		content, err := o.read(plumbing.TagObject, tag)
		if err != nil {
			return brought{}, err
		}
		if tag, _, err = parseTag(content); err != nil {
			return brought{}, err
		}
	}
	names := make([]unit.Hash, 0, len(w.named))
	for h := range w.named {
		names = append(names, h)
	}
	slices.SortFunc(names, compareHashes)
	return brought{commit: commit, root: root, objects: w.kept, names: names, blobless: !blobs}, nil
}

// directory walks one and all below. It tells how deep that is.
func (w *walk) directory(dir unit.Hash, depth int) (height int, err error) {
	height, seen := w.heights[dir]
	if depth+height > w.limits.Depth {
		return 0, fleet.WithHint(fmt.Errorf("%w: directories are more than %d deep in each other", errLimit, w.limits.Depth),
			"move them up, or follow a repository without them")
	}
	if seen {
		return height, nil
	}
	content, err := w.from.read(plumbing.TreeObject, dir)
	if err != nil {
		return 0, err
	}
	entries, err := parseTree(content)
	if err != nil {
		return 0, fmt.Errorf("tree %s: %w", dir, err)
	}
	w.kept[dir] = w.from[dir]
	for _, e := range entries {
		switch e.Mode {
		case unit.ModeDir:
			below, err := w.directory(e.Hash, depth+1)
			if err != nil {
				return 0, err
			}
			height = max(height, below+1)
		case unit.ModeSubmodule: // another repository's commit
		default:
			if err := w.file(e); err != nil {
				return 0, err
			}
		}
	}
	w.heights[dir] = height
	return height, nil
}

func (w *walk) file(e unit.TreeEntry) error {
	if w.files++; w.files > w.limits.Objects {
		return fleet.WithHint(fmt.Errorf("%w: more than %d files", errLimit, w.limits.Objects),
			"split the repository, or follow one that holds what clusters need and no more")
	}
	w.named[e.Hash] = struct{}{}
	if !w.blobs {
		return nil
	}
	blob, ok := w.from[e.Hash]
	if !ok || blob.kind != plumbing.BlobObject {
		return fmt.Errorf("%s %s: %w", e.Name, e.Hash, errMissing)
	}
	w.kept[e.Hash] = blob
	return nil
}

// asked checks that all that was sent is part of what was asked for.
func (b *brought) asked(added objects) error {
	for h := range added {
		if _, ok := b.objects[h]; ok {
			continue
		}
		if _, ok := slices.BinarySearchFunc(b.names, h, compareHashes); !ok {
			return errUnasked
		}
	}
	return nil
}
