package agent_test

import (
	"fmt"
	"strings"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// Every place in which kustomize takes a path and would take an address.
var remoteAttacks = []attack{
	{name: "an address in resources", files: evil("resources:\n- http://user:hunter2@CANARY/x.yaml\n"), says: []string{"evil/kustomization.yaml:2", "remote"}, hides: "hunter2"},
	{name: "a git address in resources", files: evil("resources: ['git::http://CANARY/x']\n"), says: []string{"remote"}},
	{name: "a repository in resources", files: evil("resources: ['http://CANARY/x.git//deploy?ref=main']\n"), says: []string{"remote"}},
	{name: "an scp address in resources", files: evil("resources: ['git@CANARY:x/y.git']\n"), says: []string{"remote"}},
	{name: "a GitHub short form", files: evil("resources: ['github.com/o/r?ref=main']\n"), says: []string{"remote"}},
	{name: "a host that only kustomize knows", files: evil("resources: ['ssh.evil.example//x/y']\n"), says: []string{"evil/kustomization.yaml"}},
	{name: "an address in bases", files: evil("bases: ['http://CANARY/x']\n"), says: []string{"remote"}},
	{name: "an address in components", files: evil("components: ['http://CANARY/x']\n"), says: []string{"remote"}},
	{name: "an address in generators", files: evil("generators: ['http://CANARY/x']\n"), says: []string{"remote"}},
	{name: "an address in transformers", files: evil("resources: [a.yaml]\ntransformers: ['http://CANARY/x']\n", "a.yaml", oneMap), says: []string{"remote"}},
	{name: "an address in validators", files: evil("resources: [a.yaml]\nvalidators: ['http://CANARY/x']\n", "a.yaml", oneMap), says: []string{"remote"}},
	{name: "an address in a generator's files", files: evil("configMapGenerator: [{name: x, files: ['http://CANARY/latest/meta-data']}]\n"), says: []string{"remote"}},
	{name: "an address after a key", files: evil("secretGenerator: [{name: x, files: ['k=http://CANARY/latest']}]\n"), says: []string{"remote"}},
	{name: "an address in envs", files: evil("configMapGenerator: [{name: x, envs: ['http://CANARY/env']}]\n"), says: []string{"remote"}},
	{name: "an address in env", files: evil("configMapGenerator: [{name: x, env: 'http://CANARY/env'}]\n"), says: []string{"remote"}},
	{name: "an address in a patch's path", files: evil("resources: [a.yaml]\npatches: [{path: 'http://CANARY/p'}]\n", "a.yaml", oneMap), says: []string{"remote"}},
	{name: "an address in patchesStrategicMerge", files: evil("resources: [a.yaml]\npatchesStrategicMerge: ['http://CANARY/p']\n", "a.yaml", oneMap), says: []string{"remote"}},
	{name: "an address in patchesJson6902", files: evil("resources: [a.yaml]\npatchesJson6902: [{path: 'http://CANARY/p', target: {version: v1, kind: ConfigMap, name: one}}]\n", "a.yaml", oneMap), says: []string{"remote"}},
	{name: "an address in replacements", files: evil("resources: [a.yaml]\nreplacements: [{path: 'http://CANARY/p'}]\n", "a.yaml", oneMap), says: []string{"remote"}},
	{name: "an address in configurations", files: evil("resources: [a.yaml]\nconfigurations: ['http://CANARY/p']\n", "a.yaml", oneMap), says: []string{"remote"}},
	{name: "an address in crds", files: evil("resources: [a.yaml]\ncrds: ['http://CANARY/p']\n", "a.yaml", oneMap), says: []string{"remote"}},
	{name: "an address in openapi", files: evil("openapi: {path: 'http://CANARY/p'}\nresources: [a.yaml]\n", "a.yaml", oneMap), says: []string{"remote"}},
	{name: "an address in an inline transformer", files: evil("resources: [a.yaml]\ntransformers:\n- |-\n  apiVersion: builtin\n  kind: PatchTransformer\n  metadata: {name: p}\n  path: http://CANARY/p\n", "a.yaml", oneMap), says: []string{"remote"}},
	{name: "an address in a transformer's file", files: evil("resources: [a.yaml]\ntransformers: [t.yaml]\n", "a.yaml", oneMap, "t.yaml", "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: p}\npath: http://CANARY/p\n"), says: []string{"remote"}},
	{name: "an address in a component's generator", files: evil("components: [c]\n", "c/kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nconfigMapGenerator: [{name: x, files: ['http://CANARY/x']}]\n"), says: []string{"evil/c/kustomization.yaml", "remote"}},
	{name: "an address behind a link", files: evil("resources: [c]\n", "c", linkTo+"d", "d/kustomization.yaml", "resources: ['http://CANARY/x']\n"), says: []string{"remote"}},
}

// What would run a program.
var programAttacks = []attack{
	{name: "a plugin", files: evil("generators:\n- |-\n  apiVersion: evil.example/v1\n  kind: Run\n  metadata: {name: x}\n"), says: []string{"evil/kustomization.yaml", "refused"}},
	{name: "an exec function", files: evil("generators:\n- |-\n  apiVersion: evil.example/v1\n  kind: Run\n  metadata:\n    name: x\n    annotations:\n      config.kubernetes.io/function: |\n        exec: {path: /bin/sh}\n"), says: []string{"refused"}},
	{name: "a container function", files: evil("generators:\n- |-\n  apiVersion: evil.example/v1\n  kind: Run\n  metadata:\n    name: x\n    annotations:\n      config.kubernetes.io/function: |\n        container: {image: evil}\n"), says: []string{"refused"}},
	{name: "a starlark function", files: evil("resources: [a.yaml]\ntransformers:\n- |-\n  apiVersion: evil.example/v1\n  kind: Run\n  metadata:\n    name: x\n    annotations:\n      config.kubernetes.io/function: |\n        starlark: {path: x.star}\n", "a.yaml", oneMap, "x.star", "x"), says: []string{"refused"}},
	{name: "an exec transformer in a file", files: evil("resources: [a.yaml]\ntransformers: [t.yaml]\n", "a.yaml", oneMap, "t.yaml", "apiVersion: evil.example/v1\nkind: Run\nmetadata:\n  name: x\n  annotations:\n    config.kubernetes.io/function: |\n      exec: {path: ./x.sh}\n", "x.sh", "#!/bin/sh\n"), says: []string{"refused"}},
}

// bomb is YAML whose aliases stand for width^depth nodes.
func bomb(depth, width int) string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\nl0: &l0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := range depth {
		fmt.Fprintf(&b, "l%d: &l%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*l%d,", i), width), ","))
	}
	return b.String()
}

