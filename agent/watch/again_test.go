package watch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/agent/health"
	"github.com/capstan-gitops/capstan/agent/watch"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	databases = schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "databases"}
	database  = fleet.ObjectRef{Group: "example.com", Version: "v1", Kind: "Database", Namespace: "shop", Name: "a"}
)

// server is as much of an API server as lists and watches one kind, two objects
// a page.
type server struct {
	mu      sync.Mutex
	objects map[string]map[string]any
	lists   []string // selectors
	events  [][]byte // all there were: how many is a resource version
	more    chan struct{}
	onList  func() // after what it gives is chosen
	refuse  bool
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	w.Header().Set("Content-Type", "application/json")
	s.mu.Lock()
	refused := s.refuse || q.Get("sendInitialEvents") != ""
	s.mu.Unlock()
	switch {
	case refused:
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`)
	case q.Get("watch") != "":
		s.watch(w, r)
	default:
		s.list(w, q.Get("labelSelector"), q.Get("continue"))
	}
}

func (s *server) watch(w http.ResponseWriter, r *http.Request) {
	from, err := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	for {
		s.mu.Lock()
		events, more := s.events[from:], s.more
		s.mu.Unlock()
		from += len(events)
		_, _ = w.Write(bytes.Join(events, nil))
		_ = flush.Flush()
		select {
		case <-r.Context().Done():
			return
		case <-more:
		}
	}
}

func (s *server) list(w http.ResponseWriter, selector, from string) {
	want, err := labels.Parse(selector)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.lists = append(s.lists, selector)
	var page []any
	next := ""
	for _, name := range slices.Sorted(maps.Keys(s.objects)) {
		u := unstructured.Unstructured{Object: s.objects[name]}
		if name <= from || !want.Matches(labels.Set(u.GetLabels())) {
			continue
		}
		if len(page) == 2 {
			next = page[1].(map[string]any)["metadata"].(map[string]any)["name"].(string)
			break
		}
		page = append(page, s.objects[name])
	}
	b, _ := json.Marshal(map[string]any{"kind": "DatabaseList", "apiVersion": "example.com/v1", "metadata": map[string]any{"resourceVersion": strconv.Itoa(len(s.events)), "continue": next}, "items": page})
	onList := s.onList
	s.mu.Unlock()
	if onList != nil {
		onList()
	}
	_, _ = w.Write(b)
}

// put makes or changes an object, and tells the watches.
func (s *server) put(name, app, phase string) {
	o := map[string]any{
		"apiVersion": "example.com/v1", "kind": "Database",
		"metadata": map[string]any{"name": name, "namespace": "shop", "uid": name, "resourceVersion": strconv.Itoa(s.version() + 1), "labels": map[string]any{"capstan.dev/app": app, "capstan.dev/app-namespace": "capstan-system"}},
		"status":   map[string]any{"phase": phase},
	}
	b, _ := json.Marshal(map[string]any{"type": "MODIFIED", "object": o})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[name] = o
	s.events = append(s.events, append(b, '\n'))
	close(s.more)
	s.more = make(chan struct{})
}

func (s *server) version() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

// eyes watch a server's databases, which are well in the phase that judge says.
type eyes struct {
	*watch.Watcher
	t      *testing.T
	server *server
	events chan watch.Event

	mu   sync.Mutex
	well string
}

func open(t *testing.T) *eyes {
	t.Helper()
	e := &eyes{t: t, server: &server{objects: map[string]map[string]any{}, more: make(chan struct{})}, events: make(chan watch.Event, 64), well: "Ready"}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		e.server.put(name, "web", "Ready")
	}
	e.server.put("of-another", "db", "Ready")
	http := httptest.NewServer(e.server)
	var err error
	e.Watcher, err = watch.New(&rest.Config{Host: http.URL}, []byte("key"), e.judge, func(ev watch.Event) { e.events <- ev }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() {
		stop()
		e.Wait()
		http.CloseClientConnections()
		http.Close()
	})
	e.Watch(ctx, database, databases)
	return e
}

func (e *eyes) judge(u *unstructured.Unstructured) health.State {
	phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
	e.mu.Lock()
	defer e.mu.Unlock()
	if phase == e.well {
		return health.State{Health: fleet.Healthy}
	}
	return health.State{Health: fleet.Progressing, Message: "is " + phase}
}

func (e *eyes) wellIn(phase string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.well = phase
}

// until waits for an object to be seen as described.
func (e *eyes) until(name string, ok func(watch.Sight) bool) watch.Sight {
	e.t.Helper()
	ref := database
	ref.Name = name
	limit := time.After(10 * time.Second)
	for {
		if s, seen := e.See(ref); seen && ok(s) {
			return s
		}
		select {
		case <-e.events:
		case <-limit:
			s, seen := e.See(ref)
			e.t.Fatalf("%s: %v %+v", name, seen, s)
		}
	}
}

func is(h fleet.Health) func(watch.Sight) bool {
	return func(s watch.Sight) bool { return s.Health == h }
}

func TestAnAppsObjectsOfAKindAreJudgedAnew(t *testing.T) {
	e := open(t)
	if err := e.Synced(t.Context(), database); err != nil {
		t.Fatal(err)
	}
	e.until("e", is(fleet.Healthy))
	e.wellIn("Running")
	if err := e.LookAgain(t.Context(), database, fleet.AppName{Namespace: "capstan-system", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		if s := e.until(name, is(fleet.Progressing)); s.Message != "is Ready" || time.Since(s.Since) > time.Minute {
			t.Errorf("%s: %+v", name, s)
		}
	}
	ref := database
	ref.Name = "of-another"
	if s, _ := e.See(ref); s.Health != fleet.Healthy {
		t.Errorf("another app's object was judged too: %+v", s)
	}
	e.server.mu.Lock()
	defer e.server.mu.Unlock()
	if got := e.server.lists[len(e.server.lists)-3:]; strings.Join(got, "") != strings.Repeat("capstan.dev/app-namespace=capstan-system,capstan.dev/app=web", 3) {
		t.Errorf("asked for %q", got)
	}
}

func TestWhatTheWatchToldMeanwhileIsNotOverwritten(t *testing.T) {
	e := open(t)
	e.until("a", is(fleet.Healthy))
	e.server.mu.Lock()
	e.server.onList = func() {
		e.server.mu.Lock()
		e.server.onList = nil
		e.server.mu.Unlock()
		e.server.put("a", "web", "Newer")
		e.until("a", func(s watch.Sight) bool { return s.Message == "is Newer" })
	}
	e.server.mu.Unlock()
	e.wellIn("Running")
	if err := e.LookAgain(t.Context(), database, fleet.AppName{Namespace: "capstan-system", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	if s := e.until("a", is(fleet.Progressing)); s.Message != "is Newer" {
		t.Errorf("%+v", s)
	}
}

func TestAKindThatCanNotBeListedIsAnError(t *testing.T) {
	e := open(t)
	e.until("a", is(fleet.Healthy))
	e.server.mu.Lock()
	e.server.refuse = true
	e.server.mu.Unlock()
	err := e.LookAgain(t.Context(), database, fleet.AppName{Namespace: "capstan-system", Name: "web"})
	if err == nil || !strings.Contains(err.Error(), "look at Database of capstan-system/web again") {
		t.Errorf("%v", err)
	}
	other := database
	other.Kind = "Other" // not watched: it is judged when it is
	if err := e.LookAgain(t.Context(), other, fleet.AppName{Namespace: "capstan-system", Name: "web"}); err != nil {
		t.Error(err)
	}
}

func TestSinceWhenAnObjectIsProgressingSurvivesMessagesAndNotChangesOfOurs(t *testing.T) {
	e := open(t)
	e.until("a", is(fleet.Healthy))
	e.server.put("a", "web", "Creating")
	first := e.until("a", func(s watch.Sight) bool { return s.Message == "is Creating" })
	if time.Since(first.Since) > time.Minute {
		t.Errorf("%+v", first)
	}
	e.server.put("a", "web", "Starting")
	if next := e.until("a", func(s watch.Sight) bool { return s.Message == "is Starting" }); !next.Since.Equal(first.Since) {
		t.Errorf("it began anew: %s, was %s", next.Since, first.Since)
	}
	e.server.put("a", "web", "Ready")
	if s := e.until("a", is(fleet.Healthy)); !s.Since.IsZero() {
		t.Errorf("%+v", s)
	}
}
