package signing

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// ErrKeyChanged: a plan is signed by another key than the pinned one.
var ErrKeyChanged = errors.New("agent key changed")

// planPrefix keeps a plan's signature from being taken for anything else the
// agent's key signs, such as a server's nonce.
const planPrefix = "capstan-plan\x00"

// maxPlan bounds what is decoded of a plan.
const maxPlan = 64 << 20

// SignPlan encodes a plan and signs it. sign is an nkey's; publicKey is that
// key's public half (U...). The error is ErrInvalid where the plan does not
// agree with itself: VerifyPlan would refuse it.
func SignPlan(sign func([]byte) ([]byte, error), publicKey string, p fleet.Plan) (fleet.SignedPlan, error) {
	if err := checkPlan(p); err != nil {
		return fleet.SignedPlan{}, err
	}
	// json.Marshal's text survives being embedded in other JSON byte by byte,
	// which the signature needs: it is compact and HTML-escaped already.
	data, err := json.Marshal(p)
	if err != nil {
		return fleet.SignedPlan{}, fmt.Errorf("plan for %s: %w", p.App, err)
	}
	signature, err := sign(append([]byte(planPrefix), data...))
	if err != nil {
		return fleet.SignedPlan{}, fmt.Errorf("plan for %s: sign: %w", p.App, err)
	}
	return fleet.SignedPlan{Plan: data, Key: publicKey, Signature: base64.StdEncoding.EncodeToString(signature)}, nil
}

// VerifyPlan checks that the agent with pinnedKey signed the plan and that the
// plan's digest is the one of the objects it carries. The error is
// ErrKeyChanged, ErrUnsigned, ErrBadSignature or ErrMalformed.
func VerifyPlan(s fleet.SignedPlan, pinnedKey string) (fleet.Plan, error) {
	var none fleet.Plan
	if len(s.Plan) > maxPlan {
		return none, fmt.Errorf("%w plan: longer than %d bytes", ErrMalformed, maxPlan)
	}
	if s.Signature == "" {
		return none, fmt.Errorf("%w plan: the agent did not sign it", ErrUnsigned)
	}
	if s.Key != pinnedKey {
		return none, fmt.Errorf("%w: the plan is signed by %s, expected %s", ErrKeyChanged, clip(s.Key), clip(pinnedKey))
	}
	if !nkeys.IsValidPublicUserKey(pinnedKey) {
		return none, fmt.Errorf("%w plan: %q is not an agent's public key", ErrMalformed, clip(pinnedKey))
	}
	key, err := nkeys.FromPublicKey(pinnedKey)
	if err != nil {
		return none, fmt.Errorf("%w plan: key: %w", ErrMalformed, err)
	}
	signature, err := base64.StdEncoding.DecodeString(s.Signature)
	if err != nil {
		return none, fmt.Errorf("%w plan: signature: %w", ErrMalformed, err)
	}
	if err := key.Verify(append([]byte(planPrefix), s.Plan...), signature); err != nil {
		return none, fmt.Errorf("%w: the plan is not what the agent signed", ErrBadSignature)
	}
	var p fleet.Plan
	if err := decodeStrict(s.Plan, &p); err != nil {
		return none, fmt.Errorf("%w plan: %w", ErrMalformed, err)
	}
	if err := checkPlan(p); err != nil {
		return none, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return p, nil
}

// checkPlan checks that a plan agrees with itself. The error is ErrInvalid.
func checkPlan(p fleet.Plan) error {
	if p.ID == "" || p.ClusterUID == "" {
		return fleet.Invalid("plan for %s: it has no id or no clusterUID", p.App)
	}
	if err := fleet.ValidateName("cluster", p.Cluster); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	if _, err := fleet.ParseAppName(p.App.String()); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	switch {
	case (p.Action == fleet.ActionApply || p.Action == fleet.ActionRollback) && p.To == fleet.NoDigest:
		return fleet.Invalid("plan %s for %s: it applies nothing", p.ID, p.App)
	case p.Action == fleet.ActionRemove && p.To != fleet.NoDigest:
		return fleet.Invalid("plan %s for %s: it removes the app, yet has a wanted digest", p.ID, p.App)
	case !slices.Contains([]fleet.Action{fleet.ActionApply, fleet.ActionRemove, fleet.ActionRollback, fleet.ActionConfirmPrune}, p.Action):
		return fleet.Invalid("plan %s for %s: action %q is not known", p.ID, p.App, clip(string(p.Action)))
	}
	return checkWanted(p)
}

func checkWanted(p fleet.Plan) error {
	if p.To == fleet.NoDigest {
		if p.Wanted != nil {
			return fleet.Invalid("plan %s for %s: it removes the app, yet carries objects", p.ID, p.App)
		}
		return nil
	}
	if p.Wanted == nil {
		return fleet.Invalid("plan %s for %s: it does not carry the objects of its digest", p.ID, p.App)
	}
	got, err := p.Wanted.Digest()
	if err != nil {
		return fleet.Invalid("plan %s for %s: %w", p.ID, p.App, err)
	}
	if got != p.To {
		return fleet.Invalid("plan %s for %s: its objects have digest %s, it says %s", p.ID, p.App, got.Short(), p.To.Short())
	}
	return nil
}