// mergeBomb is the same through merge keys.
func mergeBomb(depth int) string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\nl0: &l0 {a: x}\n")
	for i := range depth {
		fmt.Fprintf(&b, "l%d: &l%d {a: *l%d, b: *l%d, <<: [*l%d, *l%d]}\n", i+1, i+1, i, i, i, i)
	}
	return b.String()
}

// copies is a JSON patch that doubles what it patches again and again.
func copies(times int) string {
	var b strings.Builder
	b.WriteString("- {op: add, path: /data, value: {a: {b: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx}}}\n")
	for i := range times {
		fmt.Fprintf(&b, "- {op: copy, from: /data, path: /data/c%d}\n", i)
	}
	return b.String()
}

// diamond is bases of which each includes the one below twice.
func diamond(levels int) tree {
	files := tree{"evil/n0/kustomization.yaml": "configMapGenerator: [{name: x, literals: [a=b]}]\n"}
	for i := range levels {
		for _, side := range []string{"l", "r"} {
			files[fmt.Sprintf("evil/%s%d/kustomization.yaml", side, i)] = fmt.Sprintf("namePrefix: %s-\nresources: [../n%d]\n", side, i)
		}
		files[fmt.Sprintf("evil/n%d/kustomization.yaml", i+1)] = fmt.Sprintf("resources: [../l%d, ../r%d]\n", i, i)
	}
	files["evil/kustomization.yaml"] = fmt.Sprintf("resources: [n%d]\n", levels)
	return files
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%d}\ndata: {a: b}\n", i)
	}
	return b.String()
}

