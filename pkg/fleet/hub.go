package fleet

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Hub is what people can ask of a hub. The hub's own service and pkg/client
// both satisfy it, so the page, the CLI and programs share these words.
//
// Every method may return ErrForbidden, ErrInvalid (a bad name or selector) and
// ErrUnavailable (the hub's store can't be reached, or a cluster's agent does
// not answer); others are named at the method.
type Hub interface {
	// Clusters lists the clusters that match, by name.
	Clusters(ctx context.Context, f ClusterFilter) ([]Cluster, error)
	// Apps lists apps by cluster, namespace and name.
	Apps(ctx context.Context, f AppFilter) ([]AppStatus, error)
	// LabelCluster assigns and removes labels. ErrNotFound: no such cluster.
	// ErrConflict: a key is declared at the spoke, or not assignable there.
	LabelCluster(ctx context.Context, cluster string, set map[string]string, remove []string) (Cluster, error)
	// LabelClusters is LabelCluster for every one of the clusters named, at most
	// MaxTogether, and returns their names in order. Where one of them is not
	// known, or its labels may not change so, nothing is changed anywhere. ErrInvalid:
	// none is named. ErrUnavailable may come with some changed and some not; to ask
	// again does the rest.
	LabelClusters(ctx context.Context, clusters []string, set map[string]string, remove []string) ([]string, error)
	// Join makes a one-time token with which one new agent enrols.
	// ErrConflict: a cluster of that name is enrolled already.
	Join(ctx context.Context, cluster string, ttl time.Duration) (JoinGrant, error)
	// RemoveCluster revokes the agent's credentials and forgets the cluster.
	// What runs there is left alone. ErrNotFound: no such cluster.
	RemoveCluster(ctx context.Context, cluster string) error

	// Plan fetches the plan that waits for an app from the cluster's agent.
	// ErrNotFound: no such app there, or nothing waits.
	Plan(ctx context.Context, cluster string, app AppName) (SignedPlan, error)
	// History fetches what was applied, newest first. ErrNotFound: no such app.
	History(ctx context.Context, cluster string, app AppName) ([]HistoryEntry, error)
	// Tree fetches the objects an app owns. ErrNotFound: no such app.
	Tree(ctx context.Context, cluster string, app AppName) ([]Object, error)

	// Approve relays a signed approval to the clusters it names.
	// ErrNotFound: one of them is not known.
	Approve(ctx context.Context, a SignedApproval) error
	// Reject notes that a plan is not wanted. ErrNotFound: it does not wait.
	Reject(ctx context.Context, cluster string, app AppName, plan, why string) error
	// Sync asks agents to look at Git and the app now. No clusters: all that have it.
	// It returns the clusters that were asked. ErrNotFound: nobody has it.
	Sync(ctx context.Context, app AppName, clusters []string) ([]string, error)

	// Suspend has clusters leave an app as it is until it is resumed: nothing of it
	// is rendered, applied, pruned or healed. No clusters: all that have it. It
	// returns the clusters that were asked; what they say to it is in the app's
	// Holds. ErrNotFound: nobody has it. ErrConflict: too much is held there.
	Suspend(ctx context.Context, app AppName, clusters []string, why string) ([]string, error)
	// Rollback has a cluster bring an app back to what it ran before, and keep it
	// there until it is resumed. It returns what it asked for. ErrNotFound: no such
	// app, or its history there has no such revision. ErrConflict as with Suspend.
	Rollback(ctx context.Context, cluster string, app AppName, to RollbackTo) (Hold, error)
	// Resume has clusters let an app follow Git again: it lifts holds of a kind, or
	// with no kind all. No clusters: all that have it. Those on which nothing of the
	// kind is held are left out. It returns the clusters that were asked.
	// ErrNotFound: one of them has no such app. ErrConflict: it is held on none.
	Resume(ctx context.Context, app AppName, clusters []string, only HoldKind) ([]string, error)

	// Events lists what people changed, oldest first, a page at a time.
	Events(ctx context.Context, f EventFilter) (EventPage, error)
	// Changes lists what changed on the clusters: revisions that were applied, apps
	// that left, drift that was seen. Only the newest of each cluster are kept.
	Changes(ctx context.Context, f EventFilter) (EventPage, error)

	// Watch sends the view's version at once, unless it still is since, and then
	// whenever something in the view may have changed, coalesced, until ctx ends.
	// The channel is closed then. since is a version seen before, or empty.
	Watch(ctx context.Context, since string) (<-chan string, error)
}

// ClusterFilter narrows Clusters.
type ClusterFilter struct {
	Selector string // label selector; empty: all
	Names    []string
}

// AppFilter narrows Apps.
type AppFilter struct {
	Selector  string // over the clusters' labels
	Clusters  []string
	Namespace string
	Name      string
	Revision  string // a commit, or 7 digits or more of its beginning: applied there
	Image     string // an image the app runs, with * for any part: "*/nginx:1.25*"
	Sync      Sync
	Health    Health
	Pending   bool // only where something waits
	Drifted   bool // only where objects differ from what was applied
	Held      bool // only where somebody suspended the app, or rolled it back, or asked for it
}

// JoinGrant is what a new agent needs to enrol.
type JoinGrant struct {
	Cluster string    `json:"cluster"`
	Token   string    `json:"token"` // one use; holds the URL, the CA and a key
	Expires time.Time `json:"expires"`
}

// MaxTogether is the most clusters that can be changed by one call.
const MaxTogether = 15_000

// Together checks and sorts the names of clusters that are to be changed by one
// call, and takes out what is named twice. The error is ErrInvalid.
func Together(clusters []string) ([]string, error) {
	if len(clusters) == 0 {
		return nil, Invalid("no cluster is named")
	}
	if len(clusters) > MaxTogether {
		return nil, WithHint(Invalid("%d clusters are more than can be changed at once", len(clusters)),
			fmt.Sprintf("name at most %d, and the others afterwards", MaxTogether))
	}
	for _, c := range clusters {
		if err := ValidateName("cluster", c); err != nil {
			return nil, err
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(clusters))), nil
}
