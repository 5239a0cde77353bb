package stage

import (
	"context"
	"crypto/rand"
	"embed"
	"io/fs"
	"path/filepath"

	"github.com/capstan-gitops/capstan/e2e/gitserver"
)

//go:embed all:fleet
var fleetFiles embed.FS

const (
	fleetName    = "fleet"
	fleetRoot    = "clusters/fleet" // what agents read first
	pollInterval = "5s"             // so that a story without a webhook goes on as well
	gitReader    = "agent"
	gitWriter    = "developer"
	writerName   = "Demo Developer"
	writerMail   = "developer@example.com"
)

// StartGit starts a Git server, and publishes a small fleet repository on it.
func (s *Stage) StartGit(ctx context.Context) error {
	readerPassword, writerPassword := rand.Text(), rand.Text()
	git, err := gitserver.Start(gitserver.Config{
		Dir: filepath.Join(s.cfg.Dir, "git"),
		Users: map[string]gitserver.User{
			gitReader: {Password: readerPassword},
			gitWriter: {Password: writerPassword, Write: true},
		},
	})
	if err != nil {
		return err
	}
	s.Git = git
	if err := git.Create(ctx, fleetName); err != nil {
		return err
	}
	s.Fleet, err = gitserver.NewWorkTree(ctx, gitserver.WorkTreeConfig{
		Dir: filepath.Join(s.cfg.Dir, fleetName), URL: s.RepositoryURL(),
		User: gitWriter, Password: writerPassword, Name: writerName, Email: writerMail,
	})
	if err != nil {
		return err
	}
	if err := writeSecrets(filepath.Join(s.cfg.Dir, "git-reader"), map[string]string{
		"username": gitReader, "password": readerPassword,
	}); err != nil {
		return err
	}
	files, err := fleetContent()
	if err != nil {
		return err
	}
	_, err = s.Fleet.Push(ctx, "Start the fleet with a guestbook", files)
	return err
}

// RepositoryURL is where the fleet repository is served.
func (s *Stage) RepositoryURL() string { return s.Git.URL(fleetName) }

// gitSecret is a file with the reader's "username" or "password".
func (s *Stage) gitSecret(name string) string { return filepath.Join(s.cfg.Dir, "git-reader", name) }

// GitReader names the files with what an agent signs in with.
func (s *Stage) GitReader() (usernameFile, passwordFile string) {
	return s.gitSecret("username"), s.gitSecret("password")
}

func fleetContent() (map[string]string, error) {
	files := make(map[string]string)
	err := fs.WalkDir(fleetFiles, fleetName, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fleetFiles.ReadFile(path)
		if err != nil {
			return err
		}
		files[path[len(fleetName)+1:]] = string(b)
		return nil
	})
	return files, err
}
