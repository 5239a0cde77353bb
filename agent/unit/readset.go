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

	Kubernetes string            `json:"kubernetes,omitempty"` // the API server's version, where it was used
	Values     string            `json:"values,omitempty"`     // hash of the values that did not come from the repository
	Keys       string            `json:"keys,omitempty"`       // the app's keys, where any was asked for
	Charts     map[string]string `json:"charts,omitempty"`     // digest of the archive of each chart that was fetched
}

// Holds tells whether every dependency is the same in the tree at root, for
// the facts and the renderer's version.
func (r ReadSet) Holds(ctx context.Context, t Tree, root Hash, f Facts, renderer string) (bool, error) {
	if !r.factsHold(f, renderer) {
		return false, nil
	}
	for p, want := range r.Paths {
		got, ok, err := Lookup(ctx, t, root, p)
		if err != nil {
			return false, err
		}
		if holds, err := want.holdsAt(ctx, t, got, ok); err != nil || !holds {
			return false, err
		}
	}
	return true, nil
}

// factsHold tells whether what is not in the tree is the same.
func (r ReadSet) factsHold(f Facts, renderer string) bool {
	if r.Renderer != renderer || r.Paths == nil || r.Cluster != "" && r.Cluster != f.Cluster ||
		r.Kubernetes != "" && r.Kubernetes != f.Kubernetes || r.Values != f.Values {
		return false
	}
	if r.Keys != "" && r.Keys != f.Keys {
		return false
	}
	for k, v := range r.Labels {
		if got, ok := f.Labels[k]; !ok || got != v {
			return false
		}
	}
	for _, k := range r.Absent {
		if _, ok := f.Labels[k]; ok {
			return false
		}
	}
	return true
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

// holdsAt tells whether what stands at the path is the same for the reader.
func (r Read) holdsAt(ctx context.Context, t Tree, got TreeEntry, exists bool) (bool, error) {
	switch r.Kind {
	case ReadMissing:
		return !exists, nil
	case ReadDir:
		return exists && got.Mode == ModeDir, nil
	case ReadNames:
		if !exists || got.Mode != ModeDir {
			return false, nil
		}
		entries, err := t.Entries(ctx, got.Hash)
		return err == nil && NamesHash(entries) == r.Hash, err
	default:
		return exists && got.Mode == r.Mode && got.Hash == r.Hash, nil
	}
}

// Lookup finds a slash path below root, without following links: read-sets
// name the links on their way one by one.
func Lookup(ctx context.Context, t Tree, root Hash, path string) (TreeEntry, bool, error) {
	at := TreeEntry{Mode: ModeDir, Hash: root}
	if path == "" {
		return at, true, nil
	}
	for name := range strings.SplitSeq(path, "/") {
		e, exists, err := lookupIn(ctx, t, at, name)
		if err != nil || !exists {
			return TreeEntry{}, false, err
		}
		at = e
	}
	return at, true, nil
}

func lookupIn(ctx context.Context, t Tree, dir TreeEntry, name string) (TreeEntry, bool, error) {
	if dir.Mode != ModeDir {
		return TreeEntry{}, false, nil
	}
	entries, err := t.Entries(ctx, dir.Hash)
	if err != nil {
		return TreeEntry{}, false, err
	}
	for _, e := range entries {
		if e.Name == name {
			return e, true, nil
		}
	}
	return TreeEntry{}, false, nil
}

// MarshalText and UnmarshalText keep hashes readable where read-sets are stored.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText accepts 40 hex digits.
func (h *Hash) UnmarshalText(b []byte) error {
	parsed, err := ParseHash(string(b))
	*h = parsed
	return err
}
