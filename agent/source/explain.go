package source

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var errNotShallow = errors.New("the server can't give a commit without its history")

// damaged says that what the repository holds can't be used.
func damaged(err error) error {
	if errors.Is(err, errLimit) {
		return fleet.WithHint(fleet.Invalid("%w", err),
			cmp.Or(fleet.Hint(err), "keep large files out of the repository that clusters follow; every cluster would download them"))
	}
	return fleet.WithHint(fleet.Invalid("%w", err), "check the repository at its server with git fsck")
}

// explain says what went wrong, and what to do about it.
func (s *server) explain(ctx context.Context, with credentials, err error) error {
	hint := fleet.Hint(err)
	if hint == "" {
		hint, err = s.translate(ctx, with, err)
	}
	return fleet.WithHint(err, hint)
}

func (s *server) translate(ctx context.Context, with credentials, err error) (hint string, explained error) {
	// go-git's wrapping does not unwrap by itself.
	if unexpected, ok := errors.AsType[*plumbing.UnexpectedError](err); ok {
		err = unexpected.Err
	}
	var status *githttp.Err
	switch {
	case ctx.Err() != nil: // whatever came of it
		err := noAnswer(ctx, s.cfg.Timeout)
		return fleet.Hint(err), err
	case errors.Is(err, transport.ErrAuthenticationRequired) && with.none() && s.cfg.hasCredentials():
		return "credentials go to the host of the repository's URL only; have the mirror let everybody read, or reach it over ssh", fleet.Forbidden("the server asks for credentials")
	case errors.Is(err, transport.ErrAuthenticationRequired) && with.none():
		return "give the files that hold the username and the password, or the bearer token", fleet.Forbidden("the server asks for credentials, and none are configured")
	case errors.Is(err, transport.ErrAuthenticationRequired):
		return "check the Secret with the username and the password or token; it may have expired. It is read again at the next fetch", fleet.Forbidden("the server refuses the credentials")
	case errors.Is(err, transport.ErrAuthorizationFailed):
		return "give them read access to it", fleet.Forbidden("the server does not let these credentials read the repository")
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return "check the URL; many servers also answer so when credentials are missing or may not see the repository", fleet.NotFound("there is no such repository")
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return fmt.Sprintf("push to it; followed is the %s", s.cfg.Ref), fleet.NotFound("the repository is empty")
	case errors.Is(err, errAnswerTooLong):
		return "are there great numbers of branches and tags? Follow a repository without them", fleet.Invalid("%w: %w", errLimit, errAnswerTooLong)
	case errors.Is(err, errNotShallow):
		return "use a server that supports shallow clones, as all current ones do", fleet.Unavailable("%w", err)
	case errors.As(err, &status):
		return "look at the Git server's log; is the URL a repository's?", fleet.Unavailable("the server answers with status %d", status.StatusCode())
	case strings.Contains(err.Error(), "not our ref"): // go-git gives the text alone
		return "many servers give only what a branch or tag points at: set uploadpack.allowReachableSHA1InWant there, or follow a tag",
			fleet.NotFound("the server does not give what was asked for, the %s", s.cfg.Ref)
	default:
		return s.translateNetwork(with, err)
	}
}

// translateNetwork is for what happens before a server answers.
func (s *server) translateNetwork(with credentials, err error) (hint string, explained error) {
	// The error of a request quotes its URL, which after a redirect is not ours.
	if request, ok := errors.AsType[*url.Error](err); ok {
		err = request.Err
	}
	var (
		dns         *net.DNSError
		op          *net.OpError
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
	)
	switch {
	case errors.Is(err, errElsewhere):
		return "did the repository move? List where it is in the agent's configuration under repositories, and name that", fleet.Forbidden("%w", errElsewhere)
	case errors.As(err, &certificate), errors.As(err, &authority):
		return "if a private authority issued it, give the file with that authority's certificate", fleet.Unavailable("the server's certificate is not trusted: %w", err)
	case strings.Contains(err.Error(), "remote error: tls: "): // it has no type of its own
		return "does the server ask for a client certificate, and does it know the authority of the one given?",
			fleet.Forbidden("the server refuses the connection over a certificate: %s", plain(err.Error()))
	case errors.As(err, &dns):
		return "check the host's name in the URL, and that the cluster's DNS knows it", fleet.Unavailable("the server can't be reached: %w", err)
	case errors.As(err, &op):
		return "is the Git server up, and does a network policy or a proxy let the agent reach it?", fleet.Unavailable("the server can't be reached: %w", err)
	default:
		return "is the URL a Git repository's, over smart HTTP or ssh? Look at the Git server's log", fleet.Unavailable("the fetch failed: %s", plain(with.hide(err.Error())))
	}
}

// noAnswer is for a fetch that was not over in time, or that nobody waits for
// any more.
func noAnswer(ctx context.Context, timeout time.Duration) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fleet.WithHint(fleet.Unavailable("no complete answer within %s: %w", timeout, context.DeadlineExceeded),
			"is the Git server up, and fast enough from here?")
	}
	return ctx.Err()
}

// plain makes one short line of a text that may quote what a server sent.
func plain(text string) string {
	const long = 300
	text = strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > long {
		text = string(runes[:long]) + "..."
	}
	return text
}
