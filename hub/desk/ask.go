package desk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// Plan implements fleet.Hub.
func (d *Desk) Plan(ctx context.Context, cluster string, app fleet.AppName) (fleet.SignedPlan, error) {
	return ask[fleet.SignedPlan](ctx, d, cluster, wire.AskPlan, app)
}

// History implements fleet.Hub.
func (d *Desk) History(ctx context.Context, cluster string, app fleet.AppName) ([]fleet.HistoryEntry, error) {
	return ask[[]fleet.HistoryEntry](ctx, d, cluster, wire.AskHistory, app)
}

// Tree implements fleet.Hub.
func (d *Desk) Tree(ctx context.Context, cluster string, app fleet.AppName) ([]fleet.Object, error) {
	return ask[[]fleet.Object](ctx, d, cluster, wire.AskTree, app)
}

// askTries is how often an answer may change while it is fetched.
const askTries = 3

// ask fetches an answer from a cluster's agent, piece by piece.
func ask[T any](ctx context.Context, d *Desk, cluster, what string, app fleet.AppName) (T, error) {
	var answer, none T
	if _, err := fleet.ParseAppName(app.String()); err != nil {
		return none, err
	}
	s, err := d.find(ctx, cluster)
	if err != nil {
		return none, err
	}
	s.mu.Unlock() // not held while a far side thinks
	for range askTries {
		data, changed, err := d.fetch(ctx, cluster, wire.Ask{What: what, App: app})
		if err != nil {
			return none, err
		}
		if changed {
			continue
		}
		if err := json.Unmarshal(data, &answer); err != nil {
			return none, fleet.Unavailable("cluster %s: its answer can't be read: %w", cluster, err)
		}
		return answer, nil
	}
	return none, fleet.Unavailable("cluster %s: its answer kept changing while it was fetched", cluster)
}

// fetch puts the pieces together, and tells whether the answer changed meanwhile.
func (d *Desk) fetch(ctx context.Context, cluster string, a wire.Ask) (data []byte, changed bool, err error) {
	for {
		p, err := d.cfg.Link.Ask(ctx, cluster, a)
		if err != nil {
			return nil, false, err
		}
		if a.ETag != "" && p.ETag != a.ETag {
			return nil, true, nil
		}
		data = append(data, p.Data...)
		if len(data) == p.Total {
			return data, false, nil
		}
		if len(data) > p.Total || len(p.Data) == 0 {
			return nil, false, fleet.Unavailable("cluster %s: the pieces of its answer do not fit together", cluster)
		}
		a.ETag, a.Offset = p.ETag, len(data)
	}
}

func approvalID(a fleet.SignedApproval) string {
	h := sha256.New()
	h.Write(a.Statement)
	h.Write([]byte{0})
	h.Write([]byte(a.Signature))
	return hex.EncodeToString(h.Sum(nil))[:40]
}

func unmarshal(key string, data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
