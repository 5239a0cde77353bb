// Package memtree keeps a repository in memory, as a unit.Tree, for tests.
package memtree

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

// Files is a repository: slash paths to contents. A content that begins with
// "-> " is a symbolic link.
type Files map[string]string

// LinkTo begins the content of a symbolic link.
const LinkTo = "-> "

// Tree keeps directories and files by hash, as a Git repository does.
type Tree struct {
	dirs  map[unit.Hash][]unit.TreeEntry
	blobs map[unit.Hash][]byte
	Fail  error // what every read gives
}

var _ unit.Tree = (*Tree)(nil)

// New makes an empty one.
func New() *Tree {
	return &Tree{dirs: map[unit.Hash][]unit.TreeEntry{}, blobs: map[unit.Hash][]byte{}}
}

var errNoObject = errors.New("object not found")

// Entries implements unit.Tree.
func (t *Tree) Entries(_ context.Context, dir unit.Hash) ([]unit.TreeEntry, error) {
	if t.Fail != nil {
		return nil, t.Fail
	}
	e, ok := t.dirs[dir]
	if !ok {
		return nil, errNoObject
	}
	return e, nil
}

// Blob implements unit.Tree.
func (t *Tree) Blob(_ context.Context, file unit.Hash, max int64) ([]byte, error) {
	if t.Fail != nil {
		return nil, t.Fail
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

// Add puts a repository's files in and gives the root.
func (t *Tree) Add(repo Files) unit.Hash {
	under := map[string]Files{}
	entries := []unit.TreeEntry{}
	for p, content := range repo {
		dir, rest, deep := strings.Cut(p, "/")
		if deep {
			if under[dir] == nil {
				under[dir] = Files{}
			}
			under[dir][rest] = content
			continue
		}
		e := unit.TreeEntry{Name: p, Mode: unit.ModeRegular}
		if target, ok := strings.CutPrefix(content, LinkTo); ok {
			e.Mode, content = unit.ModeSymlink, target
		}
		e.Hash = sha1.Sum([]byte("blob" + content))
		t.blobs[e.Hash] = []byte(content)
		entries = append(entries, e)
	}
	for name, sub := range under {
		entries = append(entries, unit.TreeEntry{Name: name, Mode: unit.ModeDir, Hash: t.Add(sub)})
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name < entries[j].Name })
	return t.Put(entries)
}

// Put adds a directory.
func (t *Tree) Put(entries []unit.TreeEntry) unit.Hash {
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

// Snapshot is a repository of the given files.
func Snapshot(repo Files) unit.Snapshot {
	t := New()
	return unit.Snapshot{RepoURL: "https://git.example/fleet", Ref: "main", Commit: "0123456789abcdef0123456789abcdef01234567", Root: t.Add(repo), Tree: t}
}

// With is a copy of a repository with files added or, where empty, taken away.
func (f Files) With(changes Files) Files {
	out := Files{}
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
