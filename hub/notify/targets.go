package notify

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// webhook takes CloudEvents 1.0 in their structured JSON form.
type webhook struct{ place }

type cloudEvent struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject"`
	Time        time.Time `json:"time"`
	ContentType string    `json:"datacontenttype"`
	Data        eventData `json:"data"`
}

type eventData struct {
	Route     string            `json:"route"`
	Trigger   Trigger           `json:"trigger"`
	Resolved  bool              `json:"resolved"`
	Since     time.Time         `json:"since"`
	Cluster   string            `json:"cluster"`
	Labels    map[string]string `json:"labels,omitempty"`
	Namespace string            `json:"namespace,omitempty"`
	App       string            `json:"app,omitempty"`
	Revision  fleet.Revision    `json:"revision,omitempty"`
	Digest    fleet.Digest      `json:"digest,omitempty"`
	Sync      fleet.Sync        `json:"sync,omitempty"`
	Health    fleet.Health      `json:"health,omitempty"`
	Gate      fleet.Gate        `json:"gate,omitempty"`
	Drift     []string          `json:"drift,omitempty"`
	Title     string            `json:"title"`
	Text      string            `json:"text"`
	URL       string            `json:"url,omitempty"`
}

func (*webhook) kind() string { return "webhook" }

func (w *webhook) send(ctx context.Context, m Message, text string) error {
	kind := "dev.capstan.app." + string(m.Trigger)
	if m.App == "" {
		kind = "dev.capstan.cluster." + string(m.Trigger)
	}
	if m.Resolved {
		kind += ".resolved"
	}
	return w.post(ctx, "", "application/cloudevents+json", cloudEvent{
		SpecVersion: "1.0", ID: m.ID, Source: "/capstan/hub", Type: kind, Subject: m.Subject(), Time: m.Since.UTC(), ContentType: "application/json",
		Data: eventData{
			Route: m.Route, Trigger: m.Trigger, Resolved: m.Resolved, Since: m.Since.UTC(), Cluster: m.Cluster, Labels: m.Labels,
			Namespace: m.Namespace, App: m.App, Revision: m.Revision, Digest: m.Digest, Sync: m.Sync, Health: m.Health, Gate: m.Gate,
			Drift: m.Drift, Title: m.Title(), Text: text, URL: m.URL,
		},
	}, bearer)
}

// slack takes an incoming webhook's message; Mattermost and Rocket.Chat do too.
type slack struct{ place }

func (*slack) kind() string { return "slack" }

var slackEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func (s *slack) send(ctx context.Context, m Message, text string) error {
	title := "*" + slackEscape.Replace(line(m.Title(), 200)) + "*"
	return s.post(ctx, "", "application/json", map[string]string{"text": strings.TrimSpace(title + "\n" + slackEscape.Replace(text))}, bearer)
}

// teams takes an adaptive card, as the workflows of Microsoft Teams want it.
type teams struct{ place }

func (*teams) kind() string { return "teams" }

func (t *teams) send(ctx context.Context, m Message, text string) error {
	block := func(text, weight string) map[string]any {
		return map[string]any{"type": "TextBlock", "text": text, "weight": weight, "wrap": true}
	}
	card := map[string]any{
		"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
		"body": []any{block(line(m.Title(), 200), "Bolder"), block(text, "Default")},
	}
	if m.URL != "" {
		card["actions"] = []any{map[string]string{"type": "Action.OpenUrl", "title": "Open", "url": m.URL}}
	}
	return t.post(ctx, "", "application/json", map[string]any{"type": "message", "attachments": []any{map[string]any{
		"contentType": "application/vnd.microsoft.card.adaptive", "content": card,
	}}}, bearer)
}

// alertmanager takes alerts over its API v2.
type alertmanager struct{ alertmanagerConfig }

// An alert that is not repeated ends by itself: a hub that is gone can't say so.
const (
	alertRepeat = 20 * time.Minute
	alertLife   = time.Hour
)

func (*alertmanager) kind() string { return "alertmanager" }

func (a *alertmanager) send(ctx context.Context, m Message, text string) error {
	name := "Capstan" + strings.ToUpper(string(m.Trigger[:1])) + string(m.Trigger[1:])
	labels := map[string]string{"alertname": name, "cluster": m.Cluster}
	if m.App != "" {
		labels["namespace"], labels["app"] = m.Namespace, m.App
	}
	maps.Copy(labels, a.Labels)
	ends := time.Now().Add(alertLife)
	if m.Resolved {
		ends = time.Now()
	}
	return a.post(ctx, "/api/v2/alerts", "application/json", []any{map[string]any{
		"labels": labels, "annotations": map[string]string{"summary": line(m.Title(), 200), "description": text},
		"startsAt": m.Since.UTC(), "endsAt": ends.UTC(), "generatorURL": m.URL,
	}}, bearer)
}

// status sets a commit's status at a forge.
type status struct {
	statusConfig
	forge forge
}

type forge int

const (
	gitHub forge = iota
	gitLab
)

func (c *statusConfig) check(on []Trigger) error {
	for _, t := range on {
		if t == Stale || t == Drift {
			return fleet.Invalid("%s is not about a commit: a commit's status can't say it", t)
		}
	}
	if strings.Count(c.Repository, "/") < 1 || strings.Trim(c.Repository, "/") != c.Repository {
		return fleet.WithHint(fleet.Invalid("repository %q is not one", c.Repository), "write it as owner/name")
	}
	if c.TokenFile == "" {
		return fleet.Invalid("tokenFile is missing")
	}
	return c.place.check(false)
}

func (s *status) kind() string {
	if s.forge == gitLab {
		return "gitlab"
	}
	return "github"
}

// at is the place with the forge's own address where none is given.
func (s *status) at() place {
	p := s.place
	if p.URL == "" && p.URLFile == "" {
		if p.URL = "https://api.github.com"; s.forge == gitLab {
			p.URL = "https://gitlab.com"
		}
	}
	return p
}

func (s *status) send(ctx context.Context, m Message, _ string) error {
	commit := m.Revision.Commit()
	if commit == "" {
		return nil // an app that never ran has no commit to say it of
	}
	state, name := s.word(m), "capstan/"+m.Subject()
	if s.forge == gitLab {
		return s.at().post(ctx, "/api/v4/projects/"+url.PathEscape(s.Repository)+"/statuses/"+url.PathEscape(commit), "application/json",
			map[string]string{"state": state, "name": name, "description": line(m.Title(), 140), "target_url": m.URL},
			func(h http.Header, token string) { h.Set("PRIVATE-TOKEN", token) })
	}
	owner, repo, _ := strings.Cut(s.Repository, "/")
	return s.at().post(ctx, "/repos/"+url.PathEscape(owner)+"/"+url.PathEscape(repo)+"/statuses/"+url.PathEscape(commit), "application/json",
		map[string]string{"state": state, "context": name, "description": line(m.Title(), 140), "target_url": m.URL}, bearer)
}

func (s *status) word(m Message) string {
	switch {
	case m.Resolved || m.Trigger == Synced:
		return "success"
	case m.Trigger == Pending:
		return "pending"
	case s.forge == gitLab:
		return "failed"
	}
	return "failure"
}
