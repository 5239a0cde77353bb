package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/agent/gate"
	"github.com/capstan-gitops/capstan/agent/hooks"
	"github.com/capstan-gitops/capstan/agent/selection"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// view is the world as one worker sees it, read once.
type view struct {
	name     fleet.AppName
	from     unit.Followed
	snapshot *unit.Snapshot // of it; nil: nothing was read yet
	facts    unit.Facts
	known    bool  // what is wanted is known
	read     bool  // from the root itself, since the start
	unread   bool  // it is not, or not from where the app is read, and may be in a moment
	behind   bool  // the root was not read yet at the commit that the app is read at
	want     *want // nil: not wanted here
	pin      *pin  // want is what a person rolled it back to
	doubt    error // the App in Git can't be read
	held     bool  // its removal waits at the root's guard
	kept     state.App
	last     *outcome
	retry    bool
	early    bool            // the last try failed, and it is too early for the next
	cycle    []fleet.AppName // the way back, where the app depends on itself
	status   fleet.AppStatus // as it was told last
}

func (e *Engine) viewOf(name fleet.AppName) (view, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := &e.world
	v := view{name: name, facts: e.facts(), known: w.rendered, read: e.content != nil, doubt: w.doubtful[name], held: w.held[name], cycle: w.cycles[name]}
	if wanted, ok := e.wanted(name); ok {
		v.want, v.pin = &wanted, e.pinOf(name, w.wanted[name])
	}
	a := e.apps[name]
	if a == nil {
		if v.want == nil && v.doubt == nil {
			return v, false
		}
		a = newApp(state.App{Name: name})
		e.apps[name] = a
	}
	if v.want != nil || name == e.root {
		v.from = e.latest(name)
		v.snapshot = v.from.Snapshot
	}
	v.kept, v.last, v.retry, v.early = a.kept, a.last, a.retry, a.tries.early(time.Now())
	v.unread, v.behind = e.unread(v), e.behind(v)
	v.status, a.unread, a.tries.asked = a.status, v.unread, false
	a.retry = a.retry && (v.unread || v.behind)
	return v, true
}

// reconcile brings one app a step further. An error means: try again, later.
func (e *Engine) reconcile(ctx context.Context, name fleet.AppName) error {
	if name == e.root {
		return e.reconcileRoot(ctx)
	}
	v, ok := e.viewOf(name)
	if !ok {
		return nil
	}
	e.resume(name)
	if err := errors.Join(e.noteDeletion(ctx, &v), e.lookAtLeft(ctx, &v)); err != nil {
		return err
	}
	e.healAtOnce(v)
	unjudged := e.rejudge(ctx, name)
	var err error
	switch {
	case v.known && v.want != nil && v.doubt == nil && e.suspended(name):
		e.suspend(name)
	case !v.known, v.held, v.early, v.unread, v.behind, !v.read && beingTakenOff(v.kept):
		// Keep what runs as it was applied. What was wanted last may be so no more,
		// and what was being taken off, only a root that was read can want again.
	case v.want == nil && v.doubt == nil && !v.read:
		// What was kept of the root may be older than what was kept of the app:
		// only a root that was read can say that an app is not wanted any more.
	case e.invalid(v) != nil:
		e.trouble(name, *e.invalid(v))
	case v.want == nil:
		e.parts.Sources.Drop(name)
		removed, rerr := e.remove(ctx, v)
		if removed {
			return rerr
		}
		err = rerr
	case v.snapshot != nil:
		err = e.converge(ctx, v)
	}
	if errors.Is(err, errOtherAgent) {
		return err
	}
	if v.want != nil {
		e.acceptMove(name, v.from)
		e.sourceTrouble(name, v.from)
	}
	err = errors.Join(err, unjudged, e.heal(ctx, name), e.catchUp(ctx, name))
	if err != nil {
		return err
	}
	e.succeeded(v)
	e.publish(name)
	e.lookedAt(v, v.status)
	return nil
}

// invalid says what is wrong with an App itself; nil: nothing.
func (e *Engine) invalid(v view) *problem {
	p := problem{reason: "InvalidSpec", unknown: true}
	switch {
	case v.doubt != nil:
		p.message, p.hint = v.doubt.Error(), fleet.Hint(v.doubt)
	case len(v.cycle) > 0:
		p.message, p.hint = "it depends on itself: "+arrows(v.cycle), "take one of the spec.dependsOn on this way out"
	case e.nameless(v):
		p.message, p.hint = namelessMessage, namelessHint(v.name)
	default:
		return nil
	}
	return &p
}

func arrows(way []fleet.AppName) string {
	names := make([]string, len(way))
	for i, n := range way {
		names[i] = n.String()
	}
	return strings.Join(names, " -> ")
}

