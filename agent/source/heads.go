package source

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// Kept is what is written down of the commits that are followed.
type Kept struct {
	unit.Head             // of the agent's own repository
	Others    []unit.Head `json:"others,omitempty"`
}

// headKey tells one from the other; the zero value is the agent's own.
type headKey struct{ repoURL, follows string }

// heads are written down where a branch that is moved is held: a restart must
// not make one be forgotten. Elsewhere a commit that touches nothing of the
// cluster is to cost its API server nothing.
type heads struct {
	store Heads
	on    bool

	saving sync.Mutex // held while the store writes

	mu   sync.Mutex
	kept map[headKey]unit.Head
}

func (h *heads) load(ctx context.Context) error {
	k, err := h.store.Load(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = map[headKey]unit.Head{{}: k.Head}
	for _, o := range k.Others {
		h.kept[headKey{o.RepoURL, o.Follows}] = o
	}
	return nil
}

func (h *heads) of(key headKey) (unit.Head, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	head, ok := h.kept[key]
	return head, ok && head.Commit != ""
}

// keep writes a head down, if it is not yet.
func (h *heads) keep(ctx context.Context, key headKey, head unit.Head) error {
	head.Follows = key.follows
	if was, ok := h.of(key); !h.on || ok && was == head {
		return nil
	}
	h.saving.Lock()
	defer h.saving.Unlock()
	h.mu.Lock()
	next := maps.Clone(h.kept)
	h.mu.Unlock()
	next[key] = head
	k := Kept{Head: next[headKey{}]}
	for key, head := range next {
		if key != (headKey{}) {
			k.Others = append(k.Others, head)
		}
	}
	slices.SortFunc(k.Others, func(a, b unit.Head) int {
		return strings.Compare(a.RepoURL+" "+a.Follows, b.RepoURL+" "+b.Follows)
	})
	if err := h.store.Save(ctx, k); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept[key] = head
	return nil
}

// drop forgets one that nobody follows any more; the next write leaves it out.
func (h *heads) drop(key headKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.kept, key)
}
