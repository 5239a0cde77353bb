package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// trouble notes why an app is not as it should be.
func (e *Engine) trouble(name fleet.AppName, p problem) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	if a == nil {
		return
	}
	if a.problem == nil || *a.problem != p {
		e.parts.Record.Event(name, true, p.reason, p.message)
	}
	a.problem, a.waiting, a.pause, a.waited = &p, "", nil, nil
}

// wait notes that a plan waits, and for what.
func (e *Engine) wait(name fleet.AppName, p passage, last *outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	a.problem, a.waiting, a.pause, a.waited, a.have, a.need = nil, p.message, nil, nil, p.have, p.need
	if last != nil {
		a.last = last
	}
}

// settle notes that what is wanted is applied. Drift of objects that left is
// nobody's any more; what else had drifted is looked at again.
func (e *Engine) settle(name fleet.AppName, extra int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	a.problem, a.waiting, a.pause, a.waited, a.last, a.extra, a.ends = nil, "", nil, nil, nil, extra, nil
	a.stay(nil)
	maps.DeleteFunc(a.drift, func(ref fleet.ObjectRef, _ fleet.DriftSummary) bool {
		return !slices.ContainsFunc(a.kept.Items, func(it inventory.Item) bool { return it.Ref.Same(ref) })
	})
	for ref := range a.drift {
		a.look[ref] = true // it may be for us to heal now
	}
}

// clear is settle where the leftovers did not change.
func (e *Engine) clear(name fleet.AppName) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	a.problem, a.waiting, a.pause, a.waited, a.last = nil, "", nil, nil, nil
	a.stay(nil)
}

// settleTime lets an app's first health come in before its status is written,
// so that one change is one write.
const settleTime = 150 * time.Millisecond

// publish tells the hub and the App object how the app is, if that moved.
func (e *Engine) publish(name fleet.AppName) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	if a == nil {
		return
	}
	now, look := e.assess(name, a)
	var left time.Duration
	now.Retry, left = a.nextTry(time.Now())
	if look = sooner(look, left); look > 0 {
		e.work.AddAfter(name, look) // when something takes too long, or is tried again
	}
	now.Changed = a.status.Changed
	if reflect.DeepEqual(now, a.status) {
		return
	}
	now.Changed = e.parts.Now().UTC()
	a.status, a.misses = now, 0
	e.parts.Reports.Changed(now)
	e.tell.AddAfter(name, settleTime)
}

// assess says how an app is, from what is known of it, and after what time that
// has to be told anew if nothing moves; 0: never. Called with e.mu held.
func (e *Engine) assess(name fleet.AppName, a *app) (fleet.AppStatus, time.Duration) {
	k := a.kept
	a.left.only = false
	s := fleet.AppStatus{
		Cluster: e.cfg.Cluster, Namespace: name.Namespace, App: name.Name, Path: k.Path, Source: a.from,
		Revision: k.Revision, Digest: k.Digest, Objects: len(k.Items), Images: k.Images,
		Drift: slices.SortedFunc(maps.Values(a.drift), func(x, y fleet.DriftSummary) int { return x.Object.Compare(y.Object) }),
	}
	var sick string
	var look time.Duration
	s.Health, sick, look = e.health(name, a)
	problem := a.problem
	if a.source != nil {
		problem = a.source // what else is wrong may be mended there already
	}
	switch {
	case problem != nil:
		s.Sync, s.Reason, s.Message, s.Hint = fleet.OutOfSync, problem.reason, problem.message, problem.hint
		if problem.unknown {
			s.Sync = fleet.SyncUnknown
		}
	case k.Pending != nil && (a.waiting != "" || k.Granted == nil):
		p := k.Pending
		s.Sync, s.Reason, s.Message = fleet.Pending, "WaitsForApproval", a.waiting
		if a.waiting == "" {
			s.Message = "waits: " + p.Reason // since before the restart
		}
		if p.Gate == fleet.GateConfirmPrune {
			s.Reason = "WaitsForConfirmation"
		}
		s.Pending = &fleet.PendingPlan{
			Revision: p.Revision, Digest: p.To, Gate: p.Gate, Plan: p.ID, Action: p.Action,
			Summary: fleet.Summarize(p.Changes), Since: p.Created, Have: a.have, Need: a.need,
		}
	case a.pause != nil:
		s.Sync, s.Reason, s.Message, s.Hint = fleet.OutOfSync, a.pause.reason, a.pause.message, a.pause.hint
		if a.pause.tooLong(e.parts.Now()) {
			s.Reason, s.Message = a.pause.late(), fmt.Sprintf("for more than %s: %s", a.pause.within, a.pause.message)
		}
	case name == e.root && e.content != nil && e.content.misnamed != nil:
		s.Sync, s.Reason = fleet.SyncUnknown, "InvalidSpec"
		s.Message, s.Hint = oneLine(e.content.misnamed), hint(e.content.misnamed)
	case e.begun(k) != "":
		s.Sync, s.Reason, s.Message = fleet.OutOfSync, "Starting", e.begun(k)
	default:
		look = e.assessApplied(name, a, &s, sick, look)
	}
	if a.unkept != nil && problem == nil {
		a.tellUnkept(&s)
	}
	s.Holds = e.holdsOf(name)
	if e.suspends(name) {
		return asSuspended(s, e.whySuspended(name)), look
	}
	if p := e.pinOf(name, e.world.wanted[name]); p != nil {
		return asPinned(s, p), look
	}
	return s, look
}

