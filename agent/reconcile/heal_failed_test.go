package reconcile_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/agent/watch"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// unhealable is a cluster in which nothing can be put back.
type unhealable struct {
	reconcile.Cluster
	mended *atomic.Bool
}

func (c unhealable) Heal(ctx context.Context, app fleet.AppName, o unit.Object, live *unstructured.Unstructured) (apply.Applied, error) {
	if !c.mended.Load() {
		return apply.Applied{}, fleet.WithHint(&apply.ObjectError{Ref: o.Ref, Err: errors.New("is forbidden")}, "allow it")
	}
	return c.Cluster.Heal(ctx, app, o, live)
}

func TestWhatCanNotBePutBackIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a", "b")}, nil)
		s.synced("web")
		var mended atomic.Bool
		s.again(func(p *reconcile.Parts) {
			p.Cluster = wrapped{p.Cluster, func(c reconcile.Cluster) reconcile.Cluster { return unhealable{c, &mended} }}
		})
		s.synced("web")
		s.cluster.edit(configMap("a"), "")
		got := s.because("web", "HealFailed")
		if got.Sync != fleet.OutOfSync || !strings.Contains(got.Message, "ConfigMap shop/a: is forbidden") || got.Hint != "allow it" {
			t.Errorf("%+v", got)
		}
		mended.Store(true)
		if got := s.synced("web"); got.Reason != "Healthy" || got.Hint != "" || len(got.Drift) > 0 {
			t.Errorf("%+v", got)
		}
	})
}

// blind are eyes that may not see ConfigMaps.
type blind struct {
	reconcile.Eyes
	sees *atomic.Bool
}

func (b blind) Blind(ref fleet.ObjectRef) error {
	if ref.Kind == "ConfigMap" && !b.sees.Load() {
		return errors.New(`configmaps is forbidden: User "agent" cannot list resource "configmaps" in API group ""`)
	}
	return nil
}

func TestAKindThatCanNotBeWatchedAnyMoreIsSaid(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a")}, nil)
	s.synced("web")
	var sees atomic.Bool
	sees.Store(true)
	s.again(func(p *reconcile.Parts) { p.Eyes = blind{p.Eyes, &sees} })
	s.synced("web")
	kind := configMap("")
	kind.Namespace = ""
	sees.Store(false)
	s.engine.Seen(watch.Event{Ref: kind, Blind: true})
	got := s.until("web", "not seen", func(a fleet.AppStatus) bool { return a.Health == fleet.HealthUnknown })
	if !strings.Contains(got.Message, "can't be watched") || !strings.Contains(got.Hint, `agent lacks the verb "list" on configmaps`) {
		t.Errorf("%+v", got)
	}
	sees.Store(true)
	s.engine.Seen(watch.Event{Ref: kind, Blind: true})
	s.until("web", "seen", func(a fleet.AppStatus) bool { return a.Health == fleet.Healthy && a.Hint == "" })
}

type pause time.Duration

func (p pause) Error() string             { return "the API server is busy" }
func (p pause) RetryAfter() time.Duration { return time.Duration(p) }

// busy is a cluster whose API server asks for a pause at the first try.
type busy struct {
	reconcile.Cluster
	asks  time.Duration
	tries *atomic.Int64
}

func (c busy) Apply(ctx context.Context, app fleet.AppName, objects []unit.Object) ([]apply.Applied, error) {
	if app.Name == reconcile.RootName || c.tries.Add(1) > 1 {
		return c.Cluster.Apply(ctx, app, objects)
	}
	return nil, errors.Join(errors.New("one"), &apply.ObjectError{Ref: objects[0].Ref, Err: pause(c.asks)})
}

func TestThePauseThatAnAPIServerAsksForIsKept(t *testing.T) {
	for _, tt := range []struct{ asks, early, late time.Duration }{
		{asks: time.Minute, early: 55 * time.Second, late: 2 * time.Minute},
		{asks: 24 * time.Hour, early: 9 * time.Minute, late: 11 * time.Minute}, // nobody is left alone for a day
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSpoke(t, map[string]string{"root": rootOf()}, nil)
			var tries atomic.Int64
			s.again(func(p *reconcile.Parts) {
				p.Cluster = wrapped{p.Cluster, func(c reconcile.Cluster) reconcile.Cluster { return busy{c, tt.asks, &tries} }}
			})
			s.push(map[string]string{"root": rootOf("web"), "web": configMaps("1", "a")})
			s.because("web", "ApplyFailed")
			time.Sleep(tt.early)
			if n := tries.Load(); n != 1 {
				t.Errorf("asked to wait %s, it was tried %d times within %s", tt.asks, n, tt.early)
			}
			time.Sleep(tt.late - tt.early)
			synctest.Wait()
			if n := tries.Load(); n != 2 {
				t.Errorf("asked to wait %s, it was tried %d times within %s", tt.asks, n, tt.late)
			}
		})
	}
}

// away is a cluster whose API server refuses everything until it is mended.
type away struct {
	reconcile.Cluster
	mended *atomic.Bool
}

func (c away) Apply(ctx context.Context, app fleet.AppName, objects []unit.Object) ([]apply.Applied, error) {
	if app.Name == reconcile.RootName || c.mended.Load() {
		return c.Cluster.Apply(ctx, app, objects)
	}
	return nil, &apply.ObjectError{Ref: objects[0].Ref, Err: errors.New("is refused")}
}

// A commit that comes while the next try is awaited begins the waiting anew, and
// must not have the app forgotten.
func TestATryThatACommitInterruptedIsMadeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf()}, nil)
		var mended atomic.Bool
		s.again(func(p *reconcile.Parts) {
			p.Cluster = wrapped{p.Cluster, func(c reconcile.Cluster) reconcile.Cluster { return away{c, &mended} }}
		})
		s.push(map[string]string{"root": rootOf("web"), "web": configMaps("1", "a")}) // tried now, and after 1 s and 3 s
		s.because("web", "ApplyFailed")
		time.Sleep(2500 * time.Millisecond)
		s.push(map[string]string{"web": configMaps("2", "a")}) // tried now, at 2.5 s
		synctest.Wait()
		mended.Store(true)
		time.Sleep(5 * time.Minute)
		if !strings.Contains(s.cluster.content(configMap("a")), `"2"`) {
			t.Error("what failed was not tried again within five minutes")
		}
	})
}
