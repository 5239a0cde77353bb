package gate

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signing"
)

// Input is all a decision depends on.
type Input struct {
	Plan      fleet.Plan
	Demands   []Demand // of Policy.Demands
	Allowed   *signing.AllowedSigners
	Approvals []fleet.SignedApproval
	Used      map[string]bool // ids of plans that were let through already
	Now       time.Time       // the highest time seen, never just the clock
}

// Decision says whether the plan may proceed.
type Decision struct {
	Open       bool
	Have, Need int      // of the demand that lacks most
	ApprovedBy []string // principals whose approval counts, sorted
	Message    string   // what is missing, and why the latest approval did not help; empty when open
	Refused    []Refusal
}

// Refusal is an approval that names the plan's app and does not count.
type Refusal struct {
	Approver string // as claimed, unless Verified
	Verified bool   // the signature is the approver's
	Reason   error  // one of this package's or pkg/signing's errors
	Text     string

	made time.Time
	past bool // it has done its work, or was made before this plan was
}

// Why a well signed approval does not count.
var (
	ErrOtherCluster = errors.New("for another cluster")
	ErrStalePlan    = errors.New("for another plan")
	ErrOtherDigest  = errors.New("for other digests")
	ErrOtherAction  = errors.New("for another action")
	ErrUsed         = errors.New("used already")
	ErrNotApprover  = errors.New("not an approver")
)

// Decide weighs the approvals that arrived against what the plan needs.
// Approvals that name other apps are none of its business.
func Decide(in Input) Decision {
	if len(in.Demands) == 0 {
		return Decision{Open: true}
	}
	var d Decision
	var by []string
	for _, signed := range in.Approvals {
		approval, signer, err := signing.VerifyApproval(signed, in.Allowed, in.Now)
		if approval.App != in.Plan.App.String() {
			continue
		}
		refusal := in.weigh(approval, err)
		if refusal == nil {
			by = append(by, signer.Principal)
			continue
		}
		refusal.Approver, refusal.made = tidy(approval.Approver), approval.NotBefore
		refusal.past = errors.Is(refusal.Reason, ErrUsed) || approval.NotBefore.Before(in.Plan.Created)
		refusal.Verified = err == nil || signerKnown(err)
		d.Refused = append(d.Refused, *refusal)
	}
	slices.Sort(by)
	d.ApprovedBy = slices.Compact(by)
	d.Have, d.Need, d.Open = in.count(d.ApprovedBy)
	if !d.Open {
		d.Message = d.explain(in)
	}
	return d
}

