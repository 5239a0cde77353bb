package v1alpha1

import (
	"regexp"
	"strings"
	"unicode"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// The bounds of the schema in app_types.go.
const (
	maxRepoURL    = 2048
	maxRef        = 255
	maxSecretName = 253
)

var (
	// hasCredentials is about a URL with a password in it.
	hasCredentials = regexp.MustCompile(`^[a-z]+://[^/]*:[^/]*@`)
	commitName     = regexp.MustCompile(`^[0-9a-f]{40}$`)
	secretName     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)
)

// validateRepository checks which repository is named. Whether it may be read,
// and whether a ref can be one, the cluster finds out: it has the last word. A
// URL that may hold a credential is not repeated.
func (s *AppSource) validateRepository() error {
	const like = "write it like https://git.example.com/team/shop.git or ssh://git@git.example.com/team/shop.git"
	switch {
	case s.RepoURL == "" && s.SecretRef != nil:
		return fleet.WithHint(fleet.Invalid("spec.source.secretRef: needs a repoURL"), "the agent has its own credentials for its own repository: name the other one, or take the secretRef away")
	case len(s.RepoURL) > maxRepoURL:
		return fleet.Invalid("spec.source.repoURL: is longer than %d bytes", maxRepoURL)
	case hasCredentials.MatchString(s.RepoURL):
		return fleet.WithHint(fleet.Invalid("spec.source.repoURL: has credentials in it"), "take them out, put them into a Secret, and name it in spec.source.secretRef")
	case strings.ContainsFunc(s.RepoURL, func(r rune) bool { return r == '\\' || unicode.IsSpace(r) || unicode.IsControl(r) }):
		return fleet.WithHint(fleet.Invalid("spec.source.repoURL: holds white space, a backslash or a control character"), like)
	case s.RepoURL != "" && !strings.Contains(s.RepoURL, ":"):
		return fleet.WithHint(fleet.Invalid("spec.source.repoURL: %q is not a URL", s.RepoURL), like)
	}
	if s.SecretRef != nil && (len(s.SecretRef.Name) > maxSecretName || !secretName.MatchString(s.SecretRef.Name)) {
		return fleet.WithHint(fleet.Invalid("spec.source.secretRef.name: %q is not a Secret's name", s.SecretRef.Name), "it is in the App's own namespace: give its name alone")
	}
	return s.Ref.validate()
}

func (r *AppRef) validate() error {
	if r == nil {
		return nil
	}
	set := 0
	for field, v := range map[string]string{"branch": r.Branch, "tag": r.Tag, "semver": r.Semver, "commit": r.Commit} {
		if v != "" {
			set++
		}
		if len(v) > maxRef {
			return fleet.Invalid("spec.source.ref.%s: is longer than %d bytes", field, maxRef)
		}
	}
	switch {
	case set != 1:
		return fleet.WithHint(fleet.Invalid("spec.source.ref: exactly one of branch, tag, semver and commit must be set"),
			"without spec.source.ref the agent's own ref is followed, and in another repository the branch main")
	case r.Commit != "" && !commitName.MatchString(r.Commit):
		return fleet.WithHint(fleet.Invalid("spec.source.ref.commit: %q is not a commit's full name", r.Commit), "give all 40 digits, in lower case; git rev-parse tells them")
	}
	return nil
}
