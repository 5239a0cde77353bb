package reconcile

import (
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
}

type branch struct{ repoURL, ref string }

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

func (x *readIndexes) of(s unit.Snapshot) *unit.ReadIndex[readKey] {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := branch{s.RepoURL, s.Ref}
	index := x.byBranch[b]
	if index == nil {
		index = &unit.ReadIndex[readKey]{}
		if x.byBranch == nil {
			x.byBranch = map[branch]*unit.ReadIndex[readKey]{}
		}
		x.byBranch[b] = index
	}
	return index
}

// forget takes an app's read-sets out.
func (x *readIndexes) forget(app fleet.AppName) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, index := range x.byBranch {
		for what := range readsCount {
			index.Forget(readKey{app, what})
		}
	}
}

// holds tells whether a render from these reads would give the same again.
func (e *Engine) holds(ctx context.Context, v view, what readsOf, reads unit.ReadSet) (bool, error) {
	s := v.snapshot
	return e.reads.of(*s).Holds(ctx, readKey{v.name, what}, reads, s.Tree, s.Root, v.facts, e.renderVersion())
}
