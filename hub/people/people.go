// Package people knows who uses the hub, and lets them do what package access
// says they may: tokens of a file, service tokens, identities of a provider,
// and a fleet.Hub that asks first (Guard).
//
// The hub holds no password, and of a token no more than a hash.
package people

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/hub/access"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Bucket keeps documents by key; a version guards each against being
// overwritten unseen.
type Bucket interface {
	// Get may return ErrNotFound.
	Get(ctx context.Context, key string) (value []byte, version uint64, err error)
	// Put replaces the given version, 0 meaning none. It may return ErrConflict.
	Put(ctx context.Context, key string, value []byte, version uint64) (uint64, error)
	// DeleteIf deletes the given version. It may return ErrConflict.
	DeleteIf(ctx context.Context, key string, version uint64) error
	All(ctx context.Context, each func(key string, value []byte, version uint64) error) error
}

// Provider tells who an ID token is about. *OIDC is one.
type Provider interface {
	// Verify may return ErrForbidden, and ErrUnavailable where the provider's keys
	// can't be had.
	Verify(ctx context.Context, rawIDToken string) (fleet.Identity, time.Time, error)
}

// Config of People. Tokens and Service are required.
type Config struct {
	Tokens     *TokenFile
	AccessFile string   // a policy; empty: what credentials carry is all that counts
	Service    Bucket   // of service tokens
	Provider   Provider // nil: there is none
	// Note writes a change into the audit log before it is made; nil: nobody does.
	Note func(ctx context.Context, e fleet.Event) error
	Now  func() time.Time // nil: the real clock
}

// People knows who uses the hub.
type People struct {
	cfg    Config
	policy *watched[access.Policy]
	fails  *failures
	pace   *pace
	open   *streams
}

// Open reads the files. An access file that can't be read is an error.
func Open(cfg Config) (*People, error) {
	if cfg.Tokens == nil || cfg.Service == nil {
		return nil, errors.New("people: Tokens and Service are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Note == nil {
		cfg.Note = func(context.Context, fleet.Event) error { return nil }
	}
	p := &People{cfg: cfg, fails: newFailures(cfg.Now), pace: newPace(), open: &streams{of: map[string]int{}}}
	if cfg.AccessFile != "" {
		p.policy = &watched[access.Policy]{what: "access", path: cfg.AccessFile, parse: access.Parse}
		if _, err := p.policy.current(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Authenticate tells whose a bearer token is. ErrForbidden: nobody's.
// ErrTooOften: too many that were nobody's came from that address.
// ErrUnavailable: that can't be told just now.
func (p *People) Authenticate(ctx context.Context, token string) (fleet.Identity, error) {
	hash := sha256.Sum256([]byte(token))
	if err := p.fails.admit(fleet.Origin(ctx), hash); err != nil {
		return fleet.Identity{}, err
	}
	id, err := p.identify(ctx, token)
	switch {
	case err == nil:
		p.fails.good(hash)
	case errors.Is(err, fleet.ErrForbidden) && token != "":
		p.fails.failed(fleet.Origin(ctx))
	}
	return id, err
}

func (p *People) identify(ctx context.Context, token string) (fleet.Identity, error) {
	switch {
	case strings.HasPrefix(token, servicePrefix):
		return p.service(ctx, token)
	case p.cfg.Provider != nil && strings.Count(token, ".") == 2:
		if id, err := p.cfg.Tokens.Authenticate(token); err == nil {
			return id, nil // one that has dots too
		}
		id, _, err := p.cfg.Provider.Verify(ctx, token)
		return id, err
	}
	return p.cfg.Tokens.Authenticate(token)
}

// Still tells who somebody is now whose session began earlier. ErrForbidden:
// the credential it began with is no more. What a provider says counts for as
// long as the session does.
func (p *People) Still(ctx context.Context, id fleet.Identity) (fleet.Identity, error) {
	switch id.Via {
	case fleet.ViaToken:
		return p.cfg.Tokens.Named(id.Name)
	case fleet.ViaService:
		t, err := p.token(ctx, id.Name)
		return t.identity(), err
	case fleet.ViaOIDC:
		return id, nil
	}
	return fleet.Identity{}, fleet.Forbidden("you are not logged in")
}

// rights are what the one who asks may do. While the policy can't be read, only
// what a credential carries counts: somebody may just have been taken off it.
func (p *People) rights(ctx context.Context) (access.Rights, error) {
	id := fleet.Who(ctx)
	noteFile(ctx, p, "token-file", &p.cfg.Tokens.file)
	var policy access.Policy
	if p.policy != nil {
		var err error
		policy, err = p.policy.current()
		noteFile(ctx, p, "access-file", p.policy)
		if err != nil {
			if len(id.Grants) == 0 {
				return access.Rights{}, fleet.Unavailable("the hub can't read who may do what: %s", err)
			}
			policy = access.Policy{}
		}
	}
	return policy.Rights(id)
}

// noteFile puts it into the audit log that a file which says who may do what has
// become another. Who changed it nobody knows; what can't be noted now is noted
// with the next request.
func noteFile[T any](ctx context.Context, p *People, action string, file *watched[T]) {
	sum, unusable, is := file.news()
	if !is {
		return
	}
	ctx = fleet.WithOrigin(fleet.WithIdentity(ctx, fleet.Identity{}), "")
	detail := map[string]any{"sha256": sum}
	if unusable {
		detail["unusable"] = true
	}
	if err := p.note(ctx, action, detail); err != nil {
		file.untold()
	}
}

// allow is nil where the one who asks may.
func (p *People) allow(ctx context.Context, a access.Action, on access.Resource) error {
	r, err := p.rights(ctx)
	if err != nil {
		return err
	}
	return refusal(r.Decide(a, on))
}

func refusal(d access.Decision) error {
	if d.Allowed {
		return nil
	}
	return fleet.WithHint(fleet.Forbidden("%s", d.Reason), "capstan whoami shows what you may do; the hub's access file decides it")
}

// Whoami implements fleet.People. Everybody may ask who they are.
func (p *People) Whoami(ctx context.Context) (fleet.Self, error) {
	r, err := p.rights(ctx)
	if err != nil {
		return fleet.Self{}, err
	}
	self := fleet.Self{Identity: fleet.Who(ctx)}
	self.Grants = r.Grants()
	if self.Via == fleet.ViaService {
		t, err := p.token(ctx, self.Name)
		if err != nil {
			return fleet.Self{}, err
		}
		self.Expires = &t.Expires
	}
	return self, nil
}

func (p *People) note(ctx context.Context, action string, detail any) error {
	e, err := event(action, detail)
	if err != nil {
		return err
	}
	if err := p.cfg.Note(ctx, e); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}
