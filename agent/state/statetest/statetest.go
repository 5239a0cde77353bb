// Package statetest has the part of an API server that keeps Secrets, for tests of
// other rooms that want the real store. The end-to-end tests use a real one.
package statetest

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

const path = "/api/v1/namespaces/capstan-system/secrets"

// API keeps Secrets of namespace capstan-system, with resource versions, labels and
// preconditions.
type API struct {
	config *rest.Config

	mu      sync.Mutex
	version int
	kept    map[string]map[string]any
}

// Serve starts one, until the test ends.
func Serve(t testing.TB) *API {
	t.Helper()
	a := &API{kept: map[string]map[string]any{}}
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	a.config = &rest.Config{Host: srv.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
	return a
}

// Config is how to reach it.
func (a *API) Config() *rest.Config { return a.config }

// Names are those of the Secrets there are, sorted.
func (a *API) Names() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.kept))
}

func metadata(o map[string]any) map[string]any { return o["metadata"].(map[string]any) }

func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, path), "/")
	w.Header().Set("Content-Type", "application/json")
	var body map[string]any
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		name = metadata(body)["name"].(string)
	}
	if r.Method == http.MethodGet && name == "" {
		answer(w, a.list(r.URL.Query().Get("labelSelector")))
		return
	}
	answer(w, a.one(r, name, body))
}

// one answers a request about one Secret.
func (a *API) one(r *http.Request, name string, body map[string]any) map[string]any {
	old, exists := a.kept[name]
	switch {
	case r.Method == http.MethodPost && exists:
		return status(http.StatusConflict, "AlreadyExists")
	case r.Method == http.MethodPost:
		return a.write(name, body)
	case !exists:
		return status(http.StatusNotFound, "NotFound")
	case r.Method == http.MethodGet:
		return old
	case r.Method == http.MethodPut && metadata(body)["resourceVersion"] != metadata(old)["resourceVersion"], r.Method == http.MethodDelete && stale(r, old):
		return status(http.StatusConflict, "Conflict")
	case r.Method == http.MethodPut:
		return a.write(name, body)
	}
	delete(a.kept, name)
	return status(http.StatusOK, "Success")
}

func (a *API) write(name string, body map[string]any) map[string]any {
	a.version++
	metadata(body)["resourceVersion"] = strconv.Itoa(a.version)
	a.kept[name] = body
	return body
}

func (a *API) list(selector string) map[string]any {
	items := []any{}
	_, want, _ := strings.Cut(selector, "=")
	for _, o := range a.kept {
		if labels, _ := metadata(o)["labels"].(map[string]any); labels["capstan.dev/state"] == want {
			items = append(items, o)
		}
	}
	return map[string]any{"kind": "SecretList", "apiVersion": "v1", "items": items}
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
	return want != "" && want != metadata(old)["resourceVersion"]
}

func status(code int, reason string) map[string]any {
	return map[string]any{"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason}
}

func answer(w http.ResponseWriter, v map[string]any) {
	if code, ok := v["code"].(int); ok {
		w.WriteHeader(code)
	}
	_ = json.NewEncoder(w).Encode(v) // the client notices
}
