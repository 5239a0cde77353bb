package agent

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/record"
	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/watch"
)

// probes answer what Kubernetes asks of this process, in its words: healthz is
// about what only a restart mends, readyz about whether the agent does its work,
// or waits in good order until it is its turn.
type probes struct {
	mu          sync.Mutex
	live, ready []probe
}

// probe is one question; an error says what is wrong.
type probe struct {
	name string
	ask  func() error
}

// livez adds a question of healthz, readyz one of its own.
func (p *probes) livez(name string, ask func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live = append(p.live, probe{name, ask})
}

func (p *probes) readyz(name string, ask func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = append(p.ready, probe{name, ask})
}

// handle answers at /healthz and /readyz. The answer to one that fails, and to
// ?verbose, has a line for each question.
func (p *probes) handle(mux *http.ServeMux) {
	for path, all := range map[string]*[]probe{"healthz": &p.live, "readyz": &p.ready} {
		mux.HandleFunc("GET /"+path, func(w http.ResponseWriter, r *http.Request) {
			p.mu.Lock()
			questions := (*all)[:len(*all):len(*all)]
			p.mu.Unlock()
			answer(w, path, questions, r.URL.Query().Has("verbose"))
		})
	}
}

// serveProbes answers Kubernetes and Prometheus until the returned function is
// called.
func (a *agent) serveProbes() (func(), error) {
	if a.cfg.Listen == "" {
		return func() {}, nil
	}
	a.probes.readyz("lease", a.knowsLease)
	a.probes.readyz("started", a.started)
	mux := http.NewServeMux()
	a.probes.handle(mux)
	mux.Handle("GET /metrics", a.counts.Handler())
	return serve(a.cfg.Listen, mux, a.log)
}

// knowsLease fails until it was seen who works on this cluster. Who waits for
// the Lease is ready: a rollout would wait for it otherwise, and it for the
// rollout.
func (a *agent) knowsLease() error {
	if a.holder.Load() == nil {
		return fmt.Errorf("the Lease %s/%s could not be read yet", a.cfg.Namespace, leaseName)
	}
	return nil
}

func (a *agent) started() error {
	if a.starting.Load() {
		return errors.New("this agent holds the Lease, and what it does is starting, or ending")
	}
	return nil
}

// watchOver has the probes and the metrics ask the rooms of an agent that leads.
func (a *agent) watchOver(e *reconcile.Engine, sources *source.Pool, eyes *watch.Watcher, r *record.Recorder, s *state.Store) {
	a.counts.Watch(measured(e, sources))
	a.probes.livez("engine", e.Stuck)
	a.probes.readyz("apps", e.Settling)
	a.probes.readyz("watches", func() error { return cmp.Or(eyes.Settling(), r.Settling()) })
	a.probes.readyz("state", s.Failing)
}

func answer(w http.ResponseWriter, path string, questions []probe, verbose bool) {
	var lines strings.Builder
	failed := false
	for _, q := range questions {
		if err := q.ask(); err != nil {
			failed = true
			fmt.Fprintf(&lines, "[-]%s failed: %s\n", q.name, err)
		} else {
			fmt.Fprintf(&lines, "[+]%s ok\n", q.name)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch {
	case failed:
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "%s%s check failed\n", lines.String(), path)
	case verbose:
		fmt.Fprintf(w, "%s%s check passed\n", lines.String(), path)
	default:
		fmt.Fprint(w, "ok")
	}
}
