package source

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// bundles is a directory of Git bundles that somebody carries there. The files
// that end in .bundle count, in the order of their names, numbers by their
// value: of two that have the same ref, the later one is newer. An incremental
// bundle builds on those before it, or on what was read already.
type bundles struct {
	cfg *Config
	dir string
}

var (
	_ place = (*bundles)(nil)
	_ visit = (*bundlesVisit)(nil)
)

type bundle struct {
	bundleHeader
	name string
	path string
}

type bundlesVisit struct {
	cfg  *Config
	all  []bundle // oldest first
	refs references
	read objects // by bring
}

const bundleHint = "make it again with git bundle create, copy it under another name, and rename it when it is whole"

func (b *bundles) visit(context.Context) (visit, error) {
	v := &bundlesVisit{cfg: b.cfg, refs: references{}}
	files, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, fleet.WithHint(fleet.NotFound("%w", err), "is the volume mounted, and is the path right?")
	}
	slices.SortFunc(files, func(x, y fs.DirEntry) int { return compareNames(x.Name(), y.Name()) })
	for _, f := range files {
		if f.IsDir() || !strings.HasSuffix(f.Name(), ".bundle") {
			continue
		}
		one := bundle{name: f.Name(), path: filepath.Join(b.dir, f.Name())}
		if one.bundleHeader, err = readBundleHeader(one.path); err != nil {
			return nil, fleet.WithHint(fleet.Invalid("bundle %s: %w", plain(one.name), err), bundleHint)
		}
		maps.Copy(v.refs, one.refs)
		v.all = append(v.all, one)
	}
	if len(v.all) == 0 {
		return nil, fleet.WithHint(fleet.NotFound("there is no bundle in %s", b.dir), "put one there whose name ends in .bundle")
	}
	return v, nil
}

func readBundleHeader(path string) (bundleHeader, error) {
	info, err := os.Stat(path)
	if err != nil {
		return bundleHeader{}, err
	}
	if !info.Mode().IsRegular() { // a pipe would be waited for
		return bundleHeader{}, errors.New("it is not a file")
	}
	f, err := os.Open(path)
	if err != nil {
		return bundleHeader{}, err
	}
	defer f.Close()
	return parseBundleHeader(bufio.NewReaderSize(f, maxBundleLine))
}

func (v *bundlesVisit) references() references { return v.refs }

func (v *bundlesVisit) gives() bool { return false }

func (v *bundlesVisit) Close() error { return nil }

// bring reads the newest bundle with the tip, and before it those it builds on:
// from the nearest one that builds on nothing, or on what we have.
func (v *bundlesVisit) bring(ctx context.Context, tip unit.Hash, have state) (brought, error) {
	last := v.newest(tip)
	if last < 0 {
		return brought{}, fleet.WithHint(fleet.NotFound("no bundle is made for %s", tip), "bundles are made for branches and tags; follow one of them")
	}
	have = have.whole()
	var problem error
	for first := last; first >= 0; first-- {
		base := objects(nil)
		if needs := v.all[first].needs; len(needs) > 0 {
			if !have.objects.hasAll(needs) {
				continue
			}
			base = have.objects
		}
		got, err := v.from(ctx, first, last, tip, base)
		if err == nil {
			return got, nil
		}
		if ctx.Err() != nil {
			return brought{}, noAnswer(ctx, v.cfg.Timeout)
		}
		problem = err
	}
	if problem == nil {
		return brought{}, fleet.WithHint(fleet.NotFound("bundle %s builds on commit %s, and no bundle has that one", plain(v.all[last].name), v.all[last].needs[0]),
			"put the bundles before it there too, or a whole one")
	}
	return brought{}, problem
}

func (v *bundlesVisit) newest(tip unit.Hash) int {
	for i, v0 := range slices.Backward(v.all) {
		for _, h := range v0.refs {
			if h == tip {
				return i
			}
		}
	}
	return -1
}

// from reads some bundles over each other. Those between that do not fit may be
// for other branches; whether the tip is whole is seen at the end.
func (v *bundlesVisit) from(ctx context.Context, first, last int, tip unit.Hash, base objects) (brought, error) {
	all := base
	for i := first; i <= last; i++ {
		if err := ctx.Err(); err != nil {
			return brought{}, err
		}
		next, err := v.over(v.all[i], all)
		switch {
		case err == nil:
			all = next
		case i == last || errors.Is(err, errLimit):
			return brought{}, fleet.WithHint(fleet.Invalid("bundle %s: %w", plain(v.all[i].name), err), cmp.Or(fleet.Hint(err), bundleHint))
		}
	}
	got, err := all.of(tip, v.cfg.Limits, true)
	if err != nil {
		return brought{}, fleet.WithHint(fleet.Invalid("bundle %s: %w", plain(v.all[last].name), err), bundleHint)
	}
	v.read = all
	return got, nil
}

func (v *bundlesVisit) over(b bundle, base objects) (objects, error) {
	f, err := os.Open(b.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(b.size, io.SeekStart); err != nil {
		return nil, err
	}
	pack, err := readPack(f, v.cfg.Limits.PackBytes)
	if err != nil {
		return nil, err
	}
	if err := guardPack(pack, v.cfg.Limits); err != nil {
		return nil, err
	}
	all, err := unpack(pack, base)
	if err != nil {
		return nil, err
	}
	return all, all.within(v.cfg.Limits)
}

// history is what the bundles that were read hold.
func (v *bundlesVisit) history(_ context.Context, _ unit.Hash, _ int, _ state) (history, error) {
	known, err := v.read.commits()
	if err != nil {
		return nil, damaged(err)
	}
	return known, nil
}

// compareNames puts 9.bundle before 10.bundle.
func compareNames(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		dx, dy := digits(x), digits(y)
		if dx == 0 || dy == 0 {
			if x[0] != y[0] {
				return cmp.Compare(x[0], y[0])
			}
			x, y = x[1:], y[1:]
			continue
		}
		nx, ny := strings.TrimLeft(x[:dx], "0"), strings.TrimLeft(y[:dy], "0")
		if c := cmp.Or(cmp.Compare(len(nx), len(ny)), strings.Compare(nx, ny)); c != 0 {
			return c
		}
		x, y = x[dx:], y[dy:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(a, b))
}

func digits(s string) int {
	return len(s) - len(strings.TrimLeft(s, "0123456789"))
}
