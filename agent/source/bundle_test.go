package source_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// drop is a directory that bundles are put into.
type drop struct {
	*gitServer
	dir string
}

func newDrop(t *testing.T) *drop {
	t.Helper()
	return &drop{gitServer: newGitServer(t), dir: t.TempDir()}
}

func (d *drop) commit(content string) string {
	d.t.Helper()
	d.write("f", content)
	return d.push()
}

func (d *drop) bundle(name string, what ...string) {
	d.t.Helper()
	run(d.t, d.work, append([]string{"bundle", "create", "-q", filepath.Join(d.dir, name)}, what...)...)
}

func (d *drop) open(change ...func(*source.Config)) *source.Repository {
	d.t.Helper()
	return d.gitServer.open(append([]func(*source.Config){func(c *source.Config) { c.URL = "bundle://" + d.dir }}, change...)...)
}

func (d *drop) want(r *source.Repository, commit, content string) {
	d.t.Helper()
	if got := fetch(d.t, r); got.Commit != commit || read(d.t, got, "f") != content || read(d.t, got, "steady") != "same" {
		d.t.Errorf("got %s, want %s", got.Commit, commit)
	}
}

func TestBundlesWholeAndIncremental(t *testing.T) {
	d := newDrop(t)
	d.write("steady", "same")
	one := d.commit("1")
	d.bundle("1-whole.bundle", "main")
	r := d.open()
	d.want(r, one, "1")
	if first := fetch(t, r); fetch(t, r) != first {
		t.Error("nothing changed, and the snapshot is another one")
	}
	two := d.commit("2")
	d.bundle("2.bundle", "main~..main")
	d.want(r, two, "2")
	d.commit("3")
	d.bundle("9.bundle", "main~..main")
	four := d.commit("4")
	d.bundle("10.bundle", "main~..main")
	d.want(r, four, "4")        // two at once
	d.want(d.open(), four, "4") // from the whole one on
	// Without the whole one what we have is enough to go on; a new agent has nothing.
	if err := os.Remove(filepath.Join(d.dir, "1-whole.bundle")); err != nil {
		t.Fatal(err)
	}
	d.want(r, four, "4")
	five := d.commit("5")
	d.bundle("11.bundle", "main~..main")
	d.want(r, five, "5")
	_, err := d.open().Fetch(t.Context())
	wantError(t, err, "bundle 11.bundle builds on commit "+four, "a whole one")
	if !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("not told apart: %v", err)
	}
	run(t, d.work, "bundle", "create", "-q", "--version=3", filepath.Join(d.dir, "12-whole.bundle"), "main")
	d.want(d.open(), five, "5")
}

func TestABundleOfDepthOne(t *testing.T) {
	d := newDrop(t)
	d.write("steady", "same")
	d.commit("1")
	two := d.commit("2")
	shallow := t.TempDir()
	run(t, shallow, "clone", "-q", "--depth=1", "file://"+d.bare, ".")
	run(t, shallow, "bundle", "create", "-q", filepath.Join(d.dir, "shallow.bundle"), "main")
	d.want(d.open(), two, "2")
}

func TestBundlesOfTags(t *testing.T) {
	d := newDrop(t)
	d.write("steady", "same")
	one := d.commit("1")
	d.tag("v1.0.0", "a release")
	two := d.commit("2")
	d.tag("v1.1.0", "another")
	d.bundle("all.bundle", "--all")
	d.want(d.open(func(c *source.Config) { c.Ref = source.Ref{Tag: "v1.0.0"} }), one, "1")
	d.want(d.open(func(c *source.Config) { c.Ref = source.Ref{Semver: "1.x"} }), two, "2")
}

func TestBundlesCarryOnWhereTheRepositoryEnds(t *testing.T) {
	d := newDrop(t)
	d.write("steady", "same")
	d.commit("1")
	r := d.gitServer.open(withMirrors("bundle://" + d.dir))
	fetch(t, r)
	d.commit("2")
	three := d.commit("3")
	d.bundle("next.bundle", "main~2..main")
	d.fail(503)
	d.want(r, three, "3")
	run(t, d.work, "checkout", "-q", "--orphan", "fresh")
	d.commit("other history")
	run(t, d.work, "branch", "-f", "main", "fresh")
	d.bundle("z.bundle", "main")
	d.want(r, three, "3")
}

