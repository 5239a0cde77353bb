package source_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// newLargeServer filters, and has a monorepo of apps with ten files each.
func newLargeServer(t *testing.T, apps int) *gitServer {
	t.Helper()
	s := newGitServer(t)
	run(t, s.bare, "config", "uploadpack.allowFilter", "true")
	for i := range apps {
		for _, file := range []string{"base/kustomization.yaml", "base/a.yaml", "base/b.yaml", "overlays/dev/kustomization.yaml", "overlays/dev/patch.yaml", "overlays/prod/kustomization.yaml", "overlays/prod/patch.yaml", "docs/a.md", "docs/b.md", "README.md"} {
			s.write(fmt.Sprintf("apps/app%03d/%s", i, file), fmt.Sprintf("%s of app %d\n", file, i))
		}
	}
	s.push()
	return s
}

// readApp reads what a render of one app would.
func readApp(t *testing.T, at unit.Snapshot, app int) {
	t.Helper()
	for _, file := range []string{"overlays/dev/kustomization.yaml", "base/kustomization.yaml", "base/a.yaml", "base/b.yaml", "overlays/dev/patch.yaml"} {
		if got := read(t, at, fmt.Sprintf("apps/app%03d/%s", app, file)); got != fmt.Sprintf("%s of app %d\n", file, app) {
			t.Errorf("app %d: %s is %q", app, file, got)
		}
	}
}

func expect(at unit.Snapshot, apps int, path string) {
	var paths []string
	for i := range apps {
		paths = append(paths, fmt.Sprintf(path, i))
	}
	at.Tree.(unit.Ahead).Expect(paths)
}

// tryRead gives the error of reading a file.
func tryRead(t *testing.T, at unit.Snapshot, path string) error {
	t.Helper()
	e, ok, err := unit.Lookup(t.Context(), at.Tree, at.Root, path)
	if err != nil || !ok {
		t.Fatalf("look up %s: found %v, %v", path, ok, err)
	}
	_, err = at.Tree.Blob(t.Context(), e.Hash, 1<<20)
	return err
}

func TestFilesOfALargeRepositoryComeWhenTheyAreRead(t *testing.T) {
	s := newLargeServer(t, 20)
	r := s.open(source.Blobless)
	at := fetch(t, r)
	if n := r.HeldFiles(); n != 0 {
		t.Errorf("%d files came with the commit", n)
	}
	packs := s.packs.Load()
	readApp(t, at, 7)
	if n := s.packs.Load() - packs; n != 2 {
		t.Errorf("%d requests for the files of two directories", n)
	}
	if n := r.HeldFiles(); n != 5 {
		t.Errorf("%d files are held, want those of the two directories", n)
	}
	readApp(t, at, 7)
	if n := s.packs.Load() - packs; n != 2 {
		t.Error("what is here was asked for again")
	}
}

func TestAFirstSyncOfManyAppsIsAFewRequests(t *testing.T) {
	for _, path := range []string{"apps/app%03d/overlays/dev", `apps/app%03d/overlays/{{ label "env" }}`} {
		t.Run(path, func(t *testing.T) {
			const apps = 60
			s := newLargeServer(t, apps)
			r := s.open(source.Blobless)
			at := fetch(t, r)
			expect(at, apps/2, path)
			packs := s.packs.Load()
			for i := range apps / 2 {
				readApp(t, at, i)
			}
			if n := s.packs.Load() - packs; n > 3 {
				t.Errorf("%d requests for the files of %d apps", n, apps/2)
			}
			if n := r.HeldFiles(); n > apps/2*6 {
				t.Errorf("%d files were brought for %d apps with 5 that are read", n, apps/2)
			}
		})
	}
}

