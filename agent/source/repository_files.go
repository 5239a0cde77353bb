package source

import (
	"context"
	"errors"
	"slices"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// follow goes on to what was fetched.
func (r *Repository) follow(ctx context.Context, s *spot, next state) {
	last := r.last
	r.last = next
	r.gave.Store(s)
	if !next.blobless {
		return
	}
	to := next.snapshot.Tree.(*tree)
	if !last.empty() && !last.blobless {
		r.files.put(last.objects) // what is here need not be brought
	}
	var from *tree
	if last.blobless {
		from = last.snapshot.Tree.(*tree)
	}
	if err := r.files.advance(ctx, from, to); err != nil {
		r.cfg.Log.Debug("changed files were not brought: they will be when they are read", "url", r.cfg.URL, "error", err)
	}
}

// rescue reads all of a commit whose files can't be brought one by one, where the
// place that is visited can't give them so either: a bundle, or an old server.
func (r *Repository) rescue(ctx context.Context, v visit, found chosen) error {
	if !r.last.blobless || !r.files.failing() || v.gives() {
		return nil
	}
	got, err := v.bring(ctx, found.tip, state{})
	if err == nil {
		r.files.put(got.objects)
	}
	return err
}

// give brings files from the first place that has them. It begins where the last
// ones came from, or the commit.
func (r *Repository) give(ctx context.Context, wants []unit.Hash) (objects, error) {
	failures := map[*spot]error{}
	spots := slices.Clone(r.spots)
	if first := r.gave.Load(); first != nil {
		spots = slices.Insert(slices.DeleteFunc(spots, func(s *spot) bool { return s == first }), 0, first)
	}
	for _, s := range spots {
		got, err := r.giveFrom(ctx, s, wants)
		if err == nil {
			r.gave.Store(s)
			return got, nil
		}
		if errors.Is(err, errLimit) || ctx.Err() != nil {
			return nil, err
		}
		failures[s] = err
	}
	return nil, r.joined(failures)
}

func (r *Repository) giveFrom(ctx context.Context, s *spot, wants []unit.Hash) (objects, error) {
	from, ok := s.place.(giver)
	if !ok {
		return nil, errNoFiles
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	return from.give(ctx, wants)
}

var errNoFiles = fleet.WithHint(fleet.Unavailable("it gives no files by their names"),
	"have a server speak version 2 of Git's protocol")
