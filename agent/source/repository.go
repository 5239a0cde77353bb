package source

import (
	"context"
	"errors"
	"fmt"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Repository follows one ref of a repository. It is safe for concurrent use.
type Repository struct {
	cfg    Config
	place  place
	parsed *parsedTrees

	fetching chan struct{} // holds one value while a fetch runs
	last     state         // belongs to who fetches
	refused  refusal       // likewise
}

// refusal is a tip over the limits. It stays so: it is not downloaded again.
type refusal struct {
	tip unit.Hash
	err error
}

// New checks the configuration. It connects to nothing.
func New(cfg Config) (*Repository, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	p, err := newPlace(&cfg, cfg.URL)
	if err != nil {
		return nil, err
	}
	return &Repository{cfg: cfg, place: p, parsed: newParsedTrees(), fetching: make(chan struct{}, 1)}, nil
}

func newPlace(cfg *Config, url string) (place, error) {
	a, err := parseAddress(url)
	if err != nil {
		return nil, err
	}
	if a.scheme == "ssh" {
		return newSSHServer(cfg, a)
	}
	return newHTTPServer(cfg, url)
}

// Fetch gives the newest commit of what is followed. When that is the one it
// gave last, one small request is all it costs, and the snapshot is the same
// one. Snapshots given earlier stay readable.
//
// Errors have a hint; errors.Is tells fleet.ErrUnavailable (the server can't be
// reached or fails), fleet.ErrForbidden (it refuses the credentials),
// fleet.ErrNotFound (no such repository or ref, or nothing in it) and
// fleet.ErrInvalid (the content is damaged or over the limits).
func (r *Repository) Fetch(ctx context.Context) (unit.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	select {
	case r.fetching <- struct{}{}:
		defer func() { <-r.fetching }()
	case <-ctx.Done():
		return unit.Snapshot{}, r.named(noAnswer(ctx, r.cfg.Timeout))
	}
	if err := r.fetch(ctx); err != nil {
		return unit.Snapshot{}, r.named(err)
	}
	return r.last.snapshot, nil
}

// named says of which repository an error is.
func (r *Repository) named(err error) error {
	return fleet.WithHint(fmt.Errorf("repository %s: %w", r.cfg.URL, err), fleet.Hint(err))
}

func (r *Repository) fetch(ctx context.Context) error {
	if r.cfg.Ref.Commit != "" && !r.last.empty() {
		return nil // a commit does not change
	}
	v, err := r.place.visit(ctx)
	if err != nil {
		return err
	}
	defer v.Close()
	found, err := r.cfg.Ref.choose(v.references())
	if err != nil {
		return err
	}
	switch {
	case found == r.last.chosen && !r.last.empty():
		return nil
	case found.tip == r.refused.tip && r.refused.err != nil:
		return r.refused.err
	}
	next, err := r.bring(ctx, v, found)
	if err != nil {
		if errors.Is(err, errLimit) {
			r.refused = refusal{tip: found.tip, err: err}
		}
		return err
	}
	r.refused = refusal{}
	r.last = next
	return nil
}

// bring gets what we lack of a tip.
func (r *Repository) bring(ctx context.Context, v visit, found chosen) (state, error) {
	got := brought{commit: r.last.commit, root: r.last.snapshot.Root, objects: r.last.objects}
	if found.tip != r.last.chosen.tip || r.last.empty() {
		var err error
		if got, err = v.bring(ctx, found.tip, r.last); err != nil {
			return state{}, err
		}
		if err := got.objects.within(r.cfg.Limits); err != nil {
			return state{}, damaged(err)
		}
	}
	return state{chosen: found, commit: got.commit, objects: got.objects, snapshot: unit.Snapshot{
		RepoURL: r.cfg.URL, Ref: found.name, Commit: got.commit.String(), Root: got.root,
		Tree: &tree{objects: got.objects, parsed: r.parsed},
	}}, nil
}