func TestChangedFilesThatAreInUseComeWithTheCommit(t *testing.T) {
	s := newLargeServer(t, 5)
	r := s.open(source.Blobless)
	readApp(t, fetch(t, r), 1)
	s.write("apps/app001/base/a.yaml", "changed")
	s.write("apps/app001/base/c.yaml", "new beside it")
	s.write("apps/app001/docs/a.md", "not in use")
	s.write("apps/app002/base/a.yaml", "nor this")
	s.push()
	packs := s.packs.Load()
	at := fetch(t, r)
	if n := s.packs.Load() - packs; n != 2 {
		t.Errorf("%d requests: want one for the commit and one for its files", n)
	}
	s.fail(http.StatusServiceUnavailable)
	for file, want := range map[string]string{"base/a.yaml": "changed", "base/c.yaml": "new beside it", "base/b.yaml": "base/b.yaml of app 1\n", "overlays/dev/patch.yaml": "overlays/dev/patch.yaml of app 1\n"} {
		if got := read(t, at, "apps/app001/"+file); got != want {
			t.Errorf("without the server, %s is %q", file, got)
		}
	}
	for _, file := range []string{"apps/app001/docs/a.md", "apps/app002/base/a.yaml"} {
		if err := tryRead(t, at, file); !errors.Is(err, fleet.ErrUnavailable) {
			t.Errorf("%s was brought although nobody reads it: %v", file, err)
		}
	}
}

func TestWhatIsInUseStaysAndOtherFilesGo(t *testing.T) {
	s := newLargeServer(t, 3)
	r := s.open(source.Blobless)
	at := fetch(t, r)
	readApp(t, at, 0)
	read(t, at, "apps/app001/docs/a.md") // brings b.md with it
	if n := r.HeldFiles(); n != 7 {
		t.Fatalf("%d files are held", n)
	}
	if err := os.Remove(filepath.Join(s.work, "apps/app001/docs/a.md")); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		s.write("elsewhere", fmt.Sprint(i))
		s.push()
		fetch(t, r)
	}
	if n := r.HeldFiles(); n != 5 {
		t.Errorf("%d files are held, want those of the app that was read", n)
	}
	s.fail(http.StatusServiceUnavailable)
	readApp(t, at, 0)
}

func TestFilesThatCannotBeBroughtAreToldAndTriedAgain(t *testing.T) {
	s := newLargeServer(t, 2)
	r := s.open(source.Blobless)
	now := time.Now()
	r.SetFilesClock(func() time.Time { return now })
	at := fetch(t, r)
	s.fail(http.StatusServiceUnavailable)
	err := tryRead(t, at, "apps/app000/README.md")
	wantError(t, err, "files can't be brought from the repository: repository "+s.url+": the server answers with status 503", "log")
	if !errors.Is(err, fleet.ErrUnavailable) {
		t.Errorf("not told apart: %v", err)
	}
	requests := s.requests.Load()
	if err := tryRead(t, at, "apps/app001/README.md"); err == nil || s.requests.Load() != requests {
		t.Errorf("a moment later the server was asked again, or there is no error: %v", err)
	}
	s.fail(0)
	now = now.Add(time.Minute)
	readApp(t, at, 1)
}

func TestFilesComeFromAMirrorToo(t *testing.T) {
	for name, mirror := range map[string]func(*testing.T, *gitServer) string{
		"a volume": func(_ *testing.T, s *gitServer) string { return "file://" + s.bare },
		"a server that does not filter": func(t *testing.T, s *gitServer) string {
			t.Helper()
			m, update := mirrorOf(t, s)
			update()
			return m.url
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLargeServer(t, 3)
			r := s.open(source.Blobless, withMirrors(mirror(t, s)))
			at := fetch(t, r)
			s.fail(http.StatusServiceUnavailable)
			readApp(t, at, 1)
		})
	}
}

func TestOnlyFilesOfTheCommitCanBeRead(t *testing.T) {
	s := newLargeServer(t, 1)
	run(t, s.work, "checkout", "-q", "-b", "side")
	s.write("secret", "of another branch")
	run(t, s.work, "add", "-A")
	run(t, s.work, "commit", "-q", "-m", "side")
	run(t, s.work, "push", "-q", "origin", "side")
	hash, err := unit.ParseHash(run(t, s.work, "rev-parse", "HEAD:secret"))
	if err != nil {
		t.Fatal(err)
	}
	at := fetch(t, s.open(source.Blobless))
	requests := s.requests.Load()
	if _, err := at.Tree.Blob(t.Context(), hash, 1<<20); err == nil || s.requests.Load() != requests {
		t.Errorf("a file of another branch: %v", err)
	}
}

