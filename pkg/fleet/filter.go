package fleet

import "strings"

// minCommit is how many digits of a commit a filter needs.
const minCommit = 7

// Validate checks what a filter can be checked for without a fleet. The error
// is ErrInvalid.
func (f AppFilter) Validate() error {
	if c := f.commit(); f.Revision != "" && (len(c) < minCommit || len(c) > 64 || strings.Trim(c, "0123456789abcdef") != "") {
		return WithHint(Invalid("revision %q is not a commit", f.Revision), "give the commit, or 7 digits or more of its beginning")
	}
	switch f.Sync {
	case "", Synced, OutOfSync, Pending, SyncUnknown:
	default:
		return Invalid("sync %q is not one of %s, %s, %s, %s", f.Sync, Synced, OutOfSync, Pending, SyncUnknown)
	}
	if _, ok := severity[f.Health]; f.Health != "" && !ok {
		return Invalid("health %q is not one of Healthy, Suspended, Progressing, Missing, Degraded, Unknown", f.Health)
	}
	if len(f.Image) > 512 {
		return Invalid("the image is longer than 512 bytes")
	}
	return nil
}

func (f AppFilter) commit() string {
	if c := Revision(f.Revision).Commit(); c != "" {
		return c
	}
	return f.Revision
}

// Matches tells whether a status is one that the filter asks for, by what it
// says of itself: clusters and names are for the caller to look at.
func (f AppFilter) Matches(s AppStatus) bool {
	return (f.Revision == "" || strings.HasPrefix(s.Revision.Commit(), f.commit())) &&
		(f.Sync == "" || s.Sync == f.Sync) &&
		(f.Health == "" || s.Health == f.Health) &&
		(!f.Pending || s.Pending != nil) &&
		(!f.Drifted || len(s.Drift) > 0) &&
		(!f.Held || len(s.Holds) > 0) &&
		(f.Image == "" || runs(s.Images, f.Image))
}

func runs(images []string, pattern string) bool {
	for _, image := range images {
		if MatchStar(pattern, image) {
			return true
		}
	}
	return false
}

// MatchStar tells whether s is what a pattern says, in which * stands for any
// letters, none included.
func MatchStar(pattern, s string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, first)
	if !ok {
		return false
	}
	parts := strings.Split(rest, "*")
	last := parts[len(parts)-1]
	for _, p := range parts[:len(parts)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, last)
}
