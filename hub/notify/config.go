// Package notify tells people and programs elsewhere what became of apps and
// clusters: that something waits for approval, is degraded, is in sync at a new
// revision, has drifted, or has fallen silent.
//
// What is to be told is decided by Decide, which does no I/O: the fleet as it
// is, and what was told before, go in; messages come out. A Notifier looks at
// the fleet, sends, and writes down what was told, so that a state is told
// once, over restarts as well.
package notify

import (
	"net/url"
	"path"
	"slices"
	"strings"
	"text/template"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Trigger is what a message is about.
type Trigger string

// The triggers.
const (
	Pending  Trigger = "pending"  // a plan waits at a gate; told again for another plan
	Degraded Trigger = "degraded" // an app's health is Degraded; told again at another revision
	Synced   Trigger = "synced"   // an app came to be in sync at another revision
	Drift    Trigger = "drift"    // live objects differ; told again for other objects
	Stale    Trigger = "stale"    // a cluster has fallen silent
)

// Triggers are all of them.
var Triggers = []Trigger{Pending, Degraded, Synced, Drift, Stale}

// defaultFor is how long a state holds before it is told: what heals by itself
// within moments is nobody's business.
var defaultFor = map[Trigger]time.Duration{Degraded: 2 * time.Minute, Drift: 2 * time.Minute}

// settle is how long a state must be over, at least, to count as over.
const settle = time.Minute

// Config is where to send what. The zero value sends nothing.
type Config struct {
	Routes []Route
}

// Route sends what some triggers say of some clusters and apps to one place.
type Route struct {
	Name     string
	On       []Trigger
	Clusters labels.Selector           // over a cluster's labels
	Apps     []string                  // namespace/name patterns; empty: every app
	For      map[Trigger]time.Duration // how long a state must hold
	Resolved bool                      // tell as well when a state is over
	PerHour  int                       // messages at most

	to     target
	text   *template.Template // nil: the default
	repeat time.Duration      // how often a state that lasts is sent again; 0: never
}

// Default limits of messages per hour.
const (
	defaultPerHour = 60
	maxPerHour     = 10000
	burst          = 20 // at once, of what an hour may take
)

// cluster tells whether a cluster with these labels is the route's business.
func (r *Route) cluster(set map[string]string) bool { return r.Clusters.Matches(labels.Set(set)) }

func (r *Route) app(name fleet.AppName) bool {
	return len(r.Apps) == 0 || slices.ContainsFunc(r.Apps, func(p string) bool {
		ok, err := path.Match(p, name.String())
		return ok && err == nil
	})
}

func (r *Route) on(t Trigger) bool { return slices.Contains(r.On, t) }

// file is the configuration as it is written.
type file struct {
	Routes []fileRoute `yaml:"routes"`
}

type fileRoute struct {
	Name     string        `yaml:"name"`
	On       []Trigger     `yaml:"on"`
	Clusters string        `yaml:"clusters"`
	Apps     []string      `yaml:"apps"`
	For      time.Duration `yaml:"for"`
	Resolved bool          `yaml:"resolved"`
	PerHour  *int          `yaml:"perHour"`
	Template string        `yaml:"template"`

	Webhook      *webhookConfig      `yaml:"webhook"`
	Slack        *slackConfig        `yaml:"slack"`
	Teams        *teamsConfig        `yaml:"teams"`
	Email        *emailConfig        `yaml:"email"`
	Alertmanager *alertmanagerConfig `yaml:"alertmanager"`
	GitHub       *statusConfig       `yaml:"github"`
	GitLab       *statusConfig       `yaml:"gitlab"`
}

// place is the common part of all targets that are reached over HTTP. An
// address that is itself a secret comes from a file.
type place struct {
	URL       string `yaml:"url"`
	URLFile   string `yaml:"urlFile"`
	TokenFile string `yaml:"tokenFile"`
	CAFile    string `yaml:"caFile"`
}

type webhookConfig struct {
	place `yaml:",inline"`
}

type slackConfig struct {
	place `yaml:",inline"`
}

type teamsConfig struct {
	place `yaml:",inline"`
}

type alertmanagerConfig struct {
	place  `yaml:",inline"`
	Labels map[string]string `yaml:"labels"` // added to every alert
}

type statusConfig struct {
	place      `yaml:",inline"`
	Repository string `yaml:"repository"` // owner/name, or group/subgroup/name
}

type emailConfig struct {
	Host         string   `yaml:"host"`
	Port         int      `yaml:"port"`
	TLS          string   `yaml:"tls"` // starttls (default), implicit, none
	CAFile       string   `yaml:"caFile"`
	Username     string   `yaml:"username"`
	PasswordFile string   `yaml:"passwordFile"`
	From         string   `yaml:"from"`
	To           []string `yaml:"to"`
}

func (p place) check(needs bool) error {
	switch {
	case p.URL != "" && p.URLFile != "":
		return fleet.Invalid("url and urlFile are both there")
	case p.URL == "" && p.URLFile == "" && needs:
		return fleet.Invalid("url or urlFile is missing")
	case p.URL != "":
		return checkURL(p.URL)
	}
	return nil
}

// checkURL never repeats the URL, which may be a secret.
func checkURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fleet.Invalid("the URL is not a valid one of https or http")
	}
	if u.User != nil {
		return fleet.WithHint(fleet.Invalid("the URL holds a credential"), "put it into a file and name that as tokenFile, or the whole as urlFile")
	}
	return nil
}

