package source_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func hold(c *source.Config) { c.HoldRewinds = true }

// held fetches what must not be followed.
func held(t *testing.T, r *source.Repository) *unit.RewoundError {
	t.Helper()
	_, err := r.Fetch(t.Context())
	e, ok := errors.AsType[*unit.RewoundError](err)
	if !ok {
		t.Fatalf("not held: %v", err)
	}
	wantError(t, err, "branch main was moved from "+e.From+" to "+e.To, "git revert")
	if !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("not told apart: %v", err)
	}
	return e
}

// commits adds some to the working clone, without pushing them.
func (s *gitServer) commits(n int) {
	s.t.Helper()
	for range n {
		run(s.t, s.work, "commit", "-q", "--allow-empty", "-m", "more")
	}
}

func TestABranchThatIsMovedBackIsTold(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	first := s.push()
	r := s.open()
	s.write("f", "2")
	second := s.push()
	if got := fetch(t, r); got.Rewound != "" {
		t.Errorf("the first fetch says it came after %s", got.Rewound)
	}
	s.write("f", "amended")
	s.push("--amend")
	if got := fetch(t, r); got.Rewound != second || fetch(t, r) != got {
		t.Errorf("an amended commit: rewound from %q, want %s", got.Rewound, second)
	}
	s.write("f", "3")
	third := s.push()
	if got := fetch(t, r); got.Rewound != "" {
		t.Errorf("an ordinary commit: rewound from %q", got.Rewound)
	}
	run(t, s.work, "push", "-q", "--force", "origin", first+":main")
	if got := fetch(t, r); got.Rewound != third || got.Commit != first {
		t.Errorf("set back: rewound from %q, want %s", got.Rewound, third)
	}
	s.commits(20)
	s.push()
	if got := fetch(t, r); got.Rewound != "" {
		t.Errorf("many commits: rewound from %q", got.Rewound)
	}
}

func TestABranchThatIsMovedIsHeldUntilAccepted(t *testing.T) {
	for name, adapt := range map[string]func(*gitServer) func(*source.Config){
		"a server": func(*gitServer) func(*source.Config) { return func(*source.Config) {} },
		"a server with filter": func(s *gitServer) func(*source.Config) {
			run(t, s.bare, "config", "uploadpack.allowFilter", "true")
			return func(*source.Config) {}
		},
		"a volume": func(s *gitServer) func(*source.Config) { return onDisk(s.bare) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newGitServer(t)
			s.write("f", "1")
			base := s.push()
			s.write("f", "2")
			good := s.push()
			r := s.open(adapt(s), hold)
			fetch(t, r)
			run(t, s.work, "reset", "-q", "--hard", base)
			s.write("f", "evil")
			evil := s.push()
			if e := held(t, r); e.From != good || e.To != evil || e.Unproved {
				t.Errorf("held %+v", e)
			}
			requests := s.packs.Load()
			held(t, r)
			if s.packs.Load() != requests {
				t.Error("it was downloaded again")
			}
			s.write("f", "on top") // in two steps it is no other
			top := s.push()
			e := held(t, r)
			if e.From != good || e.To != top {
				t.Errorf("held %+v", e)
			}
			r.Accept(evil)
			held(t, r)
			r.Accept(e.Accept())
			if got := fetch(t, r); got.Commit != top || got.Rewound != good || read(t, got, "f") != "on top" {
				t.Errorf("accepted: got %s, rewound from %q", got.Commit, got.Rewound)
			}
			run(t, s.work, "reset", "-q", "--hard", good)
			s.push()
			if e := held(t, r); e.From != top {
				t.Errorf("held %+v", e)
			}
			run(t, s.work, "merge", "-q", "-s", "ours", "-m", "on from both", top)
			last := s.push()
			if got := fetch(t, r); got.Commit != last || got.Rewound != "" {
				t.Errorf("a commit after both: got %s, rewound from %q", got.Commit, got.Rewound)
			}
		})
	}
}

func TestWhatCannotBeProvedIsHeld(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	first := s.push()
	r := s.open(hold)
	before := fetch(t, r).Head()
	s.commits(80)
	s.push()
	if e := held(t, r); e.From != first || !e.Unproved {
		t.Errorf("held %+v", e)
	}
	run(t, s.bare, "config", "uploadpack.allowFilter", "true") // then commits alone are asked for
	r = s.open(hold)                                           // what a server can do is asked now and then
	r.Resume(before)
	s.commits(1)
	last := s.push()
	if got := fetch(t, r); got.Commit != last || got.Rewound != "" {
		t.Errorf("got %s, rewound from %q", got.Commit, got.Rewound)
	}
}

func TestABranchThatIsMovedDuringARestartIsHeld(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	before := fetch(t, s.open(hold)).Head()
	s.write("f", "evil")
	s.push("--amend")
	r := s.open(hold)
	r.Resume(before)
	if e := held(t, r); e.From != before.Commit {
		t.Errorf("held %+v", e)
	}
	r = s.open(hold)
	r.Resume(unit.Head{RepoURL: s.url, Ref: "stage", Commit: before.Commit})
	fetch(t, r) // another branch was followed
	r = s.open(hold)
	r.Resume(unit.Head{})
	fetch(t, r)
}

func TestAMirrorThatIsBehindServesNothingAfterARestart(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	m, update := mirrorOf(t, s)
	update()
	s.write("f", "2")
	second := s.push()
	before := fetch(t, s.open()).Head()
	s.fail(http.StatusServiceUnavailable)
	r := s.open(withMirrors(m.url))
	r.Resume(before)
	for range 2 {
		_, err := r.Fetch(t.Context())
		wantError(t, err, "mirror "+m.url+": it is behind", "log")
	}
	update()
	if got := fetch(t, r); got.Commit != second {
		t.Errorf("got %s", got.Commit)
	}
}

func TestNoMirrorHasTheLastWord(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	m, update := mirrorOf(t, s)
	update()
	r := s.open(withMirrors(m.url), hold)
	fetch(t, r)
	s.write("f", "evil")
	s.push("--amend")
	for range 3 {
		held(t, r)
	}
	if m.requests.Load() != 0 {
		t.Error("a mirror was asked")
	}
}

func TestBundlesThatTurnBackAreHeld(t *testing.T) {
	d := newDrop(t)
	d.write("steady", "same")
	d.commit("1")
	good := d.commit("2")
	d.bundle("1.bundle", "main")
	r := d.open(hold)
	d.want(r, good, "2")
	run(t, d.work, "reset", "-q", "--hard", "HEAD~")
	d.commit("evil")
	d.bundle("2.bundle", "main")
	if e := held(t, r); e.From != good || e.Unproved {
		t.Errorf("held %+v", e)
	}
	run(t, d.work, "reset", "-q", "--hard", good)
	last := d.commit("3")
	d.bundle("3.bundle", good+"..main")
	d.want(r, last, "3")
	if strings.Contains(fetch(t, r).Rewound, good) {
		t.Error("an ordinary commit is told as a move")
	}
}
