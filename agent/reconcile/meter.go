package reconcile

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Phase is one kind of work on an app.
type Phase string

// The phases of the work on an app, in the order in which they come.
const (
	// PhaseReconcile is a look at an app, with all of the others within: most
	// often there is nothing to do, and none comes.
	PhaseReconcile Phase = "reconcile"
	PhaseRender    Phase = "render"
	PhaseGate      Phase = "gate"    // the question whether a change may proceed
	PhasePreview   Phase = "preview" // the dry-run for a plan that waits at a gate
	PhaseCheck     Phase = "check"   // the dry-run before a change is sent
	PhaseApply     Phase = "apply"   // of one wave
	PhasePrune     Phase = "prune"
	PhaseHeal      Phase = "heal" // of one object
	PhaseStatus    Phase = "status"
)

// Phases are all of them.
var Phases = []Phase{
	PhaseReconcile, PhaseRender, PhaseGate, PhasePreview, PhaseCheck, PhaseApply, PhasePrune, PhaseHeal, PhaseStatus,
}

// Step is a piece of work on an app. What is not known of it, or does not belong
// to its phase, is zero.
type Step struct {
	App      fleet.AppName
	Phase    Phase
	Revision fleet.Revision // that is read, or carried
	Digest   fleet.Digest   // that it leads to
	Path     string         // that is rendered
	Objects  int            // that are sent
}

// Meter is told what the engine does. Nothing in it blocks.
type Meter interface {
	// Begin says that a step begins. What is done in it gets the context that
	// Begin returns; the function is called once, when the step ends.
	Begin(ctx context.Context, s Step) (context.Context, func(error))
	// Drifted says that an object was found to differ from what was applied.
	Drifted(app fleet.AppName)
	// Healed says that one was put back.
	Healed(app fleet.AppName)
}

// unmetered is a Meter that nobody reads.
type unmetered struct{}

func (unmetered) Begin(ctx context.Context, _ Step) (context.Context, func(error)) {
	return ctx, func(error) {}
}
func (unmetered) Drifted(fleet.AppName) {}
func (unmetered) Healed(fleet.AppName)  {}

// beginStep begins a step, and notes that its worker goes on.
func beginStep(ctx context.Context, m Meter, s Step) (context.Context, func(error)) {
	p := pulseOf(ctx)
	before := p.in(s.Phase)
	ctx, done := m.Begin(ctx, p.fill(s))
	return ctx, func(err error) {
		p.in(before)
		done(err)
	}
}

// metered puts a Meter between the engine and the rooms that do what takes time.
func metered(p Parts) Parts {
	if p.Meter == nil {
		p.Meter = unmetered{}
	}
	p.Renderer = meteredRenderer{p.Renderer, p.Meter}
	p.Cluster = meteredClusters{p.Cluster, p.Meter}
	p.Record = meteredRecord{p.Record, p.Meter}
	return p
}

type meteredRenderer struct {
	Renderer
	meter Meter
}

func (r meteredRenderer) Render(ctx context.Context, q unit.RenderRequest) (unit.Rendered, error) {
	ctx, done := beginStep(ctx, r.meter, Step{App: pulseOf(ctx).app, Phase: PhaseRender, Revision: q.Snapshot.Revision(), Path: q.Path})
	rendered, err := r.Renderer.Render(ctx, q)
	done(err)
	return rendered, err
}

type meteredClusters struct {
	Clusters
	meter Meter
}

func (c meteredClusters) As(app fleet.AppName, account string) Cluster {
	return meteredCluster{c.Clusters.As(app, account), c.meter}
}

type meteredCluster struct {
	Cluster
	meter Meter
}

func (c meteredCluster) Check(ctx context.Context, app fleet.AppName, objects []unit.Object) error {
	ctx, done := beginStep(ctx, c.meter, Step{App: app, Phase: PhaseCheck, Objects: len(objects)})
	err := c.Cluster.Check(ctx, app, objects)
	done(err)
	return err
}

func (c meteredCluster) Apply(ctx context.Context, app fleet.AppName, objects []unit.Object) ([]apply.Applied, error) {
	ctx, done := beginStep(ctx, c.meter, Step{App: app, Phase: PhaseApply, Objects: len(objects)})
	applied, err := c.Cluster.Apply(ctx, app, objects)
	done(err)
	return applied, err
}

func (c meteredCluster) Preview(ctx context.Context, app fleet.AppName, d inventory.Delta, maskKey []byte) ([]fleet.Change, error) {
	ctx, done := beginStep(ctx, c.meter, Step{App: app, Phase: PhasePreview, Objects: len(d.Apply)})
	changes, err := c.Cluster.Preview(ctx, app, d, maskKey)
	done(err)
	return changes, err
}

func (c meteredCluster) Prune(ctx context.Context, app fleet.AppName, items []inventory.Item) ([]inventory.Item, []apply.Leaving, error) {
	if len(items) == 0 {
		return c.Cluster.Prune(ctx, app, items)
	}
	ctx, done := beginStep(ctx, c.meter, Step{App: app, Phase: PhasePrune, Objects: len(items)})
	gone, still, err := c.Cluster.Prune(ctx, app, items)
	done(err)
	return gone, still, err
}

func (c meteredCluster) Remove(ctx context.Context, app fleet.AppName, items []inventory.Item) ([]inventory.Item, []apply.Leaving, error) {
	if len(items) == 0 {
		return c.Cluster.Remove(ctx, app, items)
	}
	ctx, done := beginStep(ctx, c.meter, Step{App: app, Phase: PhasePrune, Objects: len(items)})
	gone, still, err := c.Cluster.Remove(ctx, app, items)
	done(err)
	return gone, still, err
}

func (c meteredCluster) Heal(ctx context.Context, app fleet.AppName, o unit.Object, live *unstructured.Unstructured) (apply.Applied, error) {
	ctx, done := beginStep(ctx, c.meter, Step{App: app, Phase: PhaseHeal, Objects: 1})
	applied, err := c.Cluster.Heal(ctx, app, o, live)
	done(err)
	return applied, err
}

type meteredRecord struct {
	Record
	meter Meter
}

func (r meteredRecord) Status(ctx context.Context, app fleet.AppName, s v1alpha1.AppStatus) error {
	ctx, done := beginStep(ctx, r.meter, Step{App: app, Phase: PhaseStatus, Revision: s.Revision, Digest: s.Digest})
	err := r.Record.Status(ctx, app, s)
	if errors.Is(err, fleet.ErrNotFound) {
		done(nil) // it is not there yet, or not any more
	} else {
		done(err)
	}
	return err
}
