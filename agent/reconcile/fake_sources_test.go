package reconcile_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const ownURL = "https://git.example.com/fleet.git"

// sources are repositories in memory. They are looked at when somebody asks for
// it, and not otherwise.
type sources struct {
	ask chan struct{}

	mu     sync.Mutex
	repos  map[string]*repository // by URL; the agent's own is ownURL
	uses   map[fleet.AppName]unit.Source
	latest map[string]unit.Followed
	pushed []string
	asked  map[fleet.AppName]int // how often for the latest
}

func newSources(own *repository, others map[string]*repository) *sources {
	all := map[string]*repository{ownURL: own}
	maps.Copy(all, others)
	return &sources{
		ask: make(chan struct{}, 1), repos: all,
		asked: map[fleet.AppName]int{}, uses: map[fleet.AppName]unit.Source{}, latest: map[string]unit.Followed{},
	}
}

func (s *sources) Run(ctx context.Context, moved func(unit.Moved)) error {
	for {
		for url, r := range s.repos {
			if m, ok := s.look(url, r); ok {
				moved(m)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.ask:
		}
	}
}

func (s *sources) look(url string, r *repository) (unit.Moved, bool) {
	snapshot, err := r.fetch(url)
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.latest[url]
	now := unit.Followed{Own: url == ownURL, Snapshot: before.Snapshot, Err: err}
	now.Status = fleet.SourceStatus{URL: url, Follows: "branch main", Failing: err != nil}
	m := unit.Moved{Own: now.Own}
	for app, from := range s.uses {
		if from.RepoURL == url {
			m.Apps = append(m.Apps, app)
		}
	}
	if err == nil {
		m.Head = before.Snapshot == nil || before.Snapshot.Revision() != snapshot.Revision()
		now.Snapshot = &snapshot
	}
	s.latest[url] = now
	return m, m.Head || err != before.Err //nolint:errorlint // whether it is another one
}

func (s *sources) Latest(app fleet.AppName, from unit.Source) unit.Followed {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.uses, app)
	s.asked[app]++
	if !from.IsZero() {
		s.uses[app] = from
	}
	url := cmp.Or(from.RepoURL, ownURL)
	if commit := from.Ref.Commit; commit != "" {
		return s.repos[url].at(url, commit)
	}
	return s.latest[url]
}

// at is the repository as a commit has it, for one who follows that.
func (r *repository) at(url, commit string) unit.Followed {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := unit.Followed{Status: fleet.SourceStatus{URL: url, Follows: "commit " + commit}}
	past, ok := r.past[commit]
	if !ok {
		f.Err = fleet.NotFound("commit %s is not there", commit)
		return f
	}
	past.Ref = ""
	f.Snapshot = &past
	return f
}

// forget takes all commits before the last out of the repository.
func (r *repository) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.past = nil
}

func (s *sources) Statuses() []fleet.SourceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []fleet.SourceStatus{s.latest[ownURL].Status}
	for url, f := range s.latest {
		if url != ownURL {
			out = append(out, f.Status)
		}
	}
	return out
}

func (s *sources) Drop(app fleet.AppName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.uses, app)
}

func (s *sources) FetchSoon(fleet.AppName) {
	select {
	case s.ask <- struct{}{}:
	default:
	}
}

func (s *sources) Pushed(p fleet.Push) {
	s.mu.Lock()
	s.pushed = append(s.pushed, p.RepoURL)
	s.mu.Unlock()
	s.FetchSoon(fleet.AppName{})
}

func (s *sources) Accept(app fleet.AppName, move string) {
	s.mu.Lock()
	r := s.repos[cmp.Or(s.uses[app].RepoURL, ownURL)]
	s.mu.Unlock()
	r.mu.Lock()
	if held, ok := errors.AsType[*unit.RewoundError](r.err); ok && held.Accept() == move {
		r.err = nil
	}
	r.mu.Unlock()
	s.FetchSoon(app)
}

// used tells what an app is read from.
func (s *sources) used(app fleet.AppName) (unit.Source, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, ok := s.uses[app]
	return from, ok
}

func (r *repository) fetch(url string) (unit.Snapshot, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return unit.Snapshot{}, r.err
	}
	b, err := json.Marshal(r.files)
	files := &tree{files: maps.Clone(r.files), of: r}
	s := unit.Snapshot{RepoURL: url, Ref: cmp.Or(r.ref, "main"), Commit: hashOf(string(b)).String(), Root: hashOf(string(b)), Notice: r.notice, Tree: files}
	if r.past == nil {
		r.past = map[string]unit.Snapshot{}
	}
	r.past[s.Commit] = s
	return s, err
}

// fail has a repository fail, or be well again.
func (r *repository) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}
