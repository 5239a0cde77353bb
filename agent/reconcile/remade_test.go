package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// What is made anew under a name has another uid than is noted. Here the agent ends
// with each of its writes in turn, and Git, which goes on meanwhile, gives the name
// up: what the agent had made goes with it all the same.
func TestWhatWasMadeAnewBeforeACrashIsNotForgotten(t *testing.T) {
	job, plain := jobRef("job"), configMap("a")
	for name, c := range map[string]struct {
		before string
		moves  func(*spoke)
		after  string
		leaves fleet.ObjectRef
	}{
		"a hook that runs anew": {
			docs(hookOf("job", "1", preSync), configMaps("1", "b")),
			func(s *spoke) {
				s.push(map[string]string{"web": docs(hookOf("job", "2", preSync), configMaps("1", "b"))})
			},
			configMaps("1", "b"), job,
		},
		"an object that was deleted": {
			configMaps("1", "a", "b"),
			func(s *spoke) { s.cluster.edit(plain, "") },
			configMaps("1", "b"), plain,
		},
		"an object that somebody made in its place": {
			configMaps("1", "a", "b"),
			func(s *spoke) { s.cluster.replace(plain, "somebody's") },
			configMaps("1", "b"), plain,
		},
		"an object that was deleted when it changed": {
			configMaps("1", "a", "b"),
			func(s *spoke) {
				s.cluster.remove(plain)
				s.push(map[string]string{"web": docs(configMaps("2", "a"), configMaps("1", "b"))})
			},
			configMaps("1", "b"), plain,
		},
		"an object that was deleted when it changed, in an app with hooks": {
			docs(hookOf("job", "1", postSync), configMaps("1", "a", "b")),
			func(s *spoke) {
				s.cluster.remove(plain)
				s.push(map[string]string{"web": docs(hookOf("job", "1", postSync), configMaps("2", "a"), configMaps("1", "b"))})
			},
			configMaps("1", "b"), plain,
		},
		"an object that was deleted in the moment in which it changed": {
			configMaps("1", "a", "b"),
			func(s *spoke) {
				s.cluster.removeWhenSent(plain)
				s.push(map[string]string{"web": configMaps("2", "a", "b")})
			},
			configMaps("2", "b"), plain,
		},
		"an object that was deleted in the moment in which it was put back": {
			configMaps("1", "a", "b"),
			func(s *spoke) {
				s.cluster.removeWhenSent(plain)
				s.cluster.edit(plain, strings.Replace(s.cluster.content(plain), `"1"`, `"7"`, 1))
			},
			configMaps("1", "b"), plain,
		},
		"an object that somebody made in its place in the moment in which it changed": {
			configMaps("1", "a", "b"),
			func(s *spoke) {
				s.cluster.whenSent(func() { s.cluster.replaced(plain, "somebody's") })
				s.push(map[string]string{"web": configMaps("2", "a", "b")})
			},
			configMaps("2", "b"), plain,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, lost := range []bool{false, true} { // the write itself, or only its answer
				for n := 1; ; n++ {
					s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": c.before}, nil)
					s.synced("web")
					was := s.cluster.uid(c.leaves)
					s.memory.endAt(n, lost)
					c.moves(s)
					ended := s.endsOr("made anew, and noted", func() bool {
						now := s.cluster.uid(c.leaves)
						return now != "" && now != was && s.memory.uid("web", c.leaves) == now
					})
					if err := s.stop(); err != nil && !errors.Is(err, fleet.ErrConflict) {
						t.Fatal(err)
					}
					s.memory.endAt(0, false)
					s.repo.files["web"] = c.after
					s.start()
					s.eventually(fmt.Sprintf("gone with its name, ended at write %d (lost %v)", n, lost), func() bool { return s.cluster.holder(c.leaves) != app("web") })
					s.synced("web")
					if err := s.stop(); err != nil {
						t.Fatal(err)
					}
					if !ended {
						break
					}
				}
			}
		})
	}
}