// signerKnown: these refusals come after the signature proved to be the
// approver's own.
func signerKnown(err error) bool {
	for _, e := range []error{signing.ErrExpired, signing.ErrNotYetValid, signing.ErrTooLong, signing.ErrKeyNotValid} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// weigh returns why an approval for this app does not count, or nil.
func (in Input) weigh(a fleet.Approval, verify error) *Refusal {
	if refused, ok := errors.AsType[*signing.Refusal](verify); ok {
		return &Refusal{Reason: refused.Reason, Text: refused.Text}
	} else if verify != nil {
		return &Refusal{Reason: verify, Text: verify.Error()}
	}
	target, why := in.target(a)
	if why != nil {
		return why
	}
	p := in.Plan
	switch {
	case in.Used[target.Plan]:
		return refusal(ErrUsed, "plan %s was let through once already, and an approval counts once", tidy(target.Plan))
	case target.Plan != p.ID:
		return refusal(ErrStalePlan, "it is for plan %s, which is no longer the plan", tidy(target.Plan))
	case a.Action != p.Action:
		return refusal(ErrOtherAction, "it is for %q, and the plan is to %q", a.Action, p.Action)
	case target.From != p.From || target.To != p.To:
		return refusal(ErrOtherDigest, "it is for other content than the plan's (from %s to %s)",
			digest(target.From), digest(target.To))
	case !in.asked(a.Approver):
		return refusal(ErrNotApprover, "%s is not among the approvers (%s)", tidy(a.Approver), strings.Join(in.approvers(), ", "))
	}
	return nil
}

// target finds what the approval says about this cluster. Only the UID tells
// clusters apart: a name can be given twice.
func (in Input) target(a fleet.Approval) (fleet.Target, *Refusal) {
	var names []string
	for _, t := range a.Targets {
		if t.ClusterUID == in.Plan.ClusterUID {
			return t, nil
		}
		names = append(names, t.Cluster)
	}
	if slices.Contains(names, in.Plan.Cluster) {
		return fleet.Target{}, refusal(ErrOtherCluster, "it is for another cluster that was named %s too", in.Plan.Cluster)
	}
	slices.Sort(names)
	return fleet.Target{}, refusal(ErrOtherCluster, "it is for cluster %s, and this is %s", tidy(strings.Join(names, ", ")), in.Plan.Cluster)
}

func refusal(reason error, format string, a ...any) *Refusal {
	return &Refusal{Reason: reason, Text: fmt.Sprintf(format, a...)}
}

// asked compares people, as count does: who shares a key with an approver is one.
func (in Input) asked(principal string) bool {
	return slices.ContainsFunc(in.approvers(), func(a string) bool {
		return in.Allowed.Person(a) == in.Allowed.Person(principal)
	})
}

func (in Input) approvers() []string {
	var all []string
	for _, d := range in.Demands {
		all = append(all, d.Approvers...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// count gives how far the demand is that lacks most, and whether all are met.
// People are counted, not principals and not keys.
func (in Input) count(by []string) (have, need int, open bool) {
	open = true
	for _, d := range in.Demands {
		people := map[string]bool{}
		for _, a := range by {
			if demanded := in.personAmong(d.Approvers, a); demanded != "" {
				people[demanded] = true
			}
		}
		quorum := max(1, d.Quorum)
		got := min(len(people), quorum)
		if need == 0 || quorum-got > need-have || quorum-got == need-have && quorum > need {
			have, need = got, quorum
		}
		open = open && got >= quorum
	}
	return have, need, open
}

// personAmong returns the person principal is, if that person is listed.
func (in Input) personAmong(approvers []string, principal string) string {
	person := in.Allowed.Person(principal)
	for _, a := range approvers {
		if in.Allowed.Person(a) == person {
			return person
		}
	}
	return ""
}

func (d Decision) explain(in Input) string {
	message := fmt.Sprintf("waits for approval (%d of %d)", d.Have, d.Need)
	if why := in.impossible(); why != "" {
		message += "; " + why
	}
	if in.Used[in.Plan.ID] {
		message += "; this plan was let through once already: a new plan must be made"
	}
	if len(d.Refused) == 0 {
		return message
	}
	// The latest is the one to explain: of those made in one second, the one
	// that came last. Those of the past are still sent along until they expire,
	// and say less than any that was made for this plan.
	latest := d.Refused[0]
	for _, r := range d.Refused[1:] {
		if cmp.Or(cmp.Compare(r.weight(), latest.weight()), r.made.Compare(latest.made)) >= 0 {
			latest = r
		}
	}
	return message + "; " + latest.String()
}

// String is the refusal as a sentence.
func (r Refusal) String() string {
	who := "an approval by " + r.Approver
	switch {
	case r.Approver == "":
		who = "an approval without a name"
	case !r.Verified:
		who = "an approval in the name of " + r.Approver
	}
	return who + " was refused: " + r.Text
}

// impossible says so when no approval could ever meet a demand.
func (in Input) impossible() string {
	pinned := in.Allowed.Principals()
	for _, d := range in.Demands {
		people := map[string]bool{}
		for _, a := range d.Approvers {
			if slices.Contains(pinned, a) {
				people[in.Allowed.Person(a)] = true
			}
		}
		if len(people) < max(1, d.Quorum) {
			return fmt.Sprintf("only %d of the approvers asked for (%s) have a key pinned at this cluster",
				len(people), tidy(strings.Join(d.Approvers, ", ")))
		}
	}
	return ""
}

func (r Refusal) weight() int {
	if r.past {
		return 0
	}
	return 1
}

func digest(d fleet.Digest) string {
	if d == fleet.NoDigest {
		return "nothing"
	}
	return tidy(d.Short())
}

// tidy keeps what a stranger wrote short and printable: it goes into
// conditions and onto terminals.
func tidy(s string) string {
	const most = 100
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		s = strconv.QuoteToASCII(s)
	}
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}
