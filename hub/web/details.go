package web

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	askTime    = 8 * time.Second // an agent that does not answer costs the reader no more
	maxChanges = 300
	maxFields  = 100 // of one object
	maxValue   = 4000
)

// details are what only the agent knows. Each part has its own problem: a page
// shows what could be had.
type details struct {
	Plan    *planView
	PlanErr *problem

	Objects    []fleet.Object
	ObjectsErr *problem

	History    []fleet.HistoryEntry
	HistoryErr *problem
}

type problem struct{ Text, Hint string }

func problemOf(err error) *problem {
	if err == nil {
		return nil
	}
	if client.StatusOf(err) == 500 {
		return &problem{Text: "the hub failed at this", Hint: "the hub's log says why"}
	}
	return &problem{Text: err.Error(), Hint: fleet.Hint(err)}
}

func (s *site) details(ctx context.Context, a fleet.AppStatus) *details {
	if a.Stale {
		silent := &problem{Text: "cluster " + a.Cluster + " is silent, so its agent can't be asked"}
		return &details{ObjectsErr: silent, HistoryErr: silent, PlanErr: silent}
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var d details
	var wg sync.WaitGroup
	wg.Go(func() {
		if a.Pending == nil {
			return
		}
		plan, err := s.Hub.Plan(ctx, a.Cluster, a.Name())
		if err == nil {
			d.Plan, err = viewPlan(plan)
		}
		d.PlanErr = s.noted(ctx, "plan", err)
	})
	wg.Go(func() {
		var err error
		d.Objects, err = s.Hub.Tree(ctx, a.Cluster, a.Name())
		d.ObjectsErr = s.noted(ctx, "objects", err)
	})
	wg.Go(func() {
		var err error
		d.History, err = s.Hub.History(ctx, a.Cluster, a.Name())
		d.HistoryErr = s.noted(ctx, "history", err)
	})
	wg.Wait()
	return &d
}

// noted logs what the page only hints at.
func (s *site) noted(ctx context.Context, what string, err error) *problem {
	if err != nil && client.StatusOf(err) == 500 {
		s.Log.ErrorContext(ctx, "details not shown", "what", what, "error", err)
	}
	return problemOf(err)
}

// planView is a plan as a page shows it.
type planView struct {
	Plan      fleet.Plan
	Changes   []changeView
	More      int // changes not shown
	Unchanged int
}

type changeView struct {
	fleet.Change
	Fields []fieldView
	More   int // fields not shown
}

type fieldView struct {
	Path     string
	From, To string // nothing: absent
	Masked   bool
}

func viewPlan(signed fleet.SignedPlan) (*planView, error) {
	v := &planView{}
	if err := json.Unmarshal(signed.Plan, &v.Plan); err != nil {
		return nil, fleet.Unavailable("the plan can't be read: %w", err)
	}
	for _, c := range v.Plan.Changes {
		switch {
		case c.Action == fleet.Unchanged:
			v.Unchanged++
		case len(v.Changes) == maxChanges:
			v.More++
		default:
			v.Changes = append(v.Changes, viewChange(c))
		}
	}
	return v, nil
}

func viewChange(c fleet.Change) changeView {
	out := changeView{Change: c}
	for i, f := range c.Fields {
		if i == maxFields {
			out.More = len(c.Fields) - maxFields
			break
		}
		// The agent masks secrets. The page does not show them even if one didn't.
		if f.Masked || c.Object.Group == "" && c.Object.Kind == "Secret" && isData(f.Path) {
			out.Fields = append(out.Fields, fieldView{Path: f.Path, Masked: true})
			continue
		}
		out.Fields = append(out.Fields, fieldView{Path: f.Path, From: pretty(f.From), To: pretty(f.To)})
	}
	return out
}

func isData(path string) bool {
	return path == "" || strings.HasPrefix(path, "/data") || strings.HasPrefix(path, "/stringData") ||
		strings.HasPrefix(path, "/metadata/annotations") // kubectl's last-applied copy has the data in it
}

// pretty writes a JSON value for reading: a text of several lines as those
// lines, a tree indented.
func pretty(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	var text string
	if json.Unmarshal(raw, &text) == nil && strings.Contains(text, "\n") {
		return cut(text)
	}
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return cut(string(raw))
	}
	return cut(b.String())
}

func cut(s string) string {
	if len(s) <= maxValue {
		return s
	}
	return strings.ToValidUTF8(s[:maxValue], "") + "\n… (cut here: `capstan diff` shows all)"
}
