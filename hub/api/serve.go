package api

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func (s *server) clusters(r *http.Request) (any, error) {
	q, err := query(r, "selector", "name")
	if err != nil {
		return nil, err
	}
	items, err := s.Hub.Clusters(r.Context(), fleet.ClusterFilter{Selector: q.Get("selector"), Names: q["name"]})
	for i := range items {
		items[i] = labelled(items[i])
	}
	return list(items), err
}

func (s *server) apps(r *http.Request) (any, error) {
	q, err := query(r, "selector", "cluster", "namespace", "name")
	if err != nil {
		return nil, err
	}
	items, err := s.Hub.Apps(r.Context(), fleet.AppFilter{
		Selector: q.Get("selector"), Clusters: q["cluster"], Namespace: q.Get("namespace"), Name: q.Get("name"),
	})
	return list(items), err
}

func (s *server) label(r *http.Request) (any, error) {
	cluster, err := clusterOf(r)
	if err != nil {
		return nil, err
	}
	var in client.LabelChange
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	c, err := s.Hub.LabelCluster(r.Context(), cluster, in.Set, in.Remove)
	return labelled(c), err
}

func (s *server) removeCluster(r *http.Request) (any, error) {
	cluster, err := clusterOf(r)
	if err != nil {
		return nil, err
	}
	return nil, s.Hub.RemoveCluster(r.Context(), cluster)
}

func (s *server) join(r *http.Request) (any, error) {
	var in client.JoinRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	ttl, err := time.ParseDuration(firstOf(in.TTL, "0"))
	if err != nil {
		return nil, fleet.WithHint(fleet.Invalid("ttl %q is not a duration", in.TTL), "write it like 1h or 30m")
	}
	return s.Hub.Join(r.Context(), in.Cluster, ttl)
}

func (s *server) plan(r *http.Request) (any, error) {
	cluster, app, err := appOf(r)
	if err != nil {
		return nil, err
	}
	return s.Hub.Plan(r.Context(), cluster, app)
}

func (s *server) history(r *http.Request) (any, error) {
	cluster, app, err := appOf(r)
	if err != nil {
		return nil, err
	}
	items, err := s.Hub.History(r.Context(), cluster, app)
	return list(items), err
}

func (s *server) tree(r *http.Request) (any, error) {
	cluster, app, err := appOf(r)
	if err != nil {
		return nil, err
	}
	items, err := s.Hub.Tree(r.Context(), cluster, app)
	return list(items), err
}

func (s *server) reject(r *http.Request) (any, error) {
	cluster, app, err := appOf(r)
	if err != nil {
		return nil, err
	}
	var in client.RejectRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return nil, s.Hub.Reject(r.Context(), cluster, app, in.Plan, in.Why)
}

func (s *server) approve(r *http.Request) (any, error) {
	var in fleet.SignedApproval
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return nil, s.Hub.Approve(r.Context(), in)
}

func (s *server) sync(r *http.Request) (any, error) {
	app, err := appName(r)
	if err != nil {
		return nil, err
	}
	var in client.SyncClusters
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	asked, err := s.Hub.Sync(r.Context(), app, in.Clusters)
	return client.SyncClusters{Clusters: asked}, err
}

func (s *server) login(r *http.Request) (any, error) {
	if err := decode(r, &struct{}{}); err != nil {
		return nil, err
	}
	// Asked again for the role: guard has checked it, and keeps no more of it than the name.
	name, role, err := s.Tokens.Authenticate(credential(r))
	if err != nil {
		return nil, err
	}
	path, err := s.Logins.Issue(name, role)
	return client.LoginLink{URL: s.base + path}, err
}

// push is the little that GitHub's, GitLab's, Gitea's and Bitbucket's notices
// have in common. They carry much more, so unknown fields are let be here.
type push struct {
	Repository struct {
		CloneURL   string `json:"clone_url"`
		GitHTTPURL string `json:"git_http_url"`
		URL        string `json:"url"`
	} `json:"repository"`
}

func (s *server) gitPushed(r *http.Request) (any, error) {
	var in push
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, badBody(err)
	}
	repo := firstOf(in.Repository.CloneURL, in.Repository.GitHTTPURL, in.Repository.URL)
	u, err := url.Parse(repo)
	if err != nil || repo == "" || len(repo) > 2048 {
		return nil, fleet.WithHint(fleet.Invalid("the notice names no repository"),
			"it needs repository.clone_url or repository.url")
	}
	if u.User != nil {
		u.User = nil // every agent hears this: no credential may be in it
		repo = u.String()
	}
	return nil, s.GitPushed(r.Context(), repo)
}

func firstOf(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

// query refuses parameters nobody reads: a misspelt selector must not answer
// with the whole fleet.
func query(r *http.Request, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fleet.Invalid("query: %w", err)
	}
	for k := range q {
		if !slices.Contains(known, k) {
			return nil, fleet.Invalid("query parameter %q is not known", k)
		}
	}
	return q, nil
}

func clusterOf(r *http.Request) (string, error) {
	name := r.PathValue("cluster")
	return name, fleet.ValidateName("cluster", name)
}

func appOf(r *http.Request) (string, fleet.AppName, error) {
	cluster, err := clusterOf(r)
	if err != nil {
		return "", fleet.AppName{}, err
	}
	app, err := appName(r)
	return cluster, app, err
}

func appName(r *http.Request) (fleet.AppName, error) {
	return fleet.ParseAppName(r.PathValue("namespace") + "/" + r.PathValue("app"))
}

func list[T any](items []T) client.List[T] {
	if items == nil {
		items = []T{}
	}
	return client.List[T]{Items: items}
}

// labelled makes no labels an empty object, so that scripts can look into it.
func labelled(c fleet.Cluster) fleet.Cluster {
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	return c
}
