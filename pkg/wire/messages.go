package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Limits of encoded messages, in bytes.
const (
	// MaxStatus is the most a report of one app may take: a summary and
	// pointers. What is larger is asked for.
	MaxStatus = 8 << 10
	// MaxIntent is the most an intent may take; it travels whole.
	MaxIntent = 256 << 10
	// MaxPayload is the most an agent may publish in one message.
	MaxPayload = 256 << 10
	// PartSize is how much of an answer one Part carries, before base64.
	PartSize = 128 << 10
	// MaxAnswer is the most a plan, a history or a tree may take in all.
	MaxAnswer = 32 << 20

	smallLimit     = 4 << 10
	failureLimit   = 8 << 10
	heartbeatLimit = 64 << 10
)

// Report says how one app is, or that it is gone. Of two reports the one with
// the higher (Epoch, Seq) counts: Epoch is raised at each start of an agent,
// Seq with each report.
type Report struct {
	Epoch uint64           `json:"epoch"`
	Seq   uint64           `json:"seq"`
	App   *fleet.AppStatus `json:"app,omitempty"`
	Gone  *fleet.AppName   `json:"gone,omitempty"`
}

func (Report) Kind() Kind { return "report" }
func (Report) Limit() int { return MaxStatus }

// Name is the app that is reported.
func (r Report) Name() fleet.AppName {
	if r.Gone != nil {
		return *r.Gone
	}
	return r.App.Name()
}

func (r Report) Validate() error {
	if (r.App == nil) == (r.Gone == nil) {
		return fleet.Invalid("it must say how an app is, or that it is gone")
	}
	if r.Epoch == 0 || r.Seq == 0 {
		return fleet.Invalid("epoch and seq start at 1")
	}
	if _, err := fleet.ParseAppName(r.Name().String()); err != nil {
		return err
	}
	if r.App == nil {
		return nil
	}
	switch r.App.Sync {
	case fleet.Synced, fleet.OutOfSync, fleet.Pending, fleet.SyncUnknown:
	default:
		return fleet.Invalid("sync %q is not known", clip(string(r.App.Sync)))
	}
	switch r.App.Health {
	case fleet.Healthy, fleet.Suspended, fleet.Progressing, fleet.Missing, fleet.Degraded, fleet.HealthUnknown:
	default:
		return fleet.Invalid("health %q is not known", clip(string(r.App.Health)))
	}
	return nil
}

// Newer tells whether (epoch, seq) comes after (oldEpoch, oldSeq).
func Newer(epoch, seq, oldEpoch, oldSeq uint64) bool {
	return epoch > oldEpoch || epoch == oldEpoch && seq > oldSeq
}

// Resent says that the agent has reported, in this epoch, every app it has:
// what was only reported in an earlier one is gone.
type Resent struct {
	Epoch uint64 `json:"epoch"`
}

func (Resent) Kind() Kind { return "resent" }
func (Resent) Limit() int { return smallLimit }

func (r Resent) Validate() error {
	if r.Epoch == 0 {
		return fleet.Invalid("epoch starts at 1")
	}
	return nil
}

// Ack says that a request was carried out and has no other answer.
type Ack struct{}

func (Ack) Kind() Kind      { return "ack" }
func (Ack) Limit() int      { return smallLimit }
func (Ack) Validate() error { return nil }

// Heartbeat says that an agent lives, and what its cluster is like.
type Heartbeat struct {
	Epoch   uint64              `json:"epoch"`
	Cluster fleet.ClusterReport `json:"cluster"`
}

func (Heartbeat) Kind() Kind { return "heartbeat" }
func (Heartbeat) Limit() int { return heartbeatLimit }

// The heartbeats a hub believes in: outside of these it could be made to call
// a silent cluster alive for days.
const (
	MinInterval = 10 * time.Millisecond
	MaxInterval = 10 * time.Minute
)

