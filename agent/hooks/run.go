package hooks

import (
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Run is what the hooks of one change did. It is written down before anything
// of it happens, so that whoever comes after a crash goes on with it. A Run is
// never changed: what is noted gives another one.
type Run struct {
	ID      string       `json:"id"`               // random: the hooks' objects carry it
	Digest  fleet.Digest `json:"digest,omitempty"` // of the change; empty: the app is taken off the cluster
	Install bool         `json:"install,omitempty"`
	Labels  string       `json:"labels,omitempty"` // stands for the cluster's labels: others are worth another try
	Done    bool         `json:"done,omitempty"`   // the change was carried out
	Ran     []Ran        `json:"ran,omitempty"`
}

// Ran is one hook in one phase.
type Ran struct {
	Ref     fleet.ObjectRef `json:"ref"`
	Phase   Phase           `json:"phase"`
	Began   time.Time       `json:"began"`
	UID     string          `json:"uid,omitempty"` // of the object that was made for it; empty: none is known to be
	State   State           `json:"state,omitempty"`
	Message string          `json:"message,omitempty"` // why it failed
}

// State is how a hook ended.
type State string

const (
	Unended   State = ""
	Succeeded State = "Succeeded"
	Failed    State = "Failed"
)

func (r Ran) String() string { return string(r.Phase) + " hook " + r.Ref.String() }

// Change is a change that may need hooks.
type Change struct {
	To, Applied fleet.Digest
	Hooks       bool   // it has some
	Sends       bool   // it has objects to send
	Retry       bool   // a person asked for another try
	ID          string // for a run that has none yet
	Labels      string
	Now         time.Time
	Within      time.Duration // how long a hook may take; 0: for ever
}

// Begin gives the run of a change: the one that was begun for it, or a new one.
// ok is false where none is needed: what is wanted was carried out already, and
// what is sent is only to put that right, or there are no hooks.
func Begin(was *Run, c Change) (run *Run, ok bool) {
	same := was != nil && was.Digest == c.To
	if same && !was.Done {
		switch {
		case c.Retry, was.Labels != c.Labels && was.hasFailed():
			return was.again(c), true
		case was.Labels != c.Labels: // it goes on with these
			next := *was
			next.Labels = c.Labels
			return &next, true
		}
		return was, true
	}
	if c.To == c.Applied && (same || was == nil || !c.Sends) || was == nil && !c.Hooks {
		return was, false
	}
	return &Run{ID: c.ID, Digest: c.To, Install: c.Applied == fleet.NoDigest, Labels: c.Labels}, true
}

func (r Run) hasFailed() bool {
	return slices.ContainsFunc(r.Ran, func(x Ran) bool { return x.State == Failed && x.Phase != SyncFail })
}

// again forgets what failed or takes too long, so that it is tried once more,
// and that SyncFail hooks ran: the next try may fail as well.
func (r Run) again(c Change) *Run {
	r.ID, r.Labels = c.ID, c.Labels
	r.Ran = slices.DeleteFunc(slices.Clone(r.Ran), func(x Ran) bool {
		return x.State == Failed || x.Phase == SyncFail || x.State == Unended && c.Within > 0 && c.Now.Sub(x.Began) >= c.Within
	})
	return &r
}

// Of is what a hook did in a phase.
func (r Run) Of(ref fleet.ObjectRef, p Phase) (Ran, bool) {
	for _, x := range r.Ran {
		if x.Phase == p && x.Ref.Same(ref) {
			return x, true
		}
	}
	return Ran{}, false
}

// Noting is the run with one hook as it is now.
func (r Run) Noting(x Ran) *Run {
	r.Ran = slices.Clone(r.Ran)
	for i, o := range r.Ran {
		if o.Phase == x.Phase && o.Ref.Same(x.Ref) {
			r.Ran[i] = x
			return &r
		}
	}
	r.Ran = append(r.Ran, x)
	return &r
}

// Finished is the run when its change was carried out.
func (r Run) Finished() *Run {
	r.Done = true
	return &r
}

// Stamp is what the object of a hook in a phase carries, so that it is known
// again by whoever did not hear that it was made.
func (r Run) Stamp(p Phase) string { return r.ID + "." + string(p) }

// Unbegun are, of the hooks of a phase, those for which no object is known to be
// made.
func (r Run) Unbegun(p Phase, some []Hook) []Hook {
	return slices.DeleteFunc(slices.Clone(some), func(h Hook) bool {
		x, _ := r.Of(h.Object.Ref, p)
		return x.UID != "" || x.State != Unended
	})
}

// Leaving gives the objects of hooks that have ended, and that their policy
// deletes now. made are the hooks' objects that are there.
func (r Run) Leaving(all []Hook, p Phase, made []inventory.Item) []inventory.Item {
	var out []inventory.Item
	for _, h := range all {
		x, ran := r.Of(h.Object.Ref, p)
		goes := x.State == Succeeded && h.OnSuccess || x.State == Failed && h.OnFailure
		if !ran || !goes || IsKept(h.Object.Ref) {
			continue
		}
		for _, it := range made {
			if it.Ref.Same(x.Ref) && it.UID == x.UID && x.UID != "" {
				out = append(out, it)
			}
		}
	}
	return out
}

// Settle sorts what is on the cluster: what was an object of the app and is a
// hook now, and the other way round. moved tells whether there was any.
func Settle(items, made []inventory.Item, plain []unit.Object, all []Hook) (newItems, newMade []inventory.Item, moved bool) {
	isHook, isPlain := map[fleet.ObjectRef]bool{}, map[fleet.ObjectRef]bool{}
	for _, h := range all {
		isHook[versionless(h.Object.Ref)] = true
	}
	for _, o := range plain {
		isPlain[versionless(o.Ref)] = true
	}
	for _, it := range items {
		if isHook[versionless(it.Ref)] && !it.Foreign {
			newMade, moved = append(newMade, inventory.Item{Ref: it.Ref, UID: it.UID, Remade: it.Remade}), true
		} else {
			newItems = append(newItems, it)
		}
	}
	for _, it := range made {
		if isPlain[versionless(it.Ref)] {
			newItems, moved = append(newItems, inventory.Item{Ref: it.Ref, UID: it.UID, Remade: it.Remade}), true
		} else {
			newMade = append(newMade, it)
		}
	}
	return newItems, newMade, moved
}

// Left are the hooks' objects whose hook is not in the app any more.
func Left(made []inventory.Item, all []Hook) []inventory.Item {
	return slices.DeleteFunc(slices.Clone(made), func(it inventory.Item) bool {
		return slices.ContainsFunc(all, func(h Hook) bool { return h.Object.Ref.Same(it.Ref) })
	})
}

func versionless(r fleet.ObjectRef) fleet.ObjectRef {
	r.Version = ""
	return r
}
