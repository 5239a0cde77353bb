package agent_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// What Git's own objects can be made to hold.
var gitAttacks = []attack{
	{name: "a file that inflates beyond the limit", says: []string{"limit"}, git: func(g *repository) string {
		blob := g.object("blob", make([]byte, 64<<20))
		return g.withTree(g.object("tree", slices.Concat(g.besideTree(), entry("40000", "evil", g.object("tree", entry("100644", "a.yaml", blob))))))
	}},
	{name: "files that inflate beyond the limit together", says: []string{"more than"}, git: func(g *repository) string {
		var dir []byte
		for i := range 20 {
			content := make([]byte, 1900<<10)
			content[0] = byte('a' + i)
			dir = append(dir, entry("100644", fmt.Sprintf("%02d.yaml", i), g.object("blob", content))...)
		}
		return g.withTree(g.object("tree", slices.Concat(g.besideTree(), entry("40000", "evil", g.object("tree", dir)))))
	}},
	{name: "a directory that inflates beyond the limit", says: []string{"limit"}, git: func(g *repository) string {
		blob := g.object("blob", []byte("x"))
		var dir bytes.Buffer
		for i := range 60_000 {
			dir.Write(entry("100644", fmt.Sprintf("%040d", i), blob))
		}
		return g.withTree(g.object("tree", slices.Concat(g.besideTree(), entry("40000", "evil", g.object("tree", dir.Bytes())))))
	}},
	{name: "a commit that inflates beyond the limit", says: []string{"limit"}, git: func(g *repository) string {
		return g.object("commit", fmt.Appendf(nil, "tree %s\nauthor dev <dev@example.com> 1700000001 +0000\ncommitter dev <dev@example.com> 1700000001 +0000\n\n%s",
			g.run("rev-parse", "refs/heads/main^{tree}"), bytes.Repeat([]byte("x"), 32<<20)))
	}},
	{name: "a tag that inflates beyond the limit", ref: source.Ref{Tag: "v1"}, says: []string{"limit"}, git: func(g *repository) string {
		g.run("update-ref", "refs/tags/v1", g.object("tag", fmt.Appendf(nil, "object %s\ntype commit\ntag v1\ntagger dev <dev@example.com> 1700000001 +0000\n\n%s",
			g.run("rev-parse", "refs/heads/main"), bytes.Repeat([]byte("x"), 32<<20))))
		return ""
	}},
	{name: "tags of tags without end", ref: source.Ref{Tag: "v1"}, says: []string{"tags"}, git: func(g *repository) string {
		of, kind := g.run("rev-parse", "refs/heads/main"), "commit"
		for i := range 40 {
			of, kind = g.object("tag", fmt.Appendf(nil, "object %s\ntype %s\ntag v%d\ntagger dev <dev@example.com> 1700000001 +0000\n\nx\n", of, kind, i)), "tag"
		}
		g.run("update-ref", "refs/tags/v1", of)
		return ""
	}},
	{name: "a tag of a directory", ref: source.Ref{Tag: "v1"}, git: func(g *repository) string {
		g.run("update-ref", "refs/tags/v1", g.object("tag", fmt.Appendf(nil, "object %s\ntype tree\ntag v1\ntagger dev <dev@example.com> 1700000001 +0000\n\nx\n",
			g.run("rev-parse", "refs/heads/main^{tree}"))))
		return ""
	}},
	{name: "more files than the limit", says: []string{"objects"}, git: func(g *repository) string {
		files := tree{}
		for i := range 7000 {
			files[fmt.Sprintf("evil/%04d.yaml", i)] = fmt.Sprint(i)
		}
		maps.Copy(files, beside)
		return g.commit(files, []string{g.run("rev-parse", "refs/heads/main")})
	}},
	{name: "directories in directories without end", says: []string{"deep"}, plain: &unit.Directory{Recurse: true}, files: tree{
		"evil/" + strings.Repeat("d/", 900) + "a.yaml": fmt.Sprintf(configMap, "a"),
	}},
	{name: "a name that climbs", says: []string{"malformed"}, git: badEntry("100644", "..")},
	{name: "a name with a slash", says: []string{"malformed"}, git: badEntry("100644", "../../etc/passwd")},
	{name: "an empty name", git: badEntry("100644", "")},
	{name: "an unknown kind of file", says: []string{"malformed"}, git: badEntry("170000", "a.yaml")},
	{name: "one name twice", says: []string{"twice"}, git: func(g *repository) string {
		a, b := g.object("blob", []byte("a")), g.object("blob", []byte("b"))
		dir := slices.Concat(entry("100644", "a.yaml", a), entry("100644", "a.yaml", b))
		return g.withTree(g.object("tree", slices.Concat(g.besideTree(), entry("40000", "evil", g.object("tree", dir)))))
	}},
	{name: "a directory that is cut short", git: func(g *repository) string {
		dir := entry("100644", "a.yaml", g.object("blob", []byte("a")))
		bad := g.object("tree", dir[:len(dir)-7])
		return g.withTree(g.object("tree", slices.Concat(g.besideTree(), entry("40000", "evil", bad))))
	}},
	{name: "a commit of a file", git: func(g *repository) string { return g.withTree(g.object("blob", []byte("a"))) }},
	{name: "a commit of nothing", git: func(g *repository) string { return g.object("commit", []byte("hello\n")) }},
}

