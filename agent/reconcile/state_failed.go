package reconcile

import (
	"context"
	"errors"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const stateFailed = "StateFailed"

// notKept notes that an app's state can't be written: nothing that has to be
// written down first is done meanwhile. Where the agent itself ends, it says nothing.
func (e *Engine) notKept(ctx context.Context, name fleet.AppName, err error) {
	if ctx.Err() != nil || errors.Is(err, errOtherAgent) {
		return
	}
	state := fleet.ObjectRef{Version: "v1", Kind: "Secret", Namespace: e.cfg.Namespace}
	p := problem{reason: stateFailed, message: "what is done can't be written down: " + oneLine(err), hint: hint(apply.Explain(state, err))}
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	if a == nil {
		return
	}
	if a.unkept == nil || *a.unkept != p {
		e.parts.Record.Event(name, true, p.reason, p.message)
	}
	a.unkept = &p
}

// tellUnkept puts into a status that an app's state can't be written.
func (a *app) tellUnkept(s *fleet.AppStatus) {
	s.Reason, s.Message, s.Hint = a.unkept.reason, a.unkept.message, a.unkept.hint
	if s.Sync == fleet.Synced {
		s.Sync = fleet.OutOfSync // what Git has now is not noted
	}
}
