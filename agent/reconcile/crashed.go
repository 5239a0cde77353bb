package reconcile

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// A crash in the middle of a change leaves objects that were sent or deleted, and
// nobody wrote down that they were. Those that were sent are ours in every field,
// and are not as they were applied last; of those that were deleted there is none,
// or one that somebody else made under the name since. That is not drift: put back
// to what was applied last they would go to and fro, because Git is about to say
// what they are already; and what is not ours would be taken, and then pruned. So
// they are left until Git was read, or can't be; and what somebody else made under a
// name until Git is known to want that (stillWanted).

// unreadLook is how often such an object is looked at until then. Git's answer
// has all apps looked at; this is for what that may miss.
const unreadLook = 2 * time.Second

// unread tells that it is not known yet what Git says of an app. Called with e.mu held.
func (e *Engine) unread(v view) bool {
	root := e.apps[e.root]
	if e.content == nil && root.problem == nil && e.latest(e.root).Err == nil {
		return true
	}
	return v.want != nil && v.from.Snapshot == nil && v.from.Err == nil
}

// awaitsNote is awaitsGit for an object that is ours in every field. It waits, too,
// until it is noted that the object was sent, if that could not be done because the
// API server was away.
func (e *Engine) awaitsNote(name fleet.AppName, ref fleet.ObjectRef) bool {
	e.mu.Lock()
	a := e.apps[name]
	_, sent := a.sent[versionless(ref)]
	if sent {
		a.look[versionless(ref)] = true // with the next try
	}
	e.mu.Unlock()
	return sent || e.awaitsGit(name, ref)
}

// awaitsGit has an object looked at again when Git was read, if it was not yet.
func (e *Engine) awaitsGit(name fleet.AppName, ref fleet.ObjectRef) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	if !a.unread {
		return false
	}
	a.look[versionless(ref)] = true
	e.work.AddAfter(name, unreadLook)
	return true
}

// sending notes which objects a change is about to send, until it is noted that they
// were: a change that was cut short may have sent them already, also where this one
// waits for somebody, or for what comes before them. It may have sent what this one
// prunes, as well.
func (e *Engine) sending(name fleet.AppName, objects []unit.Object, leaving []inventory.Item) {
	sent := make(map[fleet.ObjectRef]string, len(objects)+len(leaving))
	for _, it := range leaving {
		sent[versionless(it.Ref)] = ""
	}
	for _, o := range objects {
		sent[versionless(o.Ref)] = inventory.HashOf(o)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	for ref := range a.sent {
		if _, still := sent[ref]; !still {
			a.look[ref] = true // it is as noted that Git wants it
		}
	}
	a.sent = sent
}

// noted takes from what was sent what the inventory has. Called with Engine.mu held.
func (a *app) noted(items []inventory.Item) {
	for _, it := range items {
		if hash, sent := a.sent[versionless(it.Ref)]; sent && hash == it.Hash {
			delete(a.sent, versionless(it.Ref))
		}
	}
}

// leaving notes that objects are being pruned: should that fail on the way, those
// that are gone are not drift either.
func (e *Engine) leaving(name fleet.AppName, items []inventory.Item) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	a.leaving = map[fleet.ObjectRef]bool{}
	for _, it := range items {
		a.leaving[versionless(it.Ref)] = true
	}
}

func (e *Engine) leaves(name fleet.AppName, ref fleet.ObjectRef) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.apps[name].leaving[versionless(ref)]
}

// stay takes leaving back, where an app wants objects after all; nil: all of them,
// because what is wanted is what is noted. What is not as noted is drift from then on. Called with Engine.mu held.
func (a *app) stay(wanted []unit.Object) {
	if wanted == nil {
		for ref := range a.leaving {
			a.look[ref] = true
		}
		for ref := range a.sent {
			a.look[ref] = true
		}
		a.leaving, a.sent = nil, nil
	}
	for _, o := range wanted {
		if ref := versionless(o.Ref); a.leaving[ref] {
			delete(a.leaving, ref)
			a.look[ref] = true
		}
	}
}

// toBePruned tells that a plan which waits would prune an object.
func (e *Engine) toBePruned(name fleet.AppName, ref fleet.ObjectRef) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.apps[name].kept.Pending
	return p != nil && slices.ContainsFunc(p.Changes, func(c fleet.Change) bool {
		return c.Action == fleet.Prune && c.Object.Same(ref)
	})
}

// taking is how what has the name of an object is healed: what somebody else made is
// left, while it is not known that Git wants the name.
func (e *Engine) taking(name fleet.AppName, it inventory.Item, live *unstructured.Unstructured, p healPolicy) healPolicy {
	p.heal = p.heal && (live == nil || string(live.GetUID()) == it.UID || e.stillWanted(name, it.Ref))
	return p
}

// stillWanted tells that Git wanted an object when an app was last compared with it,
// since the start. Where nothing was compared yet, a name may have been given up, and
// pruned, before the restart: what somebody else has made under it is told as drift, and
// looked at again.
func (e *Engine) stillWanted(name fleet.AppName, ref fleet.ObjectRef) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	if _, wanted := e.world.wanted[appOf(ref)]; isApp(ref) && wanted || a.asGit || slices.Contains(a.claimed, versionless(ref)) {
		return true
	}
	a.look[versionless(ref)] = true
	return false
}

// noteAsGit notes whether Git wants what is applied, or what was claimed last.
func (e *Engine) noteAsGit(name fleet.AppName, is bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.apps[name].asGit = is
	if is {
		delete(e.blocked, name) // it waits for nothing
	}
}

// appOf is the app that an App object stands for.
func appOf(ref fleet.ObjectRef) fleet.AppName {
	return fleet.AppName{Namespace: ref.Namespace, Name: ref.Name}
}
