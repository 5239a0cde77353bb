package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// A route is one thing that can be asked. The document that describes the API
// is made from these, so the two can't drift apart.
type route struct {
	method, path string
	does         string  // in a sentence
	query        []param // beside which nothing is taken
	in           any     // a value of the body's type; nil: there is none
	out          any     // a value of the answer's type; nil: there is none
	open         bool    // to everybody
	// serve returns the body of the answer, of out's type.
	serve  func(*http.Request) (any, error)
	stream http.HandlerFunc // instead of serve
}

// param is one parameter of a query.
type param struct {
	name, does string
	many       bool // may be given several times
	kind       string
}

func (p param) repeated() param { p.many = true; return p }

var (
	selectorParam = param{name: "selector", does: "label selector over clusters, as kubectl's -l"}
	clusterParam  = param{name: "cluster", does: "name of a cluster"}
	limitParam    = param{name: "limit", does: "the most items to answer with; the answer's continue leads to more", kind: "integer"}
	continueParam = param{name: "continue", does: "as the page before said"}
	fieldsParam   = param{name: "fields", does: "the fields of each item to answer with, with commas between: cluster,pending.revision"}
	pageParams    = []param{limitParam, continueParam, fieldsParam}
	eventParams   = append([]param{
		{name: "since", does: "from this time on (RFC 3339)", kind: "date-time"},
		{name: "until", does: "before this time (RFC 3339)", kind: "date-time"},
		{name: "actor", does: "name of who did it"},
		param{name: "action", does: "what was done"}.repeated(),
		clusterParam.repeated(),
		{name: "app", does: "namespace/name"},
		limitParam,
		{name: "continue", does: "as the page before said, or the id of the event after which to begin"},
	}, fieldsParam)
)

