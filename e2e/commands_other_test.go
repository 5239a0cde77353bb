package e2e_test

import (
	"crypto/rand"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/capstan-gitops/capstan/e2e/gitserver"
)

// otherRepository is on a Git server of its own, where the agents have no
// credentials.
type otherRepository struct {
	server *gitserver.Server
	work   *gitserver.WorkTree
}

const (
	otherName   = "shop"
	otherReader = "reader"
	otherWriter = "developer"
)

// other also tells the script where the repository is.
func other(ts *testscript.TestScript, neg bool, args []string) {
	script((*play).another)(ts, neg, args)
	if p, ok := ts.Value(fleetKey{}).(*play); ok && p.other != nil {
		ts.Setenv("OTHER_REPO", p.other.server.URL(otherName))
	}
}

func (p *play) another(args []string) (string, error) {
	switch {
	case len(args) == 1 && args[0] == "start" && p.other == nil:
		return "", p.startOther()
	case p.other == nil:
	case len(args) == 1 && (args[0] == "down" || args[0] == "up"):
		p.other.server.SetAvailable(args[0] == "up")
		return "", nil
	case len(args) == 2 && args[0] == "password":
		p.other.server.SetPassword(otherReader, args[1])
		return "", nil
	case len(args) == 3 && args[0] == "publish":
		files, err := p.filesIn(args[1])
		if err != nil {
			return "", err
		}
		return p.other.work.Push(p.ctx, args[2], files)
	}
	return "", errUsage
}

func (p *play) startOther() error {
	password := rand.Text()
	server, err := gitserver.Start(gitserver.Config{
		Dir: filepath.Join(p.work, stageDir, "other-git"),
		Users: map[string]gitserver.User{
			otherReader: {Password: rand.Text()},
			otherWriter: {Password: password, Write: true},
		},
		Webhook: p.stage.Hub.GitWebhook(),
	})
	if err != nil {
		return err
	}
	p.other = &otherRepository{server: server}
	if err := server.Create(p.ctx, otherName); err != nil {
		return err
	}
	p.other.work, err = gitserver.NewWorkTree(p.ctx, gitserver.WorkTreeConfig{
		Dir: filepath.Join(p.work, stageDir, "other-work"), URL: server.URL(otherName),
		User: otherWriter, Password: password, Name: "Shop Developer", Email: "shop@example.com",
	})
	return err
}
