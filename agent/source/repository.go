package source

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Repository follows one ref of a repository. It is safe for concurrent use.
type Repository struct {
	cfg    Config
	spots  []*spot // the repository itself, and its mirrors
	parsed *parsedTrees
	files  *files
	gave   atomic.Pointer[spot] // files, or the commit
	now    func() time.Time

	fetching chan struct{} // holds one value while a fetch runs

	// What follows belongs to who fetches.
	last       state
	resumed    unit.Head          // followed before a restart
	held       *unit.RewoundError // the last one
	accepted   string             // a move that a person let pass
	unverified state              // is not downloaded again
	refused    refusal
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
	r := &Repository{cfg: cfg, parsed: newParsedTrees(), now: time.Now, fetching: make(chan struct{}, 1)}
	for i, url := range append([]string{cfg.URL}, cfg.Mirrors...) {
		p, err := newPlace(&r.cfg, url)
		if err != nil && i > 0 {
			err = fleet.WithHint(fmt.Errorf("mirror %d: %w", i, err), fleet.Hint(err))
		}
		if err != nil {
			return nil, err
		}
		r.spots = append(r.spots, &spot{place: p, url: url, mirror: i > 0})
	}
	r.files = newFiles(r.cfg.Limits, r.give)
	return r, nil
}

// goOnFrom takes over what another read of the same, so that nothing is brought
// again. The other is not used any more.
func (r *Repository) goOnFrom(before *Repository) {
	r.parsed, r.last, r.resumed, r.accepted = before.parsed, before.last, before.resumed, before.accepted
	r.files = before.files
	r.files.comeBy(r.give)
}

func newPlace(cfg *Config, url string) (place, error) {
	a, err := parseAddress(url)
	if err != nil {
		return nil, err
	}
	switch a.scheme {
	case "ssh":
		return newSSHServer(cfg, url, a)
	case "file":
		return &disk{cfg: cfg, dir: a.path}, nil
	case "bundle":
		return &bundles{cfg: cfg, dir: a.path}, nil
	default:
		return newHTTPServer(cfg, url, a)
	}
}

// Fetch gives the newest commit of what is followed. When that is the one it
// gave last, one small request is all it costs, and the snapshot is the same
// one. Snapshots given earlier stay readable. Mirrors are asked when the
// repository itself fails; what they have is taken if it is newer.
//
// Errors have a hint; errors.Is tells fleet.ErrUnavailable (the server can't be
// reached or fails), fleet.ErrForbidden (it refuses the credentials),
// fleet.ErrNotFound (no such repository or ref, or nothing in it) and
// fleet.ErrInvalid (the content is damaged or over the limits). A branch that is
// held is a *unit.RewoundError.
func (r *Repository) Fetch(ctx context.Context) (unit.Snapshot, error) {
	if err := r.begin(ctx); err != nil {
		return unit.Snapshot{}, err
	}
	defer r.end()
	if r.cfg.Ref.Commit == "" || r.last.empty() { // a commit does not change
		if err := r.fetch(ctx); err != nil {
			return unit.Snapshot{}, err
		}
	}
	got := r.last.snapshot
	got.Notice = r.notice()
	return got, nil
}

func (r *Repository) begin(ctx context.Context) error {
	select {
	case r.fetching <- struct{}{}:
		return nil
	case <-ctx.Done():
		return noAnswer(ctx, r.cfg.Timeout)
	}
}

func (r *Repository) end() { <-r.fetching }

// fetch asks one place after the other until one has what is newest.
func (r *Repository) fetch(ctx context.Context) error {
	failures := map[*spot]error{}
	answered := false
	for _, s := range r.inOrder() {
		err := r.look(ctx, s)
		if ctx.Err() != nil {
			return ctx.Err() // nobody waits for it any more
		}
		if errors.Is(err, errBehind) {
			s.met(nil, r.now())
			answered = true
			failures[s] = fleet.WithHint(fleet.Unavailable("it is behind: it has %s", s.behind.has), "bring the mirror up to date")
			continue
		}
		if decided(err) && !s.mirror { // it answered, and no mirror is to have the last word
			s.met(nil, r.now())
			return s.named(err)
		}
		s.met(err, r.now())
		if err == nil {
			return nil
		}
		failures[s] = err
	}
	if answered && !r.last.empty() {
		return nil // what we have is the newest there is
	}
	return r.joined(failures)
}

// decided tells errors that are this spoke's own decision on what it was given.
func decided(err error) bool {
	_, held := errors.AsType[*unit.RewoundError](err)
	return held || errors.Is(err, errUnverified)
}

// look asks one place.
func (r *Repository) look(ctx context.Context, s *spot) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	v, err := s.place.visit(ctx)
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
		s.behind = lag{}
		return r.rescue(ctx, v, found)
	case found.tip == r.refused.tip && r.refused.err != nil:
		return r.refused.err
	case s.behind.tip == found.tip && s.behind.of == r.before():
		return errBehind
	}
	s.behind = lag{}
	next := r.unverified // perhaps the keys changed
	if next.chosen != found || next.empty() {
		if next, err = r.bring(ctx, v, found, s.url); err == nil {
			r.unverified = next
		}
	}
	if err == nil {
		err = r.cfg.Verify.verify(next, r.now())
	}
	switch {
	case err != nil:
	case s.mirror:
		err = r.newer(ctx, v, next)
	default:
		next.snapshot.Rewound, err = r.rewound(ctx, v, next)
	}
	if errors.Is(err, errBehind) {
		s.behind = lag{tip: found.tip, of: r.before(), has: next.snapshot.Revision().Short()}
		return err
	}
	if err != nil {
		if errors.Is(err, errLimit) {
			r.refused = refusal{tip: found.tip, err: err}
		}
		return err
	}
	r.refused, r.unverified = refusal{}, state{}
	r.follow(ctx, s, next)
	return nil
}

// bring gets what we lack of a tip.
func (r *Repository) bring(ctx context.Context, v visit, found chosen, from string) (state, error) {
	last := r.last
	got := brought{commit: last.commit, root: last.snapshot.Root, objects: last.objects, names: last.names, blobless: last.blobless}
	if found.tip != r.last.chosen.tip || r.last.empty() {
		var err error
		if got, err = v.bring(ctx, found.tip, r.last); err != nil {
			return state{}, err
		}
		if err := got.objects.within(r.cfg.Limits); err != nil {
			return state{}, damaged(err)
		}
	}
	t := &tree{objects: got.objects, parsed: r.parsed, root: got.root, names: got.names}
	if got.blobless {
		t.files = r.files
	}
	return state{chosen: found, commit: got.commit, objects: got.objects, names: got.names, blobless: got.blobless, snapshot: unit.Snapshot{
		RepoURL: r.cfg.URL, Ref: found.name, Commit: got.commit.String(), Root: got.root, From: from, Tree: t,
	}}, nil
}
