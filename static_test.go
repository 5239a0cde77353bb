package capstan_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

var programs = []struct{ name, pkg, arg string }{
	{"capstan", "./hub/cmd/capstan", "version"},
	{"capstan-hub", "./hub/cmd/capstan-hub", "--help"},
	{"capstan-agent", "./agent/cmd/capstan-agent", "--help"},
	{"capstan-render", "./agent/cmd/capstan-render", "--help"},
	{"capstan-keys", "./agent/cmd/capstan-keys", "--help"},
}

// An image holds a binary and certificates, nothing else. So the binaries are
// built as the Dockerfile builds them, and run where there is nothing but
// themselves: no environment, and, where the test may change its root
// directory, no file.
func TestBinariesNeedNothingElse(t *testing.T) {
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.Chmod(root, 0o755); err != nil {
				t.Fatal(err)
			}
			binary := filepath.Join(root, p.name)
			build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", binary, p.pkg)
			build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			isStatic(t, binary)

			run := exec.CommandContext(t.Context(), binary, p.arg)
			run.Env = []string{}
			run.Dir = root
			if os.Getuid() == 0 {
				run.Path, run.Dir = "/"+p.name, "/"
				run.SysProcAttr = &syscall.SysProcAttr{
					Chroot:     root,
					Credential: &syscall.Credential{Uid: 65532, Gid: 65532},
				}
			}
			out, err := run.CombinedOutput()
			if err != nil || !strings.Contains(string(out), p.name) {
				t.Errorf("%s %s: %v\n%s", p.name, p.arg, err, out)
			}
		})
	}
}

func isStatic(t *testing.T, binary string) {
	t.Helper()
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s has a %v segment: it is not static", filepath.Base(binary), p.Type)
		}
	}
}

// Whatever is built from it, an image's last stage starts from nothing, runs
// nothing, and is nobody's root.
func TestImagesHoldNothingElse(t *testing.T) {
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, final, ok := strings.Cut(string(text), "\nFROM scratch AS base\n")
	if !ok {
		t.Fatal("no stage starts from scratch")
	}
	var targets []string
	for line := range strings.Lines(final) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "FROM":
			if words[1] != "base" {
				t.Errorf("a final stage starts from %s", words[1])
			}
			targets = append(targets, words[3])
		case "USER":
			if !regexp.MustCompile(`^[1-9][0-9]*:[1-9][0-9]*$`).MatchString(words[1]) {
				t.Errorf("USER %s is not a number, or is root", words[1])
			}
		case "RUN", "ADD", "VOLUME":
			t.Errorf("a final stage has: %s", line)
		}
	}
	slices.Sort(targets)
	if !slices.Equal(targets, []string{"agent", "cli", "hub"}) {
		t.Errorf("targets: %q", targets)
	}
	if !strings.Contains(final, "USER ") {
		t.Error("images run as root")
	}
	for _, p := range programs {
		if !strings.Contains(string(text), p.pkg) {
			t.Errorf("%s is not built", p.pkg)
		}
	}
}