// What grows without end, or never ends.
var bombAttacks = []attack{
	{name: "aliases of aliases", files: evil("resources: [a.yaml]\n", "a.yaml", bomb(9, 10)), says: []string{"evil/a.yaml", "aliases"}},
	{name: "aliases of aliases in plain manifests", plain: &unit.Directory{}, files: tree{"evil/a.yaml": bomb(9, 10)}, says: []string{"evil/a.yaml", "aliases"}},
	{name: "aliases in a kustomization", files: evil(bomb(9, 10)), says: []string{"evil/kustomization.yaml", "aliases"}},
	{name: "aliases in an inline patch", files: evil("configMapGenerator: [{name: bomb}]\npatches:\n- patch: |\n    " + strings.ReplaceAll(bomb(9, 10), "\n", "\n    ") + "\n"), says: []string{"aliases"}},
	{name: "aliases in merge keys", files: evil("resources: [a.yaml]\n", "a.yaml", mergeBomb(30)), says: []string{"evil/a.yaml"}},
	{name: "an alias of itself", files: evil("resources: [a.yaml]\n", "a.yaml", "a: &a [*a, *a]\n"), says: []string{"evil/a.yaml"}},
	{name: "lists in lists without end", files: evil("resources: [a.yaml]\n", "a.yaml", strings.Repeat("[", 200_000)), says: []string{"evil/a.yaml"}},
	{name: "maps in maps without end", files: evil("resources: [a.yaml]\n", "a.yaml", strings.Repeat("{a: ", 100_000)), says: []string{"evil/a.yaml"}},
	{name: "JSON in JSON without end", plain: &unit.Directory{}, files: tree{"evil/a.json": strings.Repeat(`{"a":`, 200_000)}, says: []string{"evil/a.json"}},
	{name: "a JSON patch that doubles", files: evil("resources: [a.yaml]\npatches: [{path: p.yaml, target: {kind: ConfigMap}}]\n", "a.yaml", oneMap, "p.yaml", copies(40))},
	{name: "diamonds of bases", files: diamond(22)},
	{name: "bases in a circle", files: evil("resources: [b]\n", "b/kustomization.yaml", "resources: [../../evil]\n"), says: []string{"cycle"}},
	{name: "a component of itself", files: evil("components: [c]\nresources: [a.yaml]\n", "a.yaml", oneMap, "c/kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\ncomponents: [../c]\n"), says: []string{"evil"}},
	{name: "one object twice", files: evil("resources: [a.yaml, b.yaml]\n", "a.yaml", oneMap, "b.yaml", oneMap), says: []string{"one"}},
	{name: "a list in a list without end", plain: &unit.Directory{}, files: tree{"evil/a.json": strings.Repeat(`{"apiVersion":"v1","kind":"List","items":[`, 2000) + strings.Repeat("]}", 2000)}, says: []string{"evil/a.json"}},
	{name: "replacements of everything in everything", files: evil("resources: [a.yaml]\nreplacements:\n- source: {kind: ConfigMap, name: c0, fieldPath: metadata.name}\n  targets:\n  - select: {kind: ConfigMap}\n    fieldPaths: ['data.*.*.*']\n    options: {create: true}\n", "a.yaml", many(50)), says: []string{"evil"}},
}

// What would reach the app beside it, or whoever reads the error.
var leakAttacks = []attack{
	{name: "a schema that forgets how containers merge", works: true, files: evil("openapi: {path: schema.json}\nresources: [a.yaml]\npatches:\n- patch: '{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {replicas: 2}}'\n",
		"a.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {replicas: 1}\n",
		"schema.json", `{"definitions":{"io.k8s.api.apps.v1.Deployment":{"type":"object","properties":{"spec":{"type":"object","properties":{"template":{"type":"object","properties":{"spec":{"type":"object","properties":{"containers":{"type":"array","items":{"type":"object"}}}}}}}}},"x-kubernetes-group-version-kind":[{"group":"apps","kind":"Deployment","version":"v1"}]}}}`)},
	{name: "a schema that panics", files: evil("openapi: {path: s.json}\nresources: [a.yaml]\npatches: [{patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: one}, data: {x: y}}'}]\n",
		"a.yaml", oneMap, "s.json", `{"definitions":{"x":{"x-kubernetes-group-version-kind":[{"group":1}]}}}`), says: []string{"evil/kustomization.yaml"}},
	{name: "crds that make everything namespaced", works: true, files: evil("crds: [c.json]\nresources: [a.yaml]\n", "a.yaml", oneMap, "c.json", `{}`)},
	{name: "a patch that quotes a secret", files: evil("resources: [s.yaml]\npatches:\n- path: p.yaml\n  target: {kind: Secret}\n",
		"s.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: hunter2hunter2}\n", "p.yaml", "kind: Secret\nstringData:\n  k: hunter2hunter2\n"), hides: "hunter2"},
	{name: "a secret that is no YAML", files: evil("resources: [s.yaml]\n", "s.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n  k: *hunter2hunter2\n"), says: []string{"evil/s.yaml"}, hides: "hunter2"},
	{name: "literals without a key", files: evil("secretGenerator:\n- name: s\n  literals:\n  - hunter2hunter2\n"), says: []string{"evil/kustomization.yaml"}, hides: "hunter2"},
}
