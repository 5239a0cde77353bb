package main_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// What docs/hub.md tells people to type is understood.
func TestTheExamplesOfTheDocumentationParse(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "hub.md"))
	if err != nil {
		t.Fatal(err)
	}
	bin := program(t)
	help := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, bin, append(args, "--help")...).CombinedOutput()
		if err != nil {
			t.Errorf("capstan-hub %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	var known strings.Builder
	commands := map[string]bool{}
	for _, args := range examples(string(text)) {
		known.WriteString(help(args...))
		if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			commands[args[0]] = true
		}
	}
	known.WriteString(help())
	for _, c := range []string{"backup", "restore", "nats-config", "ops-creds"} {
		if !commands[c] {
			t.Errorf("there is no example of %s", c)
		}
	}
	for _, c := range []string{"rotate-keys", "rotate-ca", "ops-revoke", "notify-test"} { // named in sentences
		known.WriteString(help(c))
	}
	// And every flag that is named elsewhere in it.
	others := []string{"--server", "--tlsca", "--creds", "--select", "--log", "--from-literal", "--from-file", "--all"} // of nats, capstan and kubectl
	for _, flag := range regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(string(text), -1) {
		if !slices.Contains(others, flag) && !regexp.MustCompile(flag+`\b`).MatchString(known.String()) {
			t.Errorf("capstan-hub does not know %s", flag)
		}
	}
}

// examples are the arguments of capstan-hub in blocks of code.
func examples(text string) [][]string {
	var all [][]string
	text = strings.ReplaceAll(text, "\\\n", " ")
	inside := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			inside = strings.HasPrefix(line, "```sh")
			continue
		}
		if !inside && !strings.HasPrefix(line, "    capstan-hub ") {
			continue
		}
		line, _, _ = strings.Cut(line, " # ")
		line, _, _ = strings.Cut(line, "  #")
		line, _, _ = strings.Cut(line, " > ")
		words := strings.Fields(line)
		if i := slices.Index(words, "capstan-hub"); i == 0 || i > 0 && words[i-1] == "--" {
			all = append(all, words[i+1:])
		}
	}
	return all
}
