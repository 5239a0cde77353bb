package reconcile_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// again stops the engine, and starts one that works with other parts.
func (s *spoke) again(parts func(*reconcile.Parts)) {
	s.t.Helper()
	if err := s.stop(); err != nil {
		s.t.Fatal(err)
	}
	s.parts = parts
	s.start()
}

// hangs is a renderer that does not come back until it is let go.
type hangs struct {
	reconcile.Renderer
	path  string
	letGo chan struct{}
}

func (h hangs) Render(ctx context.Context, q unit.RenderRequest) (unit.Rendered, error) {
	if q.Path == h.path {
		<-h.letGo
	}
	return h.Renderer.Render(ctx, q)
}

func TestAWorkerThatHangsIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "web"), "db": configMaps("1", "db")}, nil)
		s.synced("web")
		letGo := make(chan struct{})
		s.again(func(p *reconcile.Parts) { p.Renderer = hangs{p.Renderer, "web", letGo} })
		s.synced("db")
		s.push(map[string]string{"web": configMaps("2", "web"), "db": configMaps("2", "db")})
		s.until("db", "at its new content", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("db")), `"2"`) })

		time.Sleep(14 * time.Minute)
		if err := s.engine.Stuck(); err != nil {
			t.Errorf("after 14 minutes: %v", err)
		}
		time.Sleep(2 * time.Minute)
		if err := s.engine.Stuck(); err == nil || !strings.Contains(err.Error(), "capstan-system/web hangs in render") {
			t.Errorf("after 16 minutes: %v", err)
		}
		close(letGo)
		s.until("web", "at its new content", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("web")), `"2"`) })
		if err := s.engine.Stuck(); err != nil {
			t.Errorf("after it came back: %v", err)
		}
	})
}

// slow is a cluster whose API server takes a minute for each of many requests.
type slow struct{ reconcile.Cluster }

func (c slow) Apply(ctx context.Context, app fleet.AppName, objects []unit.Object) ([]apply.Applied, error) {
	for range 60 {
		time.Sleep(time.Minute)
		reconcile.Beat(ctx)
	}
	return c.Cluster.Apply(ctx, app, objects)
}

func TestAnAPIServerThatIsSlowIsNoHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf()}, nil)
		s.again(func(p *reconcile.Parts) {
			p.Cluster = wrapped{p.Cluster, func(c reconcile.Cluster) reconcile.Cluster { return slow{c} }}
		})
		s.push(map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")})
		for range 59 {
			time.Sleep(time.Minute)
			if err := s.engine.Stuck(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// wedged is a source that does not answer, though nothing in it may block.
type wedged struct {
	reconcile.Sources
	letGo chan struct{}
}

func (w wedged) Statuses() []fleet.SourceStatus {
	<-w.letGo
	return w.Sources.Statuses()
}

func TestAnEngineWhoseLockIsNeverGivenBackIsStuck(t *testing.T) {
	letGo := make(chan struct{})
	release := sync.OnceFunc(func() { close(letGo) })
	s := newSpoke(t, map[string]string{"root": rootOf()}, func(c *reconcile.Config) { c.StuckAfter = 600 * time.Millisecond })
	s.again(func(p *reconcile.Parts) { p.Sources = wedged{p.Sources, letGo} })
	t.Cleanup(release)
	reported := make(chan struct{})
	go func() {
		s.engine.Report()
		close(reported)
	}()
	stuck := func(want bool) {
		t.Helper()
		for limit := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
			err := s.engine.Stuck()
			if want == (err != nil && strings.Contains(err.Error(), "the engine hangs")) {
				return
			}
			if time.Now().After(limit) {
				t.Fatalf("want it stuck: %v, and it says: %v", want, err)
			}
		}
	}
	stuck(true)
	release()
	stuck(false)
	<-reported
}

// unlisted is a cluster whose watches have not seen all there is.
type unlisted struct {
	reconcile.Eyes
	listed chan struct{}
}

func (u unlisted) Synced(ctx context.Context, ref fleet.ObjectRef) error {
	select {
	case <-u.listed:
		return u.Eyes.Synced(ctx, ref)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestEveryAppIsLookedAtOnceBeforeTheEngineIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "web")}, nil)
		s.synced("web")
		listed := make(chan struct{})
		s.again(func(p *reconcile.Parts) { p.Eyes = unlisted{p.Eyes, listed} })
		synctest.Wait()
		if err := s.engine.Settling(); err == nil || !strings.Contains(err.Error(), "were not looked at since the start") {
			t.Errorf("web was not looked at, and it is said: %v", err)
		}
		close(listed)
		s.synced("web")
		synctest.Wait()
		if err := s.engine.Settling(); err != nil {
			t.Error(err)
		}
	})
}
