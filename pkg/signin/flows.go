package signin

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Attempt is what binds a provider's answer to the one who asked. It is for
// that one alone.
type Attempt struct {
	State    string `json:"state"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"` // of PKCE
}

// Begin says where a browser is to go, which comes back to redirect.
func (p *Provider) Begin(ctx context.Context, redirect string) (address string, a Attempt, err error) {
	known, err := p.discover(ctx)
	if err != nil {
		return "", Attempt{}, err
	}
	a = Attempt{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier()}
	address = p.oauth(known, redirect).AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier))
	return address, a, nil
}

// Finish exchanges the code that came back to redirect with state.
// ErrForbidden: it is of another attempt, or the provider refuses.
func (p *Provider) Finish(ctx context.Context, redirect string, a Attempt, state, code string) (Tokens, error) {
	if a.State == "" || a.Nonce == "" || subtle.ConstantTimeCompare([]byte(a.State), []byte(state)) != 1 {
		return Tokens{}, fleet.WithHint(fleet.Forbidden("this answer is of another sign-in"), "begin again")
	}
	known, err := p.discover(ctx)
	if err != nil {
		return Tokens{}, err
	}
	answer, err := p.oauth(known, redirect).Exchange(p.with(ctx), code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return Tokens{}, p.refused("begin again", err)
	}
	return p.received(ctx, answer, a.Nonce)
}

// Loopback signs somebody in who has a browser on this machine: open is given
// the address to show there, and the answer comes back to a port of 127.0.0.1.
func (p *Provider) Loopback(ctx context.Context, open func(address string) error) (Tokens, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return Tokens{}, fmt.Errorf("listen for the browser: %w", err)
	}
	defer l.Close()
	redirect := "http://" + l.Addr().String() + callbackPath
	address, attempt, err := p.Begin(ctx, redirect)
	if err != nil {
		return Tokens{}, err
	}
	back := make(chan callback, 1)
	server := &http.Server{Handler: receiver(attempt, back), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // it ends when it is shut down
	}()
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // the page of thanks is sent
		defer cancel()
		if server.Shutdown(end) != nil {
			_ = server.Close() // nothing of it is wanted any more
		}
		<-served
	}()
	if err := open(address); err != nil {
		return Tokens{}, err
	}
	select {
	case <-ctx.Done():
		return Tokens{}, ctx.Err()
	case b := <-back:
		if b.refused != "" {
			return Tokens{}, fleet.Forbidden("the identity provider %s refuses: %s", p.cfg.Issuer, b.refused)
		}
		return p.Finish(ctx, redirect, attempt, b.state, b.code)
	}
}

const callbackPath = "/callback"

type callback struct{ state, code, refused string }

// receiver hands on the one answer whose state is right. Others, which any page
// in the browser can make, are passed over.
func receiver(a Attempt, back chan<- callback) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+callbackPath, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if subtle.ConstantTimeCompare([]byte(a.State), []byte(q.Get("state"))) != 1 {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "This is of another sign-in.\n")
			return
		}
		b := callback{state: q.Get("state"), code: q.Get("code")}
		if b.code == "" {
			b.refused = q.Get("error") + " " + q.Get("error_description")
		}
		_, _ = io.WriteString(w, "You can close this page and go back to the terminal.\n")
		select {
		case back <- b:
		default: // a second one
		}
	})
	return mux
}

// DeviceCode is what somebody types in, on whatever device has a browser.
type DeviceCode struct {
	Code    string
	Address string // where
	Direct  string // the same with the code in it; may be empty
	Expires time.Time
}

// Device signs somebody in who has no browser here. ErrUnavailable: the provider
// has no such flow. ErrForbidden: it was refused, or took too long.
func (p *Provider) Device(ctx context.Context, show func(DeviceCode)) (Tokens, error) {
	known, err := p.discover(ctx)
	if err != nil {
		return Tokens{}, err
	}
	if known.Endpoint().DeviceAuthURL == "" {
		return Tokens{}, fleet.WithHint(fleet.Unavailable("the identity provider %s has no device flow", p.cfg.Issuer), "sign in where there is a browser: capstan login")
	}
	cfg := p.oauth(known, "")
	code, err := cfg.DeviceAuth(p.with(ctx))
	if err != nil {
		return Tokens{}, p.refused("begin again", err)
	}
	show(DeviceCode{Code: code.UserCode, Address: code.VerificationURI, Direct: code.VerificationURIComplete, Expires: code.Expiry})
	answer, err := cfg.DeviceAccessToken(p.with(ctx), code)
	if err != nil {
		return Tokens{}, p.refused("begin again", err)
	}
	return p.received(ctx, answer, "")
}
