package record

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/record/util"

	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Events are for people, and cost the API server as much as objects do. So they
// wait their turn. Where many wait, a later one of the same app and reason takes
// the place of the earlier. What one app may write is bounded too.
const (
	eventsAtOnce    = 50 // and so many wait before any take another's place
	eventsPerSecond = 10
	maxWaiting      = 4096 // more than that are left out

	unseenFor = time.Minute // so long an Event waits for its App object

	perApp      = 15      // at once, of warnings and of others
	perAppEvery = 5 * 60  // seconds between two after that
	similar     = 5       // of one reason within sameWithin, before they are one
	sameWithin  = 10 * 60 // seconds
	remembered  = 2048    // apps and messages
	unreachable = 5 * time.Second
	complain    = time.Minute // between two lines in the log
)

const component = "capstan-agent"

// events writes Events one after the other.
type events struct {
	api        typedcorev1.EventInterface
	correlator *record.EventCorrelator
	limit      *rate.Limiter
	complaints rate.Sometimes
	log        *slog.Logger
	uid        func(fleet.AppName) types.UID // of an App object; "": it was not seen

	mu      sync.Mutex
	waiting []topic // in the order they came
	said    map[topic]said
	leftOut int
	more    chan struct{}
}

// topic is what at most one Event waits about.
type topic struct {
	app    fleet.AppName
	kind   string
	reason string
	same   string // the message; "" where any of that reason will do
}

type said struct {
	message string
	at      time.Time
	since   time.Time // when the first of them came that it took the place of
}

func newEvents(api typedcorev1.EventInterface, uid func(fleet.AppName) types.UID, log *slog.Logger) *events {
	return &events{
		api: api, uid: uid, log: log, limit: rate.NewLimiter(eventsPerSecond, eventsAtOnce), complaints: rate.Sometimes{Interval: complain},
		correlator: record.NewEventCorrelatorWithOptions(record.CorrelatorOptions{
			LRUCacheSize: remembered, BurstSize: perApp, QPS: 1. / perAppEvery, MaxEvents: similar, MaxIntervalInSeconds: sameWithin,
		}),
		said: map[topic]said{}, more: make(chan struct{}, 1),
	}
}

// add has an Event written when its turn comes.
func (e *events) add(t topic, s said) {
	e.mu.Lock()
	if len(e.waiting) < eventsAtOnce {
		t.same = s.message
	}
	s.since = s.at
	if before, waits := e.said[t]; waits {
		s.since = before.since
	} else {
		if len(e.waiting) >= maxWaiting {
			e.leftOut++
			e.mu.Unlock()
			return
		}
		e.waiting = append(e.waiting, t)
	}
	e.said[t] = s
	e.mu.Unlock()
	e.wake()
}

// wake has what waits looked at again.
func (e *events) wake() {
	select {
	case e.more <- struct{}{}:
	default:
	}
}

// next takes the one that waited longest. An App object may be written after what it
// brings, and people look for its Events by its uid: so one waits for that, for a
// while. If none can be had yet, look is when one can; 0: when there are more.
func (e *events) next() (next *corev1.Event, look time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leftOut > 0 {
		n := e.leftOut
		e.complaints.Do(func() {
			e.log.Warn("there are too many Events: some are left out", "left out", n)
			e.leftOut = 0
		})
	}
	for i, t := range e.waiting {
		s, uid := e.said[t], e.uid(t.app)
		if left := unseenFor - time.Since(s.since); uid == "" && left > 0 {
			if look == 0 || left < look {
				look = left
			}
			continue
		}
		e.waiting = slices.Delete(e.waiting, i, i+1)
		delete(e.said, t)
		return event(t, s, uid), 0
	}
	return nil, look
}

// run writes until ctx ends. What waits then is not written.
func (e *events) run(ctx context.Context) {
	for ctx.Err() == nil {
		next, look := e.next()
		if next == nil {
			e.rest(ctx, look)
			continue
		}
		result, err := e.correlator.EventCorrelate(next)
		if err != nil || result.Skip {
			continue // an app that says too much
		}
		if e.limit.Wait(ctx) != nil {
			return
		}
		for !e.write(ctx, result) {
			select { // the API server can't be reached: those that come meanwhile wait
			case <-ctx.Done():
				return
			case <-time.After(unreachable):
			}
		}
	}
}

// rest waits until there are more, or for so long; 0: for no time but that.
func (e *events) rest(ctx context.Context, most time.Duration) {
	var over <-chan time.Time
	if most > 0 {
		timer := time.NewTimer(most)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-ctx.Done():
	case <-e.more:
	case <-over:
	}
}

// write tells whether the API server answered; one that it refuses is not for
// trying again.
func (e *events) write(ctx context.Context, r *record.EventCorrelateResult) bool {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var written *corev1.Event
	var err error
	if r.Event.Count > 1 {
		written, err = e.api.PatchWithEventNamespaceWithContext(ctx, r.Event, r.Patch)
	}
	if r.Event.Count <= 1 || apierrors.IsNotFound(err) { // Events go after an hour
		r.Event.ResourceVersion = ""
		written, err = e.api.CreateWithEventNamespaceWithContext(ctx, r.Event)
	}
	switch {
	case err == nil:
		e.correlator.UpdateState(written)
		return true
	case ctx.Err() == nil && apierrors.ReasonForError(err) != metav1.StatusReasonUnknown:
		e.complaints.Do(func() {
			e.log.Warn("an Event was refused", "app", r.Event.InvolvedObject.Namespace+"/"+r.Event.InvolvedObject.Name, "reason", r.Event.Reason, "error", err)
		})
		return true
	}
	return false
}

func event(t topic, s said, uid types.UID) *corev1.Event {
	at := metav1.NewTime(s.at)
	about := corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.AppKind, Namespace: t.app.Namespace, Name: t.app.Name, UID: uid}
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: util.GenerateEventName(t.app.Name, s.at.UnixNano()), Namespace: t.app.Namespace},
		InvolvedObject: about, Type: t.kind, Reason: t.reason, Message: s.message,
		FirstTimestamp: at, LastTimestamp: at, Count: 1,
		Source: corev1.EventSource{Component: component}, ReportingController: component,
	}
}

// Event notes on an App what was done or went wrong, when its turn comes: a flood
// is thinned.
func (r *Recorder) Event(app fleet.AppName, warning bool, reason, message string) {
	kind := corev1.EventTypeNormal
	if warning {
		kind = corev1.EventTypeWarning
	}
	r.events.add(topic{app: app, kind: kind, reason: reason}, said{message: message, at: time.Now()})
}
