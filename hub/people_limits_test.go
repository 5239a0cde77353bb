package hub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestThoseWhoTryTokensAreSlowedDown(t *testing.T) {
	g := guard(t)
	root := g.as(t, "root")
	if _, err := root.Whoami(t.Context()); err != nil {
		t.Fatal(err)
	}
	var err error
	tries := 0
	for ; tries < 100 && !errors.Is(err, fleet.ErrTooOften); tries++ {
		_, err = g.with(t, fmt.Sprint("guess", tries)).Whoami(t.Context())
	}
	if tries < 10 || tries > 30 || fleet.Hint(err) == "" {
		t.Errorf("after %d tries: %v", tries, err)
	}
	if _, err := root.Whoami(t.Context()); err != nil {
		t.Errorf("one who was known before is kept out: %v", err)
	}
	if _, err := g.as(t, "see").Whoami(t.Context()); !errors.Is(err, fleet.ErrTooOften) {
		t.Errorf("a right guess is told from a wrong one: %v", err)
	}
	g.now = g.now.Add(time.Minute)
	if _, err := g.as(t, "see").Whoami(t.Context()); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

func TestWhoAsksTooMuchIsTold(t *testing.T) {
	for _, path := range []string{"/api/v1/whoami", "/clusters"} {
		g := guard(t)
		wait := g.until(t, path, http.StatusTooManyRequests)
		if wait.Header.Get("Retry-After") == "" {
			t.Errorf("%s: it is not said when to try again", path)
		}
		if _, err := g.as(t, "root").Whoami(t.Context()); err != nil {
			t.Errorf("%s: somebody else has to wait too: %v", path, err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// until asks for a path until it is answered with a status.
func (g *guarded) until(t *testing.T, path string, status int) *http.Response {
	t.Helper()
	for range 2000 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer secret-of-see")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode == status {
			return res
		}
	}
	t.Fatalf("%s is never answered with %d", path, status)
	return nil
}

func TestNobodyKeepsMoreStreamsThanTheirShare(t *testing.T) {
	g := guard(t)
	hub := g.people.Guard(pushable{g.fleet})
	as := func(name string) context.Context {
		return fleet.WithIdentity(t.Context(), fleet.Identity{Via: fleet.ViaToken, Name: name, Grants: []fleet.Grant{{Roles: []fleet.Role{fleet.RoleViewer}}}})
	}
	var last context.CancelFunc
	var err error
	n := 0
	for ; n < 1000 && err == nil; n++ {
		ctx, cancel := context.WithCancel(as("see"))
		defer cancel()
		if _, err = hub.Watch(ctx, ""); err == nil {
			last = cancel
		}
	}
	if !errors.Is(err, fleet.ErrTooOften) || fleet.Hint(err) == "" || n < 50 {
		t.Fatalf("after %d: %v", n, err)
	}
	if _, err := hub.Watch(as("another"), ""); err != nil {
		t.Errorf("somebody else gets none: %v", err)
	}
	last()
	deadline := time.After(20 * time.Second)
	for { // that it ended is noticed beside this
		if _, err = hub.Watch(as("see"), ""); err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("one was closed: %v", err)
		default:
			runtime.Gosched()
		}
	}
}
