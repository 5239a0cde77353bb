package fleet

import (
	"context"
	"time"
)

// People is what can be asked of a hub about those who use it. Every method may
// return ErrForbidden and ErrUnavailable.
type People interface {
	// Whoami tells who asks, and what that one may do.
	Whoami(ctx context.Context) (Self, error)
	// CreateToken makes a token for a program. Its secret is told this once.
	// ErrInvalid: the name, the grant or the expiry. ErrConflict: the name is taken.
	CreateToken(ctx context.Context, r TokenRequest) (TokenGrant, error)
	// Tokens lists the tokens that were made and not revoked, by name.
	Tokens(ctx context.Context) ([]Token, error)
	// RevokeToken makes a token worthless. ErrNotFound: there is none of that name.
	RevokeToken(ctx context.Context, name string) error
}

// Self is who asks: an identity with all grants that count for it.
type Self struct {
	Identity
	Expires *time.Time `json:"expires,omitempty"` // of the credential
}

// TokenRequest describes a token that is to be made.
type TokenRequest struct {
	Name string `json:"name"` // a DNS label
	Grant
	TTL string `json:"ttl"` // how long it lives, as Go writes durations: "720h"
}

// Token is one that was made, without its secret.
type Token struct {
	Name string `json:"name"`
	Grant
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"createdBy"`
	Expires   time.Time `json:"expires"`
}

// TokenGrant is a new token with its secret.
type TokenGrant struct {
	Token
	Secret string `json:"secret"`
}

// MaxTokenLife is the longest a service token may live.
const MaxTokenLife = 366 * 24 * time.Hour
