package client

import "github.com/capstan-gitops/capstan/pkg/fleet"

// The bodies that the hub's API takes and gives beside the fleet's own types.
// hub/api reads and writes these very types, so the two can't drift apart.

// List is how every list is answered. Items is never null.
type List[T any] struct {
	Items []T `json:"items"`
	// Continue leads to the next page, where a limit left some out.
	Continue  string `json:"continue,omitempty"`
	Remaining int    `json:"remaining,omitempty"` // how many those are, where that is known
}

// SignIn tells a program how to sign in with the hub's identity provider. The
// ID token it gets there is a bearer token for the hub.
type SignIn struct {
	Issuer   string   `json:"issuer"`
	ClientID string   `json:"clientID"` // a public client: loopback redirects, PKCE and the device flow
	Scopes   []string `json:"scopes"`
}

// LabelChange asks for labels to be assigned to a cluster and removed from it.
type LabelChange struct {
	Set    map[string]string `json:"set,omitempty"`
	Remove []string          `json:"remove,omitempty"`
}

// LabelClusters asks for the same of every cluster named.
type LabelClusters struct {
	Clusters []string          `json:"clusters"`
	Set      map[string]string `json:"set,omitempty"`
	Remove   []string          `json:"remove,omitempty"`
}

// LabelledClusters names the clusters that have their labels now.
type LabelledClusters struct {
	Clusters []string `json:"clusters"`
}

// JoinRequest asks for a token with which one new agent enrols.
type JoinRequest struct {
	Cluster string `json:"cluster"`
	TTL     string `json:"ttl,omitempty"` // as Go writes durations: "1h", "30m"; empty: the hub's own
}

// RejectRequest says that a plan is not wanted.
type RejectRequest struct {
	Plan string `json:"plan"`
	Why  string `json:"why,omitempty"`
}

// SyncClusters names the clusters to ask, and those that were asked.
type SyncClusters struct {
	Clusters []string `json:"clusters"`
}

// SuspendClusters names the clusters that are to leave an app as it is; none: all
// that have it.
type SuspendClusters struct {
	Clusters []string `json:"clusters"`
	Why      string   `json:"why,omitempty"`
}

// ResumeClusters names the clusters that are to let an app follow Git again;
// none: all on which it is held.
type ResumeClusters struct {
	Clusters []string       `json:"clusters"`
	Only     fleet.HoldKind `json:"only,omitempty"` // suspend or rollback; empty: both
}

// AskedClusters names the clusters that were asked.
type AskedClusters struct {
	Clusters []string `json:"clusters"`
}

// LoginLink opens the page in a browser, once. It may be relative to the hub's URL.
type LoginLink struct {
	URL string `json:"url"`
}

// Problem is how the hub answers what it could not do (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"` // what to do about it
}

// ProblemType is the media type of a Problem.
const ProblemType = "application/problem+json"

// Prefix is the path under which the API's routes are.
const Prefix = "/api/v1"
