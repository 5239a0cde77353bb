package v1alpha1

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// The bounds of the schema in app_types.go.
const (
	maxPath      = 1024
	maxApprovers = 64
	maxApprover  = 256
	maxGlobs     = 64
	maxGlob      = 256
	maxIgnored   = 64

	maxDependencies = 32
	maxPointer      = 512
	maxManager      = 128
)

// Default fills in what the schema's defaults would.
func (a *App) Default() {
	s := &a.Spec
	if s.TargetNamespace == "" {
		s.TargetNamespace = "default"
	}
	if s.Source.Helm != nil {
		s.Source.Helm.setDefaults()
	}
	if s.Sync.Prune == nil {
		s.Sync.Prune = new(true)
	}
	if s.Sync.SelfHeal == nil {
		s.Sync.SelfHeal = new(true)
	}
	if s.Approval != nil && s.Approval.Quorum == nil {
		s.Approval.Quorum = new(1)
	}
}

// Validate checks what the schema's rules check, and the selectors besides. The
// error is fleet.ErrInvalid and begins with the field.
func (a *App) Validate() error {
	if err := fleet.ValidateName("app", a.Name); err != nil {
		return fmt.Errorf("metadata.name: %w", err)
	}
	return a.Spec.Validate()
}

// Validate checks a spec. The error is fleet.ErrInvalid and begins with the field.
func (s *AppSpec) Validate() error {
	if s.Source.Path == "" && s.Source.Helm != nil && s.Source.Helm.Chart != nil {
		// The chart is elsewhere.
	} else if err := validatePath(s.Source.Path); err != nil {
		return fmt.Errorf("spec.source.path: %w", err)
	}
	if err := s.Source.validateRepository(); err != nil {
		return err
	}
	if err := s.Source.Directory.validate(); err != nil {
		return err
	}
	if h := s.Source.Helm; h != nil {
		if s.Source.Directory != nil {
			return fleet.WithHint(fleet.Invalid("spec.source.helm: is there beside spec.source.directory"), "keep the one that says what the path is")
		}
		if err := h.validate(); err != nil {
			return err
		}
	}
	if err := validateSelector("spec.clusters", s.Clusters); err != nil {
		return err
	}
	if err := s.validateDestination(); err != nil {
		return err
	}
	if err := s.validateOrder(); err != nil {
		return err
	}
	for i, d := range s.IgnoreDifferences {
		if err := d.validate(); err != nil {
			return fmt.Errorf("spec.ignoreDifferences[%d]%w", i, err)
		}
	}
	if err := s.Decryption.validate(); err != nil {
		return err
	}
	if err := s.Health.validate(); err != nil {
		return err
	}
	if s.Approval == nil {
		return nil
	}
	if err := validateSelector("spec.approval.clusters", s.Approval.Clusters); err != nil {
		return err
	}
	return s.Approval.validate()
}

// validateOrder checks what comes before what, and when.
func (s *AppSpec) validateOrder() error {
	for i, d := range s.DependsOn {
		if err := fleet.ValidateName("app", d.Name); err != nil {
			return fmt.Errorf("spec.dependsOn[%d].name: %w", i, err)
		}
		if d.Namespace == "" {
			continue
		}
		if err := fleet.ValidateName("namespace", d.Namespace); err != nil {
			return fmt.Errorf("spec.dependsOn[%d].namespace: %w", i, err)
		}
	}
	if len(s.DependsOn) > maxDependencies {
		return fleet.Invalid("spec.dependsOn: has %d apps, more than %d", len(s.DependsOn), maxDependencies)
	}
	if err := s.Sync.Retry.validate(); err != nil {
		return err
	}
	if t := s.Sync.SelfHealAfter; t != nil && t.Duration <= 0 {
		return fleet.WithHint(fleet.Invalid("spec.sync.selfHealAfter: %s is not a positive duration", t.Duration), "write it like 5m")
	} else if t != nil && !s.Sync.SelfHealEnabled() {
		return fleet.WithHint(fleet.Invalid("spec.sync.selfHealAfter: nothing is undone where selfHeal is false"), "take one of the two away")
	}
	if t := s.Sync.WaveTimeout; t != nil && t.Duration <= 0 {
		return fleet.WithHint(fleet.Invalid("spec.sync.waveTimeout: %s is not a positive duration", t.Duration), "write it like 10m")
	}
	return nil
}

// validate's error begins with the field below the entry.
func (d IgnoreDifference) validate() error {
	if len(d.JSONPointers) == 0 && len(d.Managers) == 0 {
		return fleet.WithHint(fleet.Invalid(": names neither jsonPointers nor managers"), "without both it would leave the whole object to others")
	}
	if len(d.JSONPointers) > maxIgnored || len(d.Managers) > maxIgnored {
		return fleet.Invalid(": has more than %d jsonPointers or managers", maxIgnored)
	}
	for i, p := range d.JSONPointers {
		if len(p) < 2 || len(p) > maxPointer || p[0] != '/' {
			return fleet.WithHint(fleet.Invalid(".jsonPointers[%d]: %q is not a JSON pointer", i, p), "write it like /spec/replicas; / within a key is ~1, and * is any key or index")
		}
	}
	for i, m := range d.Managers {
		if m == "" || len(m) > maxManager {
			return fleet.WithHint(fleet.Invalid(".managers[%d]: must have between 1 and %d bytes", i, maxManager), "kubectl get --show-managed-fields -o yaml shows them")
		}
	}
	return nil
}

