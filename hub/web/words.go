package web

import (
	"fmt"
	"html/template"
	"net/url"
	"sort"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// mark is how one word looks: it is always written out, beside a symbol of its
// own shape, in a colour that only repeats what both say.
type mark struct {
	Word string
	Icon string // of parts.html
	Tone string // of app.css
}

func syncMark(s fleet.Sync) mark {
	switch s {
	case fleet.Synced:
		return mark{string(s), "check", "good"}
	case fleet.OutOfSync:
		return mark{string(s), "differs", "warn"}
	case fleet.Pending:
		return mark{string(s), "glass", "wait"}
	}
	return mark{string(fleet.SyncUnknown), "question", "mute"}
}

func healthMark(h fleet.Health) mark {
	switch h {
	case fleet.Healthy:
		return mark{string(h), "heart", "good"}
	case fleet.Suspended:
		return mark{string(h), "pause", "mute"}
	case fleet.Progressing:
		return mark{string(h), "turn", "warn"}
	case fleet.Missing:
		return mark{string(h), "ring", "bad"}
	case fleet.Degraded:
		return mark{string(h), "cross", "bad"}
	}
	return mark{string(fleet.HealthUnknown), "noheart", "mute"}
}

func changeMark(a fleet.ChangeAction) mark {
	switch a {
	case fleet.Create:
		return mark{string(a), "plus", "good"}
	case fleet.Update, fleet.RunHook:
		return mark{string(a), "differs", "warn"}
	case fleet.Prune, fleet.Recreate:
		return mark{string(a), "minus", "bad"}
	}
	return mark{string(a), "check", "mute"}
}

// rank orders statuses for people: what needs somebody comes first.
func rank(s fleet.AppStatus) int {
	switch {
	case s.Health == fleet.Degraded:
		return 0
	case s.Health == fleet.Missing:
		return 1
	case s.Stale:
		return 2
	case s.Sync == fleet.SyncUnknown:
		return 3
	case s.Sync == fleet.Pending || s.Pending != nil:
		return 4
	case s.Sync != fleet.Synced || s.Health != fleet.Healthy || s.IsHeld():
		return 5
	}
	return quietRank
}

const quietRank = 9

func (s *site) funcs() template.FuncMap {
	return template.FuncMap{
		"asset": s.assetURL, "ago": s.ago, "until": s.until, "labels": sortedLabels,
		"syncMark": syncMark, "healthMark": healthMark, "changeMark": changeMark,
		"holdWord": holdWord,
		"appURL":   appURL, "clusterURL": clusterURL, "spreadURL": spreadURL,
		"eventApp": eventApp, "eventsURL": func(cluster string) string { return withCluster("/events", cluster) },
	}
}

// ago says how long something is past, roughly: a page is read, not measured.
func (s *site) ago(t time.Time) string {
	d := s.Now().Sub(t)
	switch {
	case t.IsZero():
		return "never"
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

// until says in how long something is to come, roughly.
func (s *site) until(t time.Time) string {
	d := t.Sub(s.Now())
	switch {
	case d <= 0:
		return "now"
	case d < time.Minute:
		return "in less than a minute"
	case d < time.Hour:
		return fmt.Sprintf("in %d min", int(d.Minutes()))
	}
	return fmt.Sprintf("in %d h", int(d.Hours()))
}

type label struct{ Key, Value, From string }

// sortedLabels lists what selects a cluster, and who said so.
func sortedLabels(c fleet.Cluster) []label {
	out := make([]label, 0, len(c.Labels))
	for k, v := range c.Labels {
		from := "assigned"
		if _, ok := c.Declared[k]; ok {
			from = "declared"
		}
		out = append(out, label{k, v, from})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out
}

func clusterURL(cluster string) string { return "/clusters/" + url.PathEscape(cluster) }

func appURL(s fleet.AppStatus) string {
	return clusterURL(s.Cluster) + "/" + url.PathEscape(s.Namespace) + "/" + url.PathEscape(s.App)
}

func spreadURL(app fleet.AppName) string {
	return "/apps/" + url.PathEscape(app.Namespace) + "/" + url.PathEscape(app.Name)
}

// withSelector adds the selector to an address, where there is one.
func withSelector(path, selector string) string {
	if selector == "" {
		return path
	}
	return path + "?" + url.Values{"selector": {selector}}.Encode()
}
