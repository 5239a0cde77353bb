package source

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
)

// greeting is how a server that speaks version 2 introduced itself.
type greeting struct {
	base string // where its commands go
	own  bool   // that is where the credentials are for
	able abilities
}

// httpTalk has each command in a request of its own.
type httpTalk struct {
	client *http.Client
	met    greeting
	with   credentials
}

var _ talk = (*httpTalk)(nil)

const infoRefs = "/info/refs"

// greet asks what the server can do. Its first answer may lead elsewhere, as
// repositories are renamed.
func (l *httpLine) greet(ctx context.Context, with credentials) (*greeting, error) {
	base := strings.TrimSuffix(l.endpoint.String(), "/")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+infoRefs+"?service=git-upload-pack", nil)
	if err != nil {
		return nil, err
	}
	answer, err := send(l.two, request, with)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }() // what matters was read
	able, err := readAbilities(answer.Body)
	if err != nil {
		return nil, err
	}
	at := *answer.Request.URL
	path, ok := strings.CutSuffix(at.Path, infoRefs)
	if !ok {
		return nil, errors.New("the server leads to an address that is not a repository's")
	}
	own := sameOrigin(&at, request.URL)
	at.Path, at.RawPath, at.RawQuery = path, "", ""
	return &greeting{base: at.String(), own: own, able: able}, nil
}

func (t *httpTalk) able() abilities { return t.met.able }

// Close does nothing: each answer is closed by itself.
func (t *httpTalk) Close() error { return nil }

func (t *httpTalk) ask(ctx context.Context, command []byte) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.met.base+"/git-upload-pack", bytes.NewReader(command))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-git-upload-pack-request")
	request.Header.Set("Accept", "application/x-git-upload-pack-result")
	with := t.with
	if !t.met.own {
		with = credentials{}
	}
	answer, err := send(t.client, request, with)
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

// send gives an answer that is one.
func send(client *http.Client, request *http.Request, with credentials) (*http.Response, error) {
	request.Header.Set("Git-Protocol", "version=2")
	request.Header.Set("User-Agent", "git/capstan")
	if auth, ok := with.auth().(githttp.AuthMethod); ok {
		auth.SetAuth(request)
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if err := githttp.NewErr(answer); err != nil {
		_ = answer.Body.Close() // the status says more
		return nil, err
	}
	return answer, nil
}

const maxRedirects = 5

var errRedirect = errors.New("the server leads elsewhere, and may not")

// checkRedirect lets the first question alone be led elsewhere, never from https
// to http, and without the credentials to any other server.
func checkRedirect(next *http.Request, before []*http.Request) error {
	first := before[0]
	secure := first.URL.Scheme == "https"
	if first.Method != http.MethodGet || len(before) > maxRedirects || secure && next.URL.Scheme != "https" {
		return errRedirect
	}
	if !sameOrigin(next.URL, first.URL) {
		next.Header.Del("Authorization")
	}
	return nil
}

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host) }
