package source

import (
	"github.com/go-git/go-git/v5/plumbing"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// history is some commits with their parents.
type history map[unit.Hash][]unit.Hash

// commits are those among objects.
func (o objects) commits() (history, error) {
	known := history{}
	for h, each := range o {
		if each.kind != plumbing.CommitObject {
			continue
		}
		content, err := each.inflate()
		if err != nil {
			return nil, err
		}
		if known[h], err = parseParents(content); err != nil {
			return nil, err
		}
	}
	return known, nil
}

// descent is what is known of how one commit came from another.
type descent int

const (
	unproved descent = iota // the commits at hand do not reach far enough
	proved
	disproved
)

// descends tells whether old is among the commits that led to tip.
func (h history) descends(tip, old unit.Hash) descent {
	seen := map[unit.Hash]struct{}{}
	whole := true
	todo := []unit.Hash{tip}
	for len(todo) > 0 {
		commit := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if commit == old {
			return proved
		}
		if _, ok := seen[commit]; ok {
			continue
		}
		seen[commit] = struct{}{}
		parents, ok := h[commit]
		if !ok {
			whole = false
		}
		todo = append(todo, parents...)
	}
	if whole {
		return disproved
	}
	return unproved
}
