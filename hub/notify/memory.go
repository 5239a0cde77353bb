package notify

import (
	"encoding/json"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Memory is what was told, and what is about to be. It is not safe for
// concurrent use.
type Memory struct {
	// subjects maps a bucket's key, cluster or cluster.namespace.app, to what is
	// known of it by route and trigger.
	subjects map[string]map[string]*entry
	budgets  map[string]*rate.Limiter
	pass     int
}

// entry is where one trigger stands on one route, of one subject.
type entry struct {
	Mark  string    `json:"mark"`          // which state: the plan, the revision, the objects
	Since time.Time `json:"since"`         // it holds
	Told  time.Time `json:"told,omitzero"` // when this state was told; zero: not yet
	Owed  bool      `json:"owed,omitempty"`

	over     time.Time // since when it holds no more
	tries    int       // failed ones in a row
	wait     time.Time // not before
	sending  bool
	sentMark string
	last     Message
	pass     int // the look that saw it
}

// NewMemory knows nothing.
func NewMemory() *Memory {
	return &Memory{subjects: make(map[string]map[string]*entry), budgets: make(map[string]*rate.Limiter)}
}

// Recall takes in what was written down of one subject.
func (m *Memory) Recall(subject string, data []byte) error {
	var saved map[string]*entry
	if err := json.Unmarshal(data, &saved); err != nil {
		return fleet.Invalid("%s: what was told of it can't be read: %w", subject, err)
	}
	for k, e := range saved {
		if e == nil {
			delete(saved, k)
		}
	}
	m.subjects[subject] = saved
	return nil
}

// Written is what is to be written down of one subject; nil: nothing.
func (m *Memory) Written(subject string) ([]byte, error) {
	saved := map[string]*entry{}
	for k, e := range m.subjects[subject] {
		if !e.Told.IsZero() || e.Owed {
			saved[k] = e
		}
	}
	if len(saved) == 0 {
		return nil, nil
	}
	return json.Marshal(saved)
}

// Delivered notes that a message has been sent, and returns the subject whose
// record changed.
func (m *Memory) Delivered(msg Message, at time.Time) (subject string) {
	subject, name := split(msg.key)
	e := m.subjects[subject][name]
	if e == nil {
		return subject
	}
	e.sending, e.tries, e.wait = false, 0, time.Time{}
	if msg.Resolved {
		m.forget(subject, name)
		return subject
	}
	e.Owed = true
	if e.Mark == e.sentMark {
		e.Told = at
	}
	return subject
}

// The pauses after failures grow up to mostPause.
const (
	firstPause = 10 * time.Second
	mostPause  = 15 * time.Minute
)

// Failed notes that a message could not be sent; it will be again, if it is
// still true then, and not before after.
func (m *Memory) Failed(msg Message, at time.Time, after time.Duration) {
	subject, name := split(msg.key)
	e := m.subjects[subject][name]
	if e == nil {
		return
	}
	e.sending = false
	e.wait = at.Add(max(after, min(firstPause<<min(e.tries, 10), mostPause)))
	e.tries++
}

// Postponed notes that a message was not tried.
func (m *Memory) Postponed(msg Message) {
	subject, name := split(msg.key)
	if e := m.subjects[subject][name]; e != nil {
		e.sending = false
	}
}

func (m *Memory) entry(subject, name string) *entry { return m.subjects[subject][name] }

func (m *Memory) put(subject, name string, e *entry) {
	if m.subjects[subject] == nil {
		m.subjects[subject] = make(map[string]*entry)
	}
	m.subjects[subject][name] = e
}

func (m *Memory) forget(subject, name string) {
	delete(m.subjects[subject], name)
	if len(m.subjects[subject]) == 0 {
		delete(m.subjects, subject)
	}
}

// allow takes one message out of a route's budget.
func (m *Memory) allow(r *Route, now time.Time) bool {
	b := m.budgets[r.Name]
	if b == nil {
		b = rate.NewLimiter(rate.Limit(float64(r.PerHour)/time.Hour.Seconds()), min(r.PerHour, burst))
		m.budgets[r.Name] = b
	}
	return b.AllowN(now, 1)
}

func split(key string) (subject, name string) {
	subject, name, _ = strings.Cut(key, " ")
	return subject, name
}