// converge renders the app if it must, and carries the result to the cluster
// as far as the gates let it.
func (e *Engine) converge(ctx context.Context, v view) error {
	spec := v.want.spec
	helm, err := e.helmOf(ctx, v.want.app)
	if err != nil {
		e.trouble(v.name, problem{reason: "ValuesUnavailable", message: oneLine(err), hint: hint(err), unknown: true})
		return err
	}
	v.facts.Values = e.valuesHash(helm)
	ring, err := e.ring(ctx, &v)
	if err != nil {
		return e.renderFailed(v.name, string(spec), err)
	}
	settled, waiting, err := e.remembered(ctx, v, spec)
	if err != nil || settled {
		return err
	}
	if waiting {
		if rests, err := e.waiting(ctx, v); rests {
			return err
		}
	}
	if why := e.dependencies(v); why != "" {
		e.pauseFor(v.name, pause{reason: waitsForDependency, message: why}, nil)
		return nil
	}
	access, err := e.chartAccess(ctx, v.want.app)
	if err != nil {
		e.trouble(v.name, problem{reason: "ChartUnavailable", message: oneLine(err), hint: hint(err), unknown: true})
		return err
	}
	q := e.request(v, helm, access)
	q.Keys = ring
	rendered, err := e.render(ctx, q)
	if err != nil {
		return e.renderFailed(v.name, string(spec), err)
	}
	e.log.Debug("rendered", "app", v.name.String(), "objects", len(rendered.Objects))
	e.chartsMoved(v.name, v.kept.Reads, rendered.Reads)
	objects, stands, err := e.claimOrWait(v, rendered.Objects)
	if err != nil {
		return e.applyFailed(v.name, err)
	}
	if stands == waitsApps {
		e.waitForApps(v.name, v.want.app.Spec.Sync.WaveWithin(), &outcome{spec: string(spec), reads: rendered.Reads, blocked: true})
		return nil
	}
	objects, hooked, err := hooks.Part(objects, runsHelmHooks(v.want.app.Spec.Source.Helm))
	if err != nil {
		return e.applyFailed(v.name, err)
	}
	account := e.cfg.ApplyAs.account(v.want.app)
	effective, err := effectiveSpec(v.want.app.Spec, rendered.Path, account)
	if err != nil {
		return err
	}
	return e.carry(ctx, v, change{
		spec: spec, effective: effective, path: rendered.Path, reads: rendered.Reads, objects: objects, hooks: hooked,
		handsOver: stands == handsApps, revision: v.revision(), repoURL: v.snapshot.RepoURL, pin: v.pin, account: account, deletion: v.want.app.Spec.Deletion(),
		prune: v.want.app.Spec.Sync.PruneEnabled(), force: v.want.app.Spec.Sync.Force, waveWithin: v.want.app.Spec.Sync.WaveWithin(), demands: e.demands(v.name, v.want.app),
	})
}

// waiting takes on what the last render gave, which still stands and waits. It tells
// whether there is no need to render again.
func (e *Engine) waiting(ctx context.Context, v view) (rests bool, err error) {
	e.noteCompared(v)
	switch {
	case v.last.stopped != nil:
		return true, e.carry(ctx, v, *v.last.stopped)
	case v.last.blocked:
		return e.waitsStill(v), nil
	}
	return !e.mayPass(v), nil
}

// remembered tells whether the last render still stands: settled, if what it
// gave is applied or failed; waiting, if it stands at a gate.
func (e *Engine) remembered(ctx context.Context, v view, spec []byte) (settled, waiting bool, err error) {
	k := v.kept
	if k.Digest != fleet.NoDigest && string(k.Spec) == string(spec) && k.Granted == nil && complete(k) && k.Account == e.cfg.ApplyAs.account(v.want.app) {
		if settled, err = e.holds(ctx, v, readsApplied, k.Reads); err != nil {
			return false, false, err
		}
		if settled {
			return true, false, e.asApplied(ctx, v)
		}
	}
	if v.last == nil || v.last.spec != string(spec) {
		return false, false, nil
	}
	same, err := e.holds(ctx, v, readsLast, v.last.reads)
	if err != nil || !same {
		return false, false, err
	}
	if v.last.failed {
		same := v.last.labels == "" || v.last.labels == labelsHash(v.facts.Labels)
		return !v.retry && same && !v.last.kills.due(time.Now()), false, nil
	}
	return false, true, nil
}

// complete tells that what runs is what the digest says, as far as the agent
// has done its part.
func complete(k state.App) bool {
	if k.Halfway || abandoned(k) {
		return false
	}
	for _, it := range k.Items {
		if it.UID == "" || it.Ending {
			return false
		}
	}
	return true
}

