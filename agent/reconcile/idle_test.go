package reconcile_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestAStatusWithoutAnAppObjectIsNotPolledFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": strings.Replace(rootOf("absent"), "source:", "nosuch:", 1)}, nil)
		s.because("absent", "InvalidSpec")
		time.Sleep(time.Hour) // of the bubble's own clock
		s.told.mu.Lock()
		defer s.told.mu.Unlock()
		if n := s.told.misses[app("absent")]; n == 0 || n > 20 {
			t.Errorf("the status of an App that is not there was tried %d times in an hour", n)
		}
	})
}

func TestWhatFailedIsNotTriedAgainBecauseTheRootWasLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("refuse", "web")}, nil)
		s.because("web", "ApplyFailed")
		synctest.Wait()
		before := s.cluster.tries()
		for range 20 {
			s.engine.AppSeen(app("root"))
			synctest.Wait()
		}
		if n := s.cluster.tries() - before; n != 0 {
			t.Errorf("tried %d times more", n)
		}
	})
}

func (c *cluster) tries() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

func TestObjectsComeBackAfterTheirKindDid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		crd := fleet.ObjectRef{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition", Namespace: "default", Name: "widgets.example.com"} // the fake knows no scopes
		widget := fleet.ObjectRef{Group: "example.com", Version: "v1", Kind: "Widget", Namespace: "shop", Name: "one"}
		text := "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example.com}\n---\n" +
			"apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: one, namespace: shop}\n"
		s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": text}, nil)
		s.synced("web")
		s.cluster.mu.Lock()
		delete(s.cluster.objects, key(crd))
		s.cluster.mu.Unlock()
		s.cluster.edit(widget, "") // goes with its kind, before that is seen to be gone
		synctest.Wait()
		s.cluster.edit(crd, "")
		s.until("web", "whole", func(fleet.AppStatus) bool { return s.cluster.content(widget) != "" })
	})
}
