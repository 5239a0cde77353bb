package source_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// tag makes a tag of what is committed; with a message it is an annotated one.
func (s *gitServer) tag(name, message string) {
	s.t.Helper()
	args := []string{"tag", name}
	if message != "" {
		args = []string{"tag", "-a", "-m", message, name}
	}
	run(s.t, s.work, args...)
	run(s.t, s.work, "push", "-q", "origin", name)
}

func (s *gitServer) follow(ref source.Ref) *source.Repository {
	return s.open(func(c *source.Config) { c.Ref = ref })
}

func TestTagsAreFollowedToTheirCommit(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	first := s.push()
	s.tag("light", "")
	s.tag("annotated", "a release")
	run(t, s.work, "tag", "-a", "-m", "again", "nested", "annotated")
	run(t, s.work, "push", "-q", "origin", "nested")
	s.write("f", "2")
	second := s.push()
	for _, name := range []string{"light", "annotated", "nested"} {
		r := s.follow(source.Ref{Tag: name})
		got := fetch(t, r)
		if got.Commit != first || read(t, got, "f") != "1" || string(got.Revision()) != name+"@sha1:"+first {
			t.Errorf("%s: got %s", name, got.Revision())
		}
		packs := s.packs.Load()
		if fetch(t, r) != got || s.packs.Load() != packs {
			t.Errorf("%s: it was downloaded again", name)
		}
	}
	// A tag that is moved is followed like a branch that is.
	r := s.follow(source.Ref{Tag: "annotated"})
	fetch(t, r)
	run(t, s.work, "tag", "-f", "-a", "-m", "moved", "annotated")
	run(t, s.work, "push", "-q", "-f", "origin", "annotated")
	if got := fetch(t, r); got.Commit != second || read(t, got, "f") != "2" {
		t.Errorf("a moved tag: got %s", got.Revision())
	}
	_, err := s.follow(source.Ref{Tag: "v9"}).Fetch(t.Context())
	wantError(t, err, `there is no tag "v9"`, "annotated, light, nested")
	if !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("not told apart: %v", err)
	}
}

func TestTheHighestVersionInTheRangeIsFollowed(t *testing.T) {
	s := newGitServer(t)
	for _, v := range []string{"v1.9.0", "v1.10.0", "1.2.0", "v1.11.0-rc.1", "v2.0.0", "nightly", "v1.11", "release-1.12.0"} {
		s.write("f", v)
		s.push()
		s.tag(v, "")
	}
	for within, want := range map[string]string{
		"1.x": "v1.10.0", "<1.5.0": "1.2.0", ">=1.0.0": "v2.0.0", ">=1.11.0-0 <2.0.0-0": "v1.11.0-rc.1", "1.2.0": "1.2.0",
	} {
		got := fetch(t, s.follow(source.Ref{Semver: within}))
		if got.Ref != want || read(t, got, "f") != want {
			t.Errorf("%s: got %s, want %s", within, got.Ref, want)
		}
	}
	r := s.follow(source.Ref{Semver: "1.x"})
	fetch(t, r)
	s.write("f", "new")
	s.push()
	s.tag("v1.10.1", "a fix")
	if got := fetch(t, r); got.Ref != "v1.10.1" || read(t, got, "f") != "new" {
		t.Errorf("a new tag: got %s", got.Revision())
	}
	s.tag("v1.10.2", "") // of the same commit
	got := fetch(t, r)
	if !strings.HasPrefix(string(got.Revision()), "v1.10.2@sha1:") || read(t, got, "f") != "new" {
		t.Errorf("another tag of the commit: got %s", got.Revision())
	}
	_, err := s.follow(source.Ref{Semver: "^7"}).Fetch(t.Context())
	wantError(t, err, `no tag in the range "^7"`, "there is ")
}

func TestACommitIsPinned(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	first := s.push()
	s.write("f", "2")
	s.push()
	r := s.follow(source.Ref{Commit: first})
	got := fetch(t, r)
	if got.Commit != first || read(t, got, "f") != "1" || string(got.Revision()) != "sha1:"+first || got.Revision().Commit() != first {
		t.Errorf("got %s", got.Revision())
	}
	requests := s.requests.Load()
	if fetch(t, r) != got || s.requests.Load() != requests {
		t.Error("a commit that can't change was looked for again")
	}
	lost := strings.Repeat("ab", 20)
	_, err := s.follow(source.Ref{Commit: lost}).Fetch(t.Context())
	wantError(t, err, "does not give what was asked for, the commit "+lost, "allowReachableSHA1InWant")
	if !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("not told apart: %v", err)
	}
}

func TestAPushIsLookedAtTheSoonerTheFewerAreTold(t *testing.T) {
	for _, c := range []struct {
		told       int
		most, want time.Duration
	}{
		{1, 10 * time.Second, 2 * time.Millisecond},
		{1000, 10 * time.Second, 2 * time.Second},
		{10_000, 10 * time.Second, 10 * time.Second},
		{math.MaxInt, time.Minute, time.Minute},
		{0, 10 * time.Second, time.Second}, // nobody says how many
		{1000, 0, 0},
		{0, 0, 0},
	} {
		if got := source.Spread(c.told, c.most); got != c.want {
			t.Errorf("%d are told: within %s, want %s", c.told, got, c.want)
		}
	}
}

func TestPushesMakeNobodyLookBackToBack(t *testing.T) {
	for range 100 {
		if got := source.AfterPush(1, time.Minute, 30*time.Millisecond); got != 70*time.Millisecond {
			t.Fatalf("30 ms after a look it waits for %s", got)
		}
		if got := source.AfterPush(1, time.Minute, time.Second); got > 2*time.Millisecond {
			t.Fatalf("a second after a look it waits for %s", got)
		}
	}
}

func TestWhatAPushMayHaveMoved(t *testing.T) {
	main, tag := source.Ref{Branch: "main"}, source.Ref{Tag: "v1"}
	versions, commit := source.Ref{Semver: "1.x"}, source.Ref{Commit: strings.Repeat("a", 40)}
	for _, c := range []struct {
		ref   source.Ref
		moved string
		want  bool
	}{
		{main, "", true}, // nobody knows
		{main, "refs/heads/main", true},
		{main, "refs/heads/x refs/heads/main", true},
		{main, "refs/heads/mainline", false},
		{main, "refs/heads/x/main", false},
		{main, "refs/tags/main", false},
		{main, "main", true}, // whatever it means
		{tag, "refs/tags/v1", true},
		{tag, "refs/heads/v1", false},
		{tag, "refs/tags/v1.1", false},
		{versions, "refs/tags/anything", true},
		{versions, "refs/heads/main", false},
		{commit, "refs/heads/x", true}, // it may have come along
	} {
		if got := source.MovedBy(c.ref, strings.Fields(c.moved)); got != c.want {
			t.Errorf("%s, and %q moved: %v, want %v", c.ref, c.moved, got, c.want)
		}
	}
}
