package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// State is the fleet at one moment.
type State struct {
	Clusters []fleet.Cluster
	Apps     []fleet.AppStatus
	URL      string // of the hub, for links
}

// Decision is what comes of a look at the fleet.
type Decision struct {
	Messages []Message // to be sent now; each must be answered with Delivered, Failed or Postponed
	Changed  []string  // subjects whose record is to be written
	Waiting  bool      // time alone may bring more
}

// look is one call of Decide.
type look struct {
	*Memory
	now     time.Time
	state   State
	out     Decision
	changed map[string]bool
}

// Decide compares the fleet as it is with what was told of it.
//
// A state is told once it has held for as long as its route asks, and once. A
// state that is told and over for a while is told as resolved, where the route
// wants that. Of a cluster that is silent nothing is known, so nothing about
// its apps begins or ends. What a route's budget does not allow, or could not
// be sent, waits, and is told later if it is still so.
func (m *Memory) Decide(routes []Route, state State, now time.Time) Decision {
	m.pass++
	l := &look{Memory: m, now: now, state: state, changed: map[string]bool{}}
	labels := make(map[string]map[string]string, len(state.Clusters))
	for _, c := range state.Clusters {
		labels[c.Cluster] = c.Labels
		for i := range routes {
			if r := &routes[i]; r.on(Stale) && r.cluster(c.Labels) {
				l.see(r, Stale, c.Cluster, c.Stale, "silent", func() Message { return ofCluster(c) })
			}
		}
	}
	for _, a := range state.Apps {
		l.app(routes, a, labels[a.Cluster])
	}
	l.rest(routes)
	for s := range l.changed {
		l.out.Changed = append(l.out.Changed, s)
	}
	slices.Sort(l.out.Changed)
	return l.out
}

func (l *look) app(routes []Route, a fleet.AppStatus, labels map[string]string) {
	subject := a.Cluster + "." + a.Namespace + "." + a.App
	if a.Stale {
		for _, e := range l.subjects[subject] {
			e.pass = l.pass
		}
		return
	}
	for i := range routes {
		r := &routes[i]
		if !r.cluster(labels) || !r.app(a.Name()) {
			continue
		}
		for _, t := range r.On {
			if t == Stale {
				continue
			}
			active, mark := condition(t, a)
			l.see(r, t, subject, active, mark, func() Message { return ofApp(t, a, labels) })
		}
	}
}

// condition tells whether a trigger holds of an app, and which state it is.
func condition(t Trigger, a fleet.AppStatus) (active bool, mark string) {
	switch t {
	case Pending:
		if a.Pending == nil {
			return false, ""
		}
		return true, a.Pending.Plan
	case Degraded:
		return a.Health == fleet.Degraded, string(a.Revision)
	case Synced:
		return a.Sync == fleet.Synced && a.Digest != "", string(a.Revision) + " " + string(a.Digest)
	case Drift:
		var objects []string
		for _, d := range a.Drift {
			objects = append(objects, d.Object.String())
		}
		slices.Sort(objects)
		return len(objects) > 0, messageID(objects...)
	case Stale:
	}
	return false, ""
}

// see compares one trigger's state with what is known of it.
func (l *look) see(r *Route, t Trigger, subject string, active bool, mark string, make func() Message) {
	name := r.Name + "/" + string(t)
	e := l.entry(subject, name)
	switch {
	case !active && e == nil:
		return
	case !active:
		e.pass = l.pass
		l.over(r, t, subject, name, e)
		return
	case e == nil:
		e = &entry{Mark: mark, Since: l.now}
		if t == Synced { // how it is at first sight is no news
			e.Told = l.now
			l.changed[subject] = true
		}
		l.put(subject, name, e)
	case e.Mark != mark:
		e.Mark, e.Since, e.Told, e.tries, e.wait = mark, l.now, time.Time{}, 0, time.Time{}
	}
	e.pass, e.over = l.pass, time.Time{}
	due := e.Told.IsZero() && l.now.Sub(e.Since) >= r.For[t]
	again := !e.Told.IsZero() && r.repeat > 0 && l.now.Sub(e.Told) >= r.repeat
	if e.Told.IsZero() || r.repeat > 0 {
		l.out.Waiting = true
	}
	if due || again {
		l.send(r, t, subject, name, e, make())
	}
}