// makeRoute checks one route, and puts together what it needs.
func makeRoute(f fileRoute) (Route, error) {
	r := Route{Name: f.Name, On: f.On, Apps: f.Apps, Resolved: f.Resolved, PerHour: defaultPerHour, For: map[Trigger]time.Duration{}}
	if err := fleet.ValidateName("route", f.Name); err != nil {
		return r, err
	}
	if len(f.On) == 0 {
		return r, fleet.WithHint(fleet.Invalid("on names no trigger"), "triggers: "+names(Triggers))
	}
	if f.For < 0 || f.For > 7*24*time.Hour {
		return r, fleet.Invalid("for must be between 0 and 168h")
	}
	for _, t := range f.On {
		if !slices.Contains(Triggers, t) {
			return r, fleet.WithHint(fleet.Invalid("trigger %q is not known", t), "triggers: "+names(Triggers))
		}
		if r.For[t] = f.For; f.For == 0 {
			r.For[t] = defaultFor[t]
		}
	}
	var err error
	if r.Clusters, err = labels.Parse(f.Clusters); err != nil {
		return r, fleet.WithHint(fleet.Invalid("clusters: %w", err), "write a selector as kubectl's: env=prod,tier!=edge")
	}
	for _, p := range f.Apps {
		if _, err := path.Match(p, "a/b"); err != nil || strings.Count(p, "/") != 1 {
			return r, fleet.WithHint(fleet.Invalid("apps: %q is not a pattern of namespace/name", p), "for instance team-a/* or */web")
		}
	}
	if f.PerHour != nil {
		if r.PerHour = *f.PerHour; r.PerHour < 1 || r.PerHour > maxPerHour {
			return r, fleet.Invalid("perHour must be between 1 and %d", maxPerHour)
		}
	}
	if r.text, err = parseTemplate(f.Template); err != nil {
		return r, err
	}
	return r, aim(&r, f)
}

// aim gives a route its one target.
func aim(r *Route, f fileRoute) error {
	var all []target
	add := func(t target, err error) error {
		all = append(all, t)
		return err
	}
	var err error
	switch {
	case f.Webhook != nil:
		err = add(&webhook{f.Webhook.place}, f.Webhook.check(true))
	case f.Slack != nil:
		err = add(&slack{f.Slack.place}, f.Slack.check(true))
	case f.Teams != nil:
		err = add(&teams{f.Teams.place}, f.Teams.check(true))
	case f.Alertmanager != nil:
		r.repeat, r.Resolved = alertRepeat, true
		err = add(&alertmanager{*f.Alertmanager}, f.Alertmanager.check(true))
	case f.Email != nil:
		err = add(&mail{*f.Email}, f.Email.check())
	case f.GitHub != nil:
		err = add(&status{statusConfig: *f.GitHub, forge: gitHub}, f.GitHub.check(r.On))
	case f.GitLab != nil:
		err = add(&status{statusConfig: *f.GitLab, forge: gitLab}, f.GitLab.check(r.On))
	}
	if n := f.targets(); n != 1 {
		return fleet.WithHint(fleet.Invalid("a route has one target, this one has %d", n),
			"targets: webhook, slack, teams, email, alertmanager, github, gitlab")
	}
	r.to = all[0]
	return err
}

func (f fileRoute) targets() int {
	n := 0
	for _, there := range []bool{f.Webhook != nil, f.Slack != nil, f.Teams != nil, f.Email != nil, f.Alertmanager != nil, f.GitHub != nil, f.GitLab != nil} {
		if there {
			n++
		}
	}
	return n
}

func names(all []Trigger) string {
	var out []string
	for _, t := range all {
		out = append(out, string(t))
	}
	return strings.Join(out, ", ")
}
