package notify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"text/template"
	"time"
	"unicode"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Message is one thing to tell. Templates see it.
type Message struct {
	ID       string // the same for the same thing, whenever it is sent
	Route    string
	Trigger  Trigger
	Resolved bool // it is over
	Since    time.Time

	Cluster   string
	Labels    map[string]string // of the cluster
	Namespace string            // of the app; empty with Stale
	App       string
	Revision  fleet.Revision // applied; of the plan with Pending
	Digest    fleet.Digest
	Sync      fleet.Sync
	Health    fleet.Health
	Reason    string
	Message   string
	Gate      fleet.Gate   // with Pending: what the plan waits for
	Action    fleet.Action // with Pending
	Have      int          // with Pending: approvals that count
	Need      int          // with Pending: approvals needed
	Drift     []string     // with Drift: objects, and who changed them
	URL       string       // of the hub's page about it; empty: its own URL is not known

	key string // in Memory
}

// Subject is what it is about: cluster, or cluster/namespace/app.
func (m Message) Subject() string {
	if m.App == "" {
		return m.Cluster
	}
	return m.Cluster + "/" + m.Namespace + "/" + m.App
}

// Title is one line.
func (m Message) Title() string {
	over := map[Trigger]string{Pending: "no longer waits", Degraded: "is no longer degraded", Drift: "has drifted no more", Stale: "is heard of again", Synced: "is in sync"}
	is := map[Trigger]string{Pending: "waits", Degraded: "is degraded", Drift: "has drifted", Stale: "has fallen silent", Synced: "is in sync"}
	what := is[m.Trigger]
	switch {
	case m.Resolved:
		what = over[m.Trigger]
	case m.Trigger == Pending && m.Gate == fleet.GateApproval && m.Need > 0:
		what = fmt.Sprintf("waits for approval (%d of %d)", m.Have, m.Need)
	case m.Trigger == Pending && m.Gate != "":
		what = "waits for " + string(m.Gate)
	case m.Trigger == Synced:
		what = "is in sync at " + m.Revision.Short()
	}
	return m.Subject() + " " + what
}

func messageID(parts ...string) string {
	h := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(h[:16])
}

// pageURL is the page of a cluster or an app.
func pageURL(base, cluster, namespace, app string) string {
	if base == "" {
		return ""
	}
	out := strings.TrimSuffix(base, "/") + "/clusters/" + url.PathEscape(cluster)
	if app != "" {
		out += "/" + url.PathEscape(namespace) + "/" + url.PathEscape(app)
	}
	return out
}

const defaultText = `{{ if .Message }}{{ .Message }}
{{ end }}{{ if .Reason }}Reason: {{ .Reason }}
{{ end }}{{ range .Drift }}- {{ . }}
{{ end }}{{ if .Revision }}Revision: {{ .Revision }}
{{ end }}{{ if .URL }}{{ .URL }}
{{ end }}`

// maxText is the most bytes a text may have.
const maxText = 16 << 10

var defaultTemplate = template.Must(newTemplate().Parse(defaultText))

func newTemplate() *template.Template {
	return template.New("template").Option("missingkey=error").Funcs(template.FuncMap{
		"upper": strings.ToUpper, "lower": strings.ToLower, "join": strings.Join,
		"short": func(r fleet.Revision) string { return r.Short() },
	})
}

// parseTemplate checks a template on a message of every kind.
func parseTemplate(text string) (*template.Template, error) {
	if text == "" {
		return defaultTemplate, nil
	}
	t, err := newTemplate().Parse(text)
	if err != nil {
		return nil, fleet.Invalid("template: %w", err)
	}
	for _, trigger := range Triggers {
		if _, err := render(t, Sample("route", trigger, time.Unix(0, 0), "https://hub.example.com")); err != nil {
			return nil, fleet.Invalid("template: for %s: %w", trigger, err)
		}
	}
	return t, nil
}

func render(t *template.Template, m Message) (string, error) {
	w := &limited{left: maxText}
	if err := t.Execute(w, m); err != nil {
		return "", err
	}
	return strings.TrimSpace(w.b.String()), nil
}

type limited struct {
	b    bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errors.New("the text has more than 16 KiB")
	}
	return l.b.Write(p)
}

// line makes one line of a text.
func line(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > most {
		s = string(r[:most-1]) + "…"
	}
	return s
}

// Sample is a made-up message, for tests of templates and of a route.
func Sample(route string, t Trigger, now time.Time, base string) Message {
	m := Message{
		ID: messageID("sample", route, string(t), now.String()), Route: route, Trigger: t, Since: now.Add(-5 * time.Minute),
		Cluster: "example", Labels: map[string]string{"env": "prod"}, Namespace: "team-a", App: "web",
		Revision: "main@sha1:0123456789abcdef0123456789abcdef01234567", Digest: "sha256:0123456789abcdef",
		Sync: fleet.Synced, Health: fleet.Healthy, Message: "This is a test of a notification.",
	}
	switch t {
	case Pending:
		m.Sync, m.Gate, m.Action, m.Need = fleet.Pending, fleet.GateApproval, fleet.ActionApply, 1
	case Degraded:
		m.Health, m.Reason = fleet.Degraded, "HealthCheckFailed"
	case Drift:
		m.Sync, m.Drift = fleet.OutOfSync, []string{"Deployment team-a/web (kubectl-edit)"}
	case Stale:
		m.Namespace, m.App, m.Revision, m.Digest, m.Sync, m.Health = "", "", "", "", fleet.SyncUnknown, fleet.HealthUnknown
	case Synced:
	}
	m.URL = pageURL(base, m.Cluster, m.Namespace, m.App)
	return m
}
