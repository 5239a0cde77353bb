package source

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// files are those that came apart from their commit. One that was read stays for
// as long as it is part of what is followed: what was rendered once can be
// rendered again while the repository can't be reached. What nobody has read, or
// is not part of it any more, goes after some commits.
type files struct {
	limits Limits
	now    func() time.Time
	ahead  ahead
	asking chan struct{} // holds one value while files are brought

	mu      sync.Mutex
	giver   giveFiles
	held    map[unit.Hash]*file
	bytes   int64 // inflated
	commits int   // so far
	alone   map[unit.Hash]bool
	failed  failure
}

// giveFiles brings files by their names.
type giveFiles func(ctx context.Context, wants []unit.Hash) (objects, error)

type file struct {
	object object
	read   bool
	until  int // which commit
}

// failure is why files could not be brought a moment ago.
type failure struct {
	err   error
	until time.Time
}

const (
	// keptCommits is for how many commits a file stays that nobody reads.
	keptCommits = 2
	// maxBatch is how many files are asked for at once.
	maxBatch = 4096
	// failedFor keeps a thousand apps from waiting one after the other for a
	// server that does not answer.
	failedFor = 5 * time.Second
)

func newFiles(limits Limits, giver giveFiles) *files {
	return &files{
		limits: limits, giver: giver, now: time.Now, asking: make(chan struct{}, 1),
		held: map[unit.Hash]*file{}, alone: map[unit.Hash]bool{},
	}
}

// comeBy has files brought in another way from now on: with other credentials.
func (f *files) comeBy(giver giveFiles) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.giver, f.failed = giver, failure{}
}

func (f *files) bring(ctx context.Context, wants []unit.Hash) (objects, error) {
	f.mu.Lock()
	giver := f.giver
	f.mu.Unlock()
	return giver(ctx, wants)
}

// read gives a file of a tree. One that is not here is brought, and with it those
// that will be read next, as far as one can tell.
func (f *files) read(ctx context.Context, t *tree, h unit.Hash) (object, error) {
	if !t.has(h) {
		return object{}, fmt.Errorf("blob %s: %w", h, errMissing)
	}
	if o, ok := f.take(h); ok {
		return o, nil
	}
	select {
	case f.asking <- struct{}{}:
	case <-ctx.Done():
		return object{}, ctx.Err()
	}
	defer func() { <-f.asking }()
	if o, ok := f.take(h); ok { // somebody else's batch had it
		return o, nil
	}
	if err := f.recently(); err != nil {
		return object{}, err
	}
	if err := f.fill(ctx, t, h); err != nil {
		return object{}, err
	}
	o, ok := f.take(h)
	if !ok {
		return object{}, fmt.Errorf("blob %s: %w", h, errMissing)
	}
	return o, nil
}

func (f *files) take(h unit.Hash) (object, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	found, ok := f.held[h]
	if !ok {
		return object{}, false
	}
	found.read = true
	found.until = f.commits + keptCommits
	return found.object, true
}

func (f *files) recently() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed.err != nil && f.now().Before(f.failed.until) {
		return f.failed.err
	}
	return nil
}

// fill brings a file with others. If those are too large together, it alone.
func (f *files) fill(ctx context.Context, t *tree, h unit.Hash) error {
	batch, err := f.batch(ctx, t, h)
	if err != nil {
		return err
	}
	got, err := f.bring(ctx, batch)
	if errors.Is(err, errLimit) && len(batch) > 1 {
		f.mu.Lock()
		for _, each := range batch {
			f.alone[each] = true
		}
		f.mu.Unlock()
		got, err = f.bring(ctx, []unit.Hash{h})
	}
	switch {
	case errors.Is(err, errLimit):
		return fmt.Errorf("blob %s: %w", h, unit.ErrTooLarge)
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		err = fleet.WithHint(fmt.Errorf("files can't be brought from the repository: %w", err), fleet.Hint(err))
		f.mu.Lock()
		f.failed = failure{err, f.now().Add(failedFor)}
		f.mu.Unlock()
		return err
	}
	f.put(got)
	return nil
}

// batch is the file, and those it is worth to bring with it.
func (f *files) batch(ctx context.Context, t *tree, h unit.Hash) ([]unit.Hash, error) {
	f.mu.Lock()
	alone := f.alone[h]
	f.mu.Unlock()
	if alone {
		return []unit.Hash{h}, nil
	}
	dirs, err := f.ahead.around(ctx, t, h)
	if err != nil {
		return nil, err
	}
	return f.lacking(ctx, t, h, dirs)
}

