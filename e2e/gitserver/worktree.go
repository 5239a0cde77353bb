package gitserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// WorkTree is a clone somebody works in. It carries its own identity,
// credentials and upstream, so that plain `git commit` and `git push` work in it
// whatever configuration its user has, or has not.
type WorkTree struct{ dir string }

// WorkTreeConfig says what to clone, where to, and as whom.
type WorkTreeConfig struct {
	Dir            string // must not exist, or be empty
	URL            string // of a repository, without credentials
	User, Password string
	Name, Email    string // the author of its commits
}

// NewWorkTree makes a clone that follows the branch main, which may not exist yet.
func NewWorkTree(ctx context.Context, cfg WorkTreeConfig) (*WorkTree, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	w := &WorkTree{dir: dir}
	if _, err := w.Git(ctx, "init", "--quiet", "--initial-branch=main"); err != nil {
		return nil, err
	}
	store, err := w.storeCredentials(cfg)
	if err != nil {
		return nil, err
	}
	for _, kv := range [][2]string{
		{"user.name", cfg.Name},
		{"user.email", cfg.Email},
		{"commit.gpgsign", "false"},
		{"core.hooksPath", ".git/hooks"}, // not the user's own
		{"http.proxy", ""},               // the server is on loopback
		{"push.default", "simple"},
		{"remote.origin.url", cfg.URL},
		{"remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"},
		{"branch.main.remote", "origin"},
		{"branch.main.merge", "refs/heads/main"},
		{"credential.helper", ""}, // an empty one forgets the user's helpers
	} {
		if _, err := w.Git(ctx, "config", kv[0], kv[1]); err != nil {
			return nil, err
		}
	}
	if _, err := w.Git(ctx, "config", "--add", "credential.helper", store); err != nil {
		return nil, err
	}
	if _, err := w.Git(ctx, "fetch", "--quiet"); err != nil {
		return nil, err
	}
	pushed, err := w.Git(ctx, "for-each-ref", "refs/remotes/origin/main")
	if err == nil && pushed != "" {
		_, err = w.Git(ctx, "reset", "--quiet", "--hard", "origin/main")
	}
	return w, err
}

// storeCredentials keeps the password in the clone's own .git and returns the
// credential helper that reads it there. git's own store would forget a
// password that was refused once.
func (w *WorkTree) storeCredentials(cfg WorkTreeConfig) (helper string, err error) {
	file := filepath.Join(w.dir, ".git", "credentials")
	answer := fmt.Sprintf("username=%s\npassword=%s\n", cfg.User, cfg.Password)
	if err := os.WriteFile(file, []byte(answer), 0o600); err != nil {
		return "", err
	}
	quoted := "'" + strings.ReplaceAll(file, "'", `'\''`) + "'"
	return `!f() { if [ "$1" = get ]; then cat ` + quoted + `; fi; }; f`, nil
}

// Dir is where the clone is.
func (w *WorkTree) Dir() string { return w.dir }

// Git runs git in the clone and returns what it prints.
func (w *WorkTree) Git(ctx context.Context, args ...string) (string, error) {
	return run(ctx, w.dir, args...)
}

// Write puts files into the clone by their slash-separated path; empty content
// removes the file.
func (w *WorkTree) Write(files map[string]string) error {
	for name, content := range files {
		path := filepath.Join(w.dir, filepath.FromSlash(name))
		if content == "" {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Push writes files, commits everything and pushes it. It returns the commit.
func (w *WorkTree) Push(ctx context.Context, message string, files map[string]string) (string, error) {
	if err := w.Write(files); err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"add", "--all"},
		{"commit", "--quiet", "--message", message},
		{"push", "--quiet"},
	} {
		if _, err := w.Git(ctx, args...); err != nil {
			return "", err
		}
	}
	return w.Git(ctx, "rev-parse", "HEAD")
}
