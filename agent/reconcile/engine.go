package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/health"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/agent/watch"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Engine keeps the cluster as Git has it.
type Engine struct {
	cfg   Config
	parts Parts
	log   *slog.Logger
	root  fleet.AppName

	work  workqueue.TypedDelayingInterface[fleet.AppName] // apps to look at
	tell  workqueue.TypedDelayingInterface[fleet.AppName] // apps whose status moved
	fatal chan error
	over  atomic.Bool // something was fatal
	alive alive

	reads readIndexes

	strangers sync.Map // fleet.AppName of Apps that did not come from the root

	mu      sync.Mutex
	world   world
	content *rootContent     // of the root path, when last it could be read
	checks  *health.Compiler // used by the root's worker alone
	apps    map[fleet.AppName]*app
	owner   map[fleet.ObjectRef]fleet.AppName // versionless reference -> who owns it
	blocked map[fleet.AppName]blocked         // who was refused what others have
	late    []fleet.AppName                   // that wait to write something down
	unshown unshown
}

// world is what all apps share.
type world struct {
	self     self
	labels   map[string]string // effective
	chosen   map[string]string // the labels by which wanted was chosen
	rendered bool              // the root was rendered, so wanted is known
	rootAt   fleet.Revision    // the commit that it was looked at last; "": none yet
	adopted  bool              // or can't be read, and what was kept of it was looked at
	wanted   map[fleet.AppName]want
	doubtful map[fleet.AppName]error // Apps of the root that can't be read
	held     map[fleet.AppName]bool  // Apps whose removal waits at the root's guard
	// dependents are those that depend on an app; cycles, the way from an app that
	// depends on itself back to it.
	dependents, cycles map[fleet.AppName][]fleet.AppName
	moved              bool // since the apps were last asked to look
}

// self is what the agent keeps of its own.
type self struct {
	Assigned map[string]string `json:"assigned,omitempty"`
	Intent   fleet.Intent      `json:"intent"`
	Holds    []fleet.HoldOrder `json:"holds,omitempty"` // that were not lifted
	Clock    time.Time         `json:"clock"`           // highest time seen
}

const selfName = "capstan-self"

// want is an app that is meant to be here.
type want struct {
	app    *v1alpha1.App
	spec   []byte // canonical: an app's every look begins with comparing it
	checks *health.Checks
	object unit.Object // the App object itself
}

// app is what is known of one app; guarded by Engine.mu, written by its worker.
type app struct {
	kept    state.App
	claimed []fleet.ObjectRef // by the last render, whether it was applied or not
	source  *problem          // what it is read from fails
	// unhealed: what was changed can't be put back.
	unhealed *problem
	from     *fleet.SourceStatus
	problem  *problem
	waiting  string // why the plan that is pending still waits
	have     int    // approvals that count
	need     int
	drift    map[fleet.ObjectRef]fleet.DriftSummary
	look     map[fleet.ObjectRef]bool // objects a watch saw moving
	heals    map[fleet.ObjectRef]healing
	checks   *health.Checks                       // what its objects are judged by
	rejudge  map[schema.GroupKind]fleet.ObjectRef // kinds that were judged by others
	going    map[fleet.ObjectRef]apply.Leaving    // what was deleted and is not gone
	left     left
	fitFor   fleet.Digest // what of an exchange was checked last
	status   fleet.AppStatus
	untold   time.Time // since when telling it is put off; zero: it is not
	unsaved  time.Time // since when writing it down is put off; zero: it is not
	misses   int       // how often there was no App to tell it to
	extra    int       // objects that left the app and are kept, because prune is off
	retry    bool      // a person asked for another try
	healNow  bool      // and so for no patience with what others changed
	keys     string    // version of the keys it was last looked at with; "": it has none
	pause    *pause
	waited   *state.Wait // what it waited for before the restart; nil once it did something else
	// suspended: it was so when it was last looked at.
	suspended bool
	pin       *pin                       // what it was last rolled back to
	unread    bool                       // when it was last looked at, Git was not read yet
	asGit     bool                       // Git wanted what is applied, and no other claim was made since
	leaving   map[fleet.ObjectRef]bool   // objects whose prune was begun
	sent      map[fleet.ObjectRef]string // hashes of objects that are or may have been sent, which is not noted yet
	ends      map[string]watch.Sight     // of hooks that were seen to have ended, by uid
	looked    look
	compared  look // what of Git it was last compared with, as far as its render went
	tries     tries
	last      *outcome // of the last render, if it is not what is applied

	// unkept: its state can't be written.
	unkept *problem
}

// problem is why an app is not as it should be.
type problem struct {
	reason  string
	message string
	hint    string
	unknown bool // what is wanted can't be told
}

// outcome is what the last render led to. While its reads hold there is no need
// to render again.
type outcome struct {
	spec   string
	reads  unit.ReadSet
	failed bool   // otherwise it waits at a gate, or
	labels string // stand for those that a hook failed with; "": it was none
	kills  kills
	// stopped is the change that waits between two waves: it goes on without
	// being rendered again.
	stopped *change
	// blocked: it waits for objects that other apps have.
	blocked bool
}

