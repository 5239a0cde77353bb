package notify_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/hub/notify"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestMistakesAreNamedByTheirLine(t *testing.T) {
	for text, want := range map[string]string{
		"routes:\n- name: a\n  onn: [stale]": "line 3: field onn not found in a route",
		"rutes: []":                          "line 1: field rutes not found",
		"routes:\n- name: a\n  on: [stale]\n  webhook: {url: 'https://h/', tocken: x}":                                                                  "line 4: field tocken not found",
		"routes:\n- name: a\n  on: [stale]\n  webhook: {url: 'https://h/'}\n- name: b\n  on: [gone]":                                                    `line 5: route "b": trigger "gone" is not known`,
		"routes:\n- name: a\n  webhook: {url: 'https://h/'}":                                                                                            `line 2: route "a": on names no trigger`,
		"routes:\n- name: A\n  on: [stale]":                                                                                                             "line 2",
		"routes:\n- on: [stale]":                                                                                                                        "line 2",
		"routes:\n- {name: a, on: [stale]}":                                                                                                             "a route has one target, this one has 0",
		"routes:\n- {name: a, on: [stale], slack: {urlFile: f}, teams: {urlFile: f}}":                                                                   "this one has 2",
		"routes:\n- {name: a, on: [stale], slack: {}}":                                                                                                  "url or urlFile is missing",
		"routes:\n- {name: a, on: [stale], slack: {url: 'https://h/', urlFile: f}}":                                                                     "are both there",
		"routes:\n- {name: a, on: [stale], webhook: {url: 'https://u:s3cret@h/'}}":                                                                      "the URL holds a credential",
		"routes:\n- {name: a, on: [stale], webhook: {url: 'ftp://s3cret/'}}":                                                                            "not a valid one of https or http",
		"routes:\n- {name: a, on: [stale], clusters: '==', webhook: {url: 'https://h/'}}":                                                               "clusters:",
		"routes:\n- {name: a, on: [stale], apps: [web], webhook: {url: 'https://h/'}}":                                                                  `"web" is not a pattern of namespace/name`,
		"routes:\n- {name: a, on: [stale], perHour: 0, webhook: {url: 'https://h/'}}":                                                                   "perHour",
		"routes:\n- {name: a, on: [stale], for: -1s, webhook: {url: 'https://h/'}}":                                                                     "for must be",
		"routes:\n- {name: a, on: [stale], for: soon, webhook: {url: 'https://h/'}}":                                                                    "line 2: cannot unmarshal",
		"routes:\n- {name: a, on: [stale], template: '{{ .Nothing }}', webhook: {url: 'https://h/'}}":                                                   "template: for pending",
		"routes:\n- {name: a, on: [stale], template: '{{ if }}', webhook: {url: 'https://h/'}}":                                                         "template:",
		"routes:\n- {name: a, on: [stale], template: '{{ range $i, $x := .Labels }}{{ printf \"%99999d\" 1 }}{{ end }}', webhook: {url: 'https://h/'}}": "more than 16 KiB",
		"routes:\n- {name: a, on: [stale], github: {repository: a/b, tokenFile: f}}":                                                                    "stale is not about a commit",
		"routes:\n- {name: a, on: [synced], github: {repository: ab, tokenFile: f}}":                                                                    "repository \"ab\" is not one",
		"routes:\n- {name: a, on: [synced], gitlab: {repository: a/b}}":                                                                                 "tokenFile is missing",
		"routes:\n- {name: a, on: [stale], email: {from: a@b.c, to: [d@e.f]}}":                                                                          "host is missing",
		"routes:\n- {name: a, on: [stale], email: {host: h, from: nobody, to: [d@e.f]}}":                                                                `from "nobody"`,
		"routes:\n- {name: a, on: [stale], email: {host: h, from: a@b.c}}":                                                                              "to names nobody",
		"routes:\n- {name: a, on: [stale], email: {host: h, tls: ssl, from: a@b.c, to: [d@e.f]}}":                                                       `tls "ssl"`,
		"routes:\n- {name: a, on: [stale], email: {host: h, tls: none, username: u, passwordFile: p, from: a@b.c, to: [d@e.f]}}":                        "a password needs TLS",
		"routes:\n- &x {name: a, on: [stale], webhook: {url: 'https://h/'}}\n- *x":                                                                      `line 3: route "a" is there twice`,
		"routes: []\n---\nroutes: []":                                                                                                                   "more than one document",
		"routes: {":                                                                                                                                     "line 1",
		"routes:\n- {name: a, on: {s3cret: x}}":                                                                                                         "line 2",
	} {
		_, err := notify.Parse("notify.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "notify.yaml") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
	if _, err := notify.Parse("t", []byte("routes: [{name: a, on: [x], slack: {urlFile: f}}]")); fleet.Hint(err) == "" {
		t.Errorf("%v has no hint", err)
	}
	if c, err := notify.Parse("t", nil); err != nil || len(c.Routes) != 0 {
		t.Errorf("an empty file: %v, %v", c, err)
	}
}

func TestTheExamplesInTheManualAreGood(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "hub.md"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(b, -1) {
		if !strings.Contains(string(block[1]), "routes:") {
			continue
		}
		n++
		c, err := notify.Parse("docs/hub.md", block[1])
		if err != nil || len(c.Routes) < 3 {
			t.Errorf("%v, %d routes", err, len(c.Routes))
		}
	}
	if n == 0 {
		t.Error("docs/hub.md has no example of notifications")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("routes:\n- {name: a, on: [stale, synced], for: 1m, clusters: env=prod, apps: ['a/*'], slack: {urlFile: f}}")
	f.Add("routes:\n- {name: a, on: [stale], email: {host: h, from: a@b.c, to: [d@e.f]}, template: '{{ .App }}'}")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<16 {
			return
		}
		c, err := notify.Parse("t", []byte(text))
		if err == nil {
			for _, r := range c.Routes {
				if r.Kind() == "" || len(r.On) == 0 {
					t.Errorf("%+v", r)
				}
			}
		}
	})
}