// A hook ran anew for a change, the agent ended, and the commit was taken back.
func TestAHookThatRanForAChangeTakenBackIsKnown(t *testing.T) {
	before := docs(hookOf("job", "1", preSync), configMaps("1", "b"))
	for n := 1; ; n++ {
		s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": before}, nil)
		old := s.synced("web").Digest
		s.memory.endAt(n, false)
		s.push(map[string]string{"web": docs(hookOf("job", "1", preSync), configMaps("2", "b"))})
		ended := s.endsOrSyncs("web", old)
		if err := s.stop(); err != nil && !errors.Is(err, fleet.ErrConflict) {
			t.Fatal(err)
		}
		if !ended {
			return
		}
		s.memory.endAt(0, false)
		s.repo.files["web"] = before
		s.start()
		s.until("web", "as it was", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Digest == old })
		s.eventually(fmt.Sprintf("known by its uid, ended at write %d", n), func() bool {
			is := s.cluster.uid(jobRef("job"))
			return is == "" || is == s.memory.uid("web", jobRef("job"))
		})
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// endsOr waits until the engine has ended by itself, or something came true.
func (s *spoke) endsOr(what string, ok func() bool) bool {
	s.t.Helper()
	ended, wait := make(chan struct{}), s.ended
	go func() {
		if err := wait(); errors.Is(err, fleet.ErrConflict) {
			close(ended)
		}
	}()
	over := false
	s.eventually(what, func() bool {
		select {
		case <-ended:
			over = true
		default:
		}
		return over || ok()
	})
	if !over && s.memory.ended() { // by the write that made it true
		<-ended
		over = true
	}
	return over
}

// ended tells that a write came that ends the engine.
func (m *memory) ended() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err != nil
}

// uid is what is noted of an object of an app.
func (m *memory) uid(name string, ref fleet.ObjectRef) string {
	all, err := m.LoadApps(context.Background())
	if err != nil {
		return ""
	}
	for _, a := range all {
		if a.Name != app(name) {
			continue
		}
		for _, it := range slices.Concat(a.Items, a.Made) {
			if it.Ref.Same(ref) {
				return it.UID
			}
		}
	}
	return ""
}

// replace has somebody put another object in the place of one.
func (c *cluster) replace(ref fleet.ObjectRef, uid string) {
	c.replaced(ref, uid)
	c.touch(ref)
}

// replaced is replace before anybody sees it.
func (c *cluster) replaced(ref fleet.ObjectRef, uid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.objects[key(ref)] = live{uid: uid, content: strings.Replace(c.objects[key(ref)].content, `"1"`, `"9"`, 1)}
}

// removeWhenSent deletes an object when it was looked at for the last time.
func (c *cluster) removeWhenSent(ref fleet.ObjectRef) { c.whenSent(func() { c.remove(ref) }) }

// whenSent does something once, just before objects are sent.
func (c *cluster) whenSent(does func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onTry = sync.OnceFunc(does)
}

// remove deletes an object before anybody sees it.
func (c *cluster) remove(ref fleet.ObjectRef) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.objects, key(ref))
}

// An App object is one of the root's: the same is true of it.
func TestAnAppObjectThatWasMadeAnewBeforeACrashIsNotForgotten(t *testing.T) {
	object := fleet.ObjectRef{Group: "capstan.dev", Version: "v1alpha1", Kind: "App", Namespace: "capstan-system", Name: "web"}
	for _, lost := range []bool{false, true} {
		for n := 1; ; n++ {
			s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "a"), "db": configMaps("1", "b")}, nil)
			s.synced("web")
			s.synced("db")
			was := s.cluster.uid(object)
			s.memory.endAt(n, lost)
			s.memory.endsOf(reconcile.RootName)
			s.cluster.remove(object)
			s.push(map[string]string{"root": docs(strings.Replace(rootOf("web"), "spec: {", "spec: {sync: {force: true}, ", 1), rootOf("db"))})
			ended := s.endsOr("made anew, and noted", func() bool {
				now := s.cluster.uid(object)
				return now != "" && now != was && s.memory.uid(reconcile.RootName, object) == now
			})
			if err := s.stop(); err != nil && !errors.Is(err, fleet.ErrConflict) {
				t.Fatal(err)
			}
			s.memory.endAt(0, false)
			s.repo.files["root"] = rootOf("db")
			s.start()
			s.eventually(fmt.Sprintf("gone, ended at write %d (lost %v)", n, lost), func() bool { return !s.cluster.there(object) })
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			if !ended {
				break
			}
		}
	}
}
