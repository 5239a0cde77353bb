package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/capstan-gitops/capstan/agent/health"
	"github.com/capstan-gitops/capstan/agent/watch"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// checksOf compiles what an App says of health. The error begins with the field.
func checksOf(c *health.Compiler, s v1alpha1.AppSpec) (*health.Checks, error) {
	if s.Health == nil {
		return nil, nil
	}
	list := make([]health.Check, len(s.Health.Checks))
	for i, k := range s.Health.Checks {
		list[i] = health.Check(k)
	}
	checks, err := c.Compile(list)
	if err != nil {
		return nil, fmt.Errorf("spec.health.checks%w", err)
	}
	return checks, nil
}

// Judge tells the health of an object that a watch shows: by the checks of the
// app that owns it, by the cluster's, and by what is known of its kind.
func (e *Engine) Judge(u *unstructured.Unstructured) health.State {
	gvk := u.GroupVersionKind()
	ref := fleet.ObjectRef{Group: gvk.Group, Kind: gvk.Kind, Namespace: u.GetNamespace(), Name: u.GetName()}
	var own *health.Checks
	e.mu.Lock()
	if a := e.apps[e.owner[ref]]; a != nil {
		own = a.checks
	}
	e.mu.Unlock()
	return health.Of(u, own, e.cfg.Checks)
}

// rejudge has an app's objects judged by the checks that it has now, where those
// are others than before.
func (e *Engine) rejudge(ctx context.Context, name fleet.AppName) error {
	e.mu.Lock()
	a := e.apps[name]
	w, wanted := e.world.wanted[name]
	if a == nil || !wanted {
		e.mu.Unlock()
		return nil // what leaves is judged as it was
	}
	before, now := a.checks, w.checks
	a.checks = now // of what the watches show from here on
	if !before.Same(now) {
		for _, it := range a.kept.Items {
			kind := schema.GroupKind{Group: it.Ref.Group, Kind: it.Ref.Kind}
			if before.Has(kind) || now.Has(kind) {
				if a.rejudge == nil {
					a.rejudge = map[schema.GroupKind]fleet.ObjectRef{}
				}
				a.rejudge[kind] = it.Ref
			}
		}
	}
	todo := a.rejudge
	a.rejudge = nil
	e.mu.Unlock()
	var errs []error
	for kind, ref := range todo {
		wait, cancel := context.WithTimeout(ctx, eyeTimeout)
		err := e.parts.Eyes.LookAgain(wait, ref, name)
		cancel()
		if err == nil {
			continue
		}
		errs = append(errs, err)
		e.mu.Lock()
		if a.rejudge == nil {
			a.rejudge = map[schema.GroupKind]fleet.ObjectRef{}
		}
		a.rejudge[kind] = ref
		e.mu.Unlock()
	}
	return errors.Join(errs...)
}

// progressWithinOf is progressWithin, called without e.mu.
func (e *Engine) progressWithinOf(name fleet.AppName) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.apps[name]; a != nil {
		return e.progressWithin(name, a)
	}
	return 0
}

// progressWithin is how long an object of an app may be Progressing; 0: for ever.
// Called with e.mu held.
func (e *Engine) progressWithin(name fleet.AppName, a *app) time.Duration {
	if w, ok := e.world.wanted[name]; ok {
		return w.app.Spec.ProgressWithin()
	}
	if s := keptSpec(a.kept); s != nil && name != e.root {
		return s.ProgressWithin()
	}
	return v1alpha1.DefaultProgressDeadline
}

// overdue is how an object is that was Progressing for too long, and otherwise
// as it was seen, with how long it has still; 0: there is no deadline.
func overdue(s watch.Sight, within time.Duration, now time.Time) (watch.Sight, time.Duration) {
	if s.Health != fleet.Progressing || s.Since.IsZero() || within == 0 {
		return s, 0
	}
	if left := within - now.Sub(s.Since); left > 0 {
		return s, left
	}
	s.Health, s.Message = fleet.Degraded, fmt.Sprintf("has been Progressing for more than %s: %s", short(within), s.Message)
	return s, 0
}

// short is a duration without the units that say nothing: 10m, not 10m0s.
func short(d time.Duration) string {
	switch {
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}
