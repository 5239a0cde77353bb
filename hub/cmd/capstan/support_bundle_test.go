package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/hub/api"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// planted are texts with a secret each, and the part of it that must not be
// seen again.
func planted(t testing.TB) map[string]string {
	t.Helper()
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := kp.Seed()
	if err != nil {
		t.Fatal(err)
	}
	join, err := wire.JoinToken{URLs: []string{"nats://h:1"}, Cluster: "a", Join: "b", Instance: "c", JWT: "d", Seed: string(seed)}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"can't log in with " + adminToken:                          adminToken,
		"fetch https://ana:hunter2@git.example.com/fleet.git: 401": "hunter2",
		"password: correct-horse":                                  "correct-horse",
		`{"password":"swordfish","user":"ana"}`:                    "swordfish",
		"DB_PASSWORD=tr0ub4dor in the environment":                 "tr0ub4dor",
		"run with --vault-token s.abcdef":                          "s.abcdef",
		"Authorization: Bearer abcdefgh12345678":                   "abcdefgh12345678",
		"authorization=Basic YW5hOmh1bnRlcjI=":                     "YW5hOmh1bnRlcjI",
		"nkey " + string(seed):                                     string(seed),
		"join " + join:                                             join[10:],
		"jwt eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbmEifQ.c2lnbmF0dXJl": "eyJzdWIiOiJhbmEifQ",
		"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----": "b3BlbnNzaC1rZXktdjEA",
		"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIrYSSNQFaA2":                                         "MHcCAQEEIIrYSSNQFaA2",
		"AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQ":                                                       "1QQQQQQQQQQ",
		"remote: ghp_abcdefghijklmnopqrstuvwxyz0123456789":                                             "ghp_abc",
		"remote: glpat-abcdefghij0123456789":                                                           "abcdefghij0123456789",
		"slack https://hooks.slack.com/services/T000/B000/XXXXYYYY":                                    "XXXXYYYY",
		"aws AKIAIOSFODNN7EXAMPLE":                                                                     "IOSFODNN7",
		"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY":                             "bPxRfiCY",
		"the value Zm9vYmFyQmF6MTIzNDU2Nzg5MGFiY2RlZkdISUpLTE1OT1A= was refused":                       "Zm9vYmFyQmF6",
		"hub token capstan_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA":                                             "AAAAAAAAAAAAAAA",
	}
}

// bundled runs the command against a hub that says text everywhere, and returns
// the bundle's files.
func bundled(t *testing.T, text string, fail error) (files map[string]string, said string) {
	t.Helper()
	detail, err := json.Marshal(map[string]string{"why": text})
	if err != nil {
		t.Fatal(err)
	}
	seed := fleettest.Sample()
	for i := range seed.Clusters {
		seed.Clusters[i].Message = text
	}
	for i := range seed.Apps {
		seed.Apps[i].Message, seed.Apps[i].Hint, seed.Apps[i].Revision = text, text, "main@sha1:0123456789abcdef0123456789abcdef01234567"
	}
	seed.Changes = []fleet.Event{{ID: "1", At: time.Now(), Actor: "agent", Action: fleet.ChangeApplied, Cluster: "dev", Detail: detail}}
	h := fleettest.NewHub(seed)
	h.Fail(fail)
	jane := fleet.Identity{Via: fleet.ViaToken, Name: "jane", Grants: []fleet.Grant{{Roles: []fleet.Role{fleet.RoleAdmin}}}}
	handler, err := api.New(api.Config{
		Hub: h, People: &fleettest.People{Known: map[string]fleet.Identity{adminToken: jane}}, Logins: &testHub{},
		GitPushed: func(context.Context, string, ...string) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	dir := t.TempDir()
	log, out := filepath.Join(dir, "hub.log"), filepath.Join(dir, "out.tar.gz")
	line, err := json.Marshal(map[string]string{"msg": "failed", "error": text})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(log, fmt.Appendf(nil, "%s\ntime=now msg=%s\n", line, text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"CAPSTAN_HUB": server.URL, "CAPSTAN_TOKEN": adminToken}
	var stdout, stderr bytes.Buffer
	s := &shell{in: strings.NewReader(""), out: &stdout, err: &stderr, env: func(k string) string { return env[k] }, now: time.Now}
	root := newRoot(s)
	root.SetArgs([]string{"support-bundle", "--file", out, "--log", log})
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	return untar(t, out), stdout.String() + stderr.String()
}

func untar(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		out[name] = string(b)
	}
}

func TestABundleHoldsNoSecret(t *testing.T) {
	for text, secret := range planted(t) {
		files, said := bundled(t, text, nil)
		seen := 0
		for name, content := range files {
			seen += strings.Count(content, redacted)
			if strings.Contains(content, secret) {
				t.Errorf("%q is in %s:\n%s", secret, name, content)
			}
			if strings.HasSuffix(name, ".json") && !json.Valid([]byte(content)) {
				t.Errorf("%s is no JSON any more:\n%s", name, content)
			}
		}
		if strings.Contains(said, secret) || strings.Contains(said, "not in it") {
			t.Errorf("said: %s", said)
		}
		if seen < 6 {
			t.Errorf("%q was taken out of %d places only: was it in the others?", secret, seen)
		}
	}
}

func TestABundleTellsWhatHelps(t *testing.T) {
	files, _ := bundled(t, "the Deployment web has no ready pods", nil)
	for name, want := range map[string]string{
		"client.json": `"CAPSTAN_TOKEN"`, "clusters.json": "no ready pods", "apps.json": "main@sha1:0123456789abcdef0123456789abcdef01234567",
		"events.json": "[", "changes.json": "no ready pods", "whoami.json": "jane", "logs/6-hub.log": "time=now msg=the Deployment",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s has no %s:\n%s", name, want, files[name])
		}
	}
	for name, content := range files {
		if strings.Contains(content, redacted) {
			t.Errorf("%s: something was taken out that is no secret:\n%s", name, content)
		}
	}
}

func TestABundleSaysWhatIsNotInIt(t *testing.T) {
	files, said := bundled(t, "x", fleet.Unavailable("the store is away, token=hunter2"))
	if !strings.Contains(said, "not in it: clusters.json: ") || strings.Contains(said, "hunter2") || files["client.json"] == "" || files["apps.json"] != "" {
		t.Errorf("said %s", said)
	}
}

func FuzzRedact(f *testing.F) {
	for text := range planted(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := redactor{known: []string{"hunter2"}}
		in, err := json.Marshal(map[string]any{"message": text, "token": nil, "n": 7, "password": text})
		if err != nil {
			return
		}
		out, err := r.json(in, "  ")
		if err != nil || !json.Valid(out) || bytes.Contains(out, []byte("hunter2")) {
			t.Errorf("%s\nbecame %s, %v", in, out, err)
		}
		if out := r.lines(text + "\n" + string(in)); strings.Contains(out, "hunter2") {
			t.Errorf("%s", out)
		}
	})
}
