package manifests_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// The agent may do what docs/rbac.md says, no more and no less.
func TestAgentMayDoWhatIsDocumented(t *testing.T) {
	granted := map[string][]string{} // role -> rules
	var stream []byte
	for _, file := range []string{"agent/base/rbac.yaml", "agent/watch/rbac.yaml"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		stream = append(append(stream, "---\n"...), b...)
	}
	for _, o := range parse(t, stream) {
		var role struct {
			Rules []struct {
				APIGroups     []string `json:"apiGroups"`
				Resources     []string `json:"resources"`
				ResourceNames []string `json:"resourceNames"`
				Verbs         []string `json:"verbs"`
				NonResource   []string `json:"nonResourceURLs"`
			} `json:"rules"`
		}
		if err := json.Unmarshal(o.raw, &role); err != nil {
			t.Fatal(err)
		}
		for _, r := range role.Rules {
			if len(r.NonResource) > 0 {
				t.Errorf("%s: nonResourceURLs", o)
			}
			for i, g := range r.APIGroups {
				if g == "" {
					r.APIGroups[i] = "core"
				}
			}
			granted[o.String()] = append(granted[o.String()], rule(r.APIGroups, r.Resources, r.ResourceNames, r.Verbs))
		}
	}

	documented := documentedRules(t)
	if len(granted) == 0 || len(granted) != len(documented) {
		t.Errorf("%d roles, %d documented", len(granted), len(documented))
	}
	for role, rules := range granted {
		slices.Sort(rules)
		slices.Sort(documented[role])
		if !slices.Equal(rules, documented[role]) {
			t.Errorf("%s\ngranted    %q\ndocumented %q", role, rules, documented[role])
		}
	}
}

func rule(parts ...[]string) string {
	var out []string
	for _, p := range parts {
		p = slices.Clone(p)
		slices.Sort(p)
		out = append(out, strings.Join(p, ","))
	}
	return strings.Join(out, " | ")
}

// documentedRules reads the tables: each follows a line that opens with the role.
func documentedRules(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../docs/rbac.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	role := ""
	for line := range strings.Lines(string(page)) {
		words := strings.Fields(strings.ReplaceAll(line, "`", ""))
		if len(words) > 1 && (words[0] == "ClusterRole" || words[0] == "Role") {
			role = words[0] + " " + strings.TrimSuffix(words[1], ",")
		}
		cells := strings.Split(line, "|")
		if len(cells) != 7 || strings.Contains(line, "API group") || strings.HasPrefix(line, "|--") {
			continue
		}
		var parts [][]string
		for _, c := range cells[1:5] {
			parts = append(parts, strings.FieldsFunc(c, func(r rune) bool { return r == ',' || r == ' ' }))
		}
		out[role] = append(out[role], rule(parts...))
	}
	return out
}
