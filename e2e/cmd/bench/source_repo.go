package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
)

// The overlays of an app that no cluster here uses.
var otherOverlays = []string{"dev", "staging", "prod-ap", "prod-eu", "prod-us"}

// wideRepo is a monorepo of n apps with 20 files each: a base, an overlay that is
// used here, five overlays for others, texts, and the App itself. Two roots bring
// the first few of them, and all.
func wideRepo(n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		name := appName(i)
		dir := "apps/" + name + "/"
		files[dir+"base/kustomization.yaml"] = "resources: [deployment.yaml, service.yaml, configmap.yaml, serviceaccount.yaml]\n"
		for kind, text := range baseObjects(name) {
			files[dir+"base/"+kind+".yaml"] = text
		}
		maps.Copy(files, overlay(name, "1", firstRelease))
		for j, other := range otherOverlays {
			files[dir+"overlays/"+other+"/kustomization.yaml"] = fmt.Sprintf("namespace: %s\nresources: [../../base]\npatches: [{path: patch.yaml}]\n", other)
			files[dir+"overlays/"+other+"/patch.yaml"] = fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %s}\nspec: {replicas: %d}\n", name, j+2)
		}
		files[dir+"README.md"] = "# " + name + "\n\n" + prose(uint64(i), 200)
		files[dir+"docs/dashboard.json"] = dashboard(uint64(i))
		files[dir+"docs/runbook.md"] = "# When " + name + " fails\n\n" + prose(uint64(i)+1<<32, 300)
	}
	maps.Copy(files, wideRoot("few", fewApps))
	maps.Copy(files, wideRoot("all", n))
	return files
}

func wideRoot(name string, n int) map[string]string {
	dir := "clusters/" + name + "/"
	files := map[string]string{dir + "namespace.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + namespace + "}\n"}
	names := []string{"namespace.yaml"}
	for i := range n {
		file := appName(i) + ".yaml"
		names = append(names, file)
		files[dir+file] = appObject(appName(i))
	}
	files[dir+"kustomization.yaml"] = "resources:\n- " + strings.Join(names, "\n- ") + "\n"
	return files
}

// prose is text that compresses as text does, the same for the same seed.
func prose(seed uint64, words int) string {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // no secret: the same text in every run
	var b strings.Builder
	for i := range words {
		for range 2 + r.IntN(8) {
			b.WriteByte("etaoinshrdlucmfwypvbgk"[r.IntN(22)])
		}
		if i%12 == 11 {
			b.WriteString(".\n")
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

func dashboard(seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // likewise
	var b strings.Builder
	b.WriteString("{\"panels\": [")
	for i := range 24 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "\n  {\"id\": %d, \"title\": %q, \"uid\": \"%016x\", \"y\": %d}", i, strings.TrimSpace(prose(seed+uint64(i), 3)), r.Uint64(), r.IntN(99))
	}
	b.WriteString("\n]}\n")
	return b.String()
}
