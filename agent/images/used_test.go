package images_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/capstan-gitops/capstan/agent/images"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestTheImagesThatAreUsed(t *testing.T) {
	object := func(group, kind, text string) unit.Object {
		return unit.Object{Ref: fleet.ObjectRef{Group: group, Version: "v1", Kind: kind, Name: "x"}, JSON: json.RawMessage(text)}
	}
	got := images.Used([]unit.Object{
		object("apps", "Deployment", `{"spec":{"template":{"spec":{"containers":[{"image":"nginx:1.25"},{"image":"redis:7"}],"initContainers":[{"image":"busybox"}]}}}}`),
		object("batch", "CronJob", `{"spec":{"jobTemplate":{"spec":{"template":{"spec":{"containers":[{"image":"nginx:1.25"}],"volumes":[{"image":{"reference":"ghcr.io/a/b@sha256:00"}}]}}}}}}`),
		object("", "Pod", `{"spec":{"containers":[{"image":"two words"},{"image":7},{"image":""},{"image":"token\n"}]}}`),
		object("", "ConfigMap", `{"spec":{"containers":[{"image":"no-pod"}]}}`),
		object("example.com", "Deployment", `{"spec":{"template":{"spec":{"containers":[{"image":"of-another-group"}]}}}}`),
		object("apps", "StatefulSet", `{`),
	})
	if want := []string{"busybox", "ghcr.io/a/b@sha256:00", "nginx:1.25", "redis:7"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := images.Used(nil); got != nil {
		t.Errorf("of nothing: %q", got)
	}
}
