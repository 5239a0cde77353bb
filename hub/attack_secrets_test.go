package hub_test

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// ears are a log that is kept whole.
type ears struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (e *ears) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.Write(p)
}

func (e *ears) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.String()
}

// What is secret lies in files of its own that nobody else may read, and is
// nowhere else: not in the log, whatever is logged, and not in what the hub
// remembers.
func TestSecretsStayWhereTheyAre(t *testing.T) {
	dir, said := t.TempDir(), &ears{}
	f := newFortWith(t, dir, hub.Config{Log: slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug - 8}))})
	secrets := map[string]string{} // by what they are
	x := &attacker{T: t, fort: f, over: "tls", cluster: "dev"}
	token := x.token("dev", 0)
	secrets["the join token's seed"] = token.Seed
	secrets["the join token's credential"] = token.JWT
	j := x.joiner(token)
	key, pub := x.newKey()
	got, err := x.enrol(j, token.Join, key)
	x.must(err)
	other, _ := x.newKey()
	if _, err := x.enrol(j, token.Join, other); err == nil {
		t.Error("a token was used twice")
	}
	seed, err := key.Seed()
	x.must(err)
	secrets["the agent's seed"] = string(seed)
	secrets["the agent's credential"] = got.JWT
	a, err := x.connect(got.JWT, key, wire.Inbox("dev"))
	x.must(err)
	x.must(a.hello())
	x.must(a.report(web, "well"))
	renewed, err := say[wire.Renewed](a, wire.RenewSubject("dev"), wire.Renew{Key: pub})
	x.must(err)
	secrets["the renewed credential"] = renewed.JWT
	for name := range allKeys(t, dir, secrets) {
		secrets["what "+name+" was before"] = secrets[name]
	}
	x.must(hub.RotateKeys(filepath.Join(dir, "keys"), time.Hour, time.Now()))
	allKeys(t, dir, secrets)
	x.must(f.people().RemoveCluster(t.Context(), "dev"))
	x.until("the agent is cut", a.IsClosed)
	if _, err := x.connect(got.JWT, key, wire.Inbox("dev")); err == nil {
		t.Error("a removed agent comes back")
	}
	admin, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	x.must(err)
	secrets["the administrator's token"] = strings.TrimSpace(string(admin))

	look := func(where, text string) {
		for what, secret := range secrets {
			if len(secret) < 20 {
				t.Fatalf("%s is no secret: %q", what, secret)
			}
			if strings.Contains(text, secret) {
				t.Errorf("%s is in %s", what, where)
			}
		}
	}
	if text := said.String(); len(text) < 1000 {
		t.Errorf("the log is too short to show anything: %s", text)
	} else {
		look("the log", text)
	}
	x.must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if path != dir && info.Mode().Perm()&0o007 != 0 {
			t.Errorf("%s is open to all: %v", rel, info.Mode())
		}
		if !d.Type().IsRegular() {
			return nil
		}
		if holdsKey(rel) {
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", rel, info.Mode())
			}
			return nil
		}
		text, err := os.ReadFile(path)
		look(rel, string(text))
		return err
	}))
}

func holdsKey(path string) bool {
	return strings.HasSuffix(path, ".nk") || path == filepath.Join("tls", "ca.key") || path == "admin.token"
}

// allKeys adds the keys that lie in the data directory.
func allKeys(t *testing.T, dir string, into map[string]string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(dir, "keys", "*.nk"))
	if err != nil || len(files) != 10 {
		t.Fatal(files, err)
	}
	for _, file := range append(files, filepath.Join(dir, "tls", "ca.key")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		secret := strings.TrimSpace(string(text))
		if strings.HasPrefix(secret, "-----") {
			secret = strings.Split(secret, "\n")[1] // the first line of what is in the PEM
		}
		name := filepath.Base(file)
		into[name], names[name] = secret, true
	}
	return names
}
