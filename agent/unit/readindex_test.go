package unit_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// step is a random commit: files come, go, change, and become directories.
func step(rng *rand.Rand, files map[string]string) map[string]string {
	out := maps.Clone(files)
	for range 1 + rng.IntN(3) {
		p := randomPath(rng)
		switch rng.IntN(4) {
		case 0:
			delete(out, p)
		case 1:
			for q := range out { // a directory goes as a whole
				if strings.HasPrefix(q, p+"/") {
					delete(out, q)
				}
			}
		default:
			for q := range out { // what stands in the way, above and below
				if strings.HasPrefix(q, p+"/") || strings.HasPrefix(p, q+"/") {
					delete(out, q)
				}
			}
			out[p] = fmt.Sprint(rng.IntN(3))
		}
	}
	return out
}

func randomPath(rng *rand.Rand) string {
	names := []string{"a", "b", "c"}
	p := names[rng.IntN(3)]
	for range rng.IntN(3) {
		p += "/" + names[rng.IntN(3)]
	}
	return p
}

// randomReads is what a render that looked at some paths would note.
func randomReads(t *testing.T, rng *rand.Rand, tree trees, root unit.Hash) unit.ReadSet {
	t.Helper()
	r := unit.ReadSet{Paths: map[string]unit.Read{}, Renderer: "r"}
	for range rng.IntN(5) {
		p := randomPath(rng)
		if rng.IntN(10) == 0 {
			p = ""
		}
		e, ok, err := unit.Lookup(t.Context(), tree, root, p)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case !ok:
			r.Paths[p] = unit.Read{Kind: unit.ReadMissing}
		case e.Mode != unit.ModeDir:
			r.Paths[p] = unit.Read{Kind: unit.ReadFile, Mode: e.Mode, Hash: e.Hash}
		default:
			r.Paths[p] = []unit.Read{{Kind: unit.ReadDir}, {Kind: unit.ReadList, Mode: e.Mode, Hash: e.Hash}, {Kind: unit.ReadNames, Hash: unit.NamesHash(tree[e.Hash])}}[rng.IntN(3)]
		}
	}
	return r
}

func TestTheIndexGivesTheAnswersOfEachReadSet(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	tree := trees{}
	files := map[string]string{}
	var x unit.ReadIndex[int]
	sets := map[int]unit.ReadSet{}
	roots := []unit.Hash{tree.add(files)}
	held, moved := 0, 0
	for range 3000 {
		files = step(rng, files)
		root := tree.add(files)
		roots = append(roots, root)
		if rng.IntN(20) == 0 { // a force push
			root = roots[rng.IntN(len(roots))]
		}
		for range 3 {
			sets[rng.IntN(40)] = randomReads(t, rng, tree, roots[max(0, len(roots)-1-rng.IntN(3))])
		}
		if k := rng.IntN(40); rng.IntN(5) == 0 {
			x.Forget(k)
		}
		for _, k := range slices.Sorted(maps.Keys(sets)) {
			want, err := sets[k].Holds(t.Context(), tree, root, unit.Facts{}, "r")
			if err != nil {
				t.Fatal(err)
			}
			got, err := x.Holds(t.Context(), k, sets[k], tree, root, unit.Facts{}, "r")
			if err != nil || got != want {
				t.Fatalf("%+v holds %t, and by the index %t, %v", sets[k], want, got, err)
			}
			if want {
				held++
			} else {
				moved++
			}
		}
	}
	if held < 1000 || moved < 1000 {
		t.Errorf("%d held, %d did not: too few of one to prove anything", held, moved)
	}
	for k := range sets {
		x.Forget(k)
	}
	if n := x.Len(); n != 0 {
		t.Errorf("%d read-sets are left when all are forgotten", n)
	}
}

// counted counts the directories that are read.
type counted struct {
	trees
	reads int
	fail  error
}

func (c *counted) Entries(ctx context.Context, dir unit.Hash) ([]unit.TreeEntry, error) {
	c.reads++
	if c.fail != nil {
		return nil, c.fail
	}
	return c.trees.Entries(ctx, dir)
}