func (s *server) routes() []route {
	const (
		v1  = client.Prefix
		app = v1 + "/clusters/{cluster}/apps/{namespace}/{app}"
	)
	return []route{
		{method: "GET", path: "/api/openapi.json", does: "This document.", out: map[string]any{}, open: true, serve: s.openapi},
		{method: "GET", path: v1 + "/signin", does: "With which identity provider to sign in.", out: client.SignIn{}, open: true, serve: s.signIn},
		{
			method: "GET", path: v1 + "/clusters", does: "List clusters, by name.", out: client.List[fleet.Cluster]{}, serve: s.clusters,
			query: append([]param{selectorParam, param{name: "name", does: "name of a cluster"}.repeated()}, pageParams...),
		},
		{
			method: "GET", path: v1 + "/apps", does: "List apps by cluster, namespace and name.", out: client.List[fleet.AppStatus]{}, serve: s.apps,
			query: append([]param{
				selectorParam, clusterParam.repeated(),
				{name: "namespace", does: "of the app"},
				{name: "name", does: "of the app"},
				{name: "revision", does: "a commit that is applied, or 7 digits or more of its beginning"},
				{name: "image", does: "an image that runs, with * for any part"},
				{name: "sync", does: "Synced, OutOfSync, Pending or Unknown"},
				{name: "health", does: "Healthy, Suspended, Progressing, Missing, Degraded or Unknown"},
				{name: "pending", does: "true: only where a plan waits", kind: "boolean"},
				{name: "drifted", does: "true: only where objects differ from what was applied", kind: "boolean"},
				{name: "held", does: "true: only where somebody suspended the app, or rolled it back", kind: "boolean"},
			}, pageParams...),
		},
		{method: "PATCH", path: v1 + "/clusters/{cluster}/labels", does: "Assign labels to a cluster, and take them away.", in: client.LabelChange{}, out: fleet.Cluster{}, serve: s.label},
		{method: "PATCH", path: v1 + "/labels", does: "Assign labels to every cluster named, and take them away: to all or to none.", in: client.LabelClusters{}, out: client.LabelledClusters{}, serve: s.labelAll},
		{method: "DELETE", path: v1 + "/clusters/{cluster}", does: "Revoke a cluster's agent and forget the cluster.", serve: s.removeCluster},
		{method: "POST", path: v1 + "/joins", does: "Make a one-time token with which a new agent enrols.", in: client.JoinRequest{}, out: fleet.JoinGrant{}, serve: s.join},
		{method: "GET", path: app + "/plan", does: "Fetch the plan that waits from the cluster's agent.", out: fleet.SignedPlan{}, serve: s.plan},
		{method: "GET", path: app + "/history", does: "Fetch what was applied, newest first.", query: []param{fieldsParam}, out: client.List[fleet.HistoryEntry]{}, serve: s.history},
		{method: "GET", path: app + "/tree", does: "Fetch the objects an app owns.", query: []param{fieldsParam}, out: client.List[fleet.Object]{}, serve: s.tree},
		{method: "POST", path: app + "/reject", does: "Say that a plan that waits is not wanted.", in: client.RejectRequest{}, serve: s.reject},
		{method: "POST", path: v1 + "/approvals", does: "Relay a signed approval to the clusters it names.", in: fleet.SignedApproval{}, serve: s.approve},
		{method: "POST", path: v1 + "/apps/{namespace}/{app}/sync", does: "Have clusters look at Git, and at an app, now.", in: client.SyncClusters{}, out: client.SyncClusters{}, serve: s.sync},
		{method: "POST", path: v1 + "/apps/{namespace}/{app}/suspend", does: "Have clusters leave an app as it is, until it is resumed.", in: client.SuspendClusters{}, out: client.AskedClusters{}, serve: s.suspend},
		{method: "POST", path: v1 + "/apps/{namespace}/{app}/resume", does: "Let an app follow Git again.", in: client.ResumeClusters{}, out: client.AskedClusters{}, serve: s.resume},
		{method: "POST", path: app + "/rollback", does: "Bring an app back to what it ran before, and keep it there until it is resumed.", in: fleet.RollbackTo{}, out: fleet.Hold{}, serve: s.rollback},
		{method: "GET", path: v1 + "/events", does: "List what people changed, oldest first.", query: eventParams, out: client.List[fleet.Event]{}, serve: s.events},
		{method: "GET", path: v1 + "/changes", does: "List what changed on clusters, oldest first.", query: eventParams, out: client.List[fleet.Event]{}, serve: s.changes},
		{method: "GET", path: v1 + "/whoami", does: "Tell who asks, and what that one may do.", out: fleet.Self{}, serve: s.whoami},
		{method: "GET", path: v1 + "/tokens", does: "List service tokens, by name.", query: []param{fieldsParam}, out: client.List[fleet.Token]{}, serve: s.tokens},
		{method: "POST", path: v1 + "/tokens", does: "Make a service token. Its secret is told this once.", in: fleet.TokenRequest{}, out: fleet.TokenGrant{}, serve: s.createToken},
		{method: "DELETE", path: v1 + "/tokens/{token}", does: "Make a service token worthless.", serve: s.revokeToken},
		{method: "POST", path: v1 + "/logins", does: "Make a link that opens the page in a browser, once.", in: struct{}{}, out: client.LoginLink{}, serve: s.login},
		{method: "GET", path: v1 + "/watch", does: "Stream a notice for every change, as server-sent events. Last-Event-ID goes on where a stream ended.", stream: s.watch},
		{method: "POST", path: "/hooks/git", does: "Tell of a push to a repository.", in: push{}, serve: s.gitPushed},
	}
}

// check refuses parameters nobody reads: a misspelt selector must not answer
// with the whole fleet.
func (rt route) check(r *http.Request) error {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fleet.Invalid("query: %w", err)
	}
	for k, values := range q {
		i := slices.IndexFunc(rt.query, func(p param) bool { return p.name == k })
		if i < 0 {
			return fleet.WithHint(fleet.Invalid("query parameter %q is not known", k), "known are: "+rt.queryNames())
		}
		if len(values) > 1 && !rt.query[i].many {
			return fleet.Invalid("query parameter %q is given twice", k)
		}
	}
	return nil
}

func (rt route) queryNames() string {
	var names []string
	for _, p := range rt.query {
		names = append(names, p.name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
