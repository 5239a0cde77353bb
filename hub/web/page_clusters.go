package web

import (
	"net/http"
	"net/url"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// clustersPage lists every cluster.
type clustersPage struct {
	Clusters []fleet.Cluster
}

func (clustersPage) liveURL() string { return "/live/clusters" }

func (s *site) clusters(r *http.Request, _ bool) (any, error) {
	all, err := s.Hub.Clusters(r.Context(), fleet.ClusterFilter{})
	return clustersPage{Clusters: all}, err
}

// clusterPage is one cluster and what is on it.
type clusterPage struct {
	Cluster fleet.Cluster
	Apps    []fleet.AppStatus
}

func (p clusterPage) liveURL() string { return "/live" + clusterURL(p.Cluster.Cluster) }

func (s *site) cluster(r *http.Request, _ bool) (any, error) {
	name := r.PathValue("cluster")
	found, err := s.Hub.Clusters(r.Context(), fleet.ClusterFilter{Names: []string{name}})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fleet.NotFound("cluster %q is not known", name)
	}
	apps, err := s.Hub.Apps(r.Context(), fleet.AppFilter{Clusters: []string{name}})
	if err != nil {
		return nil, err
	}
	sortByRank(apps)
	return clusterPage{Cluster: found[0], Apps: apps}, nil
}

// spreadPage is one app on all clusters that have it.
type spreadPage struct {
	App fleet.AppName
	On  []fleet.AppStatus
}

func (p spreadPage) liveURL() string { return "/live" + spreadURL(p.App) }

func (s *site) spread(r *http.Request, _ bool) (any, error) {
	app := fleet.AppName{Namespace: r.PathValue("namespace"), Name: r.PathValue("app")}
	on, err := s.Hub.Apps(r.Context(), fleet.AppFilter{Namespace: app.Namespace, Name: app.Name})
	if err != nil {
		return nil, err
	}
	if len(on) == 0 {
		return nil, fleet.NotFound("no cluster has app %s", app)
	}
	sortByRank(on)
	return spreadPage{App: app, On: on}, nil
}

// appPage is one app on one cluster.
type appPage struct {
	Status  fleet.AppStatus
	Changed bool // since the page was loaded: what was asked of the agent is old
	Details *details
	History []past
	// GitHas is the head of the branch that a pinned app would follow; empty: there
	// is no pin, or it is not known.
	GitHas fleet.Revision
}

func (s *site) gitHas(r *http.Request, a fleet.AppStatus) fleet.Revision {
	if a.Held(fleet.HoldRollback) == nil {
		return ""
	}
	found, err := s.Hub.Clusters(r.Context(), fleet.ClusterFilter{Names: []string{a.Cluster}})
	if err != nil || len(found) == 0 {
		return "" // the page says the rest
	}
	c := found[0]
	if a.Source != nil && (len(c.Sources) == 0 || c.Sources[0].URL != a.Source.URL) {
		return ""
	}
	return c.Head
}

func (p appPage) liveURL() string {
	return "/live" + appURL(p.Status) + "?" + url.Values{"seen": {p.key()}}.Encode()
}

// key changes when the agent would give other details.
func (p appPage) key() string {
	k := string(p.Status.Digest.Short()) + " " + p.Status.Revision.Short()
	if p.Status.Pending != nil {
		k += " " + p.Status.Pending.Plan
	}
	if p.Status.Stale {
		k += " stale"
	}
	if held := holdsKey(p.Status.Holds); held != "" {
		k += " " + held
	}
	return k
}

func (s *site) app(r *http.Request, live bool) (any, error) {
	app := fleet.AppName{Namespace: r.PathValue("namespace"), Name: r.PathValue("app")}
	cluster := r.PathValue("cluster")
	found, err := s.Hub.Apps(r.Context(), fleet.AppFilter{Clusters: []string{cluster}, Namespace: app.Namespace, Name: app.Name})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fleet.NotFound("app %s is not on cluster %q", app, cluster)
	}
	p := appPage{Status: found[0]}
	if live {
		p.Changed = p.key() != r.URL.Query().Get("seen")
	} else {
		p.Details = s.details(r.Context(), p.Status)
		p.History = passed(p.Status, p.Details.History)
		p.GitHas = s.gitHas(r, p.Status)
	}
	return p, nil
}