func TestACommitCostsTheDirectoriesItTouches(t *testing.T) {
	files := monorepo(50)
	tree := &counted{trees: trees{}}
	before := tree.add(files)
	var x unit.ReadIndex[int]
	var sets []unit.ReadSet
	for a := range 50 {
		sets = append(sets, readsOf(t, tree, before, files, a))
		if holds, err := x.Holds(t.Context(), a, sets[a], tree, before, unit.Facts{}, "r"); err != nil || !holds {
			t.Fatal(a, holds, err)
		}
	}
	files["apps/app-0007/base/file-00.yaml"] = "changed"
	files["nobody/reads/this.yaml"] = "new"
	after := tree.add(files)
	tree.reads = 0
	for a, r := range sets {
		holds, err := x.Holds(t.Context(), a, r, tree, after, unit.Facts{}, "r")
		if err != nil || holds != (a != 7) {
			t.Errorf("app %d: %t, %v", a, holds, err)
		}
	}
	// The root, apps, app-0007 and its base; and once more to see that app 7 does not hold.
	if tree.reads > 40 {
		t.Errorf("%d directories were read", tree.reads)
	}
}

func TestADamagedTreeIsAnErrorAndNoVerdict(t *testing.T) {
	files := monorepo(3)
	tree := &counted{trees: trees{}}
	before := tree.add(files)
	r := readsOf(t, tree, before, files, 1)
	var x unit.ReadIndex[string]
	holds := func(root unit.Hash) (bool, error) {
		return x.Holds(t.Context(), "app", r, tree, root, unit.Facts{}, "r")
	}
	if ok, err := holds(before); !ok || err != nil {
		t.Fatal(ok, err)
	}
	files["apps/app-0002/base/file-00.yaml"] = "changed"
	after := tree.add(files)
	tree.fail = errors.New("damaged")
	if ok, err := holds(after); ok || !errors.Is(err, tree.fail) {
		t.Errorf("damaged, and holds %t, %v", ok, err)
	}
	tree.fail = nil
	if ok, err := holds(after); !ok || err != nil {
		t.Errorf("mended, and holds %t, %v", ok, err)
	}
}

func TestFactsCountToo(t *testing.T) {
	files := monorepo(1)
	tree := trees{}
	root := tree.add(files)
	r := readsOf(t, tree, root, files, 0)
	r.Labels, r.Absent, r.Cluster = map[string]string{"env": "dev"}, []string{"region"}, "edge"
	var x unit.ReadIndex[int]
	good := unit.Facts{Cluster: "edge", Labels: map[string]string{"env": "dev", "other": "x"}}
	for _, c := range []struct {
		name     string
		facts    unit.Facts
		renderer string
		want     bool
	}{
		{"the same", good, "r", true},
		{"another label", unit.Facts{Cluster: "edge", Labels: map[string]string{"env": "prod"}}, "r", false},
		{"no label", unit.Facts{Cluster: "edge"}, "r", false},
		{"a label that was absent", unit.Facts{Cluster: "edge", Labels: map[string]string{"env": "dev", "region": "eu"}}, "r", false},
		{"another cluster", unit.Facts{Cluster: "core", Labels: good.Labels}, "r", false},
		{"another renderer", good, "s", false},
		{"the same again", good, "r", true},
	} {
		if got, err := x.Holds(t.Context(), 0, r, tree, root, c.facts, c.renderer); err != nil || got != c.want {
			t.Errorf("%s: %t, %v", c.name, got, err)
		}
	}
}

func TestManyMayAskAtOnce(t *testing.T) {
	files := monorepo(20)
	tree := trees{}
	roots := []unit.Hash{tree.add(files)}
	files["apps/app-0003/config/file-03.yaml"] = "changed"
	roots = append(roots, tree.add(files))
	var sets []unit.ReadSet
	for a := range 20 {
		sets = append(sets, readsOf(t, tree, roots[1], files, a))
	}
	var x unit.ReadIndex[int]
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			a, at := i%20, i/20%2
			want := a != 3 || at == 1
			if got, err := x.Holds(t.Context(), a, sets[a], tree, roots[at], unit.Facts{}, "r"); err != nil || got != want {
				t.Errorf("app %d at root %d: %t, %v", a, at, got, err)
			}
		})
	}
	wg.Wait()
}
