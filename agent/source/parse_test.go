package source_test

import (
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
)

var hash = strings.Repeat("h", 20)

func TestParseTreeReadsModes(t *testing.T) {
	for mode, want := range map[string]unit.Mode{
		"100644": unit.ModeRegular, "100664": unit.ModeRegular, "100600": unit.ModeRegular, "100755": unit.ModeExecutable,
		"40000": unit.ModeDir, "040000": unit.ModeDir, "120000": unit.ModeSymlink, "160000": unit.ModeSubmodule,
	} {
		got, err := source.ParseTree([]byte(mode + " name\x00" + hash))
		if err != nil || len(got) != 1 || got[0].Mode != want || got[0].Name != "name" || string(got[0].Hash[:]) != hash {
			t.Errorf("%s: got %+v, %v", mode, got, err)
		}
	}
}

func TestParseTreeRefusesWhatCouldLeadAstray(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"no name":         {"100644 \x00" + hash, `""`},
		"here":            {"40000 .\x00" + hash, `"."`},
		"above":           {"40000 ..\x00" + hash, `".."`},
		"a path":          {"100644 a/b\x00" + hash, `"a/b"`},
		"absolute":        {"100644 /etc\x00" + hash, `"/etc"`},
		"twice":           {"100644 a\x00" + hash + "100644 a-b\x00" + hash + "40000 a\x00" + hash, "twice"},
		"a mode too many": {"170000 a\x00" + hash, "unknown"},
		"a mode of words": {"rw a\x00" + hash, "octal"},
		"a huge mode":     {"777777777777777777 a\x00" + hash, "octal"},
		"no mode":         {"a\x00" + hash, "no mode"},
		"a short hash":    {"100644 a\x00" + hash[1:], "ends within"},
		"no end of name":  {"100644 a", "ends within"},
		"a rest":          {"100644 a\x00" + hash + "1", "ends within"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := source.ParseTree([]byte(c.content)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestParseCommit(t *testing.T) {
	name := strings.Repeat("ab", 20)
	got, err := source.ParseCommit([]byte("tree " + name + "\nparent x\n"))
	if err != nil || got.String() != name {
		t.Errorf("got %s, %v", got, err)
	}
	for _, bad := range []string{"", "tree " + name, "tree " + name[1:] + "\n", "parent " + name + "\n", "tree " + name + "ab\n", "tree zz" + name[2:] + "\n"} {
		if _, err := source.ParseCommit([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestParseParents(t *testing.T) {
	a, b := strings.Repeat("ab", 20), strings.Repeat("cd", 20)
	got, err := source.ParseParents([]byte("tree " + a + "\nparent " + a + "\nparent " + b + "\nauthor x\n\nparent " + a + "\n"))
	if err != nil || len(got) != 2 || got[0].String() != a || got[1].String() != b {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := source.ParseParents([]byte("tree " + a + "\nauthor x\n")); err != nil || len(got) != 0 {
		t.Errorf("a first commit: got %v, %v", got, err)
	}
	if _, err := source.ParseParents([]byte("tree " + a + "\nparent " + a[1:] + "\n")); err == nil {
		t.Error("half a name was accepted")
	}
}

func TestParseTag(t *testing.T) {
	name := strings.Repeat("ab", 20)
	got, kind, err := source.ParseTag([]byte("object " + name + "\ntype commit\ntag v1\n"))
	if err != nil || got.String() != name || kind != "commit" {
		t.Errorf("got %s, %s, %v", got, kind, err)
	}
	for _, bad := range []string{"", "object " + name, "object " + name + "\n", "object " + name + "\ntype commit", "object " + name[1:] + "\ntype commit\n", "type commit\nobject " + name + "\n"} {
		if _, _, err := source.ParseTag([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParseTree(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("100644 a\x00" + hash))
	f.Add([]byte("40000 dir\x00" + hash + "120000 link\x00" + hash))
	f.Add([]byte("40000 ..\x00" + hash))
	f.Fuzz(func(t *testing.T, content []byte) {
		_, _ = source.ParseCommit(content)
		_, _, _ = source.ParseTag(content)
		_, _ = source.ParseParents(content)
		entries, err := source.ParseTree(content)
		if err != nil {
			return
		}
		names := map[string]bool{}
		for _, e := range entries {
			if e.Name == "" || e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/\x00") || names[e.Name] {
				t.Errorf("%q was accepted", e.Name)
			}
			names[e.Name] = true
		}
	})
}
