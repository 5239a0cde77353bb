package source

import (
	"context"
	"errors"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Resume tells what was followed before a restart, so that a branch that was
// moved meanwhile is noticed. What is followed by another name now is not
// compared with it.
func (r *Repository) Resume(h unit.Head) {
	r.fetching <- struct{}{}
	defer r.end()
	if h.RepoURL == r.cfg.URL && (h.Ref == r.cfg.Ref.Branch || r.cfg.Ref.Branch == "") {
		r.resumed = h
	}
}

// Accept lets a branch be moved to a commit that does not come after the one
// before: what RewoundError.Accept says.
func (r *Repository) Accept(move string) {
	r.fetching <- struct{}{}
	defer r.end()
	r.accepted = move
}

// before is the commit that is followed, or was before a restart.
func (r *Repository) before() unit.Hash {
	if !r.last.empty() {
		return r.last.commit
	}
	h, err := unit.ParseHash(r.resumed.Commit)
	if err != nil {
		return unit.Hash{} // nothing was followed
	}
	return h
}

// rewound is the commit before if the branch's new one does not come after it,
// and an error if that is not to be followed. Tags are moved by their name.
func (r *Repository) rewound(ctx context.Context, v visit, next state) (string, error) {
	before := r.before()
	if r.cfg.Ref.Branch == "" || before.IsZero() || next.commit == before {
		return "", nil
	}
	held := r.held // looked at already
	if held == nil || held.From != before.String() || held.To != next.commit.String() {
		came, err := r.descent(ctx, v, next, before)
		if err != nil || came == proved {
			return "", err
		}
		held = &unit.RewoundError{Ref: r.cfg.Ref.Branch, From: before.String(), To: next.commit.String(), Unproved: came == unproved}
		r.held = held
	}
	if r.cfg.HoldRewinds && r.accepted != held.Accept() {
		return "", fleet.WithHint(fleet.Forbidden("%w", held), "push a commit that comes after "+held.From+", as git revert makes one")
	}
	return held.From, nil
}

// depths of history that are looked at: most often one commit is enough.
var depths = []int{64, 1024}

// descent finds out whether a commit came after another.
func (r *Repository) descent(ctx context.Context, v visit, next state, before unit.Hash) (descent, error) {
	known, err := next.objects.commits()
	if err != nil {
		return unproved, damaged(err)
	}
	for _, depth := range depths {
		if came := known.descends(next.commit, before); came != unproved {
			return came, nil
		}
		known, err = v.history(ctx, next.commit, depth, r.last)
		if errors.Is(err, errLimit) {
			return unproved, nil // a history that is too large proves nothing
		}
		if err != nil {
			return unproved, err
		}
	}
	return known.descends(next.commit, before), nil
}
