package unit

import "github.com/capstan-gitops/capstan/pkg/fleet"

// Source names what an app is read from. The zero value is the agent's own
// repository, at what the agent follows there.
type Source struct {
	RepoURL string     // "": the agent's own
	Ref     Ref        // zero: the agent's own, and in another repository the branch main
	Secret  SecretName // what the server asks for; zero: what the spoke has for it
}

// IsZero tells the agent's own repository, as the agent follows it.
func (s Source) IsZero() bool { return s == Source{} }

// Ref names what is followed in a repository; at most one field is set.
type Ref struct{ Branch, Tag, Semver, Commit string }

// SecretName names a Secret.
type SecretName struct{ Namespace, Name string }

func (n SecretName) String() string { return n.Namespace + "/" + n.Name }

// Followed is what is known of what an app is read from.
type Followed struct {
	Own      bool      // it is what the agent follows in its own repository
	Snapshot *Snapshot // the newest that could be read; nil: none yet
	Err      error     // why the last fetch failed; what was read before it stays good
	Status   fleet.SourceStatus
}

// Moved tells who reads from a repository that moved.
type Moved struct {
	Own  bool            // the agent's own: whatever the root brings may be concerned
	Apps []fleet.AppName // those that named it
	Head bool            // there is a new commit; otherwise it began or ceased to fail, or to be served by a mirror
}
