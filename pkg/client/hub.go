package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Clusters implements fleet.Hub.
func (c *Client) Clusters(ctx context.Context, f fleet.ClusterFilter) ([]fleet.Cluster, error) {
	q := url.Values{}
	add(q, "selector", f.Selector)
	add(q, "name", f.Names...)
	var out List[fleet.Cluster]
	err := c.call(ctx, http.MethodGet, "/clusters", q, nil, &out)
	return out.Items, err
}

// Apps implements fleet.Hub.
func (c *Client) Apps(ctx context.Context, f fleet.AppFilter) ([]fleet.AppStatus, error) {
	q := url.Values{}
	add(q, "selector", f.Selector)
	add(q, "cluster", f.Clusters...)
	add(q, "namespace", f.Namespace)
	add(q, "name", f.Name)
	add(q, "revision", f.Revision)
	add(q, "image", f.Image)
	add(q, "sync", string(f.Sync))
	add(q, "health", string(f.Health))
	if f.Pending {
		add(q, "pending", "true")
	}
	if f.Drifted {
		add(q, "drifted", "true")
	}
	if f.Held {
		add(q, "held", "true")
	}
	var out List[fleet.AppStatus]
	err := c.call(ctx, http.MethodGet, "/apps", q, nil, &out)
	return out.Items, err
}

// add leaves empty values out: they mean "all".
func add(q url.Values, key string, values ...string) {
	for _, v := range values {
		if v != "" {
			q.Add(key, v)
		}
	}
}

// LabelCluster implements fleet.Hub.
func (c *Client) LabelCluster(ctx context.Context, cluster string, set map[string]string, remove []string) (fleet.Cluster, error) {
	var out fleet.Cluster
	if err := fleet.ValidateName("cluster", cluster); err != nil {
		return out, err
	}
	err := c.call(ctx, http.MethodPatch, "/clusters/"+cluster+"/labels", nil, LabelChange{Set: set, Remove: remove}, &out)
	return out, err
}

// LabelClusters implements fleet.Hub.
func (c *Client) LabelClusters(ctx context.Context, clusters []string, set map[string]string, remove []string) ([]string, error) {
	if _, err := fleet.Together(clusters); err != nil {
		return nil, err
	}
	var out LabelledClusters
	err := c.call(ctx, http.MethodPatch, "/labels", nil, LabelClusters{Clusters: clusters, Set: set, Remove: remove}, &out)
	return out.Clusters, err
}

// Join implements fleet.Hub.
func (c *Client) Join(ctx context.Context, cluster string, ttl time.Duration) (fleet.JoinGrant, error) {
	var out fleet.JoinGrant
	err := c.call(ctx, http.MethodPost, "/joins", nil, JoinRequest{Cluster: cluster, TTL: ttl.String()}, &out)
	return out, err
}

// RemoveCluster implements fleet.Hub.
func (c *Client) RemoveCluster(ctx context.Context, cluster string) error {
	if err := fleet.ValidateName("cluster", cluster); err != nil {
		return err
	}
	return c.call(ctx, http.MethodDelete, "/clusters/"+cluster, nil, nil, nil)
}

// Plan implements fleet.Hub.
func (c *Client) Plan(ctx context.Context, cluster string, app fleet.AppName) (fleet.SignedPlan, error) {
	var out fleet.SignedPlan
	err := c.onApp(ctx, http.MethodGet, cluster, app, "plan", nil, &out)
	return out, err
}

// History implements fleet.Hub.
func (c *Client) History(ctx context.Context, cluster string, app fleet.AppName) ([]fleet.HistoryEntry, error) {
	var out List[fleet.HistoryEntry]
	err := c.onApp(ctx, http.MethodGet, cluster, app, "history", nil, &out)
	return out.Items, err
}

// Tree implements fleet.Hub.
func (c *Client) Tree(ctx context.Context, cluster string, app fleet.AppName) ([]fleet.Object, error) {
	var out List[fleet.Object]
	err := c.onApp(ctx, http.MethodGet, cluster, app, "tree", nil, &out)
	return out.Items, err
}

// Approve implements fleet.Hub.
func (c *Client) Approve(ctx context.Context, a fleet.SignedApproval) error {
	return c.call(ctx, http.MethodPost, "/approvals", nil, a, nil)
}

// Reject implements fleet.Hub.
func (c *Client) Reject(ctx context.Context, cluster string, app fleet.AppName, plan, why string) error {
	return c.onApp(ctx, http.MethodPost, cluster, app, "reject", RejectRequest{Plan: plan, Why: why}, nil)
}

// Sync implements fleet.Hub.
func (c *Client) Sync(ctx context.Context, app fleet.AppName, clusters []string) ([]string, error) {
	if err := validateApp(app); err != nil {
		return nil, err
	}
	var out SyncClusters
	err := c.call(ctx, http.MethodPost, "/apps/"+app.String()+"/sync", nil, SyncClusters{Clusters: clusters}, &out)
	return out.Clusters, err
}

