package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func (s *server) openapi(*http.Request) (any, error) { return json.RawMessage(s.paper), nil }

func (s *server) signIn(*http.Request) (any, error) {
	if s.SignIn == nil {
		return nil, fleet.WithHint(fleet.NotFound("this hub has no identity provider"), "set CAPSTAN_TOKEN to a token of this hub")
	}
	return *s.SignIn, nil
}

func (s *server) clusters(r *http.Request) (any, error) {
	q := r.URL.Query()
	items, err := s.Hub.Clusters(r.Context(), fleet.ClusterFilter{Selector: q.Get("selector"), Names: q["name"]})
	if err != nil {
		return nil, err
	}
	for i := range items {
		items[i] = labelled(items[i])
	}
	return paged(q, items, func(c fleet.Cluster) string { return c.Cluster })
}

func (s *server) apps(r *http.Request) (any, error) {
	q := r.URL.Query()
	f := fleet.AppFilter{
		Selector: q.Get("selector"), Clusters: q["cluster"], Namespace: q.Get("namespace"), Name: q.Get("name"),
		Revision: q.Get("revision"), Image: q.Get("image"), Sync: fleet.Sync(q.Get("sync")), Health: fleet.Health(q.Get("health")),
	}
	var err error
	if f.Pending, err = boolean(q, "pending"); err != nil {
		return nil, err
	}
	if f.Drifted, err = boolean(q, "drifted"); err != nil {
		return nil, err
	}
	if f.Held, err = boolean(q, "held"); err != nil {
		return nil, err
	}
	items, err := s.Hub.Apps(r.Context(), f)
	if err != nil {
		return nil, err
	}
	return paged(q, items, func(a fleet.AppStatus) string { return a.Cluster + "/" + a.Name().String() })
}

func (s *server) events(r *http.Request) (any, error) { return eventList(r, s.Hub.Events) }

func (s *server) changes(r *http.Request) (any, error) { return eventList(r, s.Hub.Changes) }

func eventList(r *http.Request, of func(context.Context, fleet.EventFilter) (fleet.EventPage, error)) (any, error) {
	q := r.URL.Query()
	f := fleet.EventFilter{
		Actor: q.Get("actor"), Actions: q["action"], Clusters: q["cluster"], App: q.Get("app"), Continue: q.Get("continue"),
	}
	var err error
	if f.Since, err = moment(q, "since"); err != nil {
		return nil, err
	}
	if f.Until, err = moment(q, "until"); err != nil {
		return nil, err
	}
	if f.Limit, err = limit(q); err != nil {
		return nil, err
	}
	page, err := of(r.Context(), f)
	if err != nil {
		return nil, err
	}
	out := list(page.Items)
	out.Continue = page.Continue
	return out, nil
}

func (s *server) whoami(r *http.Request) (any, error) { return s.People.Whoami(r.Context()) }

func (s *server) tokens(r *http.Request) (any, error) {
	items, err := s.People.Tokens(r.Context())
	return list(items), err
}

func (s *server) createToken(r *http.Request) (any, error) {
	var in fleet.TokenRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return s.People.CreateToken(r.Context(), in)
}

func (s *server) revokeToken(r *http.Request) (any, error) {
	return nil, s.People.RevokeToken(r.Context(), r.PathValue("token"))
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

func (s *server) labelAll(r *http.Request) (any, error) {
	var in client.LabelClusters
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	names, err := s.Hub.LabelClusters(r.Context(), in.Clusters, in.Set, in.Remove)
	return client.LabelledClusters{Clusters: names}, err
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

func (s *server) suspend(r *http.Request) (any, error) {
	app, err := appName(r)
	if err != nil {
		return nil, err
	}
	var in client.SuspendClusters
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	asked, err := s.Hub.Suspend(r.Context(), app, in.Clusters, in.Why)
	return client.AskedClusters{Clusters: asked}, err
}

func (s *server) resume(r *http.Request) (any, error) {
	app, err := appName(r)
	if err != nil {
		return nil, err
	}
	var in client.ResumeClusters
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	asked, err := s.Hub.Resume(r.Context(), app, in.Clusters, in.Only)
	return client.AskedClusters{Clusters: asked}, err
}

func (s *server) rollback(r *http.Request) (any, error) {
	cluster, app, err := appOf(r)
	if err != nil {
		return nil, err
	}
	var in fleet.RollbackTo
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return s.Hub.Rollback(r.Context(), cluster, app, in)
}

func (s *server) login(r *http.Request) (any, error) {
	if err := decode(r, &struct{}{}); err != nil {
		return nil, err
	}
	path, err := s.Logins.Issue(fleet.Who(r.Context()))
	return client.LoginLink{URL: s.base + path}, err
}

// push is the little that GitHub's, GitLab's, Gitea's and Bitbucket's notices
// have in common. They carry much more, so unknown fields are let be here.
type push struct {
	Ref        string `json:"ref,omitempty"` // what moved, as refs/heads/main; none: nobody knows
	Repository struct {
		CloneURL   string `json:"clone_url,omitempty"`
		GitHTTPURL string `json:"git_http_url,omitempty"`
		URL        string `json:"url,omitempty"`
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
	if in.Ref == "" {
		return nil, s.GitPushed(r.Context(), repo)
	}
	return nil, s.GitPushed(r.Context(), repo, in.Ref)
}

func firstOf(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
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

// labelled makes no labels an empty object, so that scripts can look into it.
func labelled(c fleet.Cluster) fleet.Cluster {
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	return c
}
