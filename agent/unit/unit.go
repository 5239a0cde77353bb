// Package unit holds the values that cross the agent's rooms: a snapshot of a
// repository, what was rendered from it, the objects that are meant to run.
// It has types and small pure functions on them, nothing that acts.
package unit

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Hash names a Git object.
type Hash [20]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero tells the hash of nothing.
func (h Hash) IsZero() bool { return h == Hash{} }

// Mode is a Git tree entry's mode.
type Mode uint32

const (
	ModeDir        Mode = 0o040000
	ModeRegular    Mode = 0o100644
	ModeExecutable Mode = 0o100755
	ModeSymlink    Mode = 0o120000
	ModeSubmodule  Mode = 0o160000
)

// TreeEntry is one name in a directory.
type TreeEntry struct {
	Name string
	Mode Mode
	Hash Hash
}

// ErrTooLarge is returned by Tree.Blob for a file over the caller's limit.
var ErrTooLarge = errors.New("file is over the size limit")

// Tree reads directories and files of a commit by their hash, in place: there
// is no checkout. Implementations are safe for concurrent use.
type Tree interface {
	// Entries lists a directory. An error says the object is missing or damaged.
	Entries(ctx context.Context, dir Hash) ([]TreeEntry, error)
	// Blob reads a file or a link's target, or fails with ErrTooLarge before
	// more than max bytes are inflated. Other errors are none of the file's own:
	// it may have to be brought first, and the repository may be out of reach.
	Blob(ctx context.Context, file Hash, max int64) ([]byte, error)
}

// Ahead is a Tree that may have to bring files when they are read, and does so
// better when it knows what will be.
type Ahead interface {
	// Expect names paths that will be rendered, as Apps have them, templates among
	// them. It does not wait for anything.
	Expect(paths []string)
}

// Snapshot is a repository at one commit.
type Snapshot struct {
	RepoURL string // as configured; never with credentials in it
	Ref     string // "main", "v1.2.3"; "" where a commit itself is followed
	Commit  string
	From    string // the URL that served it: the repository's or a mirror's
	Rewound string // the commit before, if this one does not come after it as far as can be told
	Notice  string // what is wrong with the repository or a mirror all the same; "" most of the time
	Root    Hash   // the commit's tree
	Tree    Tree
}

// Head names a commit that was followed, to go on from after a restart.
type Head struct {
	RepoURL string `json:"repoURL"`
	Ref     string `json:"ref"`
	Commit  string `json:"commit"`
	Follows string `json:"follows,omitempty"` // what led to Ref; "" in the agent's own repository
}

// RewoundError says that a branch was moved to a commit that does not come after
// the one before, and that it is not followed.
type RewoundError struct {
	Ref, From, To string
	Unproved      bool // it may come after it, but not within the history that is looked at
}

func (e *RewoundError) Error() string {
	how := "which does not come after it"
	if e.Unproved {
		how = "and that it comes after it can't be shown"
	}
	return "branch " + e.Ref + " was moved from " + e.From + " to " + e.To + ", " + how + ": it is held, because this cluster asks for approval"
}

// Accept is what a person says to have it followed all the same.
func (e *RewoundError) Accept() string { return e.From + ".." + e.To }

// Head is what is followed.
func (s Snapshot) Head() Head { return Head{RepoURL: s.RepoURL, Ref: s.Ref, Commit: s.Commit} }

// Revision is the fleet's word for the snapshot's commit.
func (s Snapshot) Revision() fleet.Revision { return fleet.NewRevision(s.Ref, s.Commit) }

// Facts are what a render may know of the cluster.
type Facts struct {
	Cluster string
	Labels  map[string]string // as selection sees them
	// Kubernetes is the API server's version, "v1.37.2"; "": not known.
	Kubernetes string
	// Values is a hash of the values that do not come from the repository (those
	// of ValuesFrom); "": there are none.
	Values string
	Keys   string // KeyRing.Version of the app's keys; "": it has none
}

// RenderRequest asks for one source path, rendered for one cluster.
type RenderRequest struct {
	Snapshot Snapshot
	Path     string // may be a template over Facts: {{ .cluster.name }}, {{ label "env" }}
	Facts    Facts
	// Directory says that the path is a directory of plain manifests, and which of
	// them count. nil: what is in the path decides.
	Directory *Directory
	Release   Release     // for charts
	Helm      *Helm       // the path is a chart; nil: what is in the path decides
	Access    ChartAccess // for Helm.Chart's place
	// Keys decrypt what SOPS encrypted. nil: nothing is, and an encrypted file is
	// an error.
	Keys KeyRing
}

// Directory chooses among the manifests of a directory.
type Directory struct {
	Recurse bool // into directories below
	// Include and Exclude are globs over paths below the directory; one without a
	// slash is about names at any depth. No Include: all. Exclude wins.
	Include, Exclude []string
}

// Object is one object that is meant to run.
type Object struct {
	Ref  fleet.ObjectRef
	JSON json.RawMessage // canonical (fleet.Canonical)
	// Yield are JSON pointers to what of it is left to others, and not sent.
	Yield []string `json:"-"`
	// UID is that of the object which is to be changed; "": whatever has the name.
	UID string `json:"-"`
	// Asks is what it, or its app, asks for.
	Asks Asks `json:"-"`
	// Masked is where values stand that came out of encrypted files: JSON pointers,
	// with * for every item of a list. They are told to nobody in clear.
	Masked []string `json:",omitempty"`
}

// Asks is what is asked for one object, besides being as Git has it.
type Asks struct {
	Recreate bool // deleted and created anew where a change of it is refused as immutable
	Stay     bool // left running when it leaves the app
	Unhealed bool // what others change of it is reported, and not undone
	IfAbsent bool // created where it is not there, and never changed after
	Adopt    bool // not known to be ours: what the tool before us held of it is taken over
}

func (a Asks) String() string {
	var out []string
	for _, f := range []struct {
		on   bool
		name string
	}{{a.Recreate, "recreate"}, {a.Stay, "stay"}, {a.Unhealed, "unhealed"}, {a.IfAbsent, "if absent"}, {a.Adopt, "adopt"}} {
		if f.on {
			out = append(out, f.name)
		}
	}
	return strings.Join(out, ", ")
}

// Rendered is what a path gave.
type Rendered struct {
	Path    string   // the path with its template filled in
	Objects []Object // as Kustomize prints them, or as the files have them
	Reads   ReadSet
}

// RenderError is a render that failed because of what the repository holds. It
// is the app's own error: nothing else is wrong. Its text never holds the
// content of a Secret.
type RenderError struct {
	File    string // path in the repository, where one is known
	Line    int    // 0: not known
	Message string
	Hint    string
	Reads   ReadSet // what was read until then: a change to it is worth another try
	// Ended: the process that rendered was ended, for its time or memory, or ended by
	// itself. The machine may have been at fault, so that another try may succeed.
	Ended bool
}

func (e *RenderError) Error() string { return e.Message }

// ReadError is a render that failed because part of the repository could not be
// had. It is no fault of the App or of what it holds: another try may succeed.
type ReadError struct {
	Path, Commit string
	Err          error
}

func (e *ReadError) Error() string {
	return fmt.Sprintf("read %s at %.12s: %v", e.Path, e.Commit, e.Err)
}
func (e *ReadError) Unwrap() error { return e.Err }

// ParseHash reads 40 hex digits.
func ParseHash(s string) (Hash, error) {
	var h Hash
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return Hash{}, errors.New("not a Git object hash")
	}
	copy(h[:], b)
	return h, nil
}