// Suspend implements fleet.Hub.
func (c *Client) Suspend(ctx context.Context, app fleet.AppName, clusters []string, why string) ([]string, error) {
	return c.ofApp(ctx, app, "suspend", SuspendClusters{Clusters: clusters, Why: why})
}

// Resume implements fleet.Hub.
func (c *Client) Resume(ctx context.Context, app fleet.AppName, clusters []string, only fleet.HoldKind) ([]string, error) {
	return c.ofApp(ctx, app, "resume", ResumeClusters{Clusters: clusters, Only: only})
}

// ofApp has clusters do something with an app, and returns those that were asked.
func (c *Client) ofApp(ctx context.Context, app fleet.AppName, what string, in any) ([]string, error) {
	if err := validateApp(app); err != nil {
		return nil, err
	}
	var out AskedClusters
	err := c.call(ctx, http.MethodPost, "/apps/"+app.String()+"/"+what, nil, in, &out)
	return out.Clusters, err
}

// Rollback implements fleet.Hub.
func (c *Client) Rollback(ctx context.Context, cluster string, app fleet.AppName, to fleet.RollbackTo) (fleet.Hold, error) {
	var out fleet.Hold
	err := c.onApp(ctx, http.MethodPost, cluster, app, "rollback", to, &out)
	return out, err
}

// Events implements fleet.Hub.
func (c *Client) Events(ctx context.Context, f fleet.EventFilter) (fleet.EventPage, error) {
	return c.events(ctx, "/events", f)
}

// Changes implements fleet.Hub.
func (c *Client) Changes(ctx context.Context, f fleet.EventFilter) (fleet.EventPage, error) {
	return c.events(ctx, "/changes", f)
}

func (c *Client) events(ctx context.Context, path string, f fleet.EventFilter) (fleet.EventPage, error) {
	q := url.Values{}
	for key, at := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !at.IsZero() {
			add(q, key, at.UTC().Format(time.RFC3339Nano))
		}
	}
	add(q, "actor", f.Actor)
	add(q, "action", f.Actions...)
	add(q, "cluster", f.Clusters...)
	add(q, "app", f.App)
	add(q, "continue", f.Continue)
	if f.Limit != 0 {
		add(q, "limit", strconv.Itoa(f.Limit))
	}
	var out fleet.EventPage
	err := c.call(ctx, http.MethodGet, path, q, nil, &out)
	return out, err
}

// Whoami implements fleet.People.
func (c *Client) Whoami(ctx context.Context) (fleet.Self, error) {
	var out fleet.Self
	err := c.call(ctx, http.MethodGet, "/whoami", nil, nil, &out)
	return out, err
}

// CreateToken implements fleet.People.
func (c *Client) CreateToken(ctx context.Context, r fleet.TokenRequest) (fleet.TokenGrant, error) {
	var out fleet.TokenGrant
	err := c.call(ctx, http.MethodPost, "/tokens", nil, r, &out)
	return out, err
}

// Tokens implements fleet.People.
func (c *Client) Tokens(ctx context.Context) ([]fleet.Token, error) {
	var out List[fleet.Token]
	err := c.call(ctx, http.MethodGet, "/tokens", nil, nil, &out)
	return out.Items, err
}

// RevokeToken implements fleet.People.
func (c *Client) RevokeToken(ctx context.Context, name string) error {
	if err := fleet.ValidateName("token", name); err != nil {
		return err
	}
	return c.call(ctx, http.MethodDelete, "/tokens/"+name, nil, nil, nil)
}

// SignIn asks with which identity provider to sign in. ErrNotFound: the hub has none.
func (c *Client) SignIn(ctx context.Context) (SignIn, error) {
	var out SignIn
	err := c.call(ctx, http.MethodGet, "/signin", nil, nil, &out)
	return out, err
}

// Login makes a link that opens the hub's page in a browser, once and soon.
func (c *Client) Login(ctx context.Context) (string, error) {
	var out LoginLink
	if err := c.call(ctx, http.MethodPost, "/logins", nil, struct{}{}, &out); err != nil {
		return "", err
	}
	link, err := url.Parse(out.URL)
	if err != nil {
		return "", fleet.Unavailable("the hub's login link can't be read")
	}
	if !link.IsAbs() {
		base := *c.base
		base.Path += "/"
		link = base.ResolveReference(link)
	}
	return link.String(), nil
}

func (c *Client) onApp(ctx context.Context, method, cluster string, app fleet.AppName, what string, in, out any) error {
	if err := fleet.ValidateName("cluster", cluster); err != nil {
		return err
	}
	if err := validateApp(app); err != nil {
		return err
	}
	return c.call(ctx, method, "/clusters/"+cluster+"/apps/"+app.String()+"/"+what, nil, in, out)
}

func validateApp(app fleet.AppName) error {
	_, err := fleet.ParseAppName(app.String())
	return err
}
