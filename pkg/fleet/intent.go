package fleet

import (
	"maps"
	"time"
)

// Intent is what people want of one cluster, as far as the hub knows: labels
// they assigned, approvals they signed, syncs they asked for, apps they hold. The hub versions
// it by (Instance, Revision). Absence never takes a label away: that is said
// in Removed.
type Intent struct {
	Instance string            `json:"instance"` // of the hub; a new one must be accepted at the spoke
	Revision uint64            `json:"revision"`
	Labels   map[string]string `json:"labels,omitempty"`
	Removed  []string          `json:"removed,omitempty"`
	// Origins tell who assigned each of Labels.
	Origins   map[string]LabelOrigin `json:"origins,omitempty"`
	Approvals []SignedApproval       `json:"approvals,omitempty"` // that have not expired
	Syncs     []SyncRequest          `json:"syncs,omitempty"`
	Rejected  []Rejection            `json:"rejected,omitempty"`
	// Holds keep apps from following Git, or say that it is over. Absence lifts none.
	Holds []HoldOrder `json:"holds,omitempty"`
}

// SyncRequest asks an agent to look at Git, and at an app, now.
type SyncRequest struct {
	ID  string    `json:"id"`
	App AppName   `json:"app"`
	At  time.Time `json:"at"`
}

// Rejection says that somebody looked at a plan and does not want it. It
// changes nothing at the spoke, which waits anyway; it is shown.
type Rejection struct {
	Plan string    `json:"plan"`
	By   string    `json:"by"`
	Why  string    `json:"why,omitempty"`
	At   time.Time `json:"at"`
}

// Newer tells whether i should replace old: a later revision of the same hub
// instance. Another instance's intent is never newer by itself.
func (i Intent) Newer(old Intent) bool {
	return i.Instance == old.Instance && i.Revision > old.Revision
}

// Merge gives the labels assigned after i has been taken on top of what was
// assigned before.
func (i Intent) Merge(before map[string]string) map[string]string {
	out := make(map[string]string, len(before)+len(i.Labels))
	maps.Copy(out, before)
	for _, k := range i.Removed {
		delete(out, k)
	}
	maps.Copy(out, i.Labels)
	return out
}
