package notify_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/hub/notify"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hall is a fleet and a bucket.
type hall struct {
	mu   sync.Mutex
	apps []fleet.AppStatus
	docs map[string][]byte
	ver  map[string]uint64
	wake chan string
	full atomic.Bool

	wrote chan string // the keys, as they are written
}

func newHall() *hall {
	return &hall{docs: map[string][]byte{}, ver: map[string]uint64{}, wake: make(chan string, 1), wrote: make(chan string, 100)}
}

func (h *hall) Clusters(context.Context, fleet.ClusterFilter) ([]fleet.Cluster, error) {
	return []fleet.Cluster{{Cluster: "dev"}}, nil
}

func (h *hall) Apps(context.Context, fleet.AppFilter) ([]fleet.AppStatus, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]fleet.AppStatus{}, h.apps...), nil
}

func (h *hall) Watch(context.Context, string) (<-chan string, error) { return h.wake, nil }

func (h *hall) Get(_ context.Context, key string) ([]byte, uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d, ok := h.docs[key]; ok {
		return d, h.ver[key], nil
	}
	return nil, 0, fleet.NotFound("%s", key)
}

func (h *hall) Put(_ context.Context, key string, value []byte, version uint64) (uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.full.Load() {
		return 0, fleet.Unavailable("the disk is full")
	}
	if h.ver[key] != version {
		return 0, fleet.Conflict("%s", key)
	}
	h.docs[key], h.ver[key] = value, version+1
	select {
	case h.wrote <- key:
	default: // nobody waits for so many
	}
	return version + 1, nil
}

func (h *hall) Delete(_ context.Context, key string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.docs, key)
	delete(h.ver, key)
	return nil
}

func (h *hall) All(_ context.Context, each func(string, []byte, uint64) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, d := range h.docs {
		if err := each(k, d, h.ver[k]); err != nil {
			return err
		}
	}
	return nil
}

func (h *hall) set(a ...fleet.AppStatus) {
	h.mu.Lock()
	h.apps = a
	h.mu.Unlock()
	select {
	case h.wake <- "v":
	default:
	}
}

func runNotifier(t *testing.T, c notify.NotifierConfig) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	c.Every = time.Millisecond
	go func() { done <- notify.New(c).Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// heard waits for one that is wanted to come out of a channel.
func heard(t *testing.T, what string, c <-chan string, wanted string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case got := <-c:
			if strings.Contains(got, wanted) {
				return
			}
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

func TestWhatIsToldIsWrittenDownAndNotToldAgain(t *testing.T) {
	told := make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		told <- string(b)
	}))
	defer s.Close()
	h := newHall()
	rs := routes(t, fmt.Sprintf("routes: [{name: r, on: [pending], slack: {url: '%s/s3cret'}}]", s.URL))
	web := app("dev", "web")
	web.Pending = &fleet.PendingPlan{Plan: "one"}
	h.set(web)
	var log strings.Builder
	var seen atomic.Int32
	h.full.Store(true)
	stop := runNotifier(t, notify.NotifierConfig{
		Routes: rs, Fleet: h, Told: h, Observe: func(_, kind string, err error) {
			if kind == "slack" && err == nil {
				seen.Add(1)
			}
		},
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	heard(t, "it is told", told, "web")
	h.full.Store(false)
	h.set(web)
	heard(t, "it is written down once there is room", h.wrote, "dev.team-a.web")
	stop()
	if strings.Contains(log.String(), "s3cret") || !strings.Contains(log.String(), "notified") || seen.Load() != 1 {
		t.Errorf("seen %d, log %s", seen.Load(), log.String())
	}
	db := app("dev", "db")
	db.Pending = &fleet.PendingPlan{Plan: "two"}
	h.set(web, db)
	stop = runNotifier(t, notify.NotifierConfig{Routes: rs, Fleet: h, Told: h})
	heard(t, "the other one is written down", h.wrote, "dev.team-a.db")
	stop()
	if again := len(told); again != 1 {
		t.Errorf("it told %d more, not the other alone", again)
	}
	heard(t, "the other one was told", told, "db")
}
