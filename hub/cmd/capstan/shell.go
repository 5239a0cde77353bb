package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// hub is what the commands ask for: a fleet.Hub that knows its people and can
// make login links.
type hub interface {
	fleet.Hub
	fleet.People
	Login(ctx context.Context) (url string, err error)
	SignIn(ctx context.Context) (client.SignIn, error)
}

var _ hub = (*client.Client)(nil)

// shell is the world a command runs in.
type shell struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string
	now      func() time.Time
	typed    bool // somebody is there to answer
	color    bool // of stdout
	hubURL   string
}

func newShell() *shell {
	onTerminal := term.IsTerminal(int(os.Stdout.Fd()))
	return &shell{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv, now: time.Now,
		typed: term.IsTerminal(int(os.Stdin.Fd())),
		color: onTerminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
	}
}

func (s *shell) hubAddress() string {
	return strings.TrimSuffix(cmp.Or(s.hubURL, s.env("CAPSTAN_HUB")), "/")
}

func (s *shell) hub() (hub, error) {
	address := s.hubAddress()
	if address == "" {
		return nil, fleet.WithHint(usageError{errors.New("no hub is named")},
			"set CAPSTAN_HUB to the hub's address, and CAPSTAN_TOKEN to your token (or use: capstan login)")
	}
	token := s.env("CAPSTAN_TOKEN")
	if token == "" {
		var err error
		if token, err = s.signedIn(address); err != nil {
			return nil, err
		}
	}
	return client.New(client.Config{URL: address, Token: token})
}

// say writes to stderr: what a person should know, beside the result.
func (s *shell) say(format string, a ...any) { fmt.Fprintf(s.err, format+"\n", a...) }

// next suggests a command.
func (s *shell) next(format string, a ...any) { s.say("next: "+format, a...) }

func (s *shell) printf(format string, a ...any) { fmt.Fprintf(s.out, format, a...) }

// confirm asks a person. Nobody there to ask is a yes: scripts say what they
// want by calling the command.
func (s *shell) confirm(question string, yes bool) error {
	if yes || !s.typed {
		return nil
	}
	fmt.Fprintf(s.err, "%s [y/N] ", question)
	line, err := bufio.NewReader(s.in).ReadString('\n')
	if err != nil && line == "" {
		return errors.New("no answer: nothing was done")
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}

// passphrase asks without showing what is typed.
func (s *shell) passphrase(path string) ([]byte, error) {
	fmt.Fprintf(s.err, "Passphrase for %s: ", path)
	defer fmt.Fprintln(s.err)
	return term.ReadPassword(int(os.Stdin.Fd()))
}

// The exit codes.
const (
	exitFailed     = 1
	exitUsage      = 2
	exitDiffFailed = 3
)

// usageError is a request that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(hint, format string, a ...any) error {
	return fleet.WithHint(usageError{fmt.Errorf(format, a...)}, hint)
}

// exitError ends with a code of its own; without an error it says nothing.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

// finish says what went wrong and returns the exit code.
func (s *shell) finish(err error) int {
	if err == nil {
		return 0
	}
	code := exitFailed
	var own exitError
	var misuse usageError
	switch {
	case errors.As(err, &own):
		if own.err == nil {
			return own.code
		}
		code = own.code
		if errors.As(err, &misuse) {
			code = exitUsage
		}
	case errors.As(err, &misuse):
		code = exitUsage
	}
	if errors.Is(err, context.Canceled) {
		return code // somebody pressed Ctrl-C, and knows
	}
	s.say("error: %s", err)
	if hint := fleet.Hint(err); hint != "" {
		s.say("hint: %s", hint)
	}
	return code
}