// asApplied: Git wants what is applied. A plan that waited is void.
func (e *Engine) asApplied(ctx context.Context, v view) error {
	e.clear(v.name)
	if err := e.claimAsApplied(v.kept); err != nil {
		return err
	}
	e.noteAsGit(v.name, true)
	e.noteCompared(v)
	if v.kept.Pending == nil {
		return nil
	}
	k := v.kept
	k.Pending = nil
	return e.save(ctx, k)
}

func (e *Engine) renderFailed(name fleet.AppName, spec string, err error) error {
	if away, ok := errors.AsType[*unit.ChartError](err); ok { // not the repository's fault: tried again
		e.trouble(name, problem{reason: "ChartUnavailable", message: oneLine(away), hint: away.Hint, unknown: true})
		return err
	}
	if lost, ok := errors.AsType[*unit.ReadError](err); ok {
		e.trouble(name, problem{reason: "ReadFailed", message: oneLine(lost), hint: fleet.Hint(lost), unknown: true})
		return err
	}
	var bad *unit.RenderError
	if away, ok := errors.AsType[*unit.KeysAway](err); ok {
		e.trouble(name, problem{reason: "RenderFailed", message: oneLine(away), hint: hint(away), unknown: true})
	}
	if !errors.As(err, &bad) {
		return fmt.Errorf("render: %w", err)
	}
	e.trouble(name, problem{reason: "RenderFailed", message: bad.Error(), hint: bad.Hint, unknown: true})
	e.mu.Lock()
	a := e.apps[name]
	a.last = &outcome{spec: spec, reads: bad.Reads, failed: true, kills: killed(a.last, spec, bad, time.Now())}
	e.mu.Unlock()
	return nil
}

func (e *Engine) applyFailed(name fleet.AppName, err error) error {
	e.trouble(name, problem{reason: "ApplyFailed", message: oneLine(err), hint: hint(err)})
	return err
}

// maxMessage bounds what a status says of an error.
const maxMessage = 1024

// oneLine is an error of several objects as a status can show it.
func oneLine(err error) string { return shortened(err.Error()) }

func shortened(s string) string {
	s = strings.ReplaceAll(s, "\n", "; ")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "..."
	}
	return s
}

// revision is what a render of the app is called: a rollback's as it was then.
func (v view) revision() fleet.Revision {
	if v.pin != nil {
		return v.pin.to.Revision
	}
	return v.snapshot.Revision()
}

// demands are the approvals this app's plans need on this cluster. What the
// spoke declares, and what it lets the hub assign, can bring an App's own demand
// about; what the hub assigns takes none away that the declared labels ask for,
// and nothing can take the spoke's away.
func (e *Engine) demands(name fleet.AppName, a *v1alpha1.App) []gate.Demand {
	e.mu.Lock()
	labels := e.world.labels
	e.mu.Unlock()
	return e.demandsAt(name, a, labels)
}

// demandsAt is demands on a cluster with these labels.
func (e *Engine) demandsAt(name fleet.AppName, a *v1alpha1.App, labels map[string]string) []gate.Demand {
	var own *gate.AppApproval
	if a != nil && a.Spec.Approval != nil {
		matches, err := selection.Matches(a.Spec.Approval.Clusters, labels)
		declared, derr := selection.Matches(a.Spec.Approval.Clusters, e.cfg.Declared)
		if matches || declared || err != nil || derr != nil {
			own = &gate.AppApproval{Approvers: a.Spec.Approval.Approvers, Quorum: a.Spec.Approval.Required()}
		}
	}
	return e.cfg.Policy.Demands(name, own)
}

func directoryOf(s v1alpha1.AppSource) *unit.Directory {
	if s.Directory == nil {
		return nil
	}
	d := unit.Directory(*s.Directory)
	return &d
}

// effectiveSpec is the part of an App's spec that decides what runs. Who must
// approve, and which clusters are meant, do not: they move no digest. Nor does
// which files of the path are taken: the objects are in the digest. As whom it is
// applied does: with other rights the same objects may be another matter.
func effectiveSpec(s v1alpha1.AppSpec, path, account string) (json.RawMessage, error) {
	sync := map[string]any{"prune": s.Sync.PruneEnabled(), "selfHeal": s.Sync.SelfHealEnabled()}
	if s.Sync.Force {
		sync["force"] = true
	}
	if d := s.Sync.HealAfter(); d > 0 {
		sync["selfHealAfter"] = d.String()
	}
	spec := map[string]any{"source": map[string]any{"path": path}, "targetNamespace": s.TargetNamespace, "sync": sync}
	if account != "" {
		spec["serviceAccountName"] = account
	}
	return fleet.Canonical(spec)
}
