package reconcile_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// full is a memory in which the app web can't be kept until there is room.
type full struct {
	reconcile.Memory
	room *atomic.Bool
}

func (m full) SaveApp(ctx context.Context, a state.App) error {
	if a.Name == app("web") && !m.room.Load() {
		return errors.New(`secret capstan-app.shop.web: secrets "capstan-app.shop.web" is forbidden: exceeded quota: tight, requested: count/secrets=1, used: count/secrets=5, limited: count/secrets=5`)
	}
	return m.Memory.SaveApp(ctx, a)
}

func TestAnAppWhoseStateCanNotBeWrittenSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("db"), "db": configMaps("1", "db")}, nil)
		s.synced("db")
		var room atomic.Bool
		s.again(func(p *reconcile.Parts) { p.Memory = full{p.Memory, &room} })
		s.push(map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "a")})
		got := s.because("web", "StateFailed")
		if got.Sync != fleet.OutOfSync || !strings.Contains(got.Message, "secret capstan-app.shop.web: ") || !strings.Contains(got.Hint, "raise the ResourceQuota tight in namespace capstan-system") {
			t.Errorf("%+v", got)
		}
		if s.cluster.content(configMap("a")) != "" {
			t.Error("something came to exist before that was written down")
		}
		s.push(map[string]string{"db": configMaps("2", "db")})
		s.until("db", "applied", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("db")), `"2"`) })
		room.Store(true)
		if got := s.synced("web"); got.Reason != "Healthy" || got.Hint != "" || s.cluster.content(configMap("a")) == "" {
			t.Errorf("%+v", got)
		}

		// A commit that can't be noted: what runs is told as it was.
		room.Store(false)
		s.push(map[string]string{"web": configMaps("1", "a", "b")})
		if got := s.because("web", "StateFailed"); got.Sync != fleet.OutOfSync || got.Health != fleet.Healthy || got.Objects != 1 {
			t.Errorf("%+v", got)
		}
		// Taken back, there is nothing to write any more.
		s.push(map[string]string{"web": configMaps("1", "a")})
		room.Store(true)
		time.Sleep(5 * time.Minute)
		if got := s.synced("web"); got.Reason != "Healthy" {
			t.Errorf("%+v", got)
		}
	})
}
