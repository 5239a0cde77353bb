package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/capstan-gitops/capstan/e2e/stage"
)

// yourTurn says what a person can do now. The file to source comes last:
// whoever finds it finds everything up.
func (d *demo) yourTurn(ctx context.Context, s *stage.Stage) error {
	login, err := s.Hub.Client.Login(ctx)
	if err != nil {
		return err
	}
	d.heading("prod waits for your approval")
	d.say(`
The page (this link logs in once):

    %s

In another terminal, in this directory:

    . .demo/env
    capstan get apps
    capstan diff guestbook --cluster prod
    capstan approve guestbook --cluster prod --comment "looks right"

    capstan label cluster staging env=dev     # guestbook comes to staging
    capstan label cluster staging env-        # and goes again
    kubectl --kubeconfig $KUBECONFIG_DEV delete deployment guestbook-ui
    cd $FLEET_REPO                            # edit, git commit, git push

Ctrl-C ends everything.`, login)
	return d.writeEnv(s)
}

func (d *demo) envFile() string { return filepath.Join(d.dir, "env") }

// writeEnv puts the file in place whole: nobody sources half of it.
func (d *demo) writeEnv(s *stage.Stage) error {
	var text strings.Builder
	for _, kv := range s.Env() {
		text.WriteString("export " + kv[0] + "=" + stage.Quote(kv[1]) + "\n")
	}
	part := d.envFile() + ".part"
	if err := os.WriteFile(part, []byte(text.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(part, d.envFile())
}

func (d *demo) removeEnv() error {
	if err := os.Remove(d.envFile()); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
