package desk

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	// syncLife is how long a wish to sync is worth passing on.
	syncLife = 10 * time.Minute
	// maxSyncs and maxRejected bound what piles up in one intent.
	maxSyncs    = 64
	maxRejected = 64
	// maxIntent keeps the document, in its envelope, below what may travel.
	maxIntent = 240 << 10
)

// change alters what is wanted of a cluster, writes it down and tells the
// agent. A change that changes nothing is not written. s is locked.
func (l *ledger) change(ctx context.Context, s *spoke, e entry, alter func(*fleet.Intent)) error {
	noted := false
	reread := func(ctx context.Context) error {
		if err := l.reread(ctx, s); err != nil {
			return err
		}
		if !s.live() {
			return unknown(s.name)
		}
		return nil
	}
	return afresh(ctx, reread, func() error {
		next, value, err := l.altered(s, alter)
		if err != nil || value == nil {
			return err
		}
		if !noted { // the same change is not another one
			e.Cluster = s.name
			if e.Action == "label" {
				e.Before, e.After = s.intent.Labels, next.Labels
			}
			if err := l.audit(ctx, e); err != nil {
				return err
			}
			noted = true
		}
		version, err := l.cfg.Intents.Put(ctx, s.name, value, s.intentVersion)
		if err != nil {
			return moved(err)
		}
		l.adoptIntent(s, next, version)
		if err := l.cfg.Link.PushIntent(s.name, next); err != nil {
			// The agent learns of it with its next heartbeat's answer.
			l.cfg.Log.WarnContext(ctx, "intent not pushed", "cluster", s.name, "revision", next.Revision, "error", err)
		}
		return nil
	})
}

// altered is the intent after a change, and how it is written down: not at all
// where nothing is different.
func (l *ledger) altered(s *spoke, alter func(*fleet.Intent)) (fleet.Intent, []byte, error) {
	next := cloneIntent(s.intent)
	alter(&next)
	if reflect.DeepEqual(next, cloneIntent(s.intent)) {
		return next, nil, nil
	}
	l.trim(s.name, &next)
	if !roomForHolds(next) {
		return next, nil, fleet.WithHint(fleet.Conflict("cluster %s: more apps are suspended and rolled back there than the hub can keep", s.name),
			"resume some of them: capstan get apps --held --cluster "+s.name)
	}
	next.Instance = l.cfg.Instance
	next.Revision = s.intent.Revision + 1
	b, err := json.Marshal(next)
	if err != nil {
		return next, nil, err
	}
	if len(b) > maxIntent {
		return next, nil, fleet.WithHint(fleet.Conflict("cluster %s: what is wanted of it takes %d bytes, the limit is %d", s.name, len(b), maxIntent),
			"let approvals expire, or give them a shorter life")
	}
	return next, b, nil
}

// trim drops what has had its time.
func (l *ledger) trim(cluster string, in *fleet.Intent) {
	now := l.cfg.Now()
	in.Syncs = slices.DeleteFunc(in.Syncs, func(r fleet.SyncRequest) bool { return now.Sub(r.At) > syncLife })
	if n := len(in.Syncs) - maxSyncs; n > 0 {
		in.Syncs = slices.Delete(in.Syncs, 0, n)
	}
	in.Approvals = slices.DeleteFunc(in.Approvals, func(a fleet.SignedApproval) bool { return expired(a, now) })
	trimHolds(in)
	if len(in.Rejected) == 0 {
		return
	}
	waiting := l.waiting(cluster)
	in.Rejected = slices.DeleteFunc(in.Rejected, func(r fleet.Rejection) bool {
		_, waits := waiting[r.Plan]
		return !waits && now.Sub(r.At) > syncLife
	})
	if n := len(in.Rejected) - maxRejected; n > 0 {
		in.Rejected = slices.Delete(in.Rejected, 0, n)
	}
}

// waiting is the set of plans that wait on a cluster, as far as is known.
func (l *ledger) waiting(cluster string) map[string]fleet.AppName {
	out := make(map[string]fleet.AppName)
	l.look(func(v View, now time.Time) {
		apps, err := v.Apps(fleet.AppFilter{Clusters: []string{cluster}}, now)
		if err != nil {
			return // only a selector can be wrong, and there is none
		}
		for _, a := range apps {
			if a.Pending != nil {
				out[a.Pending.Plan] = a.Name()
			}
		}
	})
	return out
}

func expired(a fleet.SignedApproval, now time.Time) bool {
	var statement fleet.Approval
	return json.Unmarshal(a.Statement, &statement) != nil || now.After(statement.Expires)
}

func cloneIntent(in fleet.Intent) fleet.Intent {
	in.Labels = maps.Clone(in.Labels)
	in.Origins = maps.Clone(in.Origins)
	in.Removed = slices.Clone(in.Removed)
	in.Approvals = slices.Clone(in.Approvals)
	in.Syncs = slices.Clone(in.Syncs)
	in.Rejected = slices.Clone(in.Rejected)
	in.Holds = slices.Clone(in.Holds)
	return in
}
