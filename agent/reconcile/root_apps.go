package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// App objects show what runs, and nothing that runs needs them. While apps wait for a
// worker, sending them is put off like telling their statuses is, for as long at most;
// that they may come to exist is written down at once, so that what guards the removal
// of Apps counts those that only run yet.

// carryApps applies the App objects that changed, and deletes those whose app
// has been taken off the cluster.
func (e *Engine) carryApps(ctx context.Context, v *view, apps []unit.Object, released bool) error {
	delta := inventory.Compare(apps, itemsOf(v.kept.Items, isApp))
	delta.Prune = e.takenOff(delta.Prune, released)
	if len(delta.Apply)+len(delta.Prune) == 0 {
		e.showLater(0)
		return nil
	}
	if e.expectAnew(&v.kept, delta.Apply) || len(delta.New) > 0 {
		v.kept.Items = inventory.Extend(v.kept.Items, delta.New)
		if err := keepApplied(&v.kept, delta.New); err != nil {
			return err
		}
		if err := e.save(ctx, v.kept); err != nil {
			return err
		}
	}
	if e.showLater(len(delta.Apply) + len(delta.Prune)) {
		return nil
	}
	if err := e.watchKinds(ctx, apps); err != nil {
		return err
	}
	kept := v.kept
	itself := e.parts.Cluster.As(e.root, "")
	_, err := e.send(ctx, itself, &kept, delta.Apply)
	if errors.Is(err, errOtherAgent) {
		return err
	}
	gone, still, perr := itself.Prune(ctx, e.root, delta.Prune)
	e.leaveBehind(&kept, gone, still)
	if err = errors.Join(err, perr); err == nil {
		err = keepObjects(&kept, apps, isApp)
	}
	if serr := e.save(ctx, kept); serr != nil {
		return errors.Join(err, serr)
	}
	v.kept = kept
	return err
}

// takenOff are the App objects whose app is off the cluster.
func (e *Engine) takenOff(leaving []inventory.Item, released bool) []inventory.Item {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(leaving, func(it inventory.Item) bool {
		name := appOf(it.Ref)
		return e.apps[name] != nil || e.world.doubtful[name] != nil || !released
	})
}

// showLater tells whether sending so many App objects is put off, and has the root
// looked at again when there is time.
func (e *Engine) showLater(n int) bool {
	busy := n > 0 && e.busy()
	e.mu.Lock()
	defer e.mu.Unlock()
	if busy && e.unshown.since.IsZero() {
		e.unshown.since = time.Now()
	}
	late := time.Since(e.unshown.since)
	if !busy || late >= mostLate {
		e.unshown = unshown{}
		return false
	}
	e.unshown.n = n
	e.work.AddAfter(e.root, mostLate-late) // each time: the queue forgets it for anything sooner
	if !slices.Contains(e.late, e.root) {
		e.late = slices.Insert(e.late, 0, e.root)
	}
	return true
}

// unshown are the App objects whose sending is put off.
type unshown struct {
	n     int
	since time.Time // zero: there is none
}

func (u unshown) String() string {
	return fmt.Sprintf("%d App objects are written when the apps that wait for a worker have run", u.n)
}
