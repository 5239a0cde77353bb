// Package reconcile is the agent's foreman: it knows what is wanted, what is
// owned and what waits, and calls the other rooms in order: fetch, render,
// gate, apply, prune, watch, heal, report.
//
// Every app has one worker at a time. A worker reads the world once, acts, and
// writes down what it did before anything else may depend on it.
package reconcile

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/gate"
	"github.com/capstan-gitops/capstan/agent/health"
	"github.com/capstan-gitops/capstan/agent/images"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/agent/watch"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Sources follows the agent's own repository and those that Apps name. Nothing
// in it blocks, but for Run.
type Sources interface {
	// Run follows until ctx ends, and calls moved when there is something to look
	// at. fleet.ErrConflict means that another agent writes too.
	Run(ctx context.Context, moved func(unit.Moved)) error
	// Latest is what is known of what an app is read from; from then on that is
	// followed. A *unit.RewoundError in it holds a branch until the move is accepted.
	Latest(app fleet.AppName, from unit.Source) unit.Followed
	// Statuses says how each repository is: the agent's own first, then those that
	// fail.
	Statuses() []fleet.SourceStatus
	// Drop says that an app reads nothing any more.
	Drop(app fleet.AppName)
	// FetchSoon has what an app is read from looked at now.
	FetchSoon(app fleet.AppName)
	// Pushed says that somebody pushed to a repository.
	Pushed(p fleet.Push)
	// Accept lets the branch that an app is read from be moved, as
	// RewoundError.Accept says.
	Accept(app fleet.AppName, move string)
}

// Renderer turns a path into objects. The error is a *unit.RenderError where
// the repository is at fault.
type Renderer interface {
	Render(ctx context.Context, r unit.RenderRequest) (unit.Rendered, error)
	Version() string
}

// Keys gives an app the keys that it may have its files decrypted with: those of
// a Secret in its namespace, or the agent's own, which are only for what the
// agent's own repository holds. An error says that they can't be asked now.
type Keys interface {
	Ring(ctx context.Context, app fleet.AppName, own bool, secret string) (unit.KeyRing, error)
}

// Clusters knows what kinds the API server has, and gives out who sends to it.
type Clusters interface {
	// As acts as a ServiceAccount of the app's own namespace, or as the agent
	// itself where account is "". Every request for an app goes that way: an agent
	// that forgot to ask would lend an app its own rights.
	As(app fleet.AppName, account string) Cluster
	Scope(objects []unit.Object, namespace string) ([]unit.Object, error)
	Resource(ref fleet.ObjectRef) (schema.GroupVersionResource, error)
	Fingerprint(live *unstructured.Unstructured) string
}

// Cluster sends objects to the API server, and reads those that it is to change.
type Cluster interface {
	Check(ctx context.Context, app fleet.AppName, objects []unit.Object) error
	Apply(ctx context.Context, app fleet.AppName, objects []unit.Object) ([]apply.Applied, error)
	Preview(ctx context.Context, app fleet.AppName, d inventory.Delta, maskKey []byte) ([]fleet.Change, error)
	Refused(ctx context.Context, app fleet.AppName, objects []unit.Object, owned []inventory.Item) ([]inventory.Item, error)
	Clear(ctx context.Context, items []inventory.Item) ([]apply.Leaving, error)
	Prune(ctx context.Context, app fleet.AppName, items []inventory.Item) ([]inventory.Item, []apply.Leaving, error)
	StillThere(ctx context.Context, items []inventory.Item) ([]inventory.Item, []apply.Leaving, error)
	Remove(ctx context.Context, app fleet.AppName, items []inventory.Item) ([]inventory.Item, []apply.Leaving, error)
	Release(ctx context.Context, app fleet.AppName, items []inventory.Item) ([]inventory.Item, error)
	Get(ctx context.Context, ref fleet.ObjectRef) (*unstructured.Unstructured, error)
	Heal(ctx context.Context, app fleet.AppName, o unit.Object, live *unstructured.Unstructured) (apply.Applied, error)
}

// Eyes watch what was applied.
type Eyes interface {
	Watch(ctx context.Context, ref fleet.ObjectRef, resource schema.GroupVersionResource)
	Synced(ctx context.Context, ref fleet.ObjectRef) error
	See(ref fleet.ObjectRef) (watch.Sight, bool)
	// LookAgain has an app's objects of a kind judged anew.
	LookAgain(ctx context.Context, kind fleet.ObjectRef, app fleet.AppName) error
	Blind(ref fleet.ObjectRef) error
	// Ask asks once what the pods of a workload, or a pod itself, say of what is
	// wrong; "": nothing is, or it can't be asked.
	Ask(ctx context.Context, ref fleet.ObjectRef) string
}

// Memory survives a restart. fleet.ErrConflict from a Save means that another
// agent writes too: this one must end.
type Memory interface {
	LoadApps(ctx context.Context) ([]state.App, error)
	SaveApp(ctx context.Context, a state.App) error
	DeleteApp(ctx context.Context, n fleet.AppName) error
	Load(ctx context.Context, name string, v any) (bool, error)
	Save(ctx context.Context, name string, v any) error
}

// Record tells the cluster's own people what happened.
type Record interface {
	// Status writes an App's status, unless it is what the App says already.
	Status(ctx context.Context, app fleet.AppName, s v1alpha1.AppStatus) error
	// Event notes what was done or went wrong. It never blocks.
	Event(app fleet.AppName, warning bool, reason, message string)
	// Root makes the App object in which the root path shows, if it is not there.
	Root(ctx context.Context, app fleet.AppName, path string) error
	// Confirmed is the plan a person confirmed by annotating the App, or "".
	Confirmed(app fleet.AppName) string
}

// Reports goes to the hub. Nothing in it blocks.
type Reports interface {
	Changed(s fleet.AppStatus)
	Gone(a fleet.AppName)
	SignPlan(p fleet.Plan) (fleet.SignedPlan, error)
}

// Config is what the spoke's own people decided.
type Config struct {
	Cluster    string
	UID        string // of the kube-system namespace
	Namespace  string // the agent's own
	Declared   map[string]string
	Assignable []string
	RootPath   string
	Policy     gate.Policy
	Guard      inventory.Guard
	MaskKey    []byte           // hides secret values in what leaves the spoke
	Images     *images.Rewriter // nil: images stay as they are
	Checks     *health.Checks   // of this cluster's own configuration; an App's come before them
	ApplyAs    ApplyAs
	// HubMay is what the hub may hold apps here in; nil: roll them back, and suspend
	// those whose plans need no approval.
	HubMay    []fleet.HoldKind
	KeysEvery time.Duration // between two looks whether keys changed; 0: a minute

	AgentVersion      string
	KubernetesVersion string
	ValuesPoll        time.Duration // how often charts' values in the cluster are read; 0: every minute
	Workers           int           // apps worked on at once
	// StuckAfter is how long a worker may not go on before Stuck says so; 0: 15
	// minutes. It is much longer than a render or a request may take.
	StuckAfter time.Duration
}

// Parts are the rooms the engine works with.
type Parts struct {
	Sources  Sources
	Renderer Renderer
	Keys     Keys // nil: nothing is decrypted
	Cluster  Clusters
	Eyes     Eyes
	Memory   Memory
	Record   Record
	Reports  Reports
	Meter    Meter // nil: nobody is told
	// Now is the highest time seen by any clock: an approval's expiry can't be
	// put off by turning one back.
	Now func() time.Time
}

// RootName is what the agent's own root path is called among the apps.
const RootName = "root"
