package render_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/agent/render"
	"github.com/capstan-gitops/capstan/agent/render/worker"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// The test's own program is the worker's too.
const workerArg = "render-worker"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == workerArg {
		if err := worker.Main(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 2 && os.Args[1] == orphanArg {
		leaveWorker()
	}
	goleak.VerifyTestMain(m)
}

func withWorker(cfg render.Config) render.Config {
	if cfg.MemoryLimit == 0 {
		cfg.MemoryLimit = enoughMemory
	}
	if len(cfg.Worker) == 0 {
		self, err := os.Executable()
		if err != nil {
			panic(err)
		}
		cfg.Worker = []string{self, workerArg}
	}
	return cfg
}

func newRenderer(t testing.TB, cfg render.Config) *render.Renderer {
	t.Helper()
	r, err := render.New(withWorker(cfg))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

var guestbook = files{
	"apps/guestbook/base/kustomization.yaml": "resources:\n- deployment.yaml\n- service.yaml\n",
	"apps/guestbook/base/deployment.yaml": `apiVersion: apps/v1
kind: Deployment
metadata:
  name: guestbook-ui
spec:
  replicas: 1
  selector:
    matchLabels: {app: guestbook-ui}
  template:
    metadata:
      labels: {app: guestbook-ui}
    spec:
      containers:
      - name: ui
        image: registry.example/guestbook:v5
`,
	"apps/guestbook/base/service.yaml": `apiVersion: v1
kind: Service
metadata:
  name: guestbook-ui
spec:
  ports: [{port: 80}]
  selector: {app: guestbook-ui}
`,
	"apps/guestbook/overlays/dev/kustomization.yaml":  "namespace: guestbook\nresources: [../../base]\n",
	"apps/guestbook/overlays/prod/kustomization.yaml": "namespace: guestbook\nresources: [../../base]\nreplicas: [{name: guestbook-ui, count: 3}]\n",
}

const devOverlay = "apps/guestbook/overlays/dev"

func ask(repo files, path string) unit.RenderRequest {
	return unit.RenderRequest{Snapshot: snapshot(repo), Path: path, Facts: unit.Facts{Cluster: "dev-1", Labels: map[string]string{"env": "dev"}}}
}

// refused renders what must fail through the repository's own fault.
func refused(t testing.TB, r *render.Renderer, q unit.RenderRequest) *unit.RenderError {
	t.Helper()
	got, err := r.Render(t.Context(), q)
	var bad *unit.RenderError
	if !errors.As(err, &bad) {
		t.Fatalf("got %d objects and error %v, want a RenderError", len(got.Objects), err)
	}
	if strings.Contains(bad.Message, ".capstan-repository") {
		t.Errorf("message shows where the repository is mounted: %s", bad.Message)
	}
	return bad
}

func TestAnOverlayBecomesCanonicalObjectsInKustomizesOrder(t *testing.T) {
	r := newRenderer(t, render.Config{})
	got, err := r.Render(t.Context(), ask(guestbook, `apps/guestbook/overlays/{{ label "env" }}`))
	if err != nil {
		t.Fatal(err)
	}
	if got.Path != devOverlay {
		t.Errorf("path %q, want %q", got.Path, devOverlay)
	}
	var refs []string
	for _, o := range got.Objects {
		refs = append(refs, o.Ref.String())
	}
	if s := strings.Join(refs, ", "); s != "Service guestbook/guestbook-ui, Deployment.apps guestbook/guestbook-ui" {
		t.Errorf("objects: %s", s)
	}
	want := `{"apiVersion":"v1","kind":"Service","metadata":{"name":"guestbook-ui","namespace":"guestbook"},"spec":{"ports":[{"port":80}],"selector":{"app":"guestbook-ui"}}}`
	if len(got.Objects) != 2 || string(got.Objects[0].JSON) != want {
		t.Errorf("service:\n%s\nwant\n%s", got.Objects, want)
	}
	if got.Reads.Labels["env"] != "dev" || got.Reads.Cluster != "" || got.Reads.Renderer != r.Version() {
		t.Errorf("reads: %+v", got.Reads)
	}
}

func TestABrokenFileIsNamedWithItsLine(t *testing.T) {
	r := newRenderer(t, render.Config{})
	const file = "apps/guestbook/base/deployment.yaml"
	bad := refused(t, r, ask(guestbook.With(files{file: guestbook[file] + "not: [valid\n"}), devOverlay))
	if !strings.Contains(bad.Message, file) || bad.File != file || bad.Line == 0 || bad.Hint == "" {
		t.Errorf("%+v", bad)
	}
	t.Log(bad.Message)
	if _, err := r.Render(t.Context(), ask(guestbook, devOverlay)); err != nil {
		t.Errorf("the mended repository: %v", err)
	}
}

func TestRenderEndsWithItsContext(t *testing.T) {
	r := newRenderer(t, render.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := r.Render(ctx, ask(guestbook, devOverlay)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
