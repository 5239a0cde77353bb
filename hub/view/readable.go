package view

import (
	"slices"
	"strings"
	"unicode"
	"unique"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// readable takes out of a status what could drive a terminal: an agent's text
// ends up in one.
func readable(s fleet.AppStatus) fleet.AppStatus {
	s.Message, s.Hint, s.Reason, s.Path = plain(s.Message), plain(s.Hint), plain(s.Reason), plain(s.Path)
	s.Revision, s.Digest = plain(s.Revision), plain(s.Digest)
	if s.Source != nil {
		s.Source = new(readableSource(*s.Source))
	}
	if s.Pending != nil {
		p := *s.Pending
		p.Revision, p.Digest, p.Gate, p.Plan, p.Action = plain(p.Revision), plain(p.Digest), plain(p.Gate), plain(p.Plan), plain(p.Action)
		s.Pending = &p
	}
	s.Holds = slices.Clone(s.Holds)
	for i, h := range s.Holds {
		h.Kind, h.By, h.Why, h.Refused = plain(h.Kind), plain(h.By), plain(h.Why), plain(h.Refused)
		h.Revision, h.Digest, h.Asked, h.Ending = plain(h.Revision), plain(h.Digest), false, false
		s.Holds[i] = h
	}
	s.Images = slices.Clone(s.Images)
	for i, image := range s.Images {
		s.Images[i] = plain(image)
	}
	s.Drift = slices.Clone(s.Drift)
	for i, d := range s.Drift {
		o := d.Object
		o.Group, o.Version, o.Kind, o.Namespace, o.Name = plain(o.Group), plain(o.Version), plain(o.Kind), plain(o.Namespace), plain(o.Name)
		d.Object, d.Manager, d.Fields = o, plain(d.Manager), slices.Clone(d.Fields)
		for j, f := range d.Fields {
			d.Fields[j] = plain(f)
		}
		s.Drift[i] = d
	}
	return s
}

// intern keeps one copy of what ten thousand clusters say alike.
func intern[T ~string](s T) T { return unique.Make(s).Value() }

func readableSource(s fleet.SourceStatus) fleet.SourceStatus {
	s.URL, s.Follows, s.Head = intern(plain(s.URL)), intern(plain(s.Follows)), intern(plain(s.Head))
	s.ServedBy, s.Message = intern(plain(s.ServedBy)), plain(s.Message)
	return s
}

func plain[T ~string](s T) T {
	if ordinary(string(s)) {
		return s
	}
	return T(strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return -1
		}
		return r
	}, string(s)))
}

// ordinary tells whether there is nothing in a text to take out, as is so of
// almost all: to look at every rune costs more than the rest of a report.
func ordinary(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\n' && c != '\t' || c >= 0x7f {
			return false
		}
	}
	return true
}
