package fleet

import (
	"encoding/json"
	"strings"
	"time"
)

// ObjectRef names a Kubernetes object.
type ObjectRef struct {
	Group     string `json:"group,omitempty"`
	Version   string `json:"version"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String is the form people read: "Deployment.apps shop/web".
func (r ObjectRef) String() string {
	kind := r.Kind
	if r.Group != "" {
		kind += "." + r.Group
	}
	if r.Namespace == "" {
		return kind + " " + r.Name
	}
	return kind + " " + r.Namespace + "/" + r.Name
}

// Same tells whether both name one object, at whatever API version.
func (r ObjectRef) Same(o ObjectRef) bool {
	r.Version, o.Version = "", ""
	return r == o
}

// Compare orders references by group, kind, namespace and name.
func (r ObjectRef) Compare(o ObjectRef) int {
	for _, p := range [][2]string{{r.Group, o.Group}, {r.Kind, o.Kind}, {r.Namespace, o.Namespace}, {r.Name, o.Name}} {
		if c := strings.Compare(p[0], p[1]); c != 0 {
			return c
		}
	}
	return strings.Compare(r.Version, o.Version)
}

// ChangeAction says what happens to one object.
type ChangeAction string

const (
	Create    ChangeAction = "create"
	Update    ChangeAction = "update"
	Prune     ChangeAction = "prune"
	Unchanged ChangeAction = "unchanged"
	// Recreate: deleted and created anew, because the change is refused otherwise.
	Recreate ChangeAction = "recreate"
	// Keep: it leaves the app and stays on the cluster, as it asked.
	Keep ChangeAction = "keep"
	// RunHook: it is made for this change, to run or to be there for what runs.
	RunHook ChangeAction = "hook"
)

// Change is what a plan does to one object.
type Change struct {
	Object ObjectRef    `json:"object"`
	Action ChangeAction `json:"action"`
	Fields []FieldDiff  `json:"fields,omitempty"`
	// Unchecked: the API server could not be asked yet (its namespace or CRD is
	// part of the same plan).
	Unchecked bool `json:"unchecked,omitempty"`
	// Note says what else the change does, as what is lost by it. Empty: nothing.
	Note string `json:"note,omitempty"`
}

// FieldDiff is one field's difference. From and To are JSON; empty means
// absent. A secret value is never in them: Masked is set, and From and To say
// only whether they differ.
type FieldDiff struct {
	Path   string          `json:"path"` // JSON pointer (RFC 6901)
	From   json.RawMessage `json:"from,omitempty"`
	To     json.RawMessage `json:"to,omitempty"`
	Masked bool            `json:"masked,omitempty"`
}

// Plan is what going from the applied state to a wanted one would change. The
// agent makes it, signs it, and lets exactly it through when it is approved.
type Plan struct {
	ID         string    `json:"id"` // random, single use
	Action     Action    `json:"action"`
	App        AppName   `json:"app"`
	Cluster    string    `json:"cluster"`
	ClusterUID string    `json:"clusterUID"` // of the kube-system namespace
	From       Digest    `json:"from"`       // applied; empty: nothing is
	To         Digest    `json:"to"`         // wanted; empty: removal
	Revision   Revision  `json:"revision"`
	Gate       Gate      `json:"gate"`
	Reason     string    `json:"reason"` // why it waits, for people
	Created    time.Time `json:"created"`
	Changes    []Change  `json:"changes"`
	// Wanted is the document whose digest is To, so that whoever approves can
	// recompute it. Nil for a removal.
	Wanted *Document `json:"wanted,omitempty"`
}

// SignedPlan carries a plan's exact bytes with the agent's signature over
// them (Ed25519, by the nkey in Key), so that no hub in between can alter it.
type SignedPlan struct {
	Plan      json.RawMessage `json:"plan"`
	Key       string          `json:"key"`       // the agent's public nkey (U...)
	Signature string          `json:"signature"` // base64 (standard)
}

// Summary counts a plan's changes by action.
type Summary struct {
	Create    int `json:"create"`
	Update    int `json:"update"`
	Prune     int `json:"prune"`
	Unchanged int `json:"unchanged"`
	Recreate  int `json:"recreate,omitempty"`
	Hooks     int `json:"hooks,omitempty"`
}

// Summarize counts changes.
func Summarize(changes []Change) Summary {
	var s Summary
	for _, c := range changes {
		switch c.Action {
		case Create:
			s.Create++
		case Update:
			s.Update++
		case Prune:
			s.Prune++
		case Unchanged, Keep:
			s.Unchanged++
		case Recreate:
			s.Recreate++
		case RunHook:
			s.Hooks++
		}
	}
	return s
}
