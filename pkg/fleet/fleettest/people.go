package fleettest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var _ fleet.People = (*People)(nil)

// People is a fleet.People in memory that lets everybody do everything. Known
// tells whose a token is.
type People struct {
	Known map[string]fleet.Identity

	mu     sync.Mutex
	tokens []fleet.Token
}

// Authenticate tells whose a token is. ErrForbidden: nobody's.
func (p *People) Authenticate(_ context.Context, token string) (fleet.Identity, error) {
	id, ok := p.Known[token]
	switch {
	case token == "":
		return id, fleet.WithHint(fleet.Forbidden("no token was given"), "set CAPSTAN_TOKEN")
	case !ok:
		return id, fleet.WithHint(fleet.Forbidden("the token is not one of this hub's"), "check CAPSTAN_TOKEN")
	}
	return id, nil
}

// Pace lets everybody ask as often as they like.
func (p *People) Pace(fleet.Identity) error { return nil }

// Whoami implements fleet.People.
func (p *People) Whoami(ctx context.Context) (fleet.Self, error) {
	return fleet.Self{Identity: fleet.Who(ctx)}, nil
}

// CreateToken implements fleet.People.
func (p *People) CreateToken(ctx context.Context, r fleet.TokenRequest) (fleet.TokenGrant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ttl, err := time.ParseDuration(r.TTL)
	if err != nil {
		return fleet.TokenGrant{}, fleet.Invalid("ttl %q is not a duration", r.TTL)
	}
	if err := fleet.ValidateName("token", r.Name); err != nil {
		return fleet.TokenGrant{}, err
	}
	if p.index(r.Name) >= 0 {
		return fleet.TokenGrant{}, fleet.Conflict("a token %q is there already", r.Name)
	}
	now := time.Now().UTC().Truncate(time.Second)
	t := fleet.Token{Name: r.Name, Grant: r.Grant, Created: now, CreatedBy: fleet.Actor(ctx), Expires: now.Add(ttl)}
	p.tokens = append(p.tokens, t)
	slices.SortFunc(p.tokens, func(a, b fleet.Token) int { return strings.Compare(a.Name, b.Name) })
	return fleet.TokenGrant{Token: t, Secret: "secret-of-" + r.Name}, nil
}

// Tokens implements fleet.People.
func (p *People) Tokens(context.Context) ([]fleet.Token, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.tokens), nil
}

// RevokeToken implements fleet.People.
func (p *People) RevokeToken(_ context.Context, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.index(name)
	if i < 0 {
		return fleet.NotFound("there is no token %q", name)
	}
	p.tokens = slices.Delete(p.tokens, i, i+1)
	return nil
}

func (p *People) index(name string) int {
	return slices.IndexFunc(p.tokens, func(t fleet.Token) bool { return t.Name == name })
}