// New makes an Engine. Call Run to start it.
func New(cfg Config, parts Parts, log *slog.Logger) *Engine {
	root := fleet.AppName{Namespace: cfg.Namespace, Name: RootName}
	return &Engine{
		cfg: cfg, parts: metered(parts), log: log,
		root:   root,
		work:   newWork(root),
		tell:   workqueue.NewTypedDelayingQueue[fleet.AppName](),
		fatal:  make(chan error, 1),
		checks: &health.Compiler{},
		apps:   map[fleet.AppName]*app{},
		owner:  map[fleet.ObjectRef]fleet.AppName{}, blocked: map[fleet.AppName]blocked{},
	}
}

// Load reads what was kept. It must have returned before the uplink starts.
func (e *Engine) Load(ctx context.Context) error {
	if _, err := e.parts.Memory.Load(ctx, selfName, &e.world.self); err != nil {
		return err
	}
	e.world.labels = e.effective(e.world.self.Assigned)
	kept, err := e.parts.Memory.LoadApps(ctx)
	if err != nil {
		return err
	}
	for _, k := range kept {
		e.apps[k.Name] = newApp(k)
		for ref := range onCluster(k) {
			e.owner[ref] = k.Name
		}
	}
	if _, ok := e.apps[e.root]; !ok {
		e.apps[e.root] = newApp(state.App{Name: e.root})
	}
	return nil
}

func newApp(k state.App) *app {
	return &app{
		kept: k, waited: k.Waits,
		drift: map[fleet.ObjectRef]fleet.DriftSummary{},
		look:  map[fleet.ObjectRef]bool{},
		heals: map[fleet.ObjectRef]healing{},
	}
}

// Run works until ctx ends, or until it is found that another agent writes.
func (e *Engine) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var g errgroup.Group
	g.Go(func() error { e.follow(ctx); return nil })
	g.Go(func() error { e.followValues(ctx); return nil })
	g.Go(func() error { e.followKeys(ctx); return nil })
	g.Go(func() error { e.turn(ctx); return nil })
	for range max(1, e.cfg.Workers) {
		g.Go(func() error { e.worker(ctx); return nil })
	}
	for range 4 {
		g.Go(func() error { e.teller(ctx); return nil })
	}
	e.lookAtAll()
	if err := e.parts.Record.Root(ctx, e.root, e.cfg.RootPath); err != nil {
		e.log.Warn("the root's App object can't be written", "error", err)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-e.fatal:
		cancel()
	}
	e.work.ShutDown()
	e.tell.ShutDown()
	_ = g.Wait() // the workers return nothing
	if err == nil {
		err = e.saveAll(ctx)
	}
	return err
}

// lookAtAll has every object that was owned before the restart looked at once:
// fingerprints tell which moved meanwhile, and nothing is asked about the rest.
func (e *Engine) lookAtAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.alive.owned(slices.Collect(maps.Keys(e.apps)))
	for name, a := range e.apps {
		for _, it := range a.kept.Items {
			a.look[versionless(it.Ref)] = true
		}
		e.work.Add(name)
	}
}

func (e *Engine) worker(ctx context.Context) {
	for {
		name, end := e.work.Get()
		if end {
			return
		}
		if ctx.Err() != nil || e.over.Load() {
			e.work.Done(name)
			continue
		}
		err := e.look(ctx, name)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errOtherAgent):
			e.giveUp(err)
		case err != nil:
			e.log.Warn("app is not settled", "app", name.String(), "error", err)
			e.later(name, askedPause(err))
			e.publish(name)
		}
		e.work.Done(name)
		e.next()
	}
}

// giveUp ends Run with an error. Nothing is begun any more from here on.
func (e *Engine) giveUp(err error) {
	e.over.Store(true)
	select {
	case e.fatal <- err:
	default:
	}
}

// errOtherAgent: the Lease was lost, and somebody else writes.
var errOtherAgent = errors.New("another agent is at work on this cluster")

// Seen takes what a watch saw. It does not block.
func (e *Engine) Seen(ev watch.Event) {
	if ev.Blind {
		e.seenKind(ev.Ref)
		return
	}
	ref := versionless(ev.Ref)
	e.mu.Lock()
	defer e.mu.Unlock()
	name, ok := e.owner[ref]
	if !ok {
		return
	}
	if a := e.apps[name]; a != nil {
		a.look[ref] = true
		e.noteEnd(a, ev.Ref)
		e.work.Add(name)
	}
}

// AppSeen has an App looked at that appeared, or that somebody annotated. One
// that did not come from the root is told that it is not acted on.
func (e *Engine) AppSeen(name fleet.AppName) {
	ref := fleet.ObjectRef{Group: v1alpha1.GroupVersion.Group, Kind: v1alpha1.AppKind, Namespace: name.Namespace, Name: name.Name}
	e.mu.Lock()
	_, ours := e.owner[ref]
	if a := e.apps[name]; a != nil {
		a.misses = 0
	}
	e.mu.Unlock()
	if !ours && name != e.root {
		e.strangers.Store(name, ref)
	}
	e.work.Add(name)
	e.tell.Add(name)
}

func versionless(r fleet.ObjectRef) fleet.ObjectRef {
	r.Version = ""
	return r
}
