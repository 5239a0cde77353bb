package uplink

import (
	"encoding/json"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// What a status may hold of each part, so that all of them together stay under
// wire.MaxStatus even where every character is escaped.
const (
	mostMessage = 2 << 10
	mostHint    = 512
	mostDrift   = 8
	mostFields  = 8
	mostPath    = 256
	mostHolds   = 4
	mostSources = 32 << 10 // of all repositories together
)

// fit shortens a status to what one report may take. What is left out can be
// asked for; what is shortened says so.
func fit(s fleet.AppStatus) fleet.AppStatus {
	s.Stale = false
	s.Message, s.Hint = shorten(s.Message, mostMessage), shorten(s.Hint, mostHint)
	s.Path, s.Reason = shorten(s.Path, mostPath), shorten(s.Reason, mostPath)
	if s.Source != nil {
		s.Source = new(fitSource(*s.Source))
	}
	if len(s.Drift) > mostDrift {
		s.Drift = s.Drift[:mostDrift]
	}
	s.Images, s.Holds = fitImages(s.Images), fitHolds(s.Holds)
	drift := make([]fleet.DriftSummary, len(s.Drift))
	for i, d := range s.Drift {
		d.Manager = shorten(d.Manager, mostPath)
		fields := d.Fields[:min(len(d.Fields), mostFields)]
		d.Fields = make([]string, len(fields))
		for j, f := range fields {
			d.Fields[j] = shorten(f, mostPath)
		}
		drift[i] = d
	}
	if s.Drift = drift; len(drift) == 0 {
		s.Drift = nil
	}
	return squeeze(s)
}

// fitImages leaves out what is too long to be shown whole: half a name would be
// another image's.
func fitImages(all []string) []string {
	var out []string
	for _, image := range all {
		if len(image) <= mostPath && len(out) < fleet.MaxImages {
			out = append(out, image)
		}
	}
	return out
}

func fitHolds(all []fleet.Hold) []fleet.Hold {
	var out []fleet.Hold
	for _, h := range all[:min(len(all), mostHolds)] {
		h.By, h.Why, h.Refused = shorten(h.By, mostPath), shorten(h.Why, mostPath), shorten(h.Refused, mostPath)
		out = append(out, h)
	}
	return out
}

// cutHolds gives up what is said about holds. It tells whether there was any.
func cutHolds(all []fleet.Hold) (cut bool) {
	const most = mostPath / 8
	for i, h := range all {
		cut = cut || len(h.By) > most || len(h.Why) > most || len(h.Refused) > most
		all[i].By, all[i].Why, all[i].Refused = shorten(h.By, most), shorten(h.Why, most), shorten(h.Refused, most)
	}
	return cut
}

// fitSources names as many repositories as one report takes, the first of them.
func fitSources(all []fleet.SourceStatus) []fleet.SourceStatus {
	var out []fleet.SourceStatus
	left := mostSources
	for _, s := range all[:min(len(all), fleet.MaxSources)] {
		s = fitSource(s)
		b, err := json.Marshal(s)
		if left -= len(b); err != nil || left < 0 {
			break
		}
		out = append(out, s)
	}
	return out
}

func fitSource(s fleet.SourceStatus) fleet.SourceStatus {
	s.URL, s.ServedBy, s.Follows = shorten(s.URL, mostPath), shorten(s.ServedBy, mostPath), shorten(s.Follows, mostPath)
	s.Head, s.Message = fleet.Revision(shorten(string(s.Head), mostPath)), shorten(s.Message, mostHint)
	return s
}

// squeeze gives up drift, then images and then text until the report is small
// enough.
func squeeze(s fleet.AppStatus) fleet.AppStatus {
	for {
		_, err := wire.Encode(wire.Report{Epoch: ^uint64(0), Seq: ^uint64(0), App: &s})
		if err == nil {
			return s
		}
		switch {
		case len(s.Drift) > 0:
			s.Drift = s.Drift[:len(s.Drift)-1]
		case len(s.Images) > 0:
			s.Images = s.Images[:len(s.Images)-1]
		case cutHolds(s.Holds):
		case len(s.Message) > mostPath:
			s.Message = shorten(s.Message, len(s.Message)/2)
		case s.Hint != "" || len(s.Message) > 0:
			s.Hint, s.Message = "", shorten(s.Message, mostPath/8)
			if _, err := wire.Encode(wire.Report{Epoch: ^uint64(0), Seq: ^uint64(0), App: &s}); err != nil {
				s.Message = ""
			}
		default:
			return s // not a matter of size
		}
	}
}

const ellipsis = "... (cut)"

// shorten cuts at a character's edge to at most n bytes, and says so.
func shorten(s string, n int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:max(0, n-len(ellipsis))], "") + ellipsis
}