// badEntry is a directory with one entry that Git itself would not make.
func badEntry(mode, name string) func(g *repository) string {
	return func(g *repository) string {
		bad := g.object("tree", entry(mode, name, g.object("blob", []byte("a"))))
		return g.withTree(g.object("tree", slices.Concat(g.besideTree(), entry("40000", "evil", bad))))
	}
}

const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"

var oneMap = fmt.Sprintf(configMap, "one")

// What names and links can point at.
var pathAttacks = []attack{
	{name: "a path that climbs", path: "../../etc", says: []string{"leaves the repository"}},
	{name: "a path that climbs in the middle", path: "beside/../../etc", says: []string{"leaves the repository"}},
	{name: "an absolute path", path: "/etc", says: []string{"leaves the repository"}},
	{name: "a path into Git's own files", path: ".git", says: []string{".git"}},
	{name: "a template that asks for more than it may", path: `evil/{{ .Env.HOME }}`, says: []string{".Env.HOME"}},
	{name: "an absolute resource", files: evil("resources: [/etc/passwd]\n"), says: []string{"leaves the repository"}},
	{name: "a resource that climbs", files: evil("resources: [../../../../../../etc/passwd]\n"), says: []string{"leaves the repository"}},
	{name: "a base that climbs", files: evil("resources: [../../../etc]\n"), says: []string{"leaves the repository"}},
	{name: "a generator's file that climbs", files: evil("configMapGenerator: [{name: x, files: [../../../../proc/self/environ]}]\n"), says: []string{"leaves the repository"}},
	{name: "a generator's absolute file", files: evil("secretGenerator: [{name: x, envs: [/proc/self/environ]}]\n"), says: []string{"leaves the repository"}},
	{name: "a patch that climbs", files: evil("resources: [a.yaml]\npatches: [{path: ../../../etc/passwd}]\n", "a.yaml", oneMap), says: []string{"leaves the repository"}},
	{name: "a link out of the repository", files: evil("resources: [a.yaml]\n", "a.yaml", linkTo+"../../../etc/passwd"), says: []string{"leaves the repository"}},
	{name: "an absolute link", files: evil("resources: [a.yaml]\n", "a.yaml", linkTo+"/etc/passwd"), says: []string{"evil/a.yaml", "leaves the repository"}},
	{name: "a kustomization that is a link out", files: tree{"evil/kustomization.yaml": linkTo + "../../../etc/passwd"}, says: []string{"leaves the repository"}},
	{name: "links in a circle", files: evil("resources: [a.yaml]\n", "a.yaml", linkTo+"b.yaml", "b.yaml", linkTo+"a.yaml"), says: []string{"links"}},
	{name: "a directory that is a link to itself", files: evil("resources: [a/a.yaml]\n", "a", linkTo+"a"), says: []string{"links"}},
	{name: "a base that is a link to its own parent", files: evil("resources: [up]\n", "up", linkTo+"."), says: []string{"evil/kustomization.yaml"}},
	{name: "a link with an endless target", files: evil("resources: [a.yaml]\n", "a.yaml", linkTo+strings.Repeat("a/", 100_000)), says: []string{"evil/a.yaml", "too long"}},
	{name: "a submodule", says: []string{"submodule"}, git: func(g *repository) string {
		dir := g.object("tree", slices.Concat(
			entry("100644", "kustomization.yaml", g.object("blob", []byte("resources: [other/a.yaml]\n"))),
			entry("160000", "other", strings.Repeat("ab", 20))))
		return g.withTree(g.object("tree", slices.Concat(g.besideTree(), entry("40000", "evil", dir))))
	}},
	{name: "a file that lies elsewhere, in LFS", files: evil("resources: [a.yaml]\n", "a.yaml",
		"version https://git-lfs.github.com/spec/v1\noid sha256:"+strings.Repeat("0", 64)+"\nsize 99\n"), says: []string{"evil/a.yaml", "LFS"}},
	{name: "a generator's file that lies elsewhere, in LFS", files: evil("configMapGenerator: [{name: x, files: [a.bin]}]\n", "a.bin",
		"version https://git-lfs.github.com/spec/v1\noid sha256:"+strings.Repeat("0", 64)+"\nsize 99\n"), says: []string{"evil/a.bin", "LFS"}},
	{name: "names that command a terminal", plain: &unit.Directory{Recurse: true}, files: tree{"evil/\x1b[2J\x1b]0;owned.yaml": "not: an object\n"}, says: []string{`evil/\x1b[2J\x1b]0;owned.yaml`}},
	{name: "a name of two lines", plain: &unit.Directory{Recurse: true}, files: tree{"evil/a\nhint: all is well.yaml": "not: an object\n"}, says: []string{"evil/a hint: all is well.yaml"}},
	{name: "content that commands a terminal", files: evil("resources:\n- \"\\e[2Jx.yaml\"\n"), says: []string{`evil/\x1b[2Jx.yaml is not in the repository`}},
}

// evil is a kustomization, and files beside it by name and content.
func evil(kustomization string, beside ...string) tree {
	files := tree{"evil/kustomization.yaml": kustomization}
	for i := 0; i+1 < len(beside); i += 2 {
		files["evil/"+beside[i]] = beside[i+1]
	}
	return files
}
