package reconcile_test

import (
	"cmp"
	"context"
	"crypto/sha1" //nolint:gosec // Git's own hash, for a tree that is made up
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signing"
)

// repository is a flat tree in memory that is its own renderer: a path is one
// file of YAML documents.
type repository struct {
	mu       sync.Mutex
	files    map[string]string
	err      error
	ref      string // "": main
	notice   string
	renders  []string
	lost     map[string]error           // why files of a path can't be had
	ended    map[string]error           // why renders of a path are ended
	expected []string                   // paths that will be rendered
	past     map[string]unit.Snapshot   // by commit
	chosen   map[string]*unit.Directory // by path, at the last render

	onRender  func(path string) // nil: nobody is told
	chartAway bool              // charts can't be fetched
	access    string            // the user that the last one was fetched as
}

func hashOf(s string) unit.Hash { return unit.Hash(sha1.Sum([]byte(s))) } //nolint:gosec // see above

type tree struct {
	files map[string]string
	of    *repository
}

var _ unit.Ahead = (*tree)(nil)

func (t *tree) Expect(paths []string) {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	t.of.expected = slices.Sorted(slices.Values(paths))
}

func (t *tree) Entries(context.Context, unit.Hash) ([]unit.TreeEntry, error) {
	var out []unit.TreeEntry
	for name, text := range t.files {
		out = append(out, unit.TreeEntry{Name: name, Mode: unit.ModeRegular, Hash: hashOf(text)})
	}
	return out, nil
}

func (t *tree) Blob(context.Context, unit.Hash, int64) ([]byte, error) {
	return nil, errors.New("nothing reads blobs here")
}

func (r *repository) Version() string { return "test" }

func (r *repository) Render(ctx context.Context, q unit.RenderRequest) (unit.Rendered, error) {
	r.mu.Lock()
	r.renders = append(r.renders, q.Path)
	if r.chosen == nil {
		r.chosen = map[string]*unit.Directory{}
	}
	r.chosen[q.Path] = q.Directory
	lost, ended, on := r.lost[q.Path], r.ended[q.Path], r.onRender
	r.mu.Unlock()
	if on != nil {
		on(q.Path)
	}
	if ended != nil {
		whole := map[string]unit.Read{"": {Kind: unit.ReadList, Mode: unit.ModeDir, Hash: q.Snapshot.Root}}
		return unit.Rendered{}, &unit.RenderError{Message: ended.Error(), Ended: true, Reads: unit.ReadSet{Paths: whole, Renderer: "test"}}
	}
	if lost != nil {
		return unit.Rendered{}, &unit.ReadError{Path: q.Path, Commit: q.Snapshot.Commit, Err: lost}
	}
	text, ok := q.Snapshot.Tree.(*tree).files[q.Path]
	read := unit.Read{Kind: unit.ReadFile, Mode: unit.ModeRegular, Hash: hashOf(text)}
	if !ok {
		read = unit.Read{Kind: unit.ReadMissing}
	}
	reads := unit.ReadSet{Paths: map[string]unit.Read{q.Path: read}, Renderer: "test", Values: q.Facts.Values}
	if q.Helm != nil && q.Helm.Chart != nil {
		r.mu.Lock()
		away := r.chartAway
		r.access = q.Access.Username
		r.mu.Unlock()
		if away {
			return unit.Rendered{}, &unit.ChartError{Message: q.Helm.Chart.Name + " " + q.Helm.Chart.Version + ": no answer"}
		}
	}
	if q.Helm != nil {
		reads.Kubernetes = q.Facts.Kubernetes
		text = helmText(q)
	}
	if !ok {
		return unit.Rendered{}, &unit.RenderError{File: q.Path, Message: q.Path + ": not there", Reads: reads}
	}
	text, hidden, err := unseal(ctx, text, q.Keys)
	if q.Keys != nil {
		reads.Keys = q.Keys.Version()
	}
	if away, ok := errors.AsType[*unit.KeysAway](err); ok {
		return unit.Rendered{}, away
	}
	if err != nil {
		return unit.Rendered{}, &unit.RenderError{File: q.Path, Message: q.Path + ": " + err.Error(), Hint: fleet.Hint(err), Reads: reads}
	}
	out := unit.Rendered{Path: q.Path, Reads: reads}
	for doc := range strings.SplitSeq(text, "\n---\n") {
		var u unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
			return unit.Rendered{}, &unit.RenderError{File: q.Path, Message: q.Path + ": " + err.Error(), Reads: reads}
		}
		if len(u.Object) == 0 {
			continue
		}
		b, err := fleet.Canonical(u.Object)
		if err != nil {
			return unit.Rendered{}, err
		}
		gvk := u.GroupVersionKind()
		out.Objects = append(out.Objects, unit.Object{JSON: b, Ref: fleet.ObjectRef{
			Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: u.GetNamespace(), Name: u.GetName(),
		}, Masked: hidden})
	}
	return out, nil
}

