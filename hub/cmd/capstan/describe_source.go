package main

import "github.com/capstan-gitops/capstan/pkg/fleet"

// describeSources tells which repositories a cluster follows.
func (s *shell) describeSources(all []fleet.SourceStatus) {
	if len(all) > 0 {
		s.printf("Repositories:\n")
	}
	for _, one := range all {
		s.printf("  %s, %s\n", oneLine(one.URL), oneLine(one.Follows))
		s.facts([][2]string{
			{"    Head", string(one.Head)},
			{"    Served by", s.servedBy(one)},
			{"    Last reached", s.lastReached(one)},
			{"    Message", one.Message},
		})
	}
}

// servedBy is empty where the repository serves itself.
func (s *shell) servedBy(one fleet.SourceStatus) string {
	if one.ServedBy == one.URL {
		return ""
	}
	return one.ServedBy
}

// lastReached is empty where the repository can be read.
func (s *shell) lastReached(one fleet.SourceStatus) string {
	switch {
	case !one.Failing:
		return ""
	case one.Reached.IsZero():
		return "not since the agent started"
	default:
		return s.when(one.Reached)
	}
}

// sourceOf is what an app is read from, on one line.
func sourceOf(a fleet.AppStatus) string {
	if a.Source == nil {
		return ""
	}
	return a.Source.URL + ", " + a.Source.Follows
}
