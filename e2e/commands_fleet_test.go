package e2e_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// publish copies a directory of the script's over the fleet repository, commits
// and pushes.
func (p *play) publish(args []string) (string, error) {
	if len(args) != 2 {
		return "", errUsage
	}
	files, err := p.filesIn(args[0])
	if err != nil {
		return "", err
	}
	return p.stage.Fleet.Push(p.ctx, args[1], files)
}

// filesIn reads a directory of the script.
func (p *play) filesIn(name string) (map[string]string, error) {
	dir, files := filepath.Join(p.work, filepath.FromSlash(name)), make(map[string]string)
	return files, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(b)
		return err
	})
}

// rewrite replaces the history of the branch: there is one new commit where
// the last one was.
func (p *play) rewrite(args []string) (string, error) {
	if len(args) != 1 {
		return "", errUsage
	}
	for _, git := range [][]string{
		{"add", "--all"},
		{"commit", "--quiet", "--amend", "--message", args[0]},
		{"push", "--quiet", "--force"},
	} {
		if _, err := p.stage.Fleet.Git(p.ctx, git...); err != nil {
			return "", err
		}
	}
	return p.stage.Fleet.Git(p.ctx, "rev-parse", "HEAD")
}

// head is the revision that agents call what was pushed last.
func (p *play) head() (string, error) {
	commit, err := p.stage.Fleet.Git(p.ctx, "rev-parse", "HEAD")
	return "main@sha1:" + strings.TrimSpace(commit), err
}

// same checks that objects are the ones they were when it was first asked about
// them: none was deleted and made anew.
func (p *play) same(args []string) (string, error) {
	if len(args) < 2 {
		return "", errUsage
	}
	for _, object := range args[1:] {
		uid, err := p.stage.Kubectl(p.ctx, args[0], "", "get", object, "-o", "jsonpath={.metadata.uid}")
		if err != nil {
			return "", err
		}
		key := args[0] + " " + object
		if before, known := p.uids[key]; known && before != uid {
			return "", fmt.Errorf("%s had uid %s and has %s now", key, before, uid)
		}
		p.uids[key] = uid
	}
	return "", nil
}
