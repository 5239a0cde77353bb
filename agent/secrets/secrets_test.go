package secrets_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/agent/secrets"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// apiServer has one Secret, or none, and lets it be listed and watched by name.
type apiServer struct {
	t      *testing.T
	mu     sync.Mutex
	secret map[string]any
	status int
	lists  int
	events chan map[string]any
}

func newAPIServer(t *testing.T) (*apiServer, *secrets.Watcher) {
	t.Helper()
	a := &apiServer{t: t, events: make(chan map[string]any)}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	w, err := secrets.New(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	return a, w
}

func secret(version int, label, password string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Secret",
		"metadata": map[string]any{"name": "git", "namespace": "shop", "resourceVersion": fmt.Sprint(version), "labels": map[string]any{"l": label}},
		"data":     map[string]any{"password": []byte(password)},
	}
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if r.URL.Path != "/api/v1/namespaces/shop/secrets" || q.Get("fieldSelector") != "metadata.name=git" {
		a.t.Errorf("asked for %s", r.URL)
	}
	a.mu.Lock()
	status, one := a.status, a.secret
	if q.Get("watch") == "" {
		a.lists++
	}
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	encode := json.NewEncoder(w)
	switch {
	case status != 0 || q.Get("sendInitialEvents") != "":
		if status == 0 {
			status = http.StatusUnprocessableEntity // as servers that can't answer
		}
		reason := map[int]string{http.StatusForbidden: "Forbidden", http.StatusUnprocessableEntity: "Invalid"}[status]
		w.WriteHeader(status)
		_ = encode.Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason})
	case q.Get("watch") != "":
		w.(http.Flusher).Flush()
		for {
			select {
			case <-r.Context().Done():
				return
			case e := <-a.events:
				_ = encode.Encode(e)
				w.(http.Flusher).Flush()
			}
		}
	default:
		items := []any{}
		if one != nil {
			items = append(items, one)
		}
		_ = encode.Encode(map[string]any{"apiVersion": "v1", "kind": "SecretList", "metadata": map[string]any{"resourceVersion": "1"}, "items": items})
	}
}

type told struct {
	password string
	err      error
}

// follow begins, and gives what it is told.
func follow(t *testing.T, w *secrets.Watcher) func() told {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	all := make(chan told, 100)
	var running sync.WaitGroup
	running.Go(func() {
		w.Follow(ctx, "shop", "git", func(data map[string][]byte, err error) { all <- told{string(data["password"]), err} })
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return func() told {
		t.Helper()
		select {
		case one := <-all:
			return one
		case <-time.After(20 * time.Second):
			t.Fatal("nothing is told")
			return told{}
		}
	}
}

func TestEveryChangeOfASecretIsToldAndNothingElse(t *testing.T) {
	api, w := newAPIServer(t)
	next := follow(t, w)
	if got := next(); !errors.Is(got.err, fleet.ErrNotFound) || fleet.Hint(got.err) == "" {
		t.Errorf("without a Secret: %v", got.err)
	}
	api.events <- map[string]any{"type": "ADDED", "object": secret(2, "a", "one")}
	if got := next(); got.password != "one" || got.err != nil {
		t.Errorf("made: %+v", got)
	}
	api.events <- map[string]any{"type": "MODIFIED", "object": secret(3, "b", "one")} // a label
	api.events <- map[string]any{"type": "MODIFIED", "object": secret(4, "b", "two")}
	if got := next(); got.password != "two" {
		t.Errorf("rotated: %+v", got)
	}
	api.events <- map[string]any{"type": "DELETED", "object": secret(5, "b", "two")}
	if got := next(); !errors.Is(got.err, fleet.ErrNotFound) || got.password != "" {
		t.Errorf("deleted: %+v", got)
	}
	api.mu.Lock()
	defer api.mu.Unlock()
	if api.lists != 1 {
		t.Errorf("%d lists", api.lists)
	}
}

func TestASecretThatMayNotBeReadSaysSo(t *testing.T) {
	api, w := newAPIServer(t)
	api.status = http.StatusForbidden
	next := follow(t, w)
	if got := next(); !errors.Is(got.err, fleet.ErrForbidden) || fleet.Hint(got.err) == "" {
		t.Errorf("got %v", got.err)
	}
	api.mu.Lock()
	api.status, api.secret = 0, secret(1, "a", "one")
	api.mu.Unlock()
	for {
		if got := next(); got.err == nil {
			if got.password != "one" {
				t.Errorf("got %+v", got)
			}
			return
		}
	}
}
