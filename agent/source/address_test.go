package source_test

import (
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/source"
)

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"git@git.example.com:team/fleet.git":           "ssh git git.example.com:22 team/fleet.git",
		"git.example.com:fleet.git":                    "ssh git git.example.com:22 fleet.git",
		"deploy@git.example.com:/srv/fleet.git":        "ssh deploy git.example.com:22 /srv/fleet.git",
		"ssh://git.example.com/fleet.git":              "ssh git git.example.com:22 /fleet.git",
		"ssh://deploy@git.example.com:2222/fleet.git":  "ssh deploy git.example.com:2222 /fleet.git",
		"ssh://git@[::1]:22/~deploy/fleet.git":         "ssh git [::1]:22 ~deploy/fleet.git",
		"https://git.example.com/fleet.git":            "https  git.example.com ",
		"https://git.example.com:8443/team/fleet.git/": "https  git.example.com:8443 ",
		"file:///var/mirror/fleet.git":                 "file   /var/mirror/fleet.git",
		"bundle:///var/drop/":                          "bundle   /var/drop",
	} {
		if got, err := source.ParseAddress(in); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", in, got, err, want)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"git@git.example.com:team/fleet.git", "ssh://git@[::1]:22/~x/y", "https://u:p@h/x?y#z", "bundle:///srv", "file:///srv/fleet.git", "::", "a:b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := source.ParseAddress(s)
		if err == nil && strings.ContainsAny(got, "\n\r\x00") {
			t.Errorf("%q became %q", s, got)
		}
	})
}
