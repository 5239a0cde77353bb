package record_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/agent/record"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is as much of an API server as takes Events.
type server struct {
	mu       sync.Mutex
	requests int
	events   map[string]*corev1.Event // by name
	answer   int                      // 0: as it should
	appears  chan struct{}            // the App "late" does, when it is closed
	moved    chan struct{}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if !strings.Contains(r.URL.Path, "/events") {
		s.apps(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		select {
		case s.moved <- struct{}{}:
		default:
		}
	}()
	s.requests++
	if s.answer != 0 {
		w.WriteHeader(s.answer)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":%d}`, s.answer)
		return
	}
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	e := &corev1.Event{}
	if r.Method == http.MethodPatch {
		e = s.events[name]
	}
	_ = json.Unmarshal(body, e)
	s.events[e.Name] = e
	_ = json.NewEncoder(w).Encode(e)
}

// apps serves every App but "late", which a watch tells of when it appears.
func (s *server) apps(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	switch {
	case query.Get("watch") == "":
		items := []string{appObject("web"), appObject("end")}
		for i := range 1000 {
			items = append(items, appObject(fmt.Sprint("app-", i)), appObject(fmt.Sprint("mark-", i)))
		}
		fmt.Fprintf(w, `{"kind":"AppList","apiVersion":"capstan.dev/v1alpha1","metadata":{"resourceVersion":"1"},"items":[%s]}`, strings.Join(items, ","))
	case query.Get("sendInitialEvents") != "": // the list comes by itself
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
	default:
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-s.appears:
		}
		fmt.Fprintf(w, `{"type":"ADDED","object":%s}`, appObject("late"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

func appObject(name string) string {
	return fmt.Sprintf(`{"kind":"App","apiVersion":"capstan.dev/v1alpha1","metadata":{"namespace":"shop","name":%q,"uid":"uid of %s","resourceVersion":"2"}}`, name, name)
}

// recorder records to a server.
type recorder struct {
	*record.Recorder
	*server
	t    *testing.T
	log  *lines
	stop func()
}

// lines counts those of a log.
type lines struct {
	mu sync.Mutex
	n  int
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	return len(b), nil
}

func start(t *testing.T) *recorder {
	t.Helper()
	s := &server{events: map[string]*corev1.Event{}, moved: make(chan struct{}, 1), appears: make(chan struct{})}
	api := httptest.NewServer(s)
	log := &lines{}
	r, err := record.New(&rest.Config{Host: api.URL, QPS: -1}, "confirm", func(fleet.AppName) {}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	out := &recorder{Recorder: r, server: s, t: t, log: log}
	out.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		api.CloseClientConnections()
		api.Close()
	})
	t.Cleanup(out.stop)
	return out
}

// until waits for the server to have heard what is described.
func (r *recorder) until(what string, ok func() bool) {
	r.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		r.mu.Lock()
		done := ok()
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case <-r.moved:
		case <-limit:
			r.t.Fatalf("not %s: %d requests, %d Events", what, r.requests, len(r.events))
		}
	}
}

// about are the Events of one App, oldest first.
func (r *recorder) about(name string) []*corev1.Event {
	var out []*corev1.Event
	for _, e := range r.events {
		if e.InvolvedObject.Name == name {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b *corev1.Event) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func app(name string) fleet.AppName { return fleet.AppName{Namespace: "shop", Name: name} }

func TestAnEventIsWrittenOnItsApp(t *testing.T) {
	r := start(t)
	r.Event(app("web"), true, "ApplyFailed", "no quota")
	r.until("written", func() bool { return len(r.about("web")) == 1 })
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.about("web")[0]
	if e.Namespace != "shop" || e.InvolvedObject.Kind != "App" || e.Type != "Warning" || e.Reason != "ApplyFailed" || e.Message != "no quota" || e.Source.Component != "capstan-agent" {
		t.Errorf("%+v", e)
	}
}

// People, and kubectl describe, look for an object's Events by its uid.
func TestAnEventWaitsForItsAppObject(t *testing.T) {
	r := start(t)
	r.Event(app("late"), false, "Applied", "what it brings")
	r.Event(app("web"), false, "Applied", "what it brings")
	r.until("that another has written", func() bool { return len(r.about("web")) == 1 })
	r.mu.Lock()
	if n := len(r.about("late")); n != 0 {
		t.Errorf("%d Events of an App that is not there", n)
	}
	r.mu.Unlock()
	close(r.appears)
	r.until("written", func() bool { return len(r.about("late")) == 1 })
	r.mu.Lock()
	defer r.mu.Unlock()
	if uid := r.about("late")[0].InvolvedObject.UID; uid != "uid of late" {
		t.Errorf("it is about the uid %q", uid)
	}
}

func TestAThousandFailuresAreAHandfulOfEvents(t *testing.T) {
	r := start(t)
	for i := range 1000 {
		r.Event(app("web"), true, "ApplyFailed", fmt.Sprintf("at %d: no quota", i))
		if i%10 == 0 { // now and then what waits is written before the next comes
			before := i
			r.Event(app(fmt.Sprint("mark-", before%20)), false, "Mark", "")
			r.until("at the mark", func() bool { return r.requests > 0 })
		}
	}
	r.Event(app("end"), false, "End", "")
	r.until("at the end", func() bool { return len(r.about("end")) == 1 })
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.about("web")
	var writes int32
	for _, e := range got {
		writes += e.Count
	}
	if len(got) == 0 || len(got) > 6 || writes > 16 {
		t.Errorf("%d Events, written %d times", len(got), writes)
	}
}

func TestWhatHappensAtOnceIsAllWritten(t *testing.T) {
	r := start(t)
	for _, message := range []string{"put back a", "put back b", "put back c", "put back d"} {
		r.Event(app("web"), false, "Healed", message)
	}
	r.until("written", func() bool { return len(r.about("web")) == 4 })
}

func TestTheSameAgainIsCounted(t *testing.T) {
	r := start(t)
	for n := int32(1); n <= 4; n++ {
		r.Event(app("web"), false, "Healed", "put back /data/a")
		r.until("counted", func() bool { all := r.about("web"); return len(all) == 1 && all[0].Count == n })
	}
}

func TestAStormOfAThousandAppsIsBounded(t *testing.T) {
	r := start(t)
	began := time.Now()
	for range 20 {
		for i := range 1000 {
			r.Event(app(fmt.Sprint("app-", i)), true, "SourceFailed", "no route to host")
		}
	}
	r.until("at work", func() bool { return r.requests >= 60 })
	r.mu.Lock()
	requests, most := r.requests, 50+int(10*time.Since(began).Seconds())+1
	r.mu.Unlock()
	if requests > most {
		t.Errorf("%d requests, where %d may be", requests, most)
	}
	r.stop()
	if r.log.n > 2 {
		t.Errorf("%d lines in the log", r.log.n)
	}
}

func TestRefusedEventsDoNotFloodTheLog(t *testing.T) {
	r := start(t)
	r.mu.Lock()
	r.answer = http.StatusForbidden
	r.mu.Unlock()
	for i := range 40 {
		r.Event(app(fmt.Sprint("app-", i)), true, "ApplyFailed", "no quota")
	}
	r.until("refused", func() bool { return r.requests == 40 })
	r.stop()
	if r.log.n != 1 {
		t.Errorf("%d lines in the log", r.log.n)
	}
}
