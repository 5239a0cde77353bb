package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/hub/broker"
	"github.com/capstan-gitops/capstan/pkg/client"
)

const (
	// drainTime is how long requests under way may take once the hub is to stop.
	drainTime = 10 * time.Second
	// agentDrainTime is the same for what agents have sent.
	agentDrainTime = 5 * time.Second
	maxDrainDelay  = 5 * time.Minute
)

// serve answers until ctx ends, says that it is not ready any more, and lets
// requests under way finish. Streams, which never would, end then as well.
func (f *front) serve(ctx context.Context) error {
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	streams, end := context.WithCancel(work)
	defer end()
	f.server.BaseContext = func(net.Listener) context.Context { return work }
	f.server.Handler = untilDrained(streams, f.server.Handler)
	failed := make(chan error, 1)
	f.ready.Store(true)
	go func() { failed <- f.server.Serve(f.listener) }()
	f.log.InfoContext(ctx, "listening for people", "listen", f.listener.Addr().String(), "url", f.url)
	select {
	case err := <-failed:
		return fmt.Errorf("serve people: %w", err)
	case <-ctx.Done():
	}
	f.ready.Store(false)
	f.log.InfoContext(ctx, "stopping", "in", f.delay.String())
	select {
	case err := <-failed:
		return fmt.Errorf("serve people: %w", err)
	case <-time.After(f.delay):
	}
	end()
	drain, cancel := context.WithTimeout(work, drainTime)
	defer cancel()
	if err := f.server.Shutdown(drain); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stop: %w", err)
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve people: %w", err)
	}
	return nil
}

// untilDrained ends streams with a context of their own.
func untilDrained(streams context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isStream(r) {
			next.ServeHTTP(w, r)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(streams, cancel)()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func isStream(r *http.Request) bool {
	return r.URL.Path == client.Prefix+"/watch" || strings.HasPrefix(r.URL.Path, "/live/") || strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}

// drain answers what agents have sent. They connect again by themselves.
func (c Config) drain(ctx context.Context, b *broker.Broker) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), agentDrainTime)
	defer cancel()
	if err := b.Drain(ctx); err != nil {
		c.Log.WarnContext(ctx, "agents were left without an answer", "error", err)
	}
}