// memory keeps everything as JSON, as the real one does.
type memory struct {
	mu   sync.Mutex
	apps map[fleet.AppName][]byte
	docs map[string][]byte
	err  error
	busy int    // so many deletes fail
	ends int    // the write of an app that fails as if another agent were at work
	of   string // that app; "": web
	lost bool

	writes int
	saved  func(state.App) // nil: nobody is told
}

func (m *memory) LoadApps(context.Context) ([]state.App, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []state.App
	for _, b := range m.apps {
		var a state.App
		if err := json.Unmarshal(b, &a); err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func (m *memory) SaveApp(_ context.Context, a state.App) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := json.Marshal(a)
	if m.err != nil {
		return m.err
	}
	m.writes++
	of := app(cmp.Or(m.of, "web"))
	ends := m.ends == 1 && a.Name == of
	if a.Name == of {
		m.ends = max(m.ends-1, 0)
	}
	if ends { // and so do all that follow: the other one has written
		m.err = fleet.Conflict("another agent is at work")
	}
	if !ends || m.lost {
		m.apps[a.Name] = b
	}
	if m.saved != nil {
		m.saved(a)
	}
	return errors.Join(err, m.err)
}

func (m *memory) DeleteApp(_ context.Context, n fleet.AppName) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if m.busy > 0 {
		m.busy--
		return errors.New("the API server is busy")
	}
	delete(m.apps, n)
	return nil
}

func (m *memory) Load(_ context.Context, name string, v any) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.docs[name]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(b, v)
}

func (m *memory) Save(_ context.Context, name string, v any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := json.Marshal(v)
	m.writes++
	m.docs[name] = b
	return err
}

// told is where the engine's reports and records go.
type told struct {
	mu        sync.Mutex
	moved     chan struct{}
	apps      map[fleet.AppName]fleet.AppStatus
	objects   map[fleet.AppName]v1alpha1.AppStatus
	confirmed map[fleet.AppName]string
	absent    map[fleet.AppName]bool // Apps that have no object
	misses    map[fleet.AppName]int
	events    []string // "app reason: message"
}

func (t *told) note(f func()) {
	t.mu.Lock()
	f()
	t.mu.Unlock()
	select {
	case t.moved <- struct{}{}:
	default:
	}
}

func (t *told) Changed(s fleet.AppStatus) { t.note(func() { t.apps[s.Name()] = s }) }
func (t *told) Gone(a fleet.AppName)      { t.note(func() { delete(t.apps, a) }) }
func (t *told) SignPlan(p fleet.Plan) (fleet.SignedPlan, error) {
	return signing.SignPlan(func(b []byte) ([]byte, error) { return b, nil }, "the agent's key", p)
}

func (t *told) Status(_ context.Context, app fleet.AppName, s v1alpha1.AppStatus) error {
	var err error
	t.note(func() {
		if t.absent[app] {
			t.misses[app]++
			err = fleet.NotFound("there is no App %s", app)
			return
		}
		t.objects[app] = s
	})
	return err
}
func (t *told) Root(context.Context, fleet.AppName, string) error { return nil }
func (t *told) Event(app fleet.AppName, _ bool, reason, message string) {
	t.note(func() { t.events = append(t.events, app.Name+" "+reason+": "+message) })
}

func (t *told) Confirmed(app fleet.AppName) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.confirmed[app]
}

// spoke is an engine among fakes.
type spoke struct {
	t       *testing.T
	repo    *repository // the agent's own
	sources *sources
	cluster *cluster
	others  map[string]*repository // by URL
	memory  *memory
	// patience is added to how long a status is waited for.
	patience time.Duration
	store    func() reconcile.Memory // instead of memory, opened anew at each start; nil: none
	told     *told
	keys     reconcile.Keys
	engine   *reconcile.Engine
	cfg      reconcile.Config
	now      time.Time
	began    time.Time
	stop     func() error
	ask      func()                 // the engine to end
	ended    func() error           // waits until the engine ends by itself
	parts    func(*reconcile.Parts) // changes what the next engine works with; nil: nothing
}

