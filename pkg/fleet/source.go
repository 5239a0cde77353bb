package fleet

import "time"

// SourceStatus says how one repository is that a cluster follows. It changes
// with what it means, and not with every look: a repository that does not fail
// was reached within the poll interval.
type SourceStatus struct {
	URL      string   `json:"url"`                // as it is named, without credentials
	Follows  string   `json:"follows"`            // "branch main", "tags in 1.x"
	Head     Revision `json:"head,omitempty"`     // the newest that could be read
	ServedBy string   `json:"servedBy,omitempty"` // the URL that had it: the repository's own, or a mirror's
	// Failing tells that the repository itself could not be read when it was last
	// asked, whether a mirror could or not.
	Failing bool `json:"failing,omitempty"`
	// Reached is when it last could, where it fails. Zero: not since the agent
	// started.
	Reached time.Time `json:"reached,omitzero"`
	Message string    `json:"message,omitempty"` // what is wrong with it, or with a mirror
}

// MaxSources is how many a ClusterReport names at most: the agent's own, then
// those that fail, then others.
const MaxSources = 40
