package wire

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// JoinToken is all that a new agent needs to find the hub and enrol, once.
type JoinToken struct {
	URLs     []string `json:"urls"`         // of NATS, as agents dial them
	CA       string   `json:"ca,omitempty"` // PEM; empty: the system's
	Cluster  string   `json:"cluster"`
	Join     string   `json:"join"` // id
	Instance string   `json:"instance"`
	JWT      string   `json:"jwt"`
	Seed     string   `json:"seed"`
}

const maxToken = 64 << 10

// Encode gives the token as one word.
func (t JoinToken) Encode() (string, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// ParseJoinToken reads a token. The error is ErrInvalid and never holds any of
// the token.
func ParseJoinToken(s string) (JoinToken, error) {
	bad := func(why string) (JoinToken, error) {
		return JoinToken{}, fleet.WithHint(fleet.Invalid("join token: %s", why),
			"make a new one with: capstan join CLUSTER")
	}
	s = strings.TrimSpace(s)
	if len(s) > maxToken {
		return bad("it is too long")
	}
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return bad("it is not one word of base64")
	}
	if checkShape(raw) != nil {
		return bad("it is damaged")
	}
	var t JoinToken
	if err := json.Unmarshal(raw, &t); err != nil {
		return bad("it is damaged")
	}
	if len(t.URLs) == 0 || t.Instance == "" || t.JWT == "" || t.Seed == "" {
		return bad("it is not complete")
	}
	if fleet.ValidateName("cluster", t.Cluster) != nil || fleet.ValidateName("join", t.Join) != nil {
		return bad("its names are not valid")
	}
	return t, nil
}
