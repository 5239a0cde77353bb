package source

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// PoolConfig says which repositories may be followed, and how.
type PoolConfig struct {
	Own          Config  // the agent's own repository, and what it follows there
	Repositories []Entry // others that Apps may name; none: any over http, https and ssh
	Namespace    string  // the agent's own: its Secrets there are not for Apps

	Poll time.Duration // between two looks at a repository
	// PushSpread is the longest time within which, at random, is looked after a
	// push: a fleet is not to trample the server.
	PushSpread time.Duration
	// Fetched is told of every look at a repository; nil: nobody is. It must not block.
	Fetched func(Fetched)
}

const (
	// spreadEach is what each agent that is told of a push adds to the time within
	// which all look: a server has five hundred looks a second.
	spreadEach = 2 * time.Millisecond
	// spreadUnknown is that time where nobody says how many are told.
	spreadUnknown = time.Second
	// leastBetween is between a look and the next one that a push gives reason to:
	// how many are told a stranger may have made up, and how often somebody pushed.
	leastBetween = 100 * time.Millisecond
)

// spread is within which time a push is looked at that so many agents are told of.
func (c *PoolConfig) spread(told int) time.Duration {
	within := spreadUnknown
	if told > 0 {
		within = time.Duration(min(told, maxTold)) * spreadEach
	}
	return min(c.PushSpread, within)
}

// afterPush is how long a push waits until it is looked at, at random, so long
// after the last look ended.
func (c *PoolConfig) afterPush(told int, since time.Duration) time.Duration {
	return max(random(c.spread(told)), leastBetween-since)
}

// maxTold is more agents than any fleet has: a number that a stranger may have made up.
const maxTold = 1_000_000

// Heads keeps which commits were followed, over a restart. fleet.ErrConflict
// from a Save means that another agent writes too.
type Heads interface {
	Load(ctx context.Context) (Kept, error)
	Save(ctx context.Context, k Kept) error
}

// Secrets tells what a Secret holds.
type Secrets interface {
	// Follow tells it at once and whenever it changes, until ctx ends. An error
	// says why it can't be told, and has a hint.
	Follow(ctx context.Context, namespace, name string, tell func(data map[string][]byte, err error))
}

// Pool follows the agent's own repository and those that Apps name: each with
// one fetch at a time, however many Apps read it, and by itself, so that one
// that is slow or gone delays no other. It is safe for concurrent use.
type Pool struct {
	cfg     PoolConfig
	policy  *policy
	heads   heads
	secrets Secrets
	log     *slog.Logger

	wake  chan struct{} // somebody is to be started
	fatal chan error
	moved func(unit.Moved) // set by Run

	mu        sync.Mutex
	own       *follower
	followers map[unit.Source]*follower
	uses      map[fleet.AppName]unit.Source
}

// Validate checks which repositories Apps may name, and that the agent's own can
// be one. It reads no files.
func (c *PoolConfig) Validate() error {
	_, err := newPolicy(c.Own, c.Repositories)
	return err
}

// NewPool makes a Pool of a configuration that is valid. It connects to nothing.
func NewPool(cfg PoolConfig, h Heads, secrets Secrets, log *slog.Logger) (*Pool, error) {
	rules, err := newPolicy(cfg.Own, cfg.Repositories)
	if err != nil {
		return nil, err
	}
	p := &Pool{
		cfg: cfg, policy: rules, secrets: secrets, log: log,
		wake: make(chan struct{}, 1), fatal: make(chan error, 1),
		followers: map[unit.Source]*follower{}, uses: map[fleet.AppName]unit.Source{},
	}
	p.heads.store, p.heads.on = h, cfg.Own.HoldRewinds
	p.own = newFollower(p, unit.Source{}, cfg.Own)
	return p, nil
}

// Run follows until ctx ends, and calls moved when there is something to look
// at; moved must not block. The error is fleet.ErrConflict if another agent
// writes too.
func (p *Pool) Run(ctx context.Context, moved func(unit.Moved)) error {
	if err := p.heads.load(ctx); err != nil {
		return fmt.Errorf("the commits that were followed: %w", err)
	}
	p.moved = moved
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for {
		for _, f := range p.idle() {
			running.Go(func() { p.start(ctx, f) })
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-p.fatal:
			return err
		case <-p.wake:
		}
	}
}

