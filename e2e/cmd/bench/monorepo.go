package main

import (
	"fmt"
	"maps"
	"strings"
)

// namespace is where all the generated objects live.
const namespace = "bench"

// kindsPerApp: Deployment (without replicas), Service, ConfigMap, ServiceAccount.
const kindsPerApp = 4

func appName(i int) string { return fmt.Sprintf("app-%04d", i) }

// emptyRoot is a fleet with a namespace and no apps.
func emptyRoot() map[string]string {
	return map[string]string{
		"clusters/fleet/kustomization.yaml": "resources: [namespace.yaml]\n",
		"clusters/fleet/namespace.yaml":     "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + namespace + "}\n",
	}
}

// monorepo is a fleet of n apps, each a base and an overlay.
func monorepo(n int) map[string]string {
	files := emptyRoot()
	root := []string{"namespace.yaml"}
	for i := range n {
		name := appName(i)
		root = append(root, name+".yaml")
		files["clusters/fleet/"+name+".yaml"] = appObject(name)
		base := "apps/" + name + "/base/"
		files[base+"kustomization.yaml"] = "resources: [deployment.yaml, service.yaml, configmap.yaml, serviceaccount.yaml]\n"
		for kind, text := range baseObjects(name) {
			files[base+kind+".yaml"] = text
		}
		maps.Copy(files, overlay(name, "1", firstRelease))
	}
	files["clusters/fleet/kustomization.yaml"] = "resources:\n- " + strings.Join(root, "\n- ") + "\n"
	return files
}

func appObject(name string) string {
	return fmt.Sprintf(`apiVersion: capstan.dev/v1alpha1
kind: App
metadata: {name: %s, namespace: capstan-system}
spec:
  source: {path: apps/%[1]s/overlays/bench}
`, name)
}

// The label release of every object of an app, before and after the commit that
// changes all of them.
const (
	firstRelease = "1"
	nextRelease  = "2"
)

// overlay sets the value that a one-app commit changes.
func overlay(name, value, release string) map[string]string {
	return map[string]string{"apps/" + name + "/overlays/bench/kustomization.yaml": fmt.Sprintf(`namespace: %s
resources: [../../base]
labels: [{pairs: {env: bench, release: "%s"}}]
patches:
- target: {kind: ConfigMap}
  patch: '[{"op": "add", "path": "/data/value", "value": "%s"}]'
`, namespace, release, value)}
}

// released is every app's overlay with the next release.
func released(n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		maps.Copy(files, overlay(appName(i), "1", nextRelease))
	}
	return files
}

func baseObjects(name string) map[string]string {
	return map[string]string{
		"deployment": fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %s}
spec:
  replicas: 0
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      serviceAccountName: %[1]s
      containers:
      - name: main
        image: registry.example.com/%[1]s:1.0
        ports: [{containerPort: 8080}]
        envFrom: [{configMapRef: {name: %[1]s}}]
        resources: {requests: {cpu: 10m, memory: 16Mi}}
`, name),
		"service": fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: %s}
spec:
  selector: {app: %[1]s}
  ports: [{port: 80, targetPort: 8080}]
`, name),
		"configmap": fmt.Sprintf(`apiVersion: v1
kind: ConfigMap
metadata: {name: %s}
data: {value: "0", greeting: hello from %[1]s}
`, name),
		"serviceaccount": fmt.Sprintf("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s}\n", name),
	}
}
