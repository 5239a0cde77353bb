package render_test

import (
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"path"
	"sort"
	"strings"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// files is a repository: slash paths to contents. A content that begins with
// "-> " is a symbolic link.
type files map[string]string

const linkTo = "-> "

// memTree keeps trees and blobs by hash, as a Git repository does.
type memTree struct {
	dirs  map[unit.Hash][]unit.TreeEntry
	blobs map[unit.Hash][]byte
	fail  error // what every read gives
}

var _ unit.Tree = (*memTree)(nil)

func newMemTree() *memTree {
	return &memTree{dirs: map[unit.Hash][]unit.TreeEntry{}, blobs: map[unit.Hash][]byte{}}
}

var errNoObject = errors.New("object not found")

func (t *memTree) Entries(_ context.Context, dir unit.Hash) ([]unit.TreeEntry, error) {
	if t.fail != nil {
		return nil, t.fail
	}
	e, ok := t.dirs[dir]
	if !ok {
		return nil, errNoObject
	}
	return e, nil
}

func (t *memTree) Blob(_ context.Context, file unit.Hash, max int64) ([]byte, error) {
	if t.fail != nil {
		return nil, t.fail
	}
	b, ok := t.blobs[file]
	if !ok {
		return nil, errNoObject
	}
	if int64(len(b)) > max {
		return nil, unit.ErrTooLarge
	}
	return b, nil
}

// add puts a repository's files in and gives the root.
func (t *memTree) add(repo files) unit.Hash {
	under := map[string]files{}
	entries := []unit.TreeEntry{}
	for p, content := range repo {
		dir, rest, deep := strings.Cut(p, "/")
		if deep {
			if under[dir] == nil {
				under[dir] = files{}
			}
			under[dir][rest] = content
			continue
		}
		e := unit.TreeEntry{Name: p, Mode: unit.ModeRegular}
		if target, ok := strings.CutPrefix(content, linkTo); ok {
			e.Mode, content = unit.ModeSymlink, target
		}
		e.Hash = sha1.Sum([]byte("blob" + content))
		t.blobs[e.Hash] = []byte(content)
		entries = append(entries, e)
	}
	for name, sub := range under {
		entries = append(entries, unit.TreeEntry{Name: name, Mode: unit.ModeDir, Hash: t.add(sub)})
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name < entries[j].Name })
	return t.put(entries)
}

func (t *memTree) put(entries []unit.TreeEntry) unit.Hash {
	h := sha1.New()
	for _, e := range entries {
		fmt.Fprintf(h, "%s\x00", e.Name)
		_ = binary.Write(h, binary.BigEndian, uint32(e.Mode))
		h.Write(e.Hash[:])
	}
	root := unit.Hash(h.Sum(nil))
	t.dirs[root] = entries
	return root
}

// snapshot is a repository of the given files.
func snapshot(repo files) unit.Snapshot {
	t := newMemTree()
	return unit.Snapshot{RepoURL: "https://git.example/fleet", Ref: "main", Commit: "0123456789abcdef0123456789abcdef01234567", Root: t.add(repo), Tree: t}
}

// with is a copy of a repository with files added or, where empty, taken away.
func (f files) with(changes files) files {
	out := files{}
	maps.Copy(out, f)
	for p, c := range changes {
		if c == "" {
			delete(out, path.Clean(p))
			continue
		}
		out[path.Clean(p)] = c
	}
	return out
}