// begun says that the change which is wanted is not carried out, where nothing
// else is known of it: since a restart, say. "": it is.
func (e *Engine) begun(k state.App) string {
	switch {
	case k.Halfway:
		return "a change was begun, and goes on"
	case k.Name == e.root && e.unshown.n > 0:
		return e.unshown.String()
	case k.Digest == fleet.NoDigest && k.Name != e.root:
		return "not applied yet"
	}
	return ""
}

// assessApplied says how an app is of which all that is wanted was applied, and
// when that has to be told anew.
func (e *Engine) assessApplied(name fleet.AppName, a *app, s *fleet.AppStatus, sick string, look time.Duration) time.Duration {
	switch {
	case a.unhealed != nil:
		a.tellUnhealed(s)
		return look
	case len(a.drift) > 0:
		s.Sync, s.Reason, s.Message = fleet.OutOfSync, "Drifted", describeDrift(s.Drift)+e.healPolicy(name, a.kept).untilHealed(s.Drift)
	case len(a.kept.Left) > 0:
		look = e.tellLeft(a, s, sick, look)
	case a.extra > 0:
		s.Sync, s.Reason, s.Message = fleet.OutOfSync, "NotPruned", fmt.Sprintf("%d objects left the app and are kept, because sync.prune is false", a.extra)
		return look
	default:
		s.Sync, s.Reason, s.Message, s.Hint = fleet.Synced, string(s.Health), sick, e.blindHint(a, s.Health)
	}
	return e.tellFight(a, s, look)
}

// health is the worst of the objects', with the reason of the first that is so,
// and after what time one of them takes too long.
func (e *Engine) health(name fleet.AppName, a *app) (worst fleet.Health, why string, look time.Duration) {
	worst = fleet.Healthy
	if len(a.kept.Items) == 0 {
		if a.kept.Digest == fleet.NoDigest {
			worst = fleet.Missing
		}
		return worst, "", 0
	}
	within, now := e.progressWithin(name, a), time.Now()
	for _, it := range a.kept.Items {
		if isApp(it.Ref) || it.Foreign {
			continue // each App tells its own; what is not ours is not watched
		}
		h, message := fleet.Progressing, "was not seen yet"
		if seen, ok := e.parts.Eyes.See(it.Ref); ok {
			s, left := overdue(seen, within, now)
			h, message = s.Health, s.Message
			look = sooner(look, left)
		} else if d, gone := a.drift[versionless(it.Ref)]; gone && len(d.Fields) == 1 && d.Fields[0] == "" {
			h, message = fleet.Missing, "was deleted"
		}
		if blind := e.parts.Eyes.Blind(it.Ref); blind != nil {
			h, message = fleet.HealthUnknown, "can't be watched: "+blind.Error()
		}
		if h.Worse(worst) {
			worst, why = h, fmt.Sprintf("%s: %s", it.Ref, message)
		}
	}
	return worst, why, look
}

func describeDrift(all []fleet.DriftSummary) string {
	first := all[0]
	by := ""
	if first.Manager != "" {
		by = " by " + first.Manager
	}
	more := ""
	if n := len(all) - 1; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%s was changed%s%s", first.Object, by, more)
}

// teller writes statuses to the App objects, each a little after it last moved.
func (e *Engine) teller(ctx context.Context) {
	for {
		name, end := e.tell.Get()
		if end {
			return
		}
		if name != e.root && e.putOff(name) {
			e.tell.Done(name)
			continue
		}
		e.mu.Lock()
		a := e.apps[name]
		var s fleet.AppStatus
		if a != nil {
			s, a.untold = a.status, time.Time{}
		}
		e.mu.Unlock()
		stranger := a == nil && e.isStranger(name)
		if stranger {
			s = e.notFromRoot()
		}
		if s.Sync != "" { // otherwise there is nothing to tell yet
			err := e.tellApp(ctx, name, s)
			switch {
			case err == nil || ctx.Err() != nil:
			case errors.Is(err, fleet.ErrNotFound) && stranger:
				e.strangers.Delete(name)
			case errors.Is(err, fleet.ErrNotFound):
				// The root has not applied the App yet, or just took it away; an
				// App that can't be read is never applied. AppSeen tells of one
				// that appears, so this is only for what that may have missed.
				e.tellAgain(name)
			default:
				e.log.Warn("an App's status can't be written", "app", name.String(), "error", err)
				e.tell.AddAfter(name, 5*time.Second)
			}
		}
		e.tell.Done(name)
	}
}