func validatePath(p string) error {
	bad := func(why, hint string) error { return fleet.WithHint(fleet.Invalid("%q %s", p, why), hint) }
	switch {
	case p == "":
		return fleet.WithHint(fleet.Invalid("is required"), "name the directory to build, from the repository's root")
	case len(p) > maxPath:
		return fleet.Invalid("is longer than %d bytes", maxPath)
	case strings.HasPrefix(p, "/"):
		return bad("is not relative to the repository's root", "take the leading '/' away")
	case slices.Contains(strings.Split(p, "/"), ".."):
		return bad("leaves the repository", "'..' is not allowed")
	case strings.ContainsFunc(p, func(r rune) bool { return r == '\\' || r < ' ' || r == 0x7f }):
		return bad("holds a backslash or a control character", "directories are separated by '/'")
	}
	return nil
}

func (d *AppDirectory) validate() error {
	if d == nil {
		return nil
	}
	if err := ValidateGlobs("spec.source.directory.include", d.Include); err != nil {
		return err
	}
	return ValidateGlobs("spec.source.directory.exclude", d.Exclude)
}

// ValidateGlobs checks globs over the files of a directory. The error is
// fleet.ErrInvalid and begins with the field.
func ValidateGlobs(field string, globs []string) error {
	if len(globs) > maxGlobs {
		return fleet.Invalid("%s: has %d globs, more than %d", field, len(globs), maxGlobs)
	}
	for i, g := range globs {
		bad := func(why, hint string) error {
			return fleet.WithHint(fleet.Invalid("%s[%d]: %q %s", field, i, g, why), hint)
		}
		if g == "" || len(g) > maxGlob {
			return fleet.Invalid("%s[%d]: must have between 1 and %d bytes", field, i, maxGlob)
		}
		for segment := range strings.SplitSeq(g, "/") {
			if _, err := path.Match(segment, ""); err != nil {
				return bad("is not a glob", "a [ needs its ]")
			}
			if segment == "" || segment == "." || segment == ".." {
				return bad("is not a path below the directory", "write it like *.yaml, jobs/*.yaml or **/tests/**")
			}
		}
	}
	return nil
}

func validateSelector(field string, s *metav1.LabelSelector) error {
	if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
		return fleet.WithHint(fleet.Invalid("%s: %v", field, err),
			"a selector has matchLabels, and matchExpressions with the operators In, NotIn, Exists and DoesNotExist")
	}
	return nil
}

func (a *AppApproval) validate() error {
	if len(a.Approvers) > maxApprovers {
		return fleet.Invalid("spec.approval.approvers: has %d names, more than %d", len(a.Approvers), maxApprovers)
	}
	for i, who := range a.Approvers {
		field := fmt.Sprintf("spec.approval.approvers[%d]", i)
		switch {
		case who == "" || len(who) > maxApprover:
			return fleet.Invalid("%s: must have between 1 and %d bytes", field, maxApprover)
		case strings.ContainsAny(who, `*?!,"`) || strings.ContainsFunc(who, unicode.IsSpace):
			return fleet.WithHint(fleet.Invalid("%s: %q is not one principal", field, who),
				"write each as in the allowed_signers file: no white space, quotes, commas or wildcards")
		case slices.Contains(a.Approvers[:i], who):
			return fleet.Invalid("%s: %q is there twice", field, who)
		}
	}
	quorum := a.Required()
	if quorum < 1 || quorum > maxApprovers {
		return fleet.Invalid("spec.approval.quorum: %d is not between 1 and %d", quorum, maxApprovers)
	}
	if n := len(a.Approvers); n > 0 && quorum > n {
		return fleet.WithHint(fleet.Invalid("spec.approval.quorum: %d is larger than the number of approvers, %d", quorum, n),
			"nobody could ever approve: name more approvers, or lower the quorum")
	}
	return nil
}

// AppName is the app's name on its cluster.
func (a *App) AppName() fleet.AppName {
	return fleet.AppName{Namespace: a.Namespace, Name: a.Name}
}

// Required is how many people must sign.
func (a *AppApproval) Required() int {
	if a.Quorum == nil {
		return 1
	}
	return *a.Quorum
}

// PruneEnabled tells whether objects that left the app are deleted.
func (s AppSync) PruneEnabled() bool { return s.Prune == nil || *s.Prune }

// WaveWithin is how long a wave may take to become healthy.
func (s AppSync) WaveWithin() time.Duration {
	if s.WaveTimeout == nil {
		return 10 * time.Minute
	}
	return s.WaveTimeout.Duration
}

// Dependencies are the names of the apps that come first.
func (a *App) Dependencies() []fleet.AppName {
	var out []fleet.AppName
	for _, d := range a.Spec.DependsOn {
		out = append(out, fleet.AppName{Namespace: cmp.Or(d.Namespace, a.Namespace), Name: d.Name})
	}
	return out
}

// HealAfter is how long what others change may stand before it is undone; 0: not
// at all.
func (s AppSync) HealAfter() time.Duration {
	if s.SelfHealAfter == nil {
		return 0
	}
	return s.SelfHealAfter.Duration
}

// SelfHealEnabled tells whether changes by others are undone.
func (s AppSync) SelfHealEnabled() bool { return s.SelfHeal == nil || *s.SelfHeal }