// What is held of a large repository are the files that are read, and an
// incremental bundle builds on others.
func TestIncrementalBundlesCarryOnWhereALargeRepositoryEnds(t *testing.T) {
	d := newDrop(t)
	run(t, d.bare, "config", "uploadpack.allowFilter", "true")
	for i := range 1100 {
		d.write(fmt.Sprintf("apps/%d/a.yaml", i), fmt.Sprintf("a file of app %d\n", i))
	}
	d.write("steady", "same")
	d.commit("1")
	r := d.gitServer.open(withMirrors("bundle://" + d.dir))
	fetch(t, r)
	two := d.commit("2")
	d.bundle("next.bundle", "main~1..main")
	d.fail(503)
	d.want(r, two, "2")
}

func TestBundlesThatCannotBeUsed(t *testing.T) {
	d := newDrop(t)
	_, err := d.open().Fetch(t.Context())
	wantError(t, err, "there is no bundle in", "put one there")
	_, err = d.open(func(c *source.Config) { c.URL = "bundle:///does/not/exist" }).Fetch(t.Context())
	wantError(t, err, "no such file", "mounted")
	d.write("steady", "same")
	one := d.commit("1")
	d.bundle("1.bundle", "main")
	r := d.open()
	d.want(r, one, "1")
	d.commit("2")
	d.bundle("2.bundle", "main")
	path := filepath.Join(d.dir, "2.bundle")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Replace(whole, []byte(" refs/heads/main"), []byte(" refs/heads/prod"), 1)
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"of another branch": {other, ""},
		"garbage":           {[]byte("garbage"), "bundle 2.bundle: it is not a Git bundle"},
		"empty":             {nil, "bundle 2.bundle: it is not a Git bundle"},
		"a long line":       {[]byte("# v2 git bundle\n" + strings.Repeat("a", 1<<20)), "header is cut short or malformed"},
		"a header alone":    {whole[:60], "header is cut short"},
		"cut short":         {whole[:len(whole)-10], "checksum"},
		"a bit":             {append(bytes.Clone(whole[:len(whole)-1]), whole[len(whole)-1]^1), "checksum"},
		"without objects":   {bytes.Replace(whole, []byte("# v2 git bundle\n"), []byte("# v3 git bundle\n@filter=blob:none\n"), 1), "filter=blob:none"},
		"another hash":      {bytes.Replace(whole, []byte("# v2 git bundle\n"), []byte("# v3 git bundle\n@object-format=sha256\n"), 1), "sha256"},
	} {
		writeFile(t, path, string(c.content))
		got, err := r.Fetch(t.Context())
		switch {
		case c.want != "":
			wantError(t, err, c.want, "git bundle create")
		case err != nil || got.Commit != one:
			t.Errorf("%s: got %s, %v", name, got.Commit, err)
		}
	}
	writeFile(t, path, string(other))
	_, err = d.open(func(c *source.Config) { c.Ref.Branch = "stage" }).Fetch(t.Context())
	wantError(t, err, `no branch "stage"`, "main, prod")
	_, err = d.open(func(c *source.Config) { c.Limits.PackBytes = 100 }).Fetch(t.Context())
	wantError(t, err, "over the limit", "")
	if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o644)); err != nil {
		t.Fatal(err)
	}
	_, err = r.Fetch(t.Context())
	wantError(t, err, "bundle 2.bundle: it is not a file", "")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, string(whole))
	d.want(r, run(t, d.work, "rev-parse", "HEAD"), "2") // it recovers
}

func TestBundlesAreInTheOrderOfTheirNumbers(t *testing.T) {
	names := []string{"2.bundle", "10.bundle", "a1b2.bundle", "a1b10.bundle", "a02.bundle", "fleet-2026-09-30.bundle", "fleet-2026-10-01.bundle", "fleet.bundle"}
	for i := range names {
		for j := range names {
			if got := source.CompareNames(names[i], names[j]); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("%s and %s: %d", names[i], names[j], got)
			}
		}
	}
}

func FuzzBundleHeader(f *testing.F) {
	h := strings.Repeat("ab", 20)
	for _, s := range []string{"# v2 git bundle\n-" + h + " why\n" + h + " refs/heads/main\n\nPACK", "# v3 git bundle\n@object-format=sha1\n" + h + " HEAD\n\n", "# v2 git bundle\n", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		refs, needs, size, err := source.ParseBundleHeader(b)
		if err != nil {
			return
		}
		if size > int64(len(b)) || !bytes.HasSuffix(b[:size], []byte("\n\n")) {
			t.Errorf("the pack is at %d of %d", size, len(b))
		}
		if lines := bytes.Count(b[:size], []byte("\n")); refs+needs > lines {
			t.Error(fmt.Sprint(refs, needs, lines))
		}
	})
}