// over deals with a state that holds no more.
func (l *look) over(r *Route, t Trigger, subject, name string, e *entry) {
	if t == Synced {
		return // kept, to know the next revision by
	}
	if e.over.IsZero() {
		e.over = l.now
	}
	l.out.Waiting = true
	if l.now.Sub(e.over) < max(r.For[t], settle) || e.sending {
		return
	}
	if !e.Owed || !r.Resolved {
		l.changed[subject] = l.changed[subject] || e.Owed || !e.Told.IsZero()
		l.forget(subject, name)
		return
	}
	m := e.last
	if m.Cluster == "" { // told before the hub's restart
		m = ofSubject(subject)
	}
	m.Resolved = true
	l.send(r, t, subject, name, e, m)
}

// send puts a message out, if it may go now.
func (l *look) send(r *Route, t Trigger, subject, name string, e *entry, m Message) {
	if e.sending || l.now.Before(e.wait) || !l.allow(r, l.now) {
		return
	}
	m.Route, m.Trigger, m.Since, m.key = r.Name, t, e.Since, subject+" "+name
	m.ID = messageID(r.Name, string(t), subject, e.Mark, e.Since.UTC().Format(time.RFC3339Nano), fmt.Sprint(m.Resolved))
	m.URL = pageURL(l.state.URL, m.Cluster, m.Namespace, m.App)
	e.sending, e.sentMark = true, e.Mark
	if !m.Resolved {
		e.last = m
	}
	l.out.Messages = append(l.out.Messages, m)
}

// rest are the entries that nothing in the fleet, or no route, speaks of now.
func (l *look) rest(routes []Route) {
	byName := make(map[string]*Route, len(routes))
	for i := range routes {
		byName[routes[i].Name] = &routes[i]
	}
	for subject, entries := range l.subjects {
		for name, e := range entries {
			if e.pass == l.pass {
				continue
			}
			route, trigger, _ := strings.Cut(name, "/")
			r := byName[route]
			if r == nil || !r.on(Trigger(trigger)) || Trigger(trigger) == Synced {
				l.changed[subject] = true
				l.forget(subject, name)
				continue
			}
			l.over(r, Trigger(trigger), subject, name, e)
		}
	}
	slices.SortFunc(l.out.Messages, func(a, b Message) int { return strings.Compare(a.key, b.key) })
}

func ofCluster(c fleet.Cluster) Message {
	return Message{Cluster: c.Cluster, Labels: c.Labels, Message: "last heard of at " + c.LastSeen.UTC().Format(time.RFC3339)}
}

func ofApp(t Trigger, a fleet.AppStatus, labels map[string]string) Message {
	m := Message{
		Cluster: a.Cluster, Labels: labels, Namespace: a.Namespace, App: a.App, Revision: a.Revision, Digest: a.Digest,
		Sync: a.Sync, Health: a.Health, Reason: a.Reason, Message: a.Message,
	}
	if t == Pending && a.Pending != nil {
		p := a.Pending
		m.Revision, m.Digest, m.Gate, m.Action, m.Have, m.Need = p.Revision, p.Digest, p.Gate, p.Action, p.Have, p.Need
	}
	if t == Drift {
		for _, d := range a.Drift {
			s := d.Object.String()
			if d.Manager != "" {
				s += " (" + d.Manager + ")"
			}
			m.Drift = append(m.Drift, s)
		}
	}
	return m
}

func ofSubject(subject string) Message {
	parts := strings.SplitN(subject, ".", 3)
	m := Message{Cluster: parts[0]}
	if len(parts) == 3 {
		m.Namespace, m.App = parts[1], parts[2]
	}
	return m
}