func (h Heartbeat) Validate() error {
	if h.Epoch == 0 {
		return fleet.Invalid("epoch starts at 1")
	}
	if h.Cluster.Interval < MinInterval || h.Cluster.Interval > MaxInterval {
		return fleet.Invalid("an interval of %s is not between %s and %s", h.Cluster.Interval, MinInterval, MaxInterval)
	}
	if err := fleet.ValidateLabels(h.Cluster.Declared); err != nil {
		return fmt.Errorf("declared labels: %w", err)
	}
	for _, k := range h.Cluster.Assignable {
		if err := fleet.ValidateLabel(k, ""); err != nil {
			return fmt.Errorf("assignable labels: %w", err)
		}
	}
	return nil
}

// HeartbeatAck answers a heartbeat.
type HeartbeatAck struct {
	Instance string `json:"instance"` // of the hub
	Revision uint64 `json:"revision"` // of the intent the hub holds for the cluster
	Epoch    uint64 `json:"epoch"`    // the highest the hub knew of before this heartbeat
	// Issuer is the public key that signs credentials now: an agent whose own was
	// signed by another renews it. Empty: nothing is to be done.
	Issuer string `json:"issuer,omitempty"`
	// Every is how much time the hub wants between heartbeats, at least: the
	// larger the fleet, the more. In nanoseconds; 0: as the agent likes.
	Every time.Duration `json:"every,omitempty"`
	// Link is the Stamp of what the hub tells agents of where it is: one that knows
	// another asks for it. Empty: nothing is to be done.
	Link string `json:"link,omitempty"`
}

func (HeartbeatAck) Kind() Kind { return "heartbeat-ack" }
func (HeartbeatAck) Limit() int { return smallLimit }

func (a HeartbeatAck) Validate() error {
	if a.Every < 0 || a.Every > MaxInterval {
		return fleet.Invalid("a heartbeat every %s is not between 0 and %s", a.Every, MaxInterval)
	}
	return nil
}

// IntentGet asks for the cluster's intent.
type IntentGet struct{}

func (IntentGet) Kind() Kind      { return "intent-get" }
func (IntentGet) Limit() int      { return smallLimit }
func (IntentGet) Validate() error { return nil }

// Intent carries what people want of a cluster.
type Intent struct {
	Intent fleet.Intent `json:"intent"`
}

func (Intent) Kind() Kind { return "intent" }
func (Intent) Limit() int { return MaxIntent }

func (i Intent) Validate() error {
	if i.Intent.Instance == "" {
		return fleet.Invalid("it names no hub instance")
	}
	if n := len(i.Intent.Holds); n > fleet.MaxOrders {
		return fleet.Invalid("it has %d holds, more than %d", n, fleet.MaxOrders)
	}
	for _, o := range i.Intent.Holds {
		if err := o.Validate(); err != nil {
			return fmt.Errorf("hold: %w", err)
		}
	}
	return fleet.ValidateLabels(i.Intent.Labels)
}

// The things that can be asked of an agent.
const (
	AskPlan    = "plan"    // fleet.SignedPlan
	AskHistory = "history" // []fleet.HistoryEntry
	AskTree    = "tree"    // []fleet.Object
)

// Ask asks an agent for a part of something about an app.
type Ask struct {
	What   string        `json:"what"`
	App    fleet.AppName `json:"app"`
	Offset int           `json:"offset,omitempty"`
	ETag   string        `json:"etag,omitempty"` // of the parts before
}

func (Ask) Kind() Kind { return "ask" }
func (Ask) Limit() int { return smallLimit }

func (a Ask) Validate() error {
	switch a.What {
	case AskPlan, AskHistory, AskTree:
	default:
		return fleet.Invalid("%q can't be asked for", clip(a.What))
	}
	if a.Offset < 0 || a.Offset > MaxAnswer {
		return fleet.Invalid("offset %d is out of range", a.Offset)
	}
	_, err := fleet.ParseAppName(a.App.String())
	return err
}

