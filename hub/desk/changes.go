package desk

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"unique"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// applied is what runs of an app, as changes tell it.
type applied struct {
	Revision fleet.Revision `json:"revision"`
	Digest   fleet.Digest   `json:"digest"`
}

// known is what is remembered of an app's last report, to tell what changed.
type known struct {
	applied
	drift string // the objects that had drifted
}

// knownOf keeps one copy of what ten thousand clusters run alike.
func knownOf(s fleet.AppStatus) unique.Handle[known] {
	return unique.Make(known{applied: applied{s.Revision, s.Digest}, drift: driftOf(s)})
}

func driftOf(s fleet.AppStatus) string {
	var all []string
	for _, d := range s.Drift {
		all = append(all, d.Object.String()+" "+strings.Join(d.Fields, " "))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// noteReport writes down what an app's report says that the one before did not.
// The first report of an app is news once the agent has resent what it had: what
// it resends was there before.
func (p *Spokes) noteReport(ctx context.Context, s *spoke, old mark, now fleet.AppStatus) {
	before, after := old.was(), knownOf(now).Value()
	if after.Digest != before.Digest && (old.version != 0 || s.resent == s.rec.Epoch) {
		e := fleet.Event{Action: fleet.ChangeApplied, After: raw(after.applied)}
		if before.Digest != fleet.NoDigest {
			e.Before = raw(before.applied)
		}
		p.noteChange(ctx, s, now.Name(), e)
	}
	if after.drift != "" && after.drift != before.drift {
		p.noteChange(ctx, s, now.Name(), fleet.Event{Action: fleet.ChangeDrifted, Detail: raw(now.Drift)})
	}
}

func (p *Spokes) noteGone(ctx context.Context, s *spoke, app fleet.AppName, old mark) {
	if old.there() {
		p.noteChange(ctx, s, app, fleet.Event{Action: fleet.ChangeGone, Before: raw(old.was().applied)})
	}
}

// noteChange never fails a report: what is lost here is a line of history, and
// the report is the state.
func (p *Spokes) noteChange(ctx context.Context, s *spoke, app fleet.AppName, e fleet.Event) {
	e.At, e.Actor, e.Cluster, e.App = p.cfg.Now().UTC(), "agent", s.name, app.String()
	b, err := json.Marshal(e)
	if err == nil {
		err = p.cfg.Changes.Append(ctx, s.name, b)
	}
	if err != nil {
		p.cfg.Log.WarnContext(ctx, "change not written down", "cluster", s.name, "app", app.String(), "change", e.Action, "error", err)
	}
}

// raw encodes what always can be.
func raw(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}