// lacking are the files in some directories that are not here.
func (f *files) lacking(ctx context.Context, t *tree, first unit.Hash, dirs []unit.Hash) ([]unit.Hash, error) {
	batch := []unit.Hash{first}
	in := map[unit.Hash]bool{first: true}
	for _, dir := range dirs {
		entries, err := t.Entries(ctx, dir)
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		for _, e := range entries {
			_, here := f.held[e.Hash]
			if isFile(e) && !here && !in[e.Hash] && !f.alone[e.Hash] && len(batch) < maxBatch {
				batch, in[e.Hash] = append(batch, e.Hash), true
			}
		}
		f.mu.Unlock()
	}
	return batch, nil
}

func isFile(e unit.TreeEntry) bool { return e.Mode != unit.ModeDir && e.Mode != unit.ModeSubmodule }

// put keeps files. Over the limit, those go first that nobody has read.
func (f *files) put(got objects) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = failure{}
	for h, o := range got {
		if _, ok := f.held[h]; !ok && o.kind == plumbing.BlobObject {
			f.held[h] = &file{object: o, until: f.commits + keptCommits}
			f.bytes += o.size
		}
	}
	for _, read := range []bool{false, true} {
		f.drop(func(h unit.Hash, each *file) bool {
			_, fresh := got[h]
			return f.bytes > f.limits.TotalBytes && !fresh && each.read == read
		})
	}
}

// failing tells that files could not be brought when last they were asked for.
func (f *files) failing() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed.err != nil
}

// drop is called with f.mu held.
func (f *files) drop(which func(unit.Hash, *file) bool) {
	maps.DeleteFunc(f.held, func(h unit.Hash, each *file) bool {
		if !which(h, each) {
			return false
		}
		f.bytes -= each.object.size
		return true
	})
}

// advance goes on to another commit: it brings at once what has changed of the
// files that are in use, and lets others go. Files that can't be brought now are
// brought when they are read.
func (f *files) advance(ctx context.Context, from, to *tree) error {
	f.mu.Lock()
	f.commits++
	for h, each := range f.held {
		if each.read && to.has(h) {
			each.until = f.commits + keptCommits
		}
	}
	f.drop(func(_ unit.Hash, each *file) bool { return each.until < f.commits })
	maps.DeleteFunc(f.alone, func(h unit.Hash, _ bool) bool { return !to.has(h) })
	f.mu.Unlock()
	if from == nil {
		return nil
	}
	changed, err := f.changed(ctx, from, to, from.root, to.root)
	if err != nil || len(changed) == 0 {
		return err
	}
	got, err := f.bring(ctx, changed[:min(len(changed), maxBatch)])
	if err != nil {
		return err
	}
	f.put(got)
	return nil
}

// changed are the files that another commit has where there were such that are
// in use, or beside them.
func (f *files) changed(ctx context.Context, from, to *tree, old, now unit.Hash) ([]unit.Hash, error) {
	if old == now {
		return nil, nil
	}
	was, err := from.Entries(ctx, old)
	if err != nil {
		return nil, err
	}
	is, err := to.Entries(ctx, now)
	if err != nil {
		return nil, err
	}
	before := make(map[string]unit.TreeEntry, len(was))
	for _, e := range was {
		before[e.Name] = e
	}
	var all []unit.Hash
	for _, e := range is {
		b, existed := before[e.Name]
		switch {
		case existed && e.Mode == unit.ModeDir && b.Mode == unit.ModeDir:
			below, err := f.changed(ctx, from, to, b.Hash, e.Hash)
			if err != nil {
				return nil, err
			}
			all = append(all, below...)
		case isFile(e) && e.Hash != b.Hash && f.inUse(b, existed, was) && !f.has(e.Hash):
			all = append(all, e.Hash)
		}
	}
	return all, nil
}

// inUse tells whether what stood in an entry's place was read, or anything
// beside it if nothing did.
func (f *files) inUse(before unit.TreeEntry, existed bool, beside []unit.TreeEntry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if existed {
		found := f.held[before.Hash]
		return found != nil && found.read
	}
	for _, e := range beside {
		if found := f.held[e.Hash]; found != nil && found.read {
			return true
		}
	}
	return false
}

func (f *files) has(h unit.Hash) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.held[h]
	return ok || f.alone[h]
}