// tellApp writes a status to the App object.
func (e *Engine) tellApp(ctx context.Context, name fleet.AppName, s fleet.AppStatus) error {
	ctx, p := e.alive.begins(ctx, name, PhaseStatus)
	defer e.alive.end(p)
	return e.parts.Record.Status(ctx, name, toObject(s))
}

// tellAgain has a status told again that had no App to be written to, a few
// times only.
func (e *Engine) tellAgain(name fleet.AppName) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.apps[name]; a != nil && a.misses < maxMisses {
		a.misses++
		e.tell.AddAfter(name, 2*time.Second)
	}
}

const maxMisses = 5

// putOff has a status told later, because there is more urgent work than
// telling: when many apps change at once, what they run comes first. It does so
// for a while only.
func (e *Engine) putOff(name fleet.AppName) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	if a == nil || !e.busy() && e.unshown.n == 0 {
		return false
	}
	if a.untold.IsZero() {
		a.untold = time.Now()
	}
	late := time.Since(a.untold)
	if late >= mostLate {
		return false
	}
	e.tell.AddAfter(name, max(settleTime, min(late, time.Second))) // the longer it waits, the less often it is looked at
	return true
}

// isStranger tells an App object that nobody put into the root path. Before the
// root was read, and while it applies its Apps, nobody is one.
func (e *Engine) isStranger(name fleet.AppName) bool {
	ref, seen := e.strangers.Load(name)
	if !seen {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ours := e.owner[ref.(fleet.ObjectRef)]; ours {
		e.strangers.Delete(name)
		return false
	}
	return e.content != nil
}

// notFromRoot is the status of an App that somebody made by hand.
func (e *Engine) notFromRoot() fleet.AppStatus {
	return fleet.AppStatus{
		Sync: fleet.SyncUnknown, Health: fleet.HealthUnknown, Reason: "NotFromRoot", Changed: e.parts.Now().UTC(),
		Message: "this App did not come from the root path in Git, and is not acted on",
		Hint:    "add it to " + e.cfg.RootPath + " in the repository",
	}
}

// toObject puts a status into the words of the App object.
func toObject(s fleet.AppStatus) v1alpha1.AppStatus {
	out := v1alpha1.AppStatus{
		Sync: s.Sync, Health: s.Health, Revision: s.Revision, Digest: s.Digest, Message: s.Message, Objects: s.Objects,
		Conditions: conditions(s),
	}
	if s.Hint != "" {
		out.Message += " (hint: " + s.Hint + ")"
	}
	if f := s.Source; f != nil {
		out.Source = &v1alpha1.SourceStatus{URL: f.URL, Follows: f.Follows, ServedBy: f.ServedBy, Failing: f.Failing}
		if !f.Reached.IsZero() {
			out.Source.Reached = new(metav1.NewTime(f.Reached))
		}
	}
	if r := s.Retry; r != nil {
		out.Retry = &v1alpha1.RetryStatus{Failed: r.Failed, Next: metav1.NewTime(r.Next)}
	}
	if p := s.Pending; p != nil {
		out.Pending = &v1alpha1.PendingStatus{Revision: p.Revision, Digest: p.Digest, Gate: p.Gate, Plan: p.Plan, Since: metav1.NewTime(p.Since)}
	}
	for _, d := range s.Drift {
		out.Drift = append(out.Drift, v1alpha1.DriftStatus{Object: d.Object.String(), Manager: d.Manager, Fields: d.Fields, Since: metav1.NewTime(d.Since)})
	}
	return out
}

// conditions are kstatus': an app is Ready when it is as wanted and works,
// Reconciling while that may still come by itself, Stalled when it needs a hand.
func conditions(s fleet.AppStatus) []metav1.Condition {
	held := s.Reason == reasonSuspended || s.Reason == reasonPinned
	ready := s.Sync == fleet.Synced && s.Health == fleet.Healthy && !held && s.Reason != fighting
	stalled := s.Sync == fleet.SyncUnknown || s.Reason == "ApplyFailed" || s.Reason == healFailed || s.Reason == waveTimedOut || s.Reason == recreateTimedOut || s.Reason == removeTimedOut || s.Reason == pruneTimedOut || s.Reason == hookFailed || s.Reason == hookTimedOut || s.Reason == fighting || s.Health == fleet.Degraded
	moving := !ready && !stalled && !held && s.Sync != fleet.Pending
	at := metav1.NewTime(s.Changed)
	var out []metav1.Condition
	set := func(kind string, on bool) {
		c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: s.Reason, Message: s.Message, LastTransitionTime: at}
		if on {
			c.Status = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&out, c)
	}
	set(fleet.ConditionReady, ready)
	set(fleet.ConditionReconciling, moving)
	set(fleet.ConditionStalled, stalled)
	return out
}
