package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/capstan-gitops/capstan/hub/broker"
	"github.com/capstan-gitops/capstan/hub/desk"
	"github.com/capstan-gitops/capstan/hub/metrics"
	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// countedLink counts the intents that go out.
type countedLink struct {
	desk.Link
	meters *metrics.Metrics
}

func (l countedLink) PushIntent(cluster string, in fleet.Intent) error {
	err := l.Link.PushIntent(cluster, in)
	l.meters.IntentSent(err)
	return err
}

// sources are what the metrics show at each scrape.
func sources(people *desk.Desk, kept *store.KV, b *broker.Broker) metrics.Sources {
	return metrics.Sources{
		Fleet: people,
		Store: func(ctx context.Context) ([]metrics.StoreUsage, error) {
			all, err := kept.Usage(ctx)
			out := make([]metrics.StoreUsage, 0, len(all))
			for _, u := range all {
				out = append(out, metrics.StoreUsage(u))
			}
			return out, err
		},
		Connections: b.Connections,
	}
}

// meterRoom shows metrics on an address of its own, which is not for people.
type meterRoom struct {
	listener net.Listener
	server   *http.Server
}

// openMeters listens; without an address there is nothing.
func openMeters(ctx context.Context, cfg Config) (*meterRoom, error) {
	if cfg.MetricsListen == "" {
		return nil, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", cfg.MetricsListen)
	if err != nil {
		return nil, fleet.WithHint(fmt.Errorf("listen for metrics: %w", err), "name another address with --metrics-listen")
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", cfg.meters.Handler())
	cfg.Log.InfoContext(ctx, "listening for Prometheus", "listen", l.Addr().String())
	return &meterRoom{l, &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}}, nil
}

// address is where the metrics are; empty: nowhere.
func (m *meterRoom) address() string {
	if m == nil {
		return ""
	}
	return m.listener.Addr().String()
}

// serve answers until the room is closed.
func (m *meterRoom) serve() error {
	if m == nil {
		return nil
	}
	if err := m.server.Serve(m.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

func (m *meterRoom) close() {
	if m != nil {
		m.server.Close()
		m.listener.Close()
	}
}
