package signing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Why an approval does not count, beside the failures of a signature itself.
var (
	ErrNotPinned   = errors.New("key not pinned")
	ErrOtherPerson = errors.New("key of somebody else")
	ErrKeyNotValid = errors.New("key not valid now")
	ErrExpired     = errors.New("expired")
	ErrNotYetValid = errors.New("not yet valid")
	ErrTooLong     = errors.New("lives too long")
)

// maxStatement bounds an approval: some thousand clusters fit.
const maxStatement = 1 << 20

// Refusal says why an approval does not count. Its text is for people, and
// makes sense after "it was refused: ".
type Refusal struct {
	Reason error // one of this package's errors
	Text   string
}

func (r *Refusal) Error() string { return r.Text }

// Unwrap lets errors.Is find the reason.
func (r *Refusal) Unwrap() error { return r.Reason }

func refuse(reason error, format string, a ...any) *Refusal {
	return &Refusal{Reason: reason, Text: fmt.Sprintf(format, a...)}
}

// StatementSigner signs messages for a namespace; *Key is one.
type StatementSigner interface {
	Sign(namespace string, message []byte) (armored string, err error)
}

var _ StatementSigner = (*Key)(nil)

// SignApproval signs the approval's canonical form. Times are cut to seconds,
// in UTC. The error is ErrInvalid for an approval that is not well formed.
func SignApproval(a fleet.Approval, signer StatementSigner) (fleet.SignedApproval, error) {
	a.NotBefore, a.Expires = a.NotBefore.UTC().Truncate(time.Second), a.Expires.UTC().Truncate(time.Second)
	if err := a.Validate(); err != nil {
		return fleet.SignedApproval{}, err
	}
	statement, err := fleet.Canonical(a)
	if err != nil {
		return fleet.SignedApproval{}, fmt.Errorf("approval: %w", err)
	}
	signature, err := signer.Sign(fleet.ApprovalNamespace, statement)
	if err != nil {
		return fleet.SignedApproval{}, fmt.Errorf("approval: %w", err)
	}
	return fleet.SignedApproval{Statement: statement, Signature: signature}, nil
}

// Signer is who signed.
type Signer struct {
	Principal   string
	Fingerprint string
}

// VerifyApproval checks a signed approval's form, signature, signer and time.
// Whether it is for the plan at hand is the gate's to decide. The error is a
// *Refusal; the approval returned with it is what the statement claims, as far
// as it can be read, so that the refusal can be shown where it belongs.
func VerifyApproval(s fleet.SignedApproval, allowed *AllowedSigners, now time.Time) (fleet.Approval, Signer, error) {
	a, malformed := decodeApproval(s.Statement)
	key, err := Verify(s.Statement, s.Signature, fleet.ApprovalNamespace)
	if err != nil {
		return a, Signer{}, refuseSignature(err)
	}
	if malformed != nil {
		return a, Signer{}, malformed
	}
	if err := allowed.check(key, a.Approver, fleet.ApprovalNamespace, now); err != nil {
		return a, Signer{}, err
	}
	if err := checkTimes(a, now); err != nil {
		return a, Signer{}, err
	}
	if err := a.Validate(); err != nil {
		return a, Signer{}, refuse(ErrMalformed, "its statement is not valid: %s", strings.TrimPrefix(err.Error(), "approval: "))
	}
	return a, Signer{Principal: a.Approver, Fingerprint: Fingerprint(key)}, nil
}

// decodeApproval returns what it could read also when it refuses it.
func decodeApproval(statement []byte) (fleet.Approval, error) {
	var a fleet.Approval
	if len(statement) > maxStatement {
		return a, refuse(ErrMalformed, "its statement is longer than %d bytes", maxStatement)
	}
	if err := json.Unmarshal(statement, &a); err != nil {
		return a, refuse(ErrMalformed, "its statement can't be read")
	}
	if err := decodeStrict(statement, new(fleet.Approval)); err != nil {
		return a, refuse(ErrMalformed, "its statement can't be read: %s", clip(err.Error()))
	}
	// What is compared and shown must be what was signed: one text, one meaning.
	canonical, err := fleet.Canonical(a)
	if err != nil || !bytes.Equal(canonical, statement) {
		return a, refuse(ErrMalformed, "its statement is not in canonical form")
	}
	return a, nil
}

func decodeStrict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON value")
	}
	return nil
}

func refuseSignature(err error) *Refusal {
	switch {
	case errors.Is(err, ErrUnsigned):
		return refuse(ErrUnsigned, "it is not signed")
	case errors.Is(err, ErrWrongNamespace):
		return refuse(ErrWrongNamespace, "its signature is for something else: %s",
			strings.TrimPrefix(err.Error(), ErrWrongNamespace.Error()+": "))
	case errors.Is(err, ErrMalformed):
		return refuse(ErrMalformed, "its signature can't be read")
	default:
		return refuse(ErrBadSignature, "its signature does not match it")
	}
}

// check finds a line that lets the key sign as principal in the namespace now.
// Among several reasons against it the one that got furthest is told.
func (a *AllowedSigners) check(key ssh.PublicKey, principal, namespace string, now time.Time) error {
	pinnedFor := a.principalsOf(key)
	switch {
	case len(pinnedFor) == 0:
		return refuse(ErrNotPinned, "its key %s is not pinned at this cluster", Fingerprint(key))
	case !slices.Contains(pinnedFor, principal):
		return refuse(ErrOtherPerson, "its key %s is pinned for %s, not for %s",
			Fingerprint(key), strings.Join(pinnedFor, ", "), clip(principal))
	}
	var why error
	for _, e := range a.entries {
		if !bytes.Equal(e.wire, key.Marshal()) || !slices.Contains(e.principals, principal) {
			continue
		}
		if why = e.usable(namespace, now); why == nil {
			return nil
		}
	}
	return why
}

func (e allowedEntry) usable(namespace string, now time.Time) error {
	print := Fingerprint(e.key)
	switch {
	case len(e.namespaces) > 0 && !slices.Contains(e.namespaces, namespace):
		return refuse(ErrWrongNamespace, "its key %s is pinned for the namespaces %s only", print, strings.Join(e.namespaces, ", "))
	case !e.validAfter.IsZero() && now.Before(e.validAfter):
		return refuse(ErrKeyNotValid, "its key %s is valid from %s on only", print, e.validAfter.Format(time.RFC3339))
	case !e.validBefore.IsZero() && !now.Before(e.validBefore):
		return refuse(ErrKeyNotValid, "its key %s was valid until %s only", print, e.validBefore.Format(time.RFC3339))
	}
	return nil
}

func checkTimes(a fleet.Approval, now time.Time) error {
	switch {
	case a.Expires.Sub(a.NotBefore) > fleet.MaxApprovalLife:
		return refuse(ErrTooLong, "it lives longer than the %d days an approval may live", int(fleet.MaxApprovalLife.Hours()/24))
	case !now.Before(a.Expires):
		return refuse(ErrExpired, "it expired at %s", a.Expires.UTC().Format(time.RFC3339))
	case now.Before(a.NotBefore):
		return refuse(ErrNotYetValid, "it is valid from %s on only", a.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}
