package fleet

import (
	"fmt"
	"regexp"
	"strings"
)

// AppName identifies an app on a cluster.
type AppName struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

func (a AppName) String() string { return a.Namespace + "/" + a.Name }

// Compare orders app names by namespace, then name.
func (a AppName) Compare(b AppName) int {
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

// ParseAppName reads "namespace/name". The error is ErrInvalid.
func ParseAppName(s string) (AppName, error) {
	ns, name, ok := strings.Cut(s, "/")
	if !ok {
		return AppName{}, Invalid("app %q is not of the form namespace/name", s)
	}
	if err := ValidateName("namespace", ns); err != nil {
		return AppName{}, err
	}
	if err := ValidateName("app", name); err != nil {
		return AppName{}, err
	}
	return AppName{Namespace: ns, Name: name}, nil
}

var (
	dnsLabel   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	labelName  = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	labelScope = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// ValidateName accepts DNS labels only (RFC 1123): names of clusters, apps and
// namespaces become parts of NATS subjects, where '.', '*' and '>' have a
// meaning. what is used in the message ("cluster", "app", ...).
func ValidateName(what, name string) error {
	if dnsLabel.MatchString(name) {
		return nil
	}
	return WithHint(Invalid("%s name %q is not valid", what, name),
		"use lower case letters, digits and '-', 63 characters at most, starting and ending with a letter or digit")
}

// ValidateLabel checks a label's key and value by Kubernetes' rules.
func ValidateLabel(key, value string) error {
	scope, name, scoped := strings.Cut(key, "/")
	if !scoped {
		scope, name = "", key
	}
	if scoped && (len(scope) > 253 || !labelScope.MatchString(scope)) || !labelName.MatchString(name) {
		return WithHint(Invalid("label key %q is not valid", key),
			"a key is letters, digits, '-', '_' or '.', 63 characters at most, optionally after a DNS name and '/'")
	}
	if value != "" && !labelName.MatchString(value) {
		return WithHint(Invalid("value %q of label %q is not valid", value, key),
			"a value is empty, or letters, digits, '-', '_' or '.', 63 characters at most, starting and ending with a letter or digit")
	}
	return nil
}

// ValidateLabels checks every label of a set.
func ValidateLabels(labels map[string]string) error {
	for k, v := range labels {
		if err := ValidateLabel(k, v); err != nil {
			return err
		}
	}
	return nil
}

// Revision names what an app was rendered from: "<ref>@sha1:<commit>", or
// "sha1:<commit>" where a commit itself is followed.
type Revision string

// NewRevision joins a ref ("main", "v1.2.3", or "") and a commit.
func NewRevision(ref, commit string) Revision {
	if ref == "" {
		return Revision("sha1:" + commit)
	}
	return Revision(fmt.Sprintf("%s@sha1:%s", ref, commit))
}

// Commit is the part after "sha1:", or "" where there is none.
func (r Revision) Commit() string {
	if c, ok := strings.CutPrefix(string(r), "sha1:"); ok {
		return c
	}
	_, c, _ := strings.Cut(string(r), "@sha1:")
	return c
}

// Short abbreviates the commit to 8 characters, for people.
func (r Revision) Short() string {
	c := r.Commit()
	if len(c) <= 8 {
		return string(r)
	}
	return strings.TrimSuffix(string(r), c) + c[:8]
}