// start has one followed until ctx ends or nobody uses it any more.
func (p *Pool) start(ctx context.Context, f *follower) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with either
		select {
		case <-ctx.Done():
		case <-f.unused:
			cancel()
		}
	}()
	f.run(ctx)
}

// idle gives those that wait to be started.
func (p *Pool) idle() []*follower {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*follower
	for _, f := range append(slices.Collect(maps.Values(p.followers)), p.own) {
		if !f.started {
			f.started = true
			out = append(out, f)
		}
	}
	return out
}

// Latest gives what is known of what an app is read from, and has it followed
// from then on, instead of what the app was read from before.
//
// Beside what Fetch returns, the error may be fleet.ErrForbidden: this cluster
// does not let Apps read that.
func (p *Pool) Latest(app fleet.AppName, from unit.Source) unit.Followed {
	what, cfg, err := p.policy.resolve(from)
	if err == nil {
		err = p.policy.reserved(what.Secret, p.cfg.Namespace)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil:
		p.leave(app)
		return unit.Followed{Err: err}
	case what.IsZero():
		p.leave(app)
		return p.own.known()
	case p.uses[app] != what:
		p.leave(app)
		p.join(app, what, cfg)
	}
	return p.followers[what].known()
}

// Drop says that an app reads nothing any more.
func (p *Pool) Drop(app fleet.AppName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leave(app)
}

// FetchSoon has what an app is read from looked at, without waiting for it.
func (p *Pool) FetchSoon(app fleet.AppName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	poke(p.of(app).now)
}

// Accept lets the branch that an app is read from be moved: what
// RewoundError.Accept says.
func (p *Pool) Accept(app fleet.AppName, move string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.of(app)
	f.accepted = move
	poke(f.now)
}

// Pushed says that somebody pushed to a repository. It is known by its name
// alone: here it may be read from another host, or over another protocol. Where
// it is known which references moved, only those that are followed are looked at.
func (p *Pool) Pushed(push fleet.Push) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range append(slices.Collect(maps.Values(p.followers)), p.own) {
		if !f.cfg.isNamedLike(push.RepoURL) || !f.cfg.Ref.movedBy(push.Refs) {
			continue
		}
		select {
		case f.pushed <- push.Agents:
		default: // it will look anyway
		}
	}
}

// Statuses says how each repository is that is followed: the agent's own, then
// those that fail, then the others, by their names.
func (p *Pool) Statuses() []fleet.SourceStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	others := map[fleet.SourceStatus]bool{} // read by several with a Secret each, one is one
	for _, f := range p.followers {
		others[f.status] = true
	}
	return append([]fleet.SourceStatus{p.own.status}, slices.SortedFunc(maps.Keys(others), func(a, b fleet.SourceStatus) int {
		return cmp.Or(cmp.Compare(wellness(a), wellness(b)), strings.Compare(a.URL, b.URL), strings.Compare(a.Follows, b.Follows), strings.Compare(a.Message, b.Message))
	})...)
}

func wellness(s fleet.SourceStatus) int {
	if s.Failing || s.Message != "" {
		return 0
	}
	return 1
}

// of is what an app is read from. Called with p.mu held.
func (p *Pool) of(app fleet.AppName) *follower {
	if what, ok := p.uses[app]; ok {
		return p.followers[what]
	}
	return p.own
}

// join is called with p.mu held.
func (p *Pool) join(app fleet.AppName, what unit.Source, cfg Config) {
	f := p.followers[what]
	if f == nil {
		f = newFollower(p, what, cfg)
		p.followers[what] = f
		poke(p.wake)
	}
	f.users[app] = struct{}{}
	p.uses[app] = what
}

// leave forgets a repository with its last user. Called with p.mu held.
func (p *Pool) leave(app fleet.AppName) {
	what, ok := p.uses[app]
	if !ok {
		return
	}
	delete(p.uses, app)
	f := p.followers[what]
	if delete(f.users, app); len(f.users) == 0 {
		delete(p.followers, what)
		close(f.unused)
		p.forgetHead(f.headKey())
	}
}

// forgetHead is called with p.mu held. Who reads the same with other
// credentials goes on from the same head.
func (p *Pool) forgetHead(key headKey) {
	for _, f := range p.followers {
		if f.headKey() == key {
			return
		}
	}
	p.heads.drop(key)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
