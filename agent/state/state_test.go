package state_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// secrets is the part of an API server that keeps Secrets, with resource
// versions, labels and pages. The end-to-end tests use a real one.
type secrets struct {
	mu      sync.Mutex
	version int
	kept    map[string]map[string]any
	lost    int // answers that do not come back, of what was done

	dead   bool // after so many writes
	writes int
}

func serve(t *testing.T) (*secrets, *rest.Config) {
	t.Helper()
	s := &secrets{kept: map[string]map[string]any{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return s, &rest.Config{Host: srv.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}

func (s *secrets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dies(r.Method)
	name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces/capstan-system/secrets"), "/")
	w.Header().Set("Content-Type", "application/json")
	var body map[string]any
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		name = body["metadata"].(map[string]any)["name"].(string)
	}
	old, exists := s.kept[name]
	switch {
	case r.Method == http.MethodGet && name == "":
		items := []any{}
		_, want, _ := strings.Cut(r.URL.Query().Get("labelSelector"), "=")
		for _, o := range s.kept {
			if o["metadata"].(map[string]any)["labels"].(map[string]any)["capstan.dev/state"] == want {
				items = append(items, o)
			}
		}
		answer(w, 200, map[string]any{"kind": "SecretList", "apiVersion": "v1", "items": items})
	case r.Method == http.MethodGet && exists:
		answer(w, 200, old)
	case r.Method == http.MethodDelete && exists && stale(r, old):
		answer(w, 409, status(409, "Conflict"))
	case r.Method == http.MethodDelete && exists:
		delete(s.kept, name)
		s.lose()
		answer(w, 200, status(200, "Success"))
	case r.Method == http.MethodPost && exists:
		answer(w, 409, status(409, "AlreadyExists"))
	case r.Method == http.MethodPost, r.Method == http.MethodPut && exists:
		meta := body["metadata"].(map[string]any)
		if exists && meta["resourceVersion"] != old["metadata"].(map[string]any)["resourceVersion"] {
			answer(w, 409, status(409, "Conflict"))
			return
		}
		s.version++
		meta["resourceVersion"] = fmt.Sprint(s.version)
		s.kept[name] = body
		s.lose()
		answer(w, 200, body)
	default:
		answer(w, 404, status(404, "NotFound"))
	}
}

// stale tells a delete that is meant for another version.
func stale(r *http.Request, old map[string]any) bool {
	var o struct {
		Preconditions struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"preconditions"`
	}
	_ = json.NewDecoder(r.Body).Decode(&o) // no body: no precondition
	want := o.Preconditions.ResourceVersion
	return want != "" && want != old["metadata"].(map[string]any)["resourceVersion"]
}

func status(code int, reason string) map[string]any {
	return map[string]any{"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason}
}

func answer(w http.ResponseWriter, code int, v map[string]any) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client notices
}

func open(t *testing.T, cfg *rest.Config) *state.Store {
	t.Helper()
	s, err := state.New(cfg, "capstan-system")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var name = fleet.AppName{Namespace: "capstan-system", Name: "web"}

// sample is an app of n objects whose content does not compress.
func sample(t *testing.T, n int) state.App {
	t.Helper()
	a := state.App{Name: name, Digest: "sha256:1", Revision: "main@sha1:1", Used: []string{"p"}}
	var objects []unit.Object
	for i := range n {
		ref := fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: "shop", Name: fmt.Sprint(i)}
		noise := fmt.Sprintf("%x", sha256.Sum256([]byte(ref.Name)))
		objects = append(objects, unit.Object{Ref: ref, JSON: json.RawMessage(fmt.Sprintf(`{"n":%d,"x":%q}`, i, noise))})
		a.Items = append(a.Items, inventory.Item{Ref: ref, UID: noise, Fingerprint: noise[:24]})
	}
	if err := a.SetObjects(objects); err != nil {
		t.Fatal(err)
	}
	return a
}

func load(t *testing.T, s *state.Store) []state.App {
	t.Helper()
	apps, err := s.LoadApps(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return apps
}

func TestAnAppIsKeptWhateverItsSize(t *testing.T) {
	for _, size := range []int{1, 20000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			api, cfg := serve(t)
			s := open(t, cfg)
			want := sample(t, size)
			if err := s.SaveApp(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			if size > 1 && len(api.kept) < 2 {
				t.Fatal("a large app was kept in one Secret: this test shows nothing")
			}
			for _, reader := range []*state.Store{s, open(t, cfg)} {
				got := load(t, reader)
				if len(got) != 1 || len(got[0].Items) != size || got[0].Digest != want.Digest {
					t.Fatalf("got %d apps", len(got))
				}
				objects, err := got[0].Applied()
				if err != nil || len(objects) != size {
					t.Fatalf("got %d objects, %v", len(objects), err)
				}
			}
			// It shrinks, and takes its parts along.
			if err := s.SaveApp(t.Context(), sample(t, 1)); err != nil {
				t.Fatal(err)
			}
			if len(api.kept) != 1 {
				t.Errorf("%d Secrets are left", len(api.kept))
			}
			if err := s.DeleteApp(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			if len(api.kept) != 0 {
				t.Errorf("%d Secrets are left of an app that was deleted", len(api.kept))
			}
		})
	}
}

func TestASecondWriterIsRefused(t *testing.T) {
	_, cfg := serve(t)
	first, second := open(t, cfg), open(t, cfg)
	if err := first.SaveApp(t.Context(), sample(t, 1)); err != nil {
		t.Fatal(err)
	}
	load(t, second)
	if err := second.SaveApp(t.Context(), sample(t, 2)); err != nil {
		t.Fatal(err)
	}
	if err := first.SaveApp(t.Context(), sample(t, 3)); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("got %v", err)
	}
	if err := open(t, cfg).SaveApp(t.Context(), sample(t, 3)); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("a writer that never read it: got %v", err)
	}
}

func TestAValueIsKeptAndFoundAgain(t *testing.T) {
	_, cfg := serve(t)
	s := open(t, cfg)
	var got map[string]string
	if found, err := s.Load(t.Context(), "capstan-self", &got); found || err != nil {
		t.Fatal(found, err)
	}
	if err := s.Save(t.Context(), "capstan-self", map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	if found, err := open(t, cfg).Load(t.Context(), "capstan-self", &got); !found || err != nil || got["a"] != "b" {
		t.Error(found, err, got)
	}
}

func TestHistoryAndUsedPlansAreBounded(t *testing.T) {
	var a state.App
	for i := range 100 {
		a.Remember(fleet.HistoryEntry{Digest: fleet.Digest(fmt.Sprint(i))})
		a.Use(fmt.Sprint(i))
	}
	if len(a.History) != 10 || a.History[0].Digest != "99" || len(a.Used) != 50 || a.Used[49] != "99" {
		t.Errorf("%d entries, %d used", len(a.History), len(a.Used))
	}
}

func TestAnAgentThatWasSupersededForgetsNothing(t *testing.T) {
	_, cfg := serve(t)
	old, now := open(t, cfg), open(t, cfg)
	if err := old.SaveApp(t.Context(), sample(t, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := now.LoadApps(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := now.SaveApp(t.Context(), sample(t, 2)); err != nil {
		t.Fatal(err)
	}
	if err := old.DeleteApp(t.Context(), name); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	if apps, err := open(t, cfg).LoadApps(t.Context()); err != nil || len(apps) != 1 {
		t.Errorf("%d apps are kept: %v", len(apps), err)
	}
}
