package worker

import (
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// These read what a repository holds, and are not for other packages, so the
// test is inside.

func FuzzFillPath(f *testing.F) {
	for _, s := range []string{"a/b", `a/{{ label "env" }}`, "{{.cluster.name}}/x", "{{ label `a` }}", "../x", "a/../../b", "{{", "}}", "a\\b", "/x", "{{ label \"up\" }}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, template string) {
		reads := unit.ReadSet{}
		p, err := fillPath(template, facts{known: unit.Facts{Cluster: "c-1", Labels: map[string]string{"env": "dev", "up": ".."}}, reads: &reads})
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		if strings.HasPrefix(p, "/") || p == ".." || strings.HasPrefix(p, "../") || strings.Contains(p, "/../") || strings.Contains(p, "//") {
			t.Errorf("%q became %q", template, p)
		}
	})
}

func FuzzAliases(f *testing.F) {
	f.Add("a: &a [x]\nb: [*a, *a]\n")
	f.Add("a: &a [*a]\n")
	f.Add("p: |\n  a: &a [x]\n  b: *a\n")
	f.Fuzz(func(_ *testing.T, content string) {
		_ = checkAliases("f", []byte(content))
		_ = secretValues(content)
	})
}
