package people

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/hub/access"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var _ fleet.People = (*People)(nil)

// servicePrefix begins a service token: "capstan_svc_<name>_<secret>".
const servicePrefix = "capstan_svc_"

// serviceToken is what the bucket holds under the token's name.
type serviceToken struct {
	fleet.Token
	Hash string `json:"hash"` // hex of the whole token's SHA-256: 256 random bits need no more
}

func (t serviceToken) identity() fleet.Identity {
	return fleet.Identity{Via: fleet.ViaService, Name: t.Name, Grants: []fleet.Grant{t.Grant}}
}

// service tells whose a service token is.
func (p *People) service(ctx context.Context, token string) (fleet.Identity, error) {
	name, _, _ := strings.Cut(strings.TrimPrefix(token, servicePrefix), "_")
	unknown := fleet.WithHint(fleet.Forbidden("the token is not one of this hub's, or was revoked"),
		"check CAPSTAN_TOKEN, and that CAPSTAN_HUB is the hub it belongs to")
	if fleet.ValidateName("token", name) != nil {
		return fleet.Identity{}, unknown
	}
	t, err := p.token(ctx, name)
	switch {
	case err != nil && !errors.Is(err, fleet.ErrForbidden):
		return fleet.Identity{}, err
	case t.Name == "":
		return fleet.Identity{}, unknown
	}
	sum := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(t.Hash)) != 1 {
		return fleet.Identity{}, unknown
	}
	return t.identity(), err // that it has expired is told to its holder alone
}

// token reads a service token. ErrForbidden: there is none, or it has expired,
// in which case it is returned too.
func (p *People) token(ctx context.Context, name string) (serviceToken, error) {
	raw, _, err := p.cfg.Service.Get(ctx, name)
	if errors.Is(err, fleet.ErrNotFound) {
		return serviceToken{}, fleet.Forbidden("there is no token %q any more", name)
	}
	if err != nil {
		return serviceToken{}, err
	}
	var t serviceToken
	if err := json.Unmarshal(raw, &t); err != nil {
		return serviceToken{}, fmt.Errorf("token %s: %w", name, err)
	}
	if !p.cfg.Now().Before(t.Expires) {
		return t, fleet.WithHint(fleet.Forbidden("token %q expired at %s", name, t.Expires.UTC().Format(time.RFC3339)),
			"have a new one made with: capstan token create")
	}
	return t, nil
}

// CreateToken implements fleet.People.
func (p *People) CreateToken(ctx context.Context, r fleet.TokenRequest) (fleet.TokenGrant, error) {
	none := fleet.TokenGrant{}
	if err := p.allow(ctx, access.Manage, access.Fleet); err != nil {
		return none, err
	}
	if err := fleet.ValidateName("token", r.Name); err != nil {
		return none, err
	}
	if err := access.ValidateGrant(r.Grant); err != nil {
		return none, fmt.Errorf("token %s: %w", r.Name, err)
	}
	ttl, err := time.ParseDuration(r.TTL)
	if err != nil || ttl <= 0 || ttl > fleet.MaxTokenLife {
		return none, fleet.WithHint(fleet.Invalid("token %s: ttl %q is not a time between 0 and %s", r.Name, r.TTL, fleet.MaxTokenLife),
			"write it like 720h: every token ends some day")
	}
	there := fleet.WithHint(fleet.Conflict("a token %q is there already", r.Name), "revoke it first, or give this one another name")
	_, version, err := p.cfg.Service.Get(ctx, r.Name)
	if err != nil && !errors.Is(err, fleet.ErrNotFound) {
		return none, err
	}
	if _, err := p.token(ctx, r.Name); err == nil {
		return none, there
	} else if !errors.Is(err, fleet.ErrForbidden) {
		return none, err
	}
	now := p.cfg.Now().UTC().Truncate(time.Second)
	out := fleet.TokenGrant{
		Token:  fleet.Token{Name: r.Name, Grant: r.Grant, Created: now, CreatedBy: fleet.Actor(ctx), Expires: now.Add(ttl)},
		Secret: servicePrefix + r.Name + "_" + strings.ToLower(rand.Text()+rand.Text()),
	}
	sum := sha256.Sum256([]byte(out.Secret))
	raw, err := json.Marshal(serviceToken{Token: out.Token, Hash: hex.EncodeToString(sum[:])})
	if err != nil {
		return none, err
	}
	if err := p.note(ctx, "token-create", out.Token); err != nil {
		return none, err
	}
	// In the place of one that has expired, or of none; of two who make one of the
	// same name one is told that there is one.
	if _, err := p.cfg.Service.Put(ctx, r.Name, raw, version); errors.Is(err, fleet.ErrConflict) {
		return none, there
	} else if err != nil {
		return none, err
	}
	return out, nil
}

// Tokens implements fleet.People.
func (p *People) Tokens(ctx context.Context) ([]fleet.Token, error) {
	if err := p.allow(ctx, access.Manage, access.Fleet); err != nil {
		return nil, err
	}
	out := []fleet.Token{}
	err := p.cfg.Service.All(ctx, func(name string, raw []byte, _ uint64) error {
		var t serviceToken
		if err := json.Unmarshal(raw, &t); err != nil {
			return fmt.Errorf("token %s: %w", name, err)
		}
		out = append(out, t.Token)
		return nil
	})
	slices.SortFunc(out, func(a, b fleet.Token) int { return strings.Compare(a.Name, b.Name) })
	return out, err
}

// RevokeToken implements fleet.People.
func (p *People) RevokeToken(ctx context.Context, name string) error {
	if err := p.allow(ctx, access.Manage, access.Fleet); err != nil {
		return err
	}
	if err := fleet.ValidateName("token", name); err != nil {
		return err
	}
	_, version, err := p.cfg.Service.Get(ctx, name)
	if errors.Is(err, fleet.ErrNotFound) {
		return fleet.WithHint(fleet.NotFound("there is no token %q", name), "see: capstan token list")
	} else if err != nil {
		return err
	}
	if err := p.note(ctx, "token-revoke", map[string]string{"name": name}); err != nil {
		return err
	}
	if err := p.cfg.Service.DeleteIf(ctx, name, version); errors.Is(err, fleet.ErrConflict) {
		return fleet.WithHint(fleet.Conflict("another token %q was made just now", name), "see: capstan token list")
	} else if err != nil {
		return err
	}
	return nil
}

func event(action string, detail any) (fleet.Event, error) {
	raw, err := json.Marshal(detail)
	return fleet.Event{Action: action, Detail: raw}, err
}
