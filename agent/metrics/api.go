package metrics

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// API counts the requests that go through a transport to the API server, each
// try of one that is tried again.
func (m *Metrics) API(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		verb, from := verbOf(r), time.Now()
		resp, err := next.RoundTrip(r)
		code := "error"
		if err == nil {
			code = strconv.Itoa(resp.StatusCode)
		}
		m.requests.WithLabelValues(verb, code).Inc()
		if verb != "watch" {
			m.answers.WithLabelValues(verb).Observe(time.Since(from).Seconds())
		}
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// verbOf is what RBAC calls a request, one of few words. What is tried only is a
// dry-run, and what is asked of the server itself is discovery.
func verbOf(r *http.Request) string {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) > 2:
		parts = parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		parts = parts[3:]
	default:
		return "discovery"
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	q := r.URL.Query()
	switch {
	case q.Get("dryRun") != "":
		return "dry-run"
	case r.Method == http.MethodGet && q.Get("watch") != "":
		return "watch"
	case r.Method == http.MethodGet && len(parts) == 1:
		return "list"
	}
	if verb, known := verbs[r.Method]; known {
		return verb
	}
	return "other"
}

var verbs = map[string]string{
	http.MethodGet: "get", http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete",
}
