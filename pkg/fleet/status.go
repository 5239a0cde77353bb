package fleet

import "time"

// AppStatus is what is known of one app on one cluster.
type AppStatus struct {
	Cluster   string       `json:"cluster"`
	Namespace string       `json:"namespace"`
	App       string       `json:"app"`
	Revision  Revision     `json:"revision"` // applied
	Digest    Digest       `json:"digest"`   // applied
	Pending   *PendingPlan `json:"pending"`  // what waits at a gate
	Sync      Sync         `json:"sync"`
	Health    Health       `json:"health"`
	Stale     bool         `json:"stale"` // set by the hub alone
	Message   string       `json:"message"`
	Hint      string       `json:"hint,omitempty"`

	Reason  string         `json:"reason,omitempty"` // of the Ready condition
	Objects int            `json:"objects"`          // how many the app owns
	Drift   []DriftSummary `json:"drift,omitempty"`  // being healed, or reported only
	Images  []string       `json:"images,omitempty"` // of the applied pods, sorted; at most MaxImages
	Path    string         `json:"path,omitempty"`
	// Source is what the app is read from, where that is not the agent's own
	// repository; the app "root" has that one. It has no Head and no Message.
	Source  *SourceStatus `json:"source,omitempty"`
	Holds   []Hold        `json:"holds,omitempty"` // that people asked for through the hub, one of a kind
	Retry   *Retry        `json:"retry,omitempty"` // what failed is tried again
	Changed time.Time     `json:"changed"`         // when this status last differed from the one before
}

// MaxImages is how many images a status names: a report must stay small.
const MaxImages = 20

// Name is the app's name on its cluster.
func (s AppStatus) Name() AppName { return AppName{Namespace: s.Namespace, Name: s.App} }

// Retry says when what failed is tried again by itself.
type Retry struct {
	Failed int       `json:"failed"` // tries in a row
	Next   time.Time `json:"next"`
}

// PendingPlan says what waits, and for what.
type PendingPlan struct {
	Revision Revision  `json:"revision"`
	Digest   Digest    `json:"digest"`
	Gate     Gate      `json:"gate"`
	Plan     string    `json:"plan"` // its id
	Action   Action    `json:"action"`
	Summary  Summary   `json:"summary"`
	Since    time.Time `json:"since"`
	Have     int       `json:"have"` // approvals that count
	Need     int       `json:"need"` // approvals needed
}

// DriftSummary names one object that differs from what was applied.
type DriftSummary struct {
	Object  ObjectRef `json:"object"`
	Manager string    `json:"manager,omitempty"` // who changed it, by managedFields
	Fields  []string  `json:"fields,omitempty"`  // JSON pointers; never values
	Since   time.Time `json:"since"`
}

// Cluster is what is known of one spoke.
type Cluster struct {
	Cluster  string            `json:"cluster"`
	Labels   map[string]string `json:"labels"`             // what selects: declared over assigned
	Declared map[string]string `json:"declared,omitempty"` // set at the spoke
	Assigned map[string]string `json:"assigned,omitempty"` // set at the hub
	// Origins tell who set each label, where that is known: declared ones over
	// assigned ones, as in Labels.
	Origins           map[string]LabelOrigin `json:"labelOrigins,omitempty"`
	LastSeen          time.Time              `json:"lastSeen"`
	Stale             bool                   `json:"stale"`
	LinkDown          *time.Time             `json:"linkDown,omitempty"` // since when its agent is known to be disconnected
	AgentVersion      string                 `json:"agentVersion"`
	KubernetesVersion string                 `json:"kubernetesVersion"`
	Head              Revision               `json:"head,omitempty"`    // the branch's head, as the agent sees it
	Message           string                 `json:"message,omitempty"` // what is wrong with the source or the root
	Sources           []SourceStatus         `json:"sources,omitempty"` // what it follows; its own repository first
	AgentKey          string                 `json:"agentKey,omitempty"`
	UID               string                 `json:"uid,omitempty"`
	Apps              AppCounts              `json:"apps"`
}

// LabelOrigin tells where a label's value comes from.
type LabelOrigin struct {
	// By is who assigned it at the hub; empty: it is declared at the spoke.
	By string `json:"by,omitempty"`
	// Since is when it was assigned, or when the hub first heard of it.
	Since time.Time `json:"since"`
}

// AppCounts sums a cluster's apps up.
type AppCounts struct {
	Total    int `json:"total"`
	Synced   int `json:"synced"`
	Pending  int `json:"pending"`
	Degraded int `json:"degraded"`
}

// Add counts an app in.
func (n *AppCounts) Add(s AppStatus) {
	n.Total++
	switch s.Sync {
	case Synced:
		n.Synced++
	case Pending:
		n.Pending++
	}
	if s.Health == Degraded {
		n.Degraded++
	}
}

// ClusterReport is what an agent says of its cluster with every heartbeat.
type ClusterReport struct {
	UID               string            `json:"uid"`
	AgentVersion      string            `json:"agentVersion"`
	KubernetesVersion string            `json:"kubernetesVersion"`
	Declared          map[string]string `json:"declared,omitempty"`
	Assignable        []string          `json:"assignable,omitempty"` // keys the hub may assign here
	Head              Revision          `json:"head,omitempty"`
	Message           string            `json:"message,omitempty"`
	Sources           []SourceStatus    `json:"sources,omitempty"` // MaxSources at most
	AgentKey          string            `json:"agentKey"`          // public nkey that signs plans
	Interval          time.Duration     `json:"interval"`          // between heartbeats, nanoseconds
}

// HistoryEntry is one thing that was applied.
type HistoryEntry struct {
	Revision   Revision  `json:"revision"`
	Digest     Digest    `json:"digest"`
	Applied    time.Time `json:"applied"`
	ApprovedBy []string  `json:"approvedBy,omitempty"`
	Summary    Summary   `json:"summary"`
}

// Object is one object an app owns, as `tree` and `describe` show it.
type Object struct {
	Object  ObjectRef `json:"object"`
	Health  Health    `json:"health"`
	Message string    `json:"message,omitempty"`
}