func TestALargeFileIsNobodyElsesTrouble(t *testing.T) {
	s := newLargeServer(t, 1)
	s.write("apps/app000/base/huge.bin", strings.Repeat("x", 5000))
	s.push()
	at := fetch(t, s.open(source.Blobless, func(c *source.Config) { c.Limits.ObjectBytes = 4000 }))
	readApp(t, at, 0)
	if err := tryRead(t, at, "apps/app000/base/huge.bin"); !errors.Is(err, unit.ErrTooLarge) {
		t.Errorf("the file itself: %v", err)
	}
	readApp(t, at, 0)
}

func TestASmallRepositoryIsHeldWhole(t *testing.T) {
	s := newLargeServer(t, 3)
	r := s.open()
	at := fetch(t, r)
	s.fail(http.StatusServiceUnavailable)
	for i := range 3 {
		readApp(t, at, i)
	}
	s.fail(0)
	s.write("f", "1")
	s.push()
	packs := s.packs.Load()
	if read(t, fetch(t, r), "f") != "1" || s.packs.Load() != packs+1 {
		t.Errorf("%d requests for a commit and its file", s.packs.Load()-packs)
	}
}

func TestARepositoryThatGrowsIsNotHeldWholeAnyMore(t *testing.T) {
	s := newLargeServer(t, 1)
	r := s.open()
	at := fetch(t, r)
	readApp(t, at, 0)
	for i := range 1100 {
		s.write(fmt.Sprintf("many/%d/f", i), fmt.Sprint(i))
	}
	s.push()
	fetch(t, r) // it was small until now
	s.write("many/7/f", "changed")
	s.push()
	at = fetch(t, r)
	packs := s.packs.Load()
	if read(t, at, "many/8/f") != "8" || s.packs.Load() != packs {
		t.Error("what was here was asked for again")
	}
	if read(t, at, "many/7/f") != "changed" || s.packs.Load() != packs+1 {
		t.Error("a file that changed was not brought when it was read")
	}
	for i := range 4 {
		s.write("elsewhere", fmt.Sprint(i))
		s.push()
		fetch(t, r)
	}
	if n := r.HeldFiles(); n > 20 {
		t.Errorf("%d files are held, though few were read", n)
	}
}

func TestAPollAsksForOneBranchAmongMany(t *testing.T) {
	s := newLargeServer(t, 1)
	var in strings.Builder
	commit := run(t, s.work, "rev-parse", "HEAD")
	for i := range 3000 {
		fmt.Fprintf(&in, "create refs/heads/other/%d %s\n", i, commit)
	}
	update(t, s, in.String())
	for name, change := range map[string]func(*source.Config){
		"a branch": func(*source.Config) {},
		"a tag":    func(c *source.Config) { c.Ref = source.Ref{Tag: "v1"} },
	} {
		run(t, s.bare, "tag", "-f", "v1", commit)
		r := s.open(change)
		fetch(t, r)
		requests, sent := s.requests.Load(), s.sent.Load()
		fetch(t, r)
		if n, b := s.requests.Load()-requests, s.sent.Load()-sent; n != 1 || b > 200 {
			t.Errorf("%s: a poll is %d requests with %d bytes of answer", name, n, b)
		}
	}
	_, err := s.open(func(c *source.Config) { c.Ref.Branch = "prod" }).Fetch(t.Context())
	wantError(t, err, `there is no branch "prod"`, "there is main")
}

func update(t *testing.T, s *gitServer, refs string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "update-ref", "--stdin")
	cmd.Dir, cmd.Env, cmd.Stdin = s.bare, gitEnv(), strings.NewReader(refs)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git update-ref: %v\n%s", err, out)
	}
}

func TestDirectoriesTooDeepAndTooManyFilesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		limits     source.Limits
		want, hint string
	}{
		"deep": {source.Limits{Depth: 3}, "directories are more than 3 deep in each other", "move them up"},
		"many": {source.Limits{Objects: 19}, "over the limit", ""},
	} {
		for kind, change := range map[string]func(*source.Config){"held whole": func(*source.Config) {}, "large": source.Blobless} {
			t.Run(name+", "+kind, func(t *testing.T) {
				s := newLargeServer(t, 2)
				_, err := s.open(change, func(cfg *source.Config) { cfg.Limits = c.limits }).Fetch(t.Context())
				wantError(t, err, c.want, c.hint)
			})
		}
	}
}
