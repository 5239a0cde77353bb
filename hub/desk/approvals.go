package desk

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	// maxSignature is well above any SSH signature's armor.
	maxSignature = 32 << 10
	// maxShare is how much of a cluster's intent the approvals may take that one
	// person handed in. The hub can't tell a good signature from junk, and who
	// approves is what the junk says: so it is whoever handed it in that is held
	// to a share, and nobody can crowd out the others' approvals.
	maxShare = maxIntent / 4
	// maxFiled is the same over the whole fleet.
	maxFiled = 8 << 20
)

// filed is what the bucket of approvals holds.
type filed struct {
	fleet.SignedApproval
	By string `json:"by,omitempty"` // who handed it in first
}

func (f filed) size() int { return len(f.Statement) + len(f.Signature) }

// Approve implements fleet.Hub. Only the statement's form is looked at: the
// signature is for the spokes to judge.
func (d *Desk) Approve(ctx context.Context, a fleet.SignedApproval) error {
	statement, err := d.readApproval(a)
	if err != nil {
		return err
	}
	var clusters []string
	for _, t := range statement.Targets {
		clusters = append(clusters, t.Cluster)
	}
	slices.Sort(clusters)
	clusters = slices.Compact(clusters)
	by, err := d.handedIn(ctx)
	if err != nil {
		return err
	}
	// Every cluster is looked at before anything is written down.
	for _, name := range clusters {
		s, err := d.find(ctx, name)
		if err != nil {
			return err
		}
		err = within(ctx, s, a, by)
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if err := d.file(ctx, a, by); err != nil {
		return err
	}
	detail := map[string]any{"action": statement.Action, "approver": statement.Approver, "comment": statement.Comment, "targets": statement.Targets}
	return d.changeAll(ctx, clusters, entry{Action: "approve", App: statement.App, Detail: detail}, func(in *fleet.Intent) {
		if !holds(*in, a) {
			in.Approvals = append(in.Approvals, a)
		}
	})
}

func (d *Desk) readApproval(a fleet.SignedApproval) (statement fleet.Approval, err error) {
	if len(a.Statement) > maxShare || len(a.Signature) > maxSignature {
		return statement, fleet.Invalid("approval: it is too long")
	}
	if err := json.Unmarshal(a.Statement, &statement); err != nil {
		return statement, fleet.Invalid("approval: not a JSON statement")
	}
	if err := statement.Validate(); err != nil {
		return statement, err
	}
	if a.Signature == "" {
		return statement, fleet.WithHint(fleet.Invalid("approval: it is not signed"), "sign it with: capstan approve, or ssh-keygen -Y sign")
	}
	if d.cfg.Now().After(statement.Expires) {
		return statement, fleet.Invalid("approval: it expired at %s", statement.Expires.UTC().Format(time.RFC3339))
	}
	return statement, nil
}

func holds(in fleet.Intent, a fleet.SignedApproval) bool {
	return slices.ContainsFunc(in.Approvals, func(o fleet.SignedApproval) bool {
		return string(o.Statement) == string(a.Statement) && o.Signature == a.Signature
	})
}

// handedIn tells, by id, who handed in the approvals that count still. Those
// that have expired are forgotten.
func (d *Desk) handedIn(ctx context.Context) (map[string]filed, error) {
	by, now := make(map[string]filed), d.cfg.Now()
	old := map[string]uint64{}
	err := each(ctx, d.cfg.Approvals, func(id string, have filed, version uint64) {
		if expired(have.SignedApproval, now) {
			old[id] = version
		} else {
			by[id] = have
		}
	})
	if err != nil {
		return nil, err
	}
	for id, version := range old {
		// What is there in its place was not looked at yet.
		if err := d.cfg.Approvals.DeleteIf(ctx, id, version); err != nil && !errors.Is(err, fleet.ErrConflict) {
			return nil, err
		}
	}
	return by, nil
}

// within checks that an approval stays within the share of the cluster's intent
// that whoever hands it in may take. s is locked.
func within(ctx context.Context, s *spoke, a fleet.SignedApproval, by map[string]filed) error {
	if holds(s.intent, a) {
		return nil
	}
	who, size := fleet.Actor(ctx), filed{SignedApproval: a}.size()
	for _, o := range s.intent.Approvals {
		if f, known := by[approvalID(o)]; known && f.By == who {
			size += f.size()
		}
	}
	if size > maxShare {
		return fleet.WithHint(fleet.Conflict("approval: those that you handed in would take %d bytes on cluster %s, %d are yours", size, s.name, maxShare),
			"let approvals expire, or give them a shorter life")
	}
	return nil
}

// file keeps an approval under its content, once.
func (d *Desk) file(ctx context.Context, a fleet.SignedApproval, by map[string]filed) error {
	id := approvalID(a)
	if _, known := by[id]; known {
		return nil
	}
	f := filed{SignedApproval: a, By: fleet.Actor(ctx)}
	size := f.size()
	for _, o := range by {
		if o.By == f.By {
			size += o.size()
		}
	}
	if size > maxFiled {
		return fleet.WithHint(fleet.Conflict("approval: those that you handed in would take %d bytes, %d are yours", size, maxFiled),
			"let approvals expire, or give them a shorter life")
	}
	if _, err := put(ctx, d.cfg.Approvals, id, f, 0); err != nil && !errors.Is(err, fleet.ErrConflict) {
		return err
	}
	return nil
}
