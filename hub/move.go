package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/hub/backup"
	"github.com/capstan-gitops/capstan/hub/broker"
	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// What of a data directory is not in a backup: the store is there by its
// documents, and a token in clear is for the people who have it.
var notMoved = []string{"jetstream", "lock", socketName, "admin.token", unfinished}

// unfinished is where a restore builds a directory's content.
const unfinished = ".restoring"

// writeBackup writes the hub's files and documents.
func writeBackup(ctx context.Context, cfg Config, instance string, kept *store.KV, w io.Writer) error {
	b, err := backup.NewWriter(w, backup.Header{Instance: instance, Hub: cfg.Version, At: time.Now().UTC()})
	if err != nil {
		return err
	}
	err = filepath.WalkDir(cfg.DataDir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(cfg.DataDir, p)
		switch {
		case err != nil:
			return err
		case slices.Contains(notMoved, name) && d.IsDir():
			return fs.SkipDir
		case slices.Contains(notMoved, name) || !d.Type().IsRegular() || strings.HasPrefix(d.Name(), ".new-"):
			return nil
		}
		data, err := os.ReadFile(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // replaced just now
		}
		if err != nil {
			return err
		}
		return b.File(backup.File{Name: filepath.ToSlash(name), Data: data})
	})
	if err != nil {
		return err
	}
	err = kept.Export(ctx, func(bucket, key string, value []byte) error {
		return b.Record(backup.Record{Bucket: bucket, Key: key, Value: value})
	})
	if err != nil {
		return err
	}
	return b.Close()
}

// Restore makes a data directory, which must hold no hub's yet, of a backup.
// open is called twice, and opens the backup from its start: nothing is made of
// one that is damaged. The error is ErrInvalid for such, and ErrConflict where
// there is a hub's data already.
func Restore(ctx context.Context, dataDir string, open func() (io.ReadCloser, error)) (backup.Summary, error) {
	none := backup.Summary{}
	if _, err := readAll(open, backup.Into{}); err != nil {
		return none, err
	}
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return none, fmt.Errorf("data directory: %w", err)
	}
	unlock, err := lock(dataDir)
	if err != nil {
		return none, err
	}
	defer unlock()
	if err := checkEmpty(dataDir); err != nil {
		return none, err
	}
	stage := filepath.Join(dataDir, unfinished)
	if err := os.RemoveAll(stage); err != nil {
		return none, err
	}
	if err := os.Mkdir(stage, 0o700); err != nil {
		return none, err
	}
	sum, err := build(ctx, stage, open)
	if err != nil {
		return none, errors.Join(err, os.RemoveAll(stage))
	}
	return sum, settle(stage, dataDir)
}

func readAll(open func() (io.ReadCloser, error), into backup.Into) (backup.Summary, error) {
	r, err := open()
	if err != nil {
		return backup.Summary{}, err
	}
	defer r.Close()
	return backup.Read(r, into)
}

// checkEmpty lets a directory pass that has what a new volume has, or a restore
// that did not finish.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !slices.Contains([]string{"lock", "lost+found", unfinished}, e.Name()) {
			return fleet.WithHint(fleet.Conflict("data directory %s is not empty: it has %s", dir, e.Name()), "restore into a new one")
		}
	}
	return nil
}

// checkFinished refuses a directory in which a restore did not finish.
func checkFinished(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, unfinished)); err == nil {
		return fleet.WithHint(fleet.Conflict("a restore into %s did not finish", dir), "empty the directory, and restore again")
	}
	return nil
}

// build writes files first, keys among them, then starts the store on them and
// brings the documents in.
func build(ctx context.Context, stage string, open func() (io.ReadCloser, error)) (backup.Summary, error) {
	_, err := readAll(open, backup.Into{File: func(f backup.File) error {
		p := filepath.Join(stage, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			return err
		}
		return broker.WriteSecret(p, f.Data)
	}})
	if err != nil {
		return backup.Summary{}, err
	}
	b, err := broker.Open(broker.Config{Dir: stage, Listen: "127.0.0.1:0", TLS: "off"})
	if err != nil {
		return backup.Summary{}, err
	}
	defer b.Close()
	js, err := b.JetStream()
	if err != nil {
		return backup.Summary{}, err
	}
	kept, err := store.OpenKV(ctx, js, 1)
	if err != nil {
		return backup.Summary{}, err
	}
	sum, err := readAll(open, backup.Into{Record: func(r backup.Record) error {
		value, err := renewed(r, time.Now())
		if err != nil {
			return err
		}
		return kept.Import(ctx, r.Bucket, r.Key, value)
	}})
	if err != nil {
		return backup.Summary{}, err
	}
	if sum.Header.Instance != b.Instance() {
		return backup.Summary{}, fleet.Invalid("the backup is of hub %s, its files of %s", sum.Header.Instance, b.Instance())
	}
	return sum, noteRestore(ctx, kept, sum)
}

// sinceYear is from when seconds are counted for what must not repeat.
var sinceYear = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// renewed is a record as it comes back. Agents heed an intent only if its
// revision is above what they have, and they may have heard more since the
// backup: so it jumps ahead, by more than an intent changes, at one change a
// second, between two restores. What was asked for at once is not asked again.
func renewed(r backup.Record, now time.Time) ([]byte, error) {
	if r.Bucket != store.Intent {
		return r.Value, nil
	}
	var in fleet.Intent
	if err := json.Unmarshal(r.Value, &in); err != nil {
		return nil, fleet.Invalid("the intent of %s can't be read: %w", r.Key, err)
	}
	in.Revision += uint64(max(0, int64(now.Sub(sinceYear)/time.Second)))
	in.Syncs = nil
	return json.Marshal(in)
}

// noteRestore says in the log that its end is not what followed.
func noteRestore(ctx context.Context, kept *store.KV, sum backup.Summary) error {
	b, err := json.Marshal(map[string]any{
		"at": time.Now().UTC(), "actor": "hub", "action": "restore", "detail": map[string]any{"backup": sum.Header.At},
	})
	if err != nil {
		return err
	}
	return kept.Log().Append(ctx, "fleet", b)
}

// settle moves what was built to where it belongs. The hub's id comes last:
// until then it is no hub's directory.
func settle(stage, dir string) error {
	entries, err := os.ReadDir(stage)
	if err != nil {
		return err
	}
	slices.SortStableFunc(entries, func(a, b fs.DirEntry) int {
		return last(a.Name()) - last(b.Name())
	})
	for _, e := range entries {
		if err := os.Rename(filepath.Join(stage, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.Remove(stage)
}

func last(name string) int {
	if name == "instance" {
		return 1
	}
	return 0
}