func newSpoke(t *testing.T, files map[string]string, adapt func(*reconcile.Config), rings ...reconcile.Keys) *spoke {
	t.Helper()
	s := &spoke{
		t: t, repo: &repository{files: files}, others: map[string]*repository{}, now: time.Now(), began: time.Now(),
		cluster: &cluster{objects: map[fleet.ObjectRef]live{}, away: map[string]bool{}, watched: map[string]bool{}, unwell: map[string]bool{}, since: map[string]time.Time{}, sentAt: map[string][]time.Time{}, held: map[string]bool{}, failed: map[string]bool{}, blind: map[string]bool{}, acted: map[string]string{}, powerless: map[string]string{}},
		memory:  &memory{apps: map[fleet.AppName][]byte{}, docs: map[string][]byte{}},
		cfg: reconcile.Config{
			Cluster: "edge", UID: "uid-of-edge", Namespace: "capstan-system", RootPath: "root",
			Guard: inventory.DefaultGuard, MaskKey: []byte("key"), Workers: 4,
		},
	}
	if adapt != nil {
		adapt(&s.cfg)
	}
	if len(rings) > 0 {
		s.keys = rings[0]
	}
	s.start()
	t.Cleanup(func() {
		if err := s.stop(); err != nil && !errors.Is(err, fleet.ErrConflict) {
			t.Errorf("the engine ended with %v", err)
		}
	})
	return s
}

// start starts the engine, anew after a stop.
func (s *spoke) start() {
	s.t.Helper()
	s.told = &told{
		moved: make(chan struct{}, 1), apps: map[fleet.AppName]fleet.AppStatus{},
		objects: map[fleet.AppName]v1alpha1.AppStatus{}, confirmed: map[fleet.AppName]string{},
		absent: map[fleet.AppName]bool{app("absent"): true}, misses: map[fleet.AppName]int{},
	}
	s.sources = newSources(s.repo, s.others)
	var keeps reconcile.Memory = s.memory
	if s.store != nil {
		keeps = s.store()
	}
	parts := reconcile.Parts{
		Sources: s.sources, Renderer: s.repo, Keys: s.keys, Cluster: s.cluster, Eyes: s.cluster, Memory: keeps,
		Record: s.told, Reports: s.told, Now: s.clock,
	}
	if s.parts != nil {
		s.parts(&parts)
	}
	s.engine = reconcile.New(s.cfg, parts, slog.New(slog.DiscardHandler))
	s.cluster.seen = s.engine.Seen
	ctx, cancel := context.WithCancelCause(s.t.Context())
	if err := s.engine.Load(ctx); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.engine.Run(ctx) }()
	s.ended = sync.OnceValue(func() error { return <-done })
	s.stop = func() error { cancel(nil); return s.ended() }
	s.ask = func() { cancel(reconcile.ErrAsked) }
}

// clock goes on from s.now, as time does.
func (s *spoke) clock() time.Time { return s.now.Add(time.Since(s.began)) }

// push changes files of the repository; an empty text removes one.
func (s *spoke) push(files map[string]string) {
	s.repo.mu.Lock()
	for name, text := range files {
		s.repo.files[name] = text
		if text == "" {
			delete(s.repo.files, name)
		}
	}
	s.repo.mu.Unlock()
	s.engine.GitPushed(fleet.Push{})
}

func app(name string) fleet.AppName { return fleet.AppName{Namespace: "capstan-system", Name: name} }

// until waits for an app's status to be as described.
func (s *spoke) until(name, what string, ok func(fleet.AppStatus) bool) fleet.AppStatus {
	s.t.Helper()
	limit := time.After(10*time.Second + s.patience)
	for {
		s.told.mu.Lock()
		status := s.told.apps[app(name)]
		s.told.mu.Unlock()
		if ok(status) {
			return status
		}
		select {
		case <-s.told.moved:
		case <-limit:
			s.t.Fatalf("%s: not %s: %+v", name, what, status)
		}
	}
}

func (s *spoke) synced(name string) fleet.AppStatus {
	s.t.Helper()
	return s.until(name, "synced", func(a fleet.AppStatus) bool { return a.Sync == fleet.Synced && a.Digest != "" })
}

func (s *spoke) because(name, reason string) fleet.AppStatus {
	s.t.Helper()
	return s.until(name, reason, func(a fleet.AppStatus) bool { return a.Reason == reason })
}

func (s *spoke) gone(name string) {
	s.t.Helper()
	s.until(name, "gone", func(a fleet.AppStatus) bool { return a.App == "" })
}
