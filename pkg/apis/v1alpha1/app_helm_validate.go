package v1alpha1

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// The bounds of the schema in app_helm.go.
const (
	maxReleaseName = 53
	maxValuesFiles = 64
	maxValuesFrom  = 16
	maxAPIVersions = 64
	maxAPIVersion  = 256
	maxObjectName  = 253
)

// DefaultValuesKey is the key of a ConfigMap or Secret that holds values.
const DefaultValuesKey = "values.yaml"

var releaseName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

func (h *AppHelm) setDefaults() {
	for i := range h.ValuesFrom {
		if h.ValuesFrom[i].Key == "" {
			h.ValuesFrom[i].Key = DefaultValuesKey
		}
	}
}

func (h *AppHelm) validate() error {
	const field = "spec.source.helm"
	if n := h.ReleaseName; len(n) > maxReleaseName || n != "" && !releaseName.MatchString(n) {
		return fleet.WithHint(fleet.Invalid(field+".releaseName: %q is not a release's name", n),
			"lower case letters, digits, '-' and '.', 53 characters at most, starting and ending with a letter or digit")
	}
	if h.Chart != nil {
		if err := h.Chart.Validate(field + ".chart"); err != nil {
			return err
		}
	}
	if err := ValidateValuesFiles(field+".valuesFiles", h.ValuesFiles); err != nil {
		return err
	}
	if n := len(h.ValuesFrom); n > maxValuesFrom {
		return fleet.Invalid(field+".valuesFrom: has %d references, more than %d", n, maxValuesFrom)
	}
	for i, from := range h.ValuesFrom {
		if err := from.validate(); err != nil {
			return fmt.Errorf(field+".valuesFrom[%d].%w", i, err)
		}
	}
	if h.Values != nil && !bytes.HasPrefix(bytes.TrimSpace(h.Values.Raw), []byte("{")) {
		return fleet.WithHint(fleet.Invalid(field+".values: is not an object"), "values are a YAML mapping")
	}
	if h.Hooks != "" && h.Hooks != "Run" && h.Hooks != "Ignore" && h.Hooks != "Apply" {
		return fleet.WithHint(fleet.Invalid(field+".hooks: %q is not known", h.Hooks), "Run runs hooks; Ignore leaves them out; Apply makes them objects like the others")
	}
	if n := len(h.APIVersions); n > maxAPIVersions {
		return fleet.Invalid(field+".apiVersions: has %d entries, more than %d", n, maxAPIVersions)
	}
	for i, v := range h.APIVersions {
		if v == "" || len(v) > maxAPIVersion {
			return fleet.Invalid(field+".apiVersions[%d]: must have between 1 and %d bytes", i, maxAPIVersion)
		}
	}
	return nil
}

// ValidateValuesFiles checks the names of values files. The error is
// fleet.ErrInvalid and begins with the field.
func ValidateValuesFiles(field string, files []string) error {
	if len(files) > maxValuesFiles {
		return fleet.Invalid("%s: has %d files, more than %d", field, len(files), maxValuesFiles)
	}
	for i, name := range files {
		switch {
		case name == "" || len(name) > maxPath:
			return fleet.Invalid("%s[%d]: must have between 1 and %d bytes", field, i, maxPath)
		case strings.ContainsFunc(name, func(r rune) bool { return r == '\\' || r < ' ' || r == 0x7f }):
			return fleet.WithHint(fleet.Invalid("%s[%d]: %q holds a backslash or a control character", field, i, name), "directories are separated by '/'")
		}
	}
	return nil
}

func (r AppValuesReference) validate() error {
	switch {
	case !slices.Contains([]string{"ConfigMap", "Secret"}, r.Kind):
		return fleet.WithHint(fleet.Invalid("kind: %q is not known", r.Kind), "values come from a ConfigMap or a Secret")
	case r.Name == "" || len(r.Name) > maxObjectName:
		return fleet.Invalid("name: must have between 1 and %d bytes", maxObjectName)
	case len(r.Key) > maxObjectName:
		return fleet.Invalid("key: is longer than %d bytes", maxObjectName)
	}
	return nil
}

var (
	chartRepository = regexp.MustCompile(`^(https|http|oci)://[^/@?#]+(/[^@?#]*)?$`)
	chartName       = regexp.MustCompile(`^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$`)
	chartVersion    = regexp.MustCompile(`^v?[0-9]+\.[0-9]+\.[0-9]+(-[-.0-9A-Za-z]+)?([+][-.0-9A-Za-z]+)?$`)
	chartDigest     = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

const (
	maxRepository = 2048
	maxVersion    = 128
)

// Validate checks which chart is named. The error is fleet.ErrInvalid and begins
// with the field. What may be a password in a URL is not quoted.
func (c *AppChart) Validate(field string) error {
	bad := func(name, message, hint string) error {
		return fleet.WithHint(fleet.Invalid("%s.%s: %s", field, name, message), hint)
	}
	odd := func(r rune) bool { return unicode.IsSpace(r) || r == '\\' || r < ' ' || r == 0x7f }
	switch {
	case len(c.Repository) > maxRepository || !chartRepository.MatchString(c.Repository) || strings.ContainsFunc(c.Repository, odd):
		return bad("repository", "is not the URL of a chart repository or registry",
			"write it like https://charts.example.com/stable or oci://registry.example.com/charts, without credentials")
	case len(c.Name) > maxObjectName || !chartName.MatchString(c.Name):
		return bad("name", fmt.Sprintf("%q is not a chart's name", c.Name), "letters, digits, '-', '_' and '.'")
	case len(c.Version) > maxVersion || !chartVersion.MatchString(c.Version):
		return bad("version", fmt.Sprintf("%q is not one exact version", c.Version),
			"write it like 1.2.3: a range would change what runs when somebody publishes something, without a commit")
	case c.Digest != "" && !chartDigest.MatchString(c.Digest):
		return bad("digest", fmt.Sprintf("%q is not a digest", c.Digest), "write it as sha256: and 64 lower case hex digits")
	}
	if c.SecretRef == nil {
		return nil
	}
	if n := c.SecretRef.Name; len(n) > maxSecretName || !secretName.MatchString(n) {
		return bad("secretRef.name", fmt.Sprintf("%q is not a Secret's name", n), "it is in the App's own namespace: give its name alone")
	}
	return nil
}
