package source

import (
	"context"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// ahead guesses which files are read next. A render asks for one file after the
// other, and a round trip for each would be many. What is known is which paths
// will be rendered; what is learned is where, seen from such a path, files were
// missing: "../../base" of one app is there of all others, too.
type ahead struct {
	mu    sync.Mutex
	paths []string // that will be rendered
	steps []string // from a path to a directory whose files it reads
}

// maxSteps bounds what is learned.
const maxSteps = 32

// expect names paths that will be rendered. Of one that is a template only the
// part before it counts.
func (a *ahead) expect(paths []string) {
	var all []string
	for _, p := range paths {
		if i := strings.Index(p, "{{"); i >= 0 {
			p = p[:strings.LastIndex(p[:i], "/")+1]
		}
		if p = path.Clean(p); p != "." && !strings.HasPrefix(p, "..") && !strings.HasPrefix(p, "/") {
			all = append(all, p)
		}
	}
	slices.Sort(all)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.paths = slices.Compact(all)
	if len(a.steps) == 0 {
		a.steps = []string{"."}
	}
}

// around gives the directories whose files are to be brought with one that is
// missing: the one it is in before others.
func (a *ahead) around(ctx context.Context, t *tree, missing unit.Hash) ([]unit.Hash, error) {
	dirs, err := a.known(ctx, t)
	if err != nil {
		return nil, err
	}
	for i, dir := range dirs {
		entries, err := t.Entries(ctx, dir)
		if err != nil {
			return nil, err
		}
		if names(entries, missing) {
			return slices.Concat([]unit.Hash{dir}, dirs[:i], dirs[i+1:]), nil
		}
	}
	where, dir, err := t.find(ctx, missing)
	if err != nil {
		return nil, err
	}
	own := []unit.Hash{dir}
	if !a.learn(where) {
		return own, nil
	}
	dirs, err = a.known(ctx, t)
	return append(own, dirs...), err
}

func names(entries []unit.TreeEntry, file unit.Hash) bool {
	return slices.ContainsFunc(entries, func(e unit.TreeEntry) bool { return e.Hash == file && isFile(e) })
}

// known are the directories that the expected paths lead to by the learned steps.
func (a *ahead) known(ctx context.Context, t *tree) ([]unit.Hash, error) {
	a.mu.Lock()
	paths, steps := a.paths, slices.Clone(a.steps)
	a.mu.Unlock()
	var dirs []unit.Hash
	seen := map[unit.Hash]bool{}
	for _, step := range steps {
		for _, p := range paths {
			at := path.Join(p, step)
			if at == "." || strings.HasPrefix(at, "..") {
				continue
			}
			e, exists, err := unit.Lookup(ctx, t, t.root, at)
			if err != nil {
				return nil, err
			}
			if exists && e.Mode == unit.ModeDir && !seen[e.Hash] {
				dirs, seen[e.Hash] = append(dirs, e.Hash), true
			}
		}
	}
	return dirs, nil
}

// learn remembers how one comes to a directory from the expected path next to
// it. It tells whether there was anything to learn.
func (a *ahead) learn(where string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	best, common := "", 0
	for _, p := range a.paths {
		if n := commonDirs(p, where); n > common {
			best, common = p, n
		}
	}
	if common == 0 {
		return false
	}
	step := stepFrom(best, where, common)
	if slices.Contains(a.steps, step) {
		return false
	}
	if len(a.steps) == maxSteps {
		a.steps = slices.Delete(a.steps, 1, 2) // the oldest but "."
	}
	a.steps = append(a.steps, step)
	return true
}

func commonDirs(a, b string) int {
	x, y := strings.Split(a, "/"), strings.Split(b, "/")
	n := 0
	for n < len(x) && n < len(y) && x[n] == y[n] {
		n++
	}
	return n
}

// stepFrom is the way from one path to another that share some directories.
func stepFrom(from, to string, common int) string {
	up := len(strings.Split(from, "/")) - common
	down := strings.Split(to, "/")[common:]
	return path.Join(slices.Concat(slices.Repeat([]string{".."}, up), down)...)
}

// find looks a file up in all of the tree: the first directory that has it.
func (t *tree) find(ctx context.Context, file unit.Hash) (where string, dir unit.Hash, err error) {
	type place struct {
		path string
		hash unit.Hash
	}
	seen := map[unit.Hash]bool{}
	todo := []place{{".", t.root}}
	for len(todo) > 0 {
		at := todo[0]
		todo = todo[1:]
		if seen[at.hash] {
			continue
		}
		seen[at.hash] = true
		if err := ctx.Err(); err != nil {
			return "", unit.Hash{}, err
		}
		entries, err := t.parse(at.hash) // a walk through all is not to put out what is in use
		if err != nil {
			return "", unit.Hash{}, err
		}
		if names(entries, file) {
			return at.path, at.hash, nil
		}
		for _, e := range entries {
			if e.Mode == unit.ModeDir {
				todo = append(todo, place{path.Join(at.path, e.Name), e.Hash})
			}
		}
	}
	return "", unit.Hash{}, errMissing
}
