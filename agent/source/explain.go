package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var errNotShallow = errors.New("the server can't give a commit without its history")

// damaged says that what the repository holds can't be used.
func damaged(err error) error {
	if errors.Is(err, errLimit) {
		return fleet.WithHint(fleet.Invalid("%w", err),
			"keep large files out of the repository that clusters follow; every cluster would download them")
	}
	return fleet.WithHint(fleet.Invalid("%w", err), "check the repository at its server with git fsck")
}

// noBranch says which branches there are instead.
func (r *Repository) noBranch(refs *packp.AdvRefs) error {
	var names []string
	for ref := range refs.References {
		if name, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	const few = 5
	hint := "push it, or follow another branch"
	if n := len(names); n > 0 {
		hint += "; there is " + strings.Join(names[:min(n, few)], ", ")
		if n > few {
			hint += fmt.Sprintf(" and %d more", n-few)
		}
	}
	return fleet.WithHint(fleet.NotFound("there is no branch %q", r.cfg.Branch), hint)
}

// explain says what went wrong with which repository, and what to do about it.
func (r *Repository) explain(ctx context.Context, with credentials, err error) error {
	hint := fleet.Hint(err)
	if hint == "" {
		hint, err = r.translate(ctx, with, err)
	}
	return fleet.WithHint(fmt.Errorf("repository %s: %w", r.cfg.URL, err), hint)
}

func (r *Repository) translate(ctx context.Context, with credentials, err error) (hint string, explained error) {
	// go-git's wrapping does not unwrap by itself.
	if unexpected, ok := errors.AsType[*plumbing.UnexpectedError](err); ok {
		err = unexpected.Err
	}
	var status *githttp.Err
	switch {
	case errors.Is(err, transport.ErrAuthenticationRequired) && with.none():
		return "give the files that hold the username and the password, or the bearer token", fleet.Forbidden("the server asks for credentials, and none are configured")
	case errors.Is(err, transport.ErrAuthenticationRequired):
		return "check the Secret with the username and the password or token; it may have expired. It is read again at the next fetch", fleet.Forbidden("the server refuses the credentials")
	case errors.Is(err, transport.ErrAuthorizationFailed):
		return "give them read access to it", fleet.Forbidden("the server does not let these credentials read the repository")
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return "check the URL; many servers also answer so when credentials are missing or may not see the repository", fleet.NotFound("there is no such repository")
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return fmt.Sprintf("push a first commit to the branch %q", r.cfg.Branch), fleet.NotFound("the repository is empty")
	case errors.Is(err, errAnswerTooLong):
		return "are there great numbers of branches and tags? Follow a repository without them", fleet.Invalid("%w: %w", errLimit, errAnswerTooLong)
	case errors.Is(err, errNotShallow):
		return "use a server that supports shallow clones, as all current ones do", fleet.Unavailable("%w", err)
	case errors.As(err, &status):
		return "look at the Git server's log; is the URL a repository's?", fleet.Unavailable("the server answers with status %d", status.StatusCode())
	default:
		return r.translateNetwork(ctx, with, err)
	}
}

// translateNetwork is for what happens before a server answers.
func (r *Repository) translateNetwork(ctx context.Context, with credentials, err error) (hint string, explained error) {
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
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "is the Git server up, and fast enough from here?", fleet.Unavailable("no complete answer within %s: %w", r.cfg.Timeout, context.DeadlineExceeded)
	case ctx.Err() != nil:
		return "", ctx.Err() // nobody waits for it any more
	case errors.As(err, &certificate), errors.As(err, &authority):
		return "if a private authority issued it, give the file with that authority's certificate", fleet.Unavailable("the server's certificate is not trusted: %w", err)
	case errors.As(err, &dns):
		return "check the host's name in the URL, and that the cluster's DNS knows it", fleet.Unavailable("the server can't be reached: %w", err)
	case errors.As(err, &op):
		return "is the Git server up, and does a network policy or a proxy let the agent reach it?", fleet.Unavailable("the server can't be reached: %w", err)
	default:
		return "is the URL a Git repository's, over smart HTTP? Look at the Git server's log", fleet.Unavailable("the fetch failed: %s", plain(with.hide(err.Error())))
	}
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
