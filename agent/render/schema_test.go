package render_test

import (
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/render"
)

// ownSchema is an app whose schema knows Deployments, but not that containers
// are merged by name.
var ownSchema = files{
	"own/kustomization.yaml": "openapi: {path: schema.json}\nresources: [cm.yaml]\npatches:\n- patch: '{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {replicas: 2}}'\n",
	"own/cm.yaml":            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {replicas: 1}\n",
	"own/schema.json": `{"definitions":{"io.k8s.api.apps.v1.Deployment":{"type":"object","properties":{"spec":{"type":"object","properties":
		{"template":{"type":"object","properties":{"spec":{"type":"object","properties":{"containers":{"type":"array","items":{"type":"object"}}}}}}}}},
		"x-kubernetes-group-version-kind":[{"group":"apps","kind":"Deployment","version":"v1"}]}}}`,
}

func TestOneAppsSchemaDoesNotMergeTheNextApp(t *testing.T) {
	sidecar := files{"next/kustomization.yaml": `resources: [../apps/guestbook/base]
patches:
- patch: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: guestbook-ui}
    spec: {template: {spec: {containers: [{name: sidecar, image: registry.example/sidecar:v1}]}}}
`}
	repo := guestbook.With(ownSchema).With(sidecar)
	for _, first := range []string{"", "own"} {
		r := newRenderer(t, render.Config{IdleAfter: time.Minute})
		if first != "" {
			if _, err := r.Render(t.Context(), ask(repo, first)); err != nil {
				t.Fatal(err)
			}
		}
		got, err := r.Render(t.Context(), ask(repo, "next"))
		if err != nil {
			t.Fatal(err)
		}
		all := string(got.Objects[len(got.Objects)-1].JSON)
		if !strings.Contains(all, "guestbook:v5") || !strings.Contains(all, "sidecar:v1") {
			t.Errorf("after %q a container is lost: %s", first, all)
		}
	}
}
