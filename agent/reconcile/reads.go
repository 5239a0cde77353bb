package reconcile

import (
	"cmp"
	"context"
	"sync"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// readIndexes decide what a commit has rendered anew: one index for each branch
// of each repository, because an index stands at one commit at a time.
type readIndexes struct {
	mu       sync.Mutex
	byBranch map[branch]*unit.ReadIndex[readKey]
	where    map[readKey]branch
}

type branch struct{ repoURL, ref string } // or a commit, which stands by itself

// readKey is one of an app's read-sets.
type readKey struct {
	app  fleet.AppName
	what readsOf
}

type readsOf uint8

const (
	readsApplied readsOf = iota // what is applied was rendered from
	readsLast                   // the last render, where it failed or waits
	readsContent                // the root's Apps
	readsCount
)

// of is the index that a read-set belongs to. One that went on to another
// branch leaves the index it was in: a tag that is followed is a new branch
// with every release.
func (x *readIndexes) of(s unit.Snapshot, key readKey) *unit.ReadIndex[readKey] {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := branch{s.RepoURL, cmp.Or(s.Ref, s.Commit)}
	if was, known := x.where[key]; known && was != b {
		x.leave(key)
	}
	index := x.byBranch[b]
	if index == nil {
		index = &unit.ReadIndex[readKey]{}
		if x.byBranch == nil {
			x.byBranch, x.where = map[branch]*unit.ReadIndex[readKey]{}, map[readKey]branch{}
		}
		x.byBranch[b] = index
	}
	x.where[key] = b
	return index
}

// forget takes an app's read-sets out.
func (x *readIndexes) forget(app fleet.AppName) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for what := range readsCount {
		x.leave(readKey{app, what})
	}
}

// leave is called with x.mu held.
func (x *readIndexes) leave(key readKey) {
	b, known := x.where[key]
	if !known {
		return
	}
	delete(x.where, key)
	index := x.byBranch[b]
	if index == nil {
		return
	}
	if index.Forget(key); index.Len() == 0 {
		delete(x.byBranch, b)
	}
}

// holds tells whether a render from these reads would give the same again.
func (e *Engine) holds(ctx context.Context, v view, what readsOf, reads unit.ReadSet) (bool, error) {
	s, key := v.snapshot, readKey{v.name, what}
	return e.reads.of(*s, key).Holds(ctx, key, reads, s.Tree, s.Root, v.facts, e.renderVersion())
}
