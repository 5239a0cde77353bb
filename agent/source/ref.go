package source

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/go-git/go-git/v5/plumbing"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Ref says which commit of a repository is followed. Exactly one field is set.
type Ref struct {
	Branch string `json:"branch,omitempty"`
	Tag    string `json:"tag,omitempty"`
	Semver string `json:"semver,omitempty"` // a range: of the tags within it, the highest version
	Commit string `json:"commit,omitempty"` // 40 hex digits
}

// IsZero tells that nothing is named.
func (r Ref) IsZero() bool { return r == Ref{} }

// Validate checks that exactly one thing is named, and that it can be a name.
func (r Ref) Validate() error {
	set := 0
	for _, s := range []string{r.Branch, r.Tag, r.Semver, r.Commit} {
		if s != "" {
			set++
		}
	}
	switch {
	case set == 0:
		return fleet.WithHint(fleet.Invalid("no branch to follow is given"), `name one, like "main", or a tag, a semver range or a commit`)
	case set > 1:
		return fleet.WithHint(fleet.Invalid("more than one of branch, tag, semver and commit is given"), "give one of them")
	case r.Branch != "" && plumbing.NewBranchReferenceName(r.Branch).Validate() != nil:
		return fleet.WithHint(fleet.Invalid("branch %q is not a branch's name", r.Branch), `write it like "main", without refs/heads/ or spaces`)
	case r.Tag != "" && plumbing.NewTagReferenceName(r.Tag).Validate() != nil:
		return fleet.WithHint(fleet.Invalid("tag %q is not a tag's name", r.Tag), `write it like "v1.2.3", without refs/tags/ or spaces`)
	}
	if r.Semver != "" {
		if _, err := semver.NewConstraint(r.Semver); err != nil {
			return fleet.WithHint(fleet.Invalid("semver %q is not a range of versions", r.Semver), `write it like ">=1.2.0 <2.0.0" or "1.x"`)
		}
	}
	if r.Commit != "" {
		if h, err := unit.ParseHash(r.Commit); err != nil || h.String() != r.Commit {
			return fleet.WithHint(fleet.Invalid("commit %q is not a commit's full name", r.Commit), "give all 40 digits, in lower case; git rev-parse tells them")
		}
	}
	return nil
}

// String names what is followed, for people.
func (r Ref) String() string {
	switch {
	case r.Tag != "":
		return "tag " + r.Tag
	case r.Semver != "":
		return "tags in " + r.Semver
	case r.Commit != "":
		return "commit " + r.Commit
	default:
		return "branch " + r.Branch
	}
}

// prefixes are of the references that matter, and of those that are named when
// there is none. A commit needs no reference.
func (r Ref) prefixes() (narrow, wide string) {
	switch {
	case r.Commit != "":
		return "", ""
	case r.Semver != "":
		return "refs/tags/", "refs/tags/"
	case r.Tag != "":
		return "refs/tags/" + r.Tag, "refs/tags/"
	default:
		return "refs/heads/" + r.Branch, "refs/heads/"
	}
}

// movedBy tells whether a push that moved these references may have moved what
// is followed. None means that nobody knows which moved; a commit that was not
// there may have come with any.
func (r Ref) movedBy(refs []string) bool {
	narrow, _ := r.prefixes()
	return len(refs) == 0 || narrow == "" || slices.ContainsFunc(refs, func(moved string) bool {
		return moved == narrow || r.Semver != "" && strings.HasPrefix(moved, narrow) || !strings.HasPrefix(moved, "refs/")
	})
}

// chosen is what a ref stands for at one time.
type chosen struct {
	name string    // "main", "v1.2.3"; "" of a commit
	tip  unit.Hash // a commit, or an annotated tag
}

// references are those of a repository by their full names.
type references map[string]unit.Hash

// choose finds what is followed among the references there are.
func (r Ref) choose(refs references) (chosen, error) {
	switch {
	case r.Commit != "":
		tip, err := unit.ParseHash(r.Commit)
		return chosen{tip: tip}, err
	case r.Semver != "":
		return r.highest(refs)
	case r.Tag != "":
		if tip, ok := refs["refs/tags/"+r.Tag]; ok {
			return chosen{r.Tag, tip}, nil
		}
		return chosen{}, missingRef(refs, "refs/tags/", "there is no tag %q", r.Tag)
	default:
		if tip, ok := refs["refs/heads/"+r.Branch]; ok {
			return chosen{r.Branch, tip}, nil
		}
		return chosen{}, missingRef(refs, "refs/heads/", "there is no branch %q", r.Branch)
	}
}

// highest is the tag with the highest version in the range. Of tags that differ
// in their build metadata alone, the last in order of the alphabet is taken:
// every cluster is to take the same one.
func (r Ref) highest(refs references) (chosen, error) {
	within, err := semver.NewConstraint(r.Semver)
	if err != nil {
		return chosen{}, fleet.Invalid("semver %q: %w", r.Semver, err)
	}
	var (
		best    chosen
		version *semver.Version
	)
	for ref, tip := range refs {
		tag, ok := strings.CutPrefix(ref, "refs/tags/")
		if !ok {
			continue
		}
		v, err := semver.StrictNewVersion(strings.TrimPrefix(tag, "v"))
		if err != nil || !within.Check(v) {
			continue
		}
		if version == nil || v.GreaterThan(version) || v.Equal(version) && tag > best.name {
			best, version = chosen{tag, tip}, v
		}
	}
	if version == nil {
		return chosen{}, missingRef(refs, "refs/tags/", "there is no tag in the range %q", r.Semver)
	}
	return best, nil
}

// missingRef says which there are instead.
func missingRef(refs references, prefix, format, wanted string) error {
	var names []string
	for ref := range refs {
		if name, ok := strings.CutPrefix(ref, prefix); ok {
			names = append(names, plain(name))
		}
	}
	slices.Sort(names)
	const few = 5
	hint := "push it, or follow another"
	if n := len(names); n > 0 {
		hint += "; there is " + strings.Join(names[:min(n, few)], ", ")
		if n > few {
			hint += fmt.Sprintf(" and %d more", n-few)
		}
	}
	return fleet.WithHint(fleet.NotFound(format, wanted), hint)
}
