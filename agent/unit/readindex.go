package unit

import (
	"context"
	"reflect"
	"strings"
	"sync"
)

// ReadIndex remembers which read-sets hold at one root, and what all of them
// read there. To go on to another root it visits the directories that changed
// and were read, and no others: what a commit costs does not grow with the
// number of read-sets. The zero value is ready. It is safe for concurrent use.
//
// It is no more than a memory: ReadSet.Holds gives the same answers.
type ReadIndex[K comparable] struct {
	mu   sync.Mutex
	root readNode
	sets map[K]*readSet[K]
}

// readSet is one that holds. Nobody writes to its map.
type readSet[K comparable] struct {
	key   K
	paths map[string]Read
}

// readNode is a path that was read, or is on the way to one.
type readNode struct {
	entry    TreeEntry // without its name
	exists   bool
	uses     []readUse
	children map[string]*readNode
}

type readUse struct {
	set  any // *readSet[K]
	read Read
}

// Holds is ReadSet.Holds, asked under a key: what holds is remembered until the
// key stands for another read-set.
func (x *ReadIndex[K]) Holds(ctx context.Context, key K, r ReadSet, t Tree, root Hash, f Facts, renderer string) (bool, error) {
	if !r.factsHold(f, renderer) {
		return false, nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.advance(ctx, t, root); err != nil {
		return false, err
	}
	if s := x.sets[key]; s != nil {
		if sameMap(s.paths, r.Paths) {
			return true, nil
		}
		x.drop(s)
	}
	return x.add(ctx, t, &readSet[K]{key, r.Paths})
}

// Forget takes a key out.
func (x *ReadIndex[K]) Forget(key K) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s := x.sets[key]; s != nil {
		x.drop(s)
	}
}

// Len is how many read-sets are remembered.
func (x *ReadIndex[K]) Len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.sets)
}

// sameMap tells whether two are one. The index keeps its own alive, so that no
// other can come to lie in its place.
func sameMap(a, b map[string]Read) bool {
	return reflect.ValueOf(a).UnsafePointer() == reflect.ValueOf(b).UnsafePointer()
}

// advance goes on to another root and forgets what does not hold there.
func (x *ReadIndex[K]) advance(ctx context.Context, t Tree, root Hash) error {
	if x.sets == nil {
		x.reset()
	}
	moved := map[any]bool{}
	if err := x.root.become(ctx, t, TreeEntry{Mode: ModeDir, Hash: root}, true, moved); err != nil {
		x.reset() // half of it is of the old root
		return err
	}
	for s := range moved {
		x.drop(s.(*readSet[K]))
	}
	return nil
}

func (x *ReadIndex[K]) reset() { x.root, x.sets = readNode{}, map[K]*readSet[K]{} }

// become brings a node up to date, and collects the read-sets that do not hold
// any more. Where nothing changed it does not look below.
func (n *readNode) become(ctx context.Context, t Tree, e TreeEntry, exists bool, moved map[any]bool) error {
	if n.exists == exists && n.entry.Mode == e.Mode && n.entry.Hash == e.Hash {
		return nil
	}
	n.entry, n.exists = TreeEntry{Mode: e.Mode, Hash: e.Hash}, exists
	for _, u := range n.uses {
		holds, err := u.read.holdsAt(ctx, t, n.entry, exists)
		if err != nil {
			return err
		}
		if !holds {
			moved[u.set] = true
		}
	}
	if len(n.children) == 0 {
		return nil
	}
	var entries []TreeEntry
	if exists && e.Mode == ModeDir {
		var err error
		if entries, err = t.Entries(ctx, e.Hash); err != nil {
			return err
		}
	}
	there := make(map[*readNode]bool, len(n.children))
	for _, below := range entries {
		if c := n.children[below.Name]; c != nil {
			there[c] = true
			if err := c.become(ctx, t, below, true, moved); err != nil {
				return err
			}
		}
	}
	for _, c := range n.children {
		if !there[c] {
			if err := c.become(ctx, t, TreeEntry{}, false, moved); err != nil {
				return err
			}
		}
	}
	return nil
}

// add takes a read-set in if it holds at the index's root.
func (x *ReadIndex[K]) add(ctx context.Context, t Tree, s *readSet[K]) (bool, error) {
	x.sets[s.key] = s
	for p, want := range s.paths {
		n, err := x.root.reach(ctx, t, p)
		holds := false
		if err == nil {
			n.uses = append(n.uses, readUse{s, want})
			holds, err = want.holdsAt(ctx, t, n.entry, n.exists)
		}
		if err != nil || !holds {
			x.drop(s)
			return false, err
		}
	}
	return true, nil
}

// reach finds the node of a path, and makes it where nobody read there before.
func (n *readNode) reach(ctx context.Context, t Tree, path string) (*readNode, error) {
	if path == "" {
		return n, nil
	}
	for name := range strings.SplitSeq(path, "/") {
		c := n.children[name]
		if c == nil {
			e, exists := TreeEntry{}, false
			if n.exists {
				var err error
				if e, exists, err = lookupIn(ctx, t, n.entry, name); err != nil {
					return nil, err
				}
			}
			c = &readNode{entry: TreeEntry{Mode: e.Mode, Hash: e.Hash}, exists: exists}
			if n.children == nil {
				n.children = map[string]*readNode{}
			}
			n.children[name] = c
		}
		n = c
	}
	return n, nil
}

func (x *ReadIndex[K]) drop(s *readSet[K]) {
	delete(x.sets, s.key)
	for p := range s.paths {
		x.root.release(p, s)
	}
}

// release takes a read-set off a path, and away what nobody reads any more. It
// tells whether the node itself is such.
func (n *readNode) release(path string, set any) bool {
	if path == "" {
		for i := len(n.uses) - 1; i >= 0; i-- {
			if n.uses[i].set == set {
				n.uses[i] = n.uses[len(n.uses)-1]
				n.uses = n.uses[:len(n.uses)-1]
			}
		}
	} else {
		name, rest, _ := strings.Cut(path, "/")
		if c := n.children[name]; c != nil && c.release(rest, set) {
			delete(n.children, name)
		}
	}
	return len(n.uses) == 0 && len(n.children) == 0
}
