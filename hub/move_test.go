package hub_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/hub/backup"
	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// backedUp is a backup of a hub that ran in dir.
func backedUp(t *testing.T, dir string) (data []byte, token string) {
	t.Helper()
	a, stop := run(t, hub.Config{DataDir: dir})
	token = adminToken(t, a)
	c, err := client.New(client.Config{URL: a.URL, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Join(t.Context(), "dev", 0); err != nil { // leaves a trace in the log
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := hub.Backup(t.Context(), dir, &out); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), token
}

func opener(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

func TestARestoredHubIsTheOneThatWasBackedUp(t *testing.T) {
	old, fresh := filepath.Join(t.TempDir(), "old"), filepath.Join(t.TempDir(), "new")
	data, token := backedUp(t, old)
	sum, err := hub.Restore(t.Context(), fresh, opener(data))
	if err != nil || sum.Files < 9 || sum.Records < 1 {
		t.Fatalf("%+v, %v", sum, err)
	}
	for _, name := range []string{"instance", "keys/operator.nk", "tokens"} {
		was, err := os.ReadFile(filepath.Join(old, name))
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(fresh, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		if is, _ := os.ReadFile(filepath.Join(fresh, name)); !bytes.Equal(was, is) {
			t.Errorf("%s is another", name)
		}
	}
	if _, err := os.Stat(filepath.Join(fresh, "admin.token")); err == nil {
		t.Error("the token in clear was in the backup")
	}
	a, stop := run(t, hub.Config{DataDir: fresh})
	if code, body := get(t, a.URL+client.Prefix+"/clusters", token); code != 200 {
		t.Errorf("the old token: %d %s", code, body)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := hub.Backup(t.Context(), fresh, io.Discard); !errors.Is(err, fleet.ErrUnavailable) || fleet.Hint(err) == "" {
		t.Errorf("a backup of a hub that is stopped: %v", err)
	}
}

func TestABackupHoldsNoTokenInClear(t *testing.T) {
	data, token := backedUp(t, t.TempDir())
	var all bytes.Buffer
	_, err := backup.Read(bytes.NewReader(data), backup.Into{
		File:   func(f backup.File) error { all.WriteString(f.Name + "\n"); all.Write(f.Data); return nil },
		Record: func(r backup.Record) error { all.WriteString(r.Bucket + "\n"); all.Write(r.Value); return nil },
	})
	if err != nil || strings.Contains(all.String(), token) || strings.Contains(all.String(), "joins\n") || strings.Contains(all.String(), "leases\n") {
		t.Errorf("%v\n%s", err, all.String())
	}
	if !strings.Contains(all.String(), "audit\n") {
		t.Error("the record of who did what is not in it")
	}
}

func TestARestoreSparesWhatIsThere(t *testing.T) {
	old := t.TempDir()
	data, _ := backedUp(t, old)
	if _, err := hub.Restore(t.Context(), old, opener(data)); !errors.Is(err, fleet.ErrConflict) || fleet.Hint(err) == "" {
		t.Errorf("over a hub's data: %v", err)
	}
	_, stop := run(t, hub.Config{DataDir: old})
	if _, err := hub.Restore(t.Context(), old, opener(data)); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("under a running hub: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	fresh := filepath.Join(t.TempDir(), "new")
	if _, err := hub.Restore(t.Context(), fresh, opener(data[:len(data)-9])); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("of half a backup: %v", err)
	}
	if _, err := os.Stat(fresh); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a backup left something: %v", err)
	}
}

func TestARestoreThatDidNotFinishIsNoHub(t *testing.T) {
	dir := t.TempDir()
	data, _ := backedUp(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	_, err := hub.Restore(ctx, dir, func() (io.ReadCloser, error) {
		if n++; n == 3 { // the documents
			cancel()
		}
		return opener(data)()
	})
	if err == nil {
		t.Fatal("it went on though it was told to end")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v; want the lock alone", entries, err)
	}
	if err := os.Mkdir(filepath.Join(dir, ".restoring"), 0o700); err != nil { // of one that was killed
		t.Fatal(err)
	}
	err = hub.Run(t.Context(), hub.Config{DataDir: dir, Listen: "127.0.0.1:0", NATSListen: "127.0.0.1:0"})
	if !errors.Is(err, fleet.ErrConflict) || !strings.Contains(err.Error(), "did not finish") {
		t.Errorf("a hub started on it: %v", err)
	}
	if _, err := hub.Restore(t.Context(), dir, opener(data)); err != nil {
		t.Errorf("once more: %v", err)
	}
}
