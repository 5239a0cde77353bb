package web

import (
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	// eventsBack is how far back the page of events looks.
	eventsBack = 7 * 24 * time.Hour
	// maxShown is how many events the page has, the newest.
	maxShown = 200
	// maxEventPages bounds what is read for them.
	maxEventPages = 20
)

// eventsPage is who changed what, newest first.
type eventsPage struct {
	Cluster string // the one asked for; empty: all
	Problem string // with that
	Days    int
	Events  []fleet.Event
	More    bool // older ones are left out
}

func (p eventsPage) liveURL() string {
	if p.Problem != "" {
		return ""
	}
	return withCluster("/live/events", p.Cluster)
}

func (p eventsPage) status() int {
	if p.Problem != "" {
		return http.StatusBadRequest
	}
	return http.StatusOK
}

func (s *site) events(r *http.Request, _ bool) (any, error) {
	p := eventsPage{Cluster: r.URL.Query().Get("cluster"), Days: int(eventsBack.Hours() / 24)}
	f := fleet.EventFilter{Since: s.Now().Add(-eventsBack), Limit: fleet.MaxEvents}
	if p.Cluster != "" {
		if p.Problem = mistake(fleet.ValidateName("cluster", p.Cluster)); p.Problem != "" {
			return p, nil
		}
		f.Clusters = []string{p.Cluster}
	}
	for range maxEventPages {
		page, err := s.Hub.Events(r.Context(), f)
		if err != nil {
			return nil, err
		}
		p.Events = append(p.Events, page.Items...)
		if over := len(p.Events) - maxShown; over > 0 {
			p.Events, p.More = slices.Clone(p.Events[over:]), true
		}
		if f.Continue = page.Continue; f.Continue == "" {
			slices.Reverse(p.Events)
			return p, nil
		}
	}
	return nil, fleet.WithHint(fleet.Unavailable("more was changed in %d days than a page can look through", p.Days), "capstan get events lists what you ask for")
}

// mistake is what a page says of a mistake; empty: there is none.
func mistake(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// withCluster adds a cluster to an address, where there is one.
func withCluster(path, cluster string) string {
	if cluster == "" {
		return path
	}
	return path + "?" + url.Values{"cluster": {cluster}}.Encode()
}

// eventApp is the page of the app that an event is about; empty: it is about none.
func eventApp(e fleet.Event) string {
	app, err := fleet.ParseAppName(e.App)
	if err != nil {
		return ""
	}
	return spreadURL(app)
}
