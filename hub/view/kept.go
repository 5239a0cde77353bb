package view

import (
	"strings"
	"time"
	"unique"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// kept is an app's status as the view holds it. A large fleet has a hundred
// thousand of them, which say much alike: of each text there is one copy.
type kept struct {
	revision unique.Handle[fleet.Revision]
	digest   unique.Handle[fleet.Digest]
	sync     unique.Handle[fleet.Sync]
	health   unique.Handle[fleet.Health]
	message  unique.Handle[string]
	hint     unique.Handle[string]
	reason   unique.Handle[string]
	path     unique.Handle[string]
	images   unique.Handle[string] // joined
	rare     *rare
	objects  int
	changed  time.Time
}

// rare is what few apps have. Nil: none of it.
type rare struct {
	pending *fleet.PendingPlan
	drift   []fleet.DriftSummary
	source  *fleet.SourceStatus
	holds   []fleet.Hold
	retry   *fleet.Retry
}

// between separates images. plain leaves none of it in them.
const between = "\x00"

func keep(s fleet.AppStatus) *kept {
	k := &kept{
		revision: unique.Make(s.Revision), digest: unique.Make(s.Digest), sync: unique.Make(s.Sync), health: unique.Make(s.Health),
		message: unique.Make(s.Message), hint: unique.Make(s.Hint), reason: unique.Make(s.Reason), path: unique.Make(s.Path),
		images: unique.Make(strings.Join(s.Images, between)), objects: s.Objects, changed: s.Changed,
	}
	if s.Pending != nil || len(s.Drift) > 0 || s.Source != nil || len(s.Holds) > 0 || s.Retry != nil {
		k.rare = &rare{s.Pending, s.Drift, s.Source, s.Holds, s.Retry}
	}
	return k
}

// status is the app's status as it was reported.
func (k *kept) status(cluster string, app fleet.AppName) fleet.AppStatus {
	s := fleet.AppStatus{
		Cluster: cluster, Namespace: app.Namespace, App: app.Name,
		Revision: k.revision.Value(), Digest: k.digest.Value(), Sync: k.sync.Value(), Health: k.health.Value(),
		Message: k.message.Value(), Hint: k.hint.Value(), Reason: k.reason.Value(), Path: k.path.Value(),
		Objects: k.objects, Changed: k.changed,
	}
	if all := k.images.Value(); all != "" {
		s.Images = strings.Split(all, between)
	}
	if k.rare != nil {
		s.Pending, s.Drift, s.Source, s.Holds, s.Retry = k.rare.pending, k.rare.drift, k.rare.source, k.rare.holds, k.rare.retry
	}
	return s
}
