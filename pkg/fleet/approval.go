package fleet

import (
	"fmt"
	"time"
)

// Action says what an approval, or a plan, is about.
type Action string

const (
	ActionApply        Action = "apply"         // go from one digest to another
	ActionRemove       Action = "remove"        // take the app off the cluster
	ActionRollback     Action = "rollback"      // go back to what ran before
	ActionConfirmPrune Action = "confirm-prune" // go ahead although the prune guard stopped it
)

// Target is the one plan an approval lets through on one cluster.
type Target struct {
	ClusterUID string `json:"clusterUID"`
	Cluster    string `json:"cluster"`
	From       Digest `json:"from"`
	To         Digest `json:"to"`
	Plan       string `json:"plan"`
}

// Approval is the statement a person signs. Its canonical JSON is what the
// signature covers.
type Approval struct {
	Action    Action    `json:"action"`
	App       string    `json:"app"` // namespace/name
	Targets   []Target  `json:"targets"`
	Approver  string    `json:"approver"` // a principal of the spoke's allowed_signers
	Comment   string    `json:"comment,omitempty"`
	NotBefore time.Time `json:"notBefore"`
	Expires   time.Time `json:"expires"`
}

// MaxApprovalLife bounds Expires - NotBefore.
const MaxApprovalLife = 7 * 24 * time.Hour

// Validate checks an approval's form, not its signature. The error is ErrInvalid.
func (a Approval) Validate() error {
	switch a.Action {
	case ActionApply, ActionRemove, ActionRollback, ActionConfirmPrune:
	default:
		return Invalid("approval: action %q is not known", a.Action)
	}
	if _, err := ParseAppName(a.App); err != nil {
		return fmt.Errorf("approval: %w", err)
	}
	if len(a.Targets) == 0 {
		return Invalid("approval: names no cluster")
	}
	for _, t := range a.Targets {
		if t.ClusterUID == "" || t.Plan == "" {
			return Invalid("approval: target %q has no clusterUID or plan", t.Cluster)
		}
	}
	if a.Approver == "" {
		return Invalid("approval: names no approver")
	}
	if a.Expires.IsZero() || !a.Expires.After(a.NotBefore) {
		return Invalid("approval: expires must be later than notBefore")
	}
	if a.Expires.Sub(a.NotBefore) > MaxApprovalLife {
		return Invalid("approval: lives %s, longer than %s", a.Expires.Sub(a.NotBefore), MaxApprovalLife)
	}
	return nil
}

// SignedApproval is an approval's exact bytes with an armored SSHSIG signature
// over them (namespace ApprovalNamespace). It may travel by any road.
type SignedApproval struct {
	Statement []byte `json:"statement"` // canonical JSON of Approval
	Signature string `json:"signature"` // "-----BEGIN SSH SIGNATURE-----..."
}

// ApprovalNamespace is the SSHSIG namespace of approvals (`ssh-keygen -Y sign -n`).
const ApprovalNamespace = "capstan-approval"
