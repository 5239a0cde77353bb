package unit

import (
	"context"
	"crypto/sha1" // as short as the hashes it stands beside; nobody gains by a collision
	"encoding/binary"
	"strings"
)

// ReadKind says in what way a render depended on a path.
type ReadKind uint8

const (
	ReadFile    ReadKind = iota // content and mode
	ReadDir                     // that it is a directory, no more
	ReadMissing                 // that it is not there
	ReadList                    // a directory's names, modes and hashes
	ReadLink                    // a symbolic link's target
	ReadNames                   // a directory's names and modes; Hash is NamesHash of them
)

// Read is one dependency: what a path was when it was read.
type Read struct {
	Kind ReadKind `json:"k"`
	Mode Mode     `json:"m,omitempty"`
	Hash Hash     `json:"h,omitzero"`
}

// ReadSet is everything a render's outcome depended on. While all of it holds,
// rendering again would give the same.
type ReadSet struct {
	Paths    map[string]Read   `json:"paths"`             // slash paths from the root; "" is the root
	Labels   map[string]string `json:"labels,omitempty"`  // label values that were used
	Absent   []string          `json:"absent,omitempty"`  // labels that were asked for and not there
	Cluster  string            `json:"cluster,omitempty"` // the cluster's name, where it was used
	Renderer string            `json:"renderer"`          // version of what rendered
}

// Holds tells whether every dependency is the same in the tree at root, for
// the facts and the renderer's version.
func (r ReadSet) Holds(ctx context.Context, t Tree, root Hash, f Facts, renderer string) (bool, error) {
	if r.Renderer != renderer || r.Paths == nil || r.Cluster != "" && r.Cluster != f.Cluster {
		return false, nil
	}
	for k, v := range r.Labels {
		if got, ok := f.Labels[k]; !ok || got != v {
			return false, nil
		}
	}
	for _, k := range r.Absent {
		if _, ok := f.Labels[k]; ok {
			return false, nil
		}
	}
	for p, want := range r.Paths {
		got, ok, err := Lookup(ctx, t, root, p)
		if err != nil || !want.holds(got, ok) {
			return false, err
		}
		if want.Kind != ReadNames {
			continue
		}
		entries, err := t.Entries(ctx, got.Hash)
		if err != nil || NamesHash(entries) != want.Hash {
			return false, err
		}
	}
	return true, nil
}

// NamesHash identifies a directory's names and what each of them is. What is in
// the files, or below the directories, does not count.
func NamesHash(entries []TreeEntry) Hash {
	h := sha1.New()
	for _, e := range entries {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(e.Mode)))
		h.Write([]byte(e.Name))
		h.Write([]byte{0})
	}
	return Hash(h.Sum(nil))
}

// holds leaves the names of a ReadNames to the caller.
func (r Read) holds(got TreeEntry, exists bool) bool {
	switch r.Kind {
	case ReadMissing:
		return !exists
	case ReadDir, ReadNames:
		return exists && got.Mode == ModeDir
	default:
		return exists && got.Mode == r.Mode && got.Hash == r.Hash
	}
}

// Lookup finds a slash path below root, without following links: read-sets
// name the links on their way one by one.
func Lookup(ctx context.Context, t Tree, root Hash, path string) (TreeEntry, bool, error) {
	at := TreeEntry{Mode: ModeDir, Hash: root}
	if path == "" {
		return at, true, nil
	}
next:
	for name := range strings.SplitSeq(path, "/") {
		if at.Mode != ModeDir {
			return TreeEntry{}, false, nil
		}
		entries, err := t.Entries(ctx, at.Hash)
		if err != nil {
			return TreeEntry{}, false, err
		}
		for _, e := range entries {
			if e.Name == name {
				at = e
				continue next
			}
		}
		return TreeEntry{}, false, nil
	}
	return at, true, nil
}

// MarshalText and UnmarshalText keep hashes readable where read-sets are stored.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText accepts 40 hex digits.
func (h *Hash) UnmarshalText(b []byte) error {
	parsed, err := ParseHash(string(b))
	*h = parsed
	return err
}
