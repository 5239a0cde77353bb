package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/e2e/gauge"
)

// floor is what git itself needs for one commit's files, and for its
// directories alone.
func (b *sourceBench) floor(ctx context.Context) error {
	whole, err := b.gitClone(ctx, "whole", "--depth=1")
	if err != nil {
		return err
	}
	bare, err := b.gitClone(ctx, "blobless", "--depth=1", "--filter=blob:none")
	b.out.Floor, b.out.FloorBlobless = whole, bare
	return err
}

func (b *sourceBench) gitClone(ctx context.Context, name string, flags ...string) (cloned, error) {
	user, pass := b.stage.GitReader()
	u, err := url.Parse(b.stage.RepositoryURL())
	if err != nil {
		return cloned{}, err
	}
	var words [2]string
	for i, file := range []string{user, pass} {
		text, err := os.ReadFile(file)
		if err != nil {
			return cloned{}, err
		}
		words[i] = strings.TrimSpace(string(text))
	}
	u.User = url.UserPassword(words[0], words[1])
	before, start := b.stage.Git.Traffic(), time.Now()
	args := append([]string{"-c", "http.proxy=", "clone", "--quiet", "--bare"}, append(flags, u.String(), filepath.Join(b.dir, "clone-"+name))...)
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return cloned{}, fmt.Errorf("git clone: %w\n%s", err, out)
	}
	return cloned{S: time.Since(start).Seconds(), traffic: newTraffic(b.stage.Git.Traffic().Since(before))}, nil
}

func (b *sourceBench) open() (*source.Repository, error) {
	user, pass := b.stage.GitReader()
	return source.New(source.Config{URL: b.stage.RepositoryURL(), Ref: source.Ref{Branch: "main"}, UsernameFile: user, PasswordFile: pass})
}

// clone fetches as an agent does that has nothing yet: what no app has read is
// not in it.
func (b *sourceBench) clone(ctx context.Context) error {
	var took []time.Duration
	for range 3 {
		r, err := b.open()
		if err != nil {
			return err
		}
		before, start := b.stage.Git.Traffic(), time.Now()
		if _, err := r.Fetch(ctx); err != nil {
			return err
		}
		took = append(took, time.Since(start))
		b.out.Clone.traffic = newTraffic(b.stage.Git.Traffic().Since(before))
	}
	b.out.Clone.S = gauge.Percentile(took, 0.5)
	return nil
}

// decide asks of every app whether its last render still holds, after a commit
// of one file.
func (b *sourceBench) decide(ctx context.Context) error {
	r, err := b.open()
	if err != nil {
		return err
	}
	at, err := r.Fetch(ctx)
	if err != nil {
		return err
	}
	sets := map[string]unit.ReadSet{}
	for i := range b.o.source.apps {
		if sets[appName(i)], err = readsOf(ctx, at, appName(i)); err != nil {
			return err
		}
	}
	var index unit.ReadIndex[string]
	if moved, err := ask(ctx, &index, sets, at); err != nil || len(moved) > 0 {
		return fmt.Errorf("before any commit %d read-sets do not hold: %w", len(moved), err)
	}
	var took []time.Duration
	for i := range sourceRounds {
		name := appName(i * b.o.source.apps / sourceRounds)
		if _, err := b.stage.Fleet.Push(ctx, "Change "+name, overlay(name, fmt.Sprint("decide ", i), firstRelease)); err != nil {
			return err
		}
		if at, err = r.Fetch(ctx); err != nil {
			return err
		}
		start := time.Now()
		moved, err := ask(ctx, &index, sets, at)
		if err != nil {
			return err
		}
		took = append(took, time.Since(start))
		if !slices.Equal(moved, []string{name}) {
			return fmt.Errorf("after a commit to %s, %v are to be rendered", name, moved)
		}
		if sets[name], err = readsOf(ctx, at, name); err != nil {
			return err
		}
		if moved, err := ask(ctx, &index, sets, at); err != nil || len(moved) > 0 {
			return fmt.Errorf("after %s was read again, %v are to be rendered: %w", name, moved, err)
		}
	}
	b.out.DecideMS = gauge.Percentile(took, 0.5) * 1000
	return nil
}

func ask(ctx context.Context, index *unit.ReadIndex[string], sets map[string]unit.ReadSet, at unit.Snapshot) (moved []string, err error) {
	for name, reads := range sets {
		holds, err := index.Holds(ctx, name, reads, at.Tree, at.Root, unit.Facts{}, reads.Renderer)
		if err != nil {
			return nil, err
		}
		if !holds {
			moved = append(moved, name)
		}
	}
	return moved, nil
}

// readsOf is what Kustomize looks at for one app: its files, and the names it
// tries first.
func readsOf(ctx context.Context, at unit.Snapshot, app string) (unit.ReadSet, error) {
	set := unit.ReadSet{Paths: map[string]unit.Read{}, Renderer: "bench"}
	base, over := "apps/"+app+"/base", "apps/"+app+"/overlays/bench"
	for _, dir := range []string{base, over} {
		set.Paths[dir] = unit.Read{Kind: unit.ReadDir}
		set.Paths[dir+"/kustomization.yml"] = unit.Read{Kind: unit.ReadMissing}
		set.Paths[dir+"/Kustomization"] = unit.Read{Kind: unit.ReadMissing}
	}
	files := []string{over + "/kustomization.yaml", base + "/kustomization.yaml"}
	for kind := range baseObjects(app) {
		files = append(files, base+"/"+kind+".yaml")
	}
	for _, file := range files {
		e, found, err := unit.Lookup(ctx, at.Tree, at.Root, file)
		if err != nil || !found {
			return set, fmt.Errorf("%s: found %v: %w", file, found, err)
		}
		set.Paths[file] = unit.Read{Kind: unit.ReadFile, Mode: e.Mode, Hash: e.Hash}
	}
	return set, nil
}
