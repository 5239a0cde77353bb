package source

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// follower keeps one snapshot new: every poll interval, and at once when
// somebody pushed or asked.
type follower struct {
	pool *Pool
	what unit.Source
	cfg  Config

	now    chan struct{} // fetch
	pushed chan int      // fetch: so many agents were told
	unused chan struct{} // closed when nobody uses it any more

	repository *Repository // belongs to run
	madeWith   *secret     // likewise

	// Guarded by pool.mu.
	started  bool
	users    map[fleet.AppName]struct{}
	secret   *secret // what was last told; nil: nothing yet
	accepted string
	latest   *unit.Snapshot
	err      error
	status   fleet.SourceStatus
	reached  time.Time // the repository itself, last
}

// secret is what was told of a Secret.
type secret struct {
	data map[string][]byte
	err  error
}

func newFollower(p *Pool, what unit.Source, cfg Config) *follower {
	return &follower{
		pool: p, what: what, cfg: cfg, status: fleet.SourceStatus{URL: cfg.URL, Follows: cfg.Ref.String()}, users: map[fleet.AppName]struct{}{},
		reached: time.Now(), now: make(chan struct{}, 1), pushed: make(chan int, 1), unused: make(chan struct{}),
	}
}

// known is called with pool.mu held.
func (f *follower) known() unit.Followed {
	return unit.Followed{Own: f.what.IsZero(), Snapshot: f.latest, Err: f.err, Status: f.status}
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) {
	if f.what.Secret != (unit.SecretName{}) {
		var following sync.WaitGroup
		defer following.Wait()
		following.Go(func() { f.pool.secrets.Follow(ctx, f.what.Secret.Namespace, f.what.Secret.Name, f.told) })
		for !f.wasTold() {
			if !wait(ctx, nil, f.now) {
				return
			}
		}
	}
	for failures := 0; ctx.Err() == nil; {
		if f.fetch(ctx) {
			failures = 0
		} else {
			failures++
		}
		looked := time.Now()
		timer := time.NewTimer(pause(f.pool.cfg.Poll, failures))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-f.now:
		case told := <-f.pushed:
			wait(ctx, time.After(f.pool.cfg.afterPush(told, time.Since(looked))), f.now)
			drain(f.pushed) // what else was said meanwhile is looked at along with it
		}
		timer.Stop()
	}
}

// wait tells whether there is something to do before ctx ends.
func wait(ctx context.Context, timer <-chan time.Time, now chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-timer:
	case <-now:
	}
	return true
}

func drain(c chan int) {
	select {
	case <-c:
	default:
	}
}

// pause spreads the polls of a fleet by a tenth, and slows down while the
// repository can't be reached, to ten minutes at most.
func pause(poll time.Duration, failures int) time.Duration {
	d := poll
	for range min(failures, 6) {
		d = min(2*d, max(poll, 10*time.Minute))
	}
	return d + random(d/10)
}

func random(below time.Duration) time.Duration {
	return time.Duration(rand.Int64N(int64(below) + 1))
}

// told takes what a Secret holds now.
func (f *follower) told(data map[string][]byte, err error) {
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	f.secret = &secret{data: data, err: err}
	poke(f.now)
}

func (f *follower) wasTold() bool {
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	return f.secret != nil
}

// fetch tells whether it went well.
func (f *follower) fetch(ctx context.Context) bool {
	began := time.Now()
	snapshot, err := f.newest(ctx)
	if ctx.Err() != nil {
		return false
	}
	if errors.Is(err, fleet.ErrConflict) {
		select {
		case f.pool.fatal <- err:
		default:
		}
		return false
	}
	moved, is := f.note(snapshot, err)
	f.tellFetched(began, snapshot, moved.Head, err)
	if is {
		f.pool.moved(moved)
	}
	return err == nil
}

// newest fetches, and writes down what is followed before that counts.
func (f *follower) newest(ctx context.Context) (unit.Snapshot, error) {
	if err := f.open(); err != nil {
		return unit.Snapshot{}, err
	}
	snapshot, err := f.repository.Fetch(ctx)
	if err != nil {
		return unit.Snapshot{}, err
	}
	return snapshot, f.pool.heads.keep(ctx, f.headKey(), snapshot.Head())
}

// open makes the repository, anew when the Secret changed: what was read stays.
func (f *follower) open() error {
	f.pool.mu.Lock()
	with, accepted := f.secret, f.accepted
	f.pool.mu.Unlock()
	if f.repository == nil || f.madeWith != with {
		cfg := f.cfg
		if with != nil {
			var err error
			if cfg, err = f.pool.policy.withSecret(cfg, f.what.Secret, with); err != nil {
				return err
			}
		}
		cfg.Log = f.pool.log
		repository, err := New(cfg)
		if err != nil {
			return err
		}
		if f.repository != nil {
			repository.goOnFrom(f.repository)
		} else if h, ok := f.pool.heads.of(f.headKey()); ok {
			repository.Resume(h)
		}
		f.repository, f.madeWith = repository, with
	}
	if accepted != "" {
		f.repository.Accept(accepted)
	}
	return nil
}

// note makes the outcome of a fetch known. It tells whether that is news.
func (f *follower) note(snapshot unit.Snapshot, err error) (unit.Moved, bool) {
	status := fleet.SourceStatus{URL: f.cfg.URL, Follows: f.cfg.Ref.String()}
	var reached time.Time
	if f.repository != nil {
		status.Failing, status.Reached = f.repository.failing()
		reached = f.repository.reached()
	}
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	if reached.After(f.reached) {
		f.reached = reached
	}
	moved := unit.Moved{Own: f.what.IsZero(), Apps: slices.Collect(maps.Keys(f.users))}
	log := f.pool.log.With("repository", f.cfg.URL, "follows", f.cfg.Ref.String())
	before, was := f.latest, f.status
	if f.err = err; err != nil {
		status.Message = err.Error()
		if status.Message != was.Message {
			log.Warn("the repository can't be read", "error", err)
		}
	} else {
		f.latest, status.Message = &snapshot, snapshot.Notice
		moved.Head = before == nil || before.Revision() != snapshot.Revision()
		if snapshot.Notice != "" && snapshot.Notice != was.Message {
			log.Warn("the repository or a mirror fails", "notice", snapshot.Notice)
		}
		if moved.Head {
			log.Info("new head", "revision", string(snapshot.Revision()), "from", snapshot.From, "rewound", snapshot.Rewound)
		}
	}
	if f.latest != nil {
		status.Head, status.ServedBy = f.latest.Revision(), f.latest.From
	}
	f.status = status
	return moved, status != was
}

func (f *follower) headKey() headKey {
	if f.what.IsZero() {
		return headKey{} // there is one of its kind
	}
	return headKey{repoURL: f.cfg.URL, follows: f.cfg.Ref.String()}
}
