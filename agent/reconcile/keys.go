package reconcile

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// ring gives an app its keys, and notes in the view which they are: with others,
// what failed for want of one is tried again. The root has the agent's own, as
// far as the configuration lets it.
func (e *Engine) ring(ctx context.Context, v *view) (unit.KeyRing, error) {
	d := decryptionOf(v.want)
	if d == nil && v.name == e.root {
		d = &decryption{own: true}
	}
	if e.parts.Keys == nil || d == nil {
		return nil, nil
	}
	ring, err := e.parts.Keys.Ring(ctx, v.name, d.own, d.secret)
	if err != nil {
		return nil, err
	}
	v.facts.Keys = ring.Version()
	e.mu.Lock()
	if a := e.apps[v.name]; a != nil {
		a.keys = v.facts.Keys
	}
	e.mu.Unlock()
	return ring, nil
}

// decryption is which keys an app asks for.
type decryption struct {
	own    bool // it is read from the agent's own repository
	secret string
}

// decryptionOf is nil for an app that asks for none.
func decryptionOf(w *want) *decryption {
	if w == nil || w.app == nil || w.app.Spec.Decryption == nil {
		return nil
	}
	return &decryption{own: w.app.Spec.Source.RepoURL == "", secret: w.app.Spec.Decryption.KeysName()}
}

// followKeys looks now and then whether keys changed.
func (e *Engine) followKeys(ctx context.Context) {
	if e.parts.Keys == nil {
		return
	}
	look := time.NewTicker(cmp.Or(e.cfg.KeysEvery, time.Minute))
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			e.lookAtKeys(ctx)
		}
	}
}

// lookAtKeys has apps looked at whose keys are others than when they were looked
// at last.
func (e *Engine) lookAtKeys(ctx context.Context) {
	type holder struct {
		decryption
		had string
	}
	holders := map[fleet.AppName]holder{}
	e.mu.Lock()
	for name, a := range e.apps {
		w, ok := e.wanted(name)
		if a.keys == "" {
			continue
		}
		if d := decryptionOf(&w); ok && d != nil {
			holders[name] = holder{*d, a.keys}
		} else if name == e.root {
			holders[name] = holder{decryption{own: true}, a.keys}
		}
	}
	e.mu.Unlock()
	for name, h := range holders {
		ring, err := e.parts.Keys.Ring(ctx, name, h.own, h.secret)
		if err != nil || ring.Version() == h.had {
			continue // what can't be asked now is asked again
		}
		e.log.Info("keys changed", "app", name.String())
		e.mu.Lock()
		e.now(name)
		e.mu.Unlock()
	}
}

// withOldMasks adds, to what is hidden of objects that are about to change, what
// was hidden of them before: the difference shows both.
func withOldMasks(objects, applied []unit.Object) []unit.Object {
	was := make(map[fleet.ObjectRef][]string, len(applied))
	for _, o := range applied {
		if len(o.Masked) > 0 {
			was[versionless(o.Ref)] = o.Masked
		}
	}
	if len(was) == 0 {
		return objects
	}
	out := make([]unit.Object, len(objects))
	for i, o := range objects {
		old := was[versionless(o.Ref)]
		o.Masked = append(slices.Clip(o.Masked), old...)
		out[i] = o
	}
	return out
}
