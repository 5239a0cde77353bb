package main_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program builds capstan-hub once for a test.
func program(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "capstan-hub")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

func TestTheProgramIsSetUpByFlagsAndEnvironment(t *testing.T) {
	bin := program(t)
	run := func(env []string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, bin, args...)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if help := len(args) > 0 && args[0] == "--help"; (err == nil) != help {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	for _, c := range []struct {
		env  []string
		args []string
		want string
	}{
		{nil, []string{"--help"}, "CAPSTAN_HUB_DATA_DIR"},
		{nil, nil, "error: no data directory is named\nhint: name one with --data-dir"},
		{[]string{"CAPSTAN_HUB_DATA_DIR=x", "CAPSTAN_HUB_NATS_LISTEN=:4222"}, nil, "hint: say how agents reach this hub with --nats-url"},
		{[]string{"CAPSTAN_HUB_LOG_LEVEL=loud"}, nil, `error: log level "loud"`},
		{[]string{"CAPSTAN_HUB_NATS_URL=nats://a:1,http://b:2"}, []string{"--data-dir", "x"}, `"http://b:2" is not valid`},
		{[]string{"CAPSTAN_HUB_URL=https://one"}, []string{"--data-dir", "x", "--url", "ftp://two"}, `"ftp://two" is not valid`},
		{nil, []string{"--data-dir", "x", "extra"}, "error:"},
		{nil, []string{"--data-dir", "x", "--log-format", "xml"}, `error: log format "xml"`},
		{nil, []string{"--data-dir", "x", "--drain-delay", "1h"}, "error: a drain delay of 1h0m0s"},
		{nil, []string{"notify-test"}, "hint: name it with --notify-file"},
		{nil, []string{"notify-test", "--notify-file", "nowhere.yaml"}, "nowhere.yaml"},
		{nil, []string{"--date-dir", "x"}, "error: unknown flag: --date-dir\nhint: capstan-hub --help shows the flags"},
	} {
		if got := run(c.env, c.args...); !strings.Contains(got, c.want) {
			t.Errorf("%v %v: no %q in\n%s", c.env, c.args, c.want, got)
		}
	}
}

func TestTheProgramSaysWhereItIsAndEndsOnSIGTERM(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), program(t), "--data-dir", dir, "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 4096)
	n, err := stdout.Read(said)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	url := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(string(said[:n]))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/readyz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("readyz: %s", resp.Status)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v\n%s", err, stderr.String())
	}
	token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(stderr.String(), strings.TrimSpace(string(token))) {
		t.Error("the administrator's token is in the log")
	}
}

func TestOpsCredsAreTheOwnersAlone(t *testing.T) {
	bin, dir := program(t), t.TempDir()
	keys, file := filepath.Join(dir, "keys"), filepath.Join(dir, "jane.creds")
	run := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), bin, args...).CombinedOutput()
		return string(out), err
	}
	if out, err := run("ops-creds", "--nats-keys", keys, file); err == nil || !strings.Contains(out, "hint: ") {
		t.Errorf("without keys: %v\n%s", err, out)
	}
	if out, err := run("nats-config", "--keys", keys); err != nil || !strings.Contains(out, "OPS") {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := run("ops-creds", "--nats-keys", keys, "--name", "jane", "--expires", "1h", file)
	if err != nil || !strings.Contains(out, file+" is good until ") || regexp.MustCompile(`\bSU[A-Z2-7]{20}`).MatchString(out) {
		t.Errorf("%v\n%s", err, out)
	}
	_, key, _ := strings.Cut(strings.TrimSpace(out), "capstan-hub ops-revoke ")
	for _, what := range []string{file, key} {
		if out, err := run("ops-revoke", "--nats-keys", keys, what); err != nil || !strings.Contains(out, "is good no more") || !strings.Contains(out, "give "+keys+" to every hub") {
			t.Errorf("take back %s: %v\n%s", what, err, out)
		}
	}
	if out, err := run("ops-revoke", "--nats-keys", keys, "jane"); err == nil || !strings.Contains(out, "hint: ") {
		t.Errorf("take back nothing: %v\n%s", err, out)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if out, err := run("ops-creds", "--nats-keys", keys, "--expires", "10000h", file); err == nil || !strings.Contains(out, "can't live for") {
		t.Errorf("too long: %v\n%s", err, out)
	}
}

func TestNotifyTestSendsOnEachRoute(t *testing.T) {
	got := make(chan string, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.URL.Path
		if r.URL.Path == "/broken" {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "notify.yaml")
	text := "routes:\n- {name: a, on: [stale], webhook: {url: 'URL/good'}}\n- {name: b, on: [synced], github: {url: 'URL', repository: o/r, tokenFile: none}}\n- {name: c, on: [drift], slack: {url: 'URL/broken'}}\n"
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "URL", s.URL)), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := program(t)
	out, err := exec.CommandContext(t.Context(), bin, "notify-test", "--notify-file", file).CombinedOutput()
	for _, want := range []string{"a (webhook): delivered", "b (github): not tried, it needs --commit", "c (slack): 127.0.0.1 answers 403", "error: not every message was delivered"} {
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: no %q in\n%s", err, want, out)
		}
	}
	if out, err := exec.CommandContext(t.Context(), bin, "notify-test", "--notify-file", file, "--route", "a").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if len(got) != 3 {
		t.Errorf("%d calls, want 3", len(got))
	}
}