// Part is a piece of an answer. Where ETag is not the one of the pieces before,
// the answer has changed and is asked for anew.
type Part struct {
	ETag  string `json:"etag"`
	Total int    `json:"total"`
	Data  []byte `json:"data"`
}

func (Part) Kind() Kind { return "part" }
func (Part) Limit() int { return MaxPayload }

func (p Part) Validate() error {
	if p.ETag == "" || p.Total < 0 || p.Total > MaxAnswer || len(p.Data) > p.Total {
		return fleet.Invalid("a piece of %d bytes of %d does not make sense", len(p.Data), p.Total)
	}
	return nil
}

// Enrol asks, with a join token's one-time key, for a credential of the
// agent's own. Proof is Key's signature over EnrolProof.
type Enrol struct {
	Key   string `json:"key"` // public nkey (U...)
	Proof []byte `json:"proof"`
}

func (Enrol) Kind() Kind { return "enrol" }
func (Enrol) Limit() int { return smallLimit }

func (e Enrol) Validate() error {
	if e.Key == "" || len(e.Proof) == 0 {
		return fleet.Invalid("it has no key or no proof")
	}
	return nil
}

// EnrolProof is what an agent signs to show that it holds the key it enrols.
func EnrolProof(join, key string) []byte {
	return []byte("capstan-enrol\x00" + join + "\x00" + key)
}

// Enrolled answers Enrol.
type Enrolled struct {
	JWT      string `json:"jwt"`
	Cluster  string `json:"cluster"`
	Instance string `json:"instance"`
}

func (Enrolled) Kind() Kind { return "enrolled" }
func (Enrolled) Limit() int { return 16 << 10 }

func (e Enrolled) Validate() error {
	if e.JWT == "" || e.Instance == "" {
		return fleet.Invalid("it has no credential or no instance")
	}
	return fleet.ValidateName("cluster", e.Cluster)
}

// Renew asks for a credential that lives longer, for the same key.
type Renew struct {
	Key string `json:"key"`
}

func (Renew) Kind() Kind { return "renew" }
func (Renew) Limit() int { return smallLimit }

func (r Renew) Validate() error {
	if r.Key == "" {
		return fleet.Invalid("it names no key")
	}
	return nil
}

// Renewed answers Renew.
type Renewed struct {
	JWT string `json:"jwt"`
}

func (Renewed) Kind() Kind { return "renewed" }
func (Renewed) Limit() int { return 16 << 10 }

func (r Renewed) Validate() error {
	if r.JWT == "" {
		return fleet.Invalid("it has no credential")
	}
	return nil
}

// GitNotice says that somebody pushed. An empty URL means any repository, no
// Refs that any may have moved: older hubs never name them, and older agents
// pass them over.
type GitNotice struct {
	URL  string   `json:"url,omitempty"`
	Refs []string `json:"refs,omitempty"` // all that moved, as refs/heads/main

	// Agents is how many are told, about, so that each knows among how many it
	// asks the repository's server. 0: an older hub.
	Agents int `json:"agents,omitempty"`
}

// Limits of the references that a notice names.
const (
	maxRefs = 16
	maxRef  = 256 // bytes of each
)

func (GitNotice) Kind() Kind { return "git" }
func (GitNotice) Limit() int { return smallLimit }

func (n GitNotice) Validate() error {
	if n.Agents < 0 {
		return fleet.Invalid("it tells %d agents", n.Agents)
	}
	if len(n.Refs) > maxRefs {
		return fleet.Invalid("it names %d references, more than %d", len(n.Refs), maxRefs)
	}
	for _, r := range n.Refs {
		if r == "" || len(r) > maxRef || strings.ContainsFunc(r, unicode.IsControl) {
			return fleet.Invalid("%q is no reference", clip(r))
		}
	}
	return nil
}

// JSON encodes what an agent answers with, before it is cut into parts.
func JSON(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxAnswer {
		return nil, fleet.Unavailable("the answer takes %d bytes, the limit is %d", len(b), MaxAnswer)
	}
	return b, nil
}
