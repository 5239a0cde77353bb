// Package hooks takes the calls that Git forges make after a push, under
// /hooks/PROVIDER: it checks who calls, reads what the call is about, and tells
// the agents' side which repository moved.
//
// Each forge has its own form and its own proof: a signature over the body, or
// a shared secret in a header. Of a call only the repository's address and what
// moved there are used, and all that a false one could do is make agents look at
// Git once more.
package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Prefix is the path under which each provider has its own.
const Prefix = "/hooks/"

// Config says whom to believe and whom to tell. Secrets and Pushed are required.
type Config struct {
	Secrets *SecretFile
	// Pushed tells every agent that something was pushed to a repository; an
	// empty URL means any. It is called once for each address of a repository
	// that is not just another way to write the same. Without refs, any of its
	// references may have moved.
	Pushed func(ctx context.Context, repoURL string, refs ...string) error
	// Observe hears how each call ended. Nil: nobody counts.
	Observe func(provider string, outcome Outcome)
	Log     *slog.Logger // nil: nothing is logged
}

// Outcome is how a call ended; it is one of few, to be counted.
type Outcome string

// The outcomes.
const (
	Told     Outcome = "told"     // agents were told
	Answered Outcome = "answered" // a ping
	Ignored  Outcome = "ignored"  // an event that moves no branch or tag
	Repeated Outcome = "repeated" // this delivery was taken before
	Refused  Outcome = "refused"  // not signed with a secret of ours
	Invalid  Outcome = "invalid"  // signed or not, it can't be read
	Failed   Outcome = "failed"   // the hub's own fault
)

const (
	maxBody  = 8 << 20          // a push of many commits
	maxPing  = 64 << 10         // a ping that is checked against every secret
	bodyTime = 10 * time.Second // to send it
	atOnce   = 8                // bodies held in memory
)

type server struct {
	Config
	seen    *memory
	slots   chan struct{}
	refused rate.Sometimes // so that a stranger does not fill the log
}

// New makes the handler for everything below Prefix.
func New(c Config) (http.Handler, error) {
	if c.Secrets == nil || c.Pushed == nil {
		return nil, errors.New("hooks: Secrets and Pushed are required")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Observe == nil {
		c.Observe = func(string, Outcome) {}
	}
	s := &server{Config: c, seen: newMemory(), slots: make(chan struct{}, atOnce), refused: rate.Sometimes{First: 10, Interval: time.Minute}}
	mux := http.NewServeMux()
	for name, p := range providers {
		mux.HandleFunc(Prefix+name, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, name, p) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, http.StatusNotFound, fleet.WithHint(fleet.NotFound("the hub has no %s", r.URL.Path),
			"webhooks are taken at "+Prefix+"PROVIDER; providers: "+strings.Join(Providers(), ", ")))
	})
	return mux, nil
}

// Providers names the forges whose calls are understood, in order.
func Providers() []string { return slices.Sorted(maps.Keys(providers)) }

// result is what a caller is told.
type result struct {
	Status     Outcome `json:"status"`
	Repository string  `json:"repository,omitempty"`
	Ref        string  `json:"ref,omitempty"`
}

func (s *server) serve(w http.ResponseWriter, r *http.Request, name string, p provider) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		s.fail(w, http.StatusMethodNotAllowed, fleet.Invalid("%s is not possible here, only POST", r.Method))
		return
	}
	out, status, err := s.take(w, r, name, p)
	s.Observe(name, out.Status)
	if err != nil {
		s.note(r, name, out.Status, err)
		if status == http.StatusUnauthorized && p.basic {
			w.Header().Set("WWW-Authenticate", `Basic realm="capstan"`)
		}
		s.fail(w, status, err)
		return
	}
	s.answer(w, status, "application/json", out)
}

// take is one call: what becomes of it, and the status of the answer.
func (s *server) take(w http.ResponseWriter, r *http.Request, name string, p provider) (result, int, error) {
	secrets, err := s.Secrets.of(name)
	if err != nil {
		return result{Status: Failed}, http.StatusServiceUnavailable, err
	}
	proof, ok := p.proof(r.Header)
	if !ok {
		return result{Status: Refused}, http.StatusUnauthorized, fleet.WithHint(fleet.Forbidden("the call is not signed"), p.hint)
	}
	if !p.signs { // the secret itself came: nothing more is read for one who has none
		if secrets = verified(secrets, proof, nil); len(secrets) == 0 {
			return result{Status: Refused}, http.StatusUnauthorized, refusal(name)
		}
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-r.Context().Done():
		return result{Status: Failed}, http.StatusServiceUnavailable, fleet.Unavailable("too many calls at once")
	}
	body, status, err := readBody(w, r)
	if err != nil {
		return result{Status: Invalid}, status, err
	}
	ev, bad := decode(r, body, p)
	if ev.what != ping || len(ev.keys) > 0 || len(body) > maxPing { // some pings name no repository
		secrets = covering(secrets, ev)
	}
	if p.signs {
		if secrets = verified(secrets, proof, body); len(secrets) == 0 {
			return result{Status: Refused}, http.StatusUnauthorized, refusal(name)
		}
	}
	if bad != nil {
		return result{Status: Invalid}, http.StatusBadRequest, bad
	}
	if len(secrets) == 0 {
		return result{Status: Refused}, http.StatusUnauthorized, refusal(name)
	}
	return s.tell(r, name, ev, secrets)
}

// tell passes on what was read from a call that is believed.
func (s *server) tell(r *http.Request, name string, ev event, by []secret) (result, int, error) {
	switch ev.what {
	case ping:
		return result{Status: Answered}, http.StatusOK, nil
	case other:
		return result{Status: Ignored}, http.StatusAccepted, nil
	}
	if ev.delivery != "" && !s.seen.add(name+" "+ev.delivery) {
		return result{Status: Repeated}, http.StatusOK, nil
	}
	addresses := ev.addresses
	if len(addresses) == 0 { // a forge that names no address: the secret may
		addresses = []string{by[0].address}
	}
	out := result{Status: Told, Repository: addresses[0], Ref: strings.Join(ev.refs, ",")}
	for _, a := range addresses {
		if err := s.Pushed(r.Context(), a, ev.refs...); err != nil {
			s.seen.drop(name + " " + ev.delivery) // the forge may try again
			return result{Status: Failed}, http.StatusServiceUnavailable, fleet.Unavailable("the agents can't be told: %w", err)
		}
	}
	s.Log.InfoContext(r.Context(), "a forge told of a push", "provider", name, "repository", out.Repository, "ref", out.Ref, "delivery", ev.delivery)
	return out, http.StatusOK, nil
}

func refusal(name string) error {
	return fleet.WithHint(fleet.Forbidden("the call is signed with no secret that the hub has for this repository of %s", name),
		"compare the webhook's secret with the line in the file of --hook-secrets-file")
}

// readBody takes in what may be a body, in the time it may take.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, int, error) {
	// A recorder in a test has no connection, and so no deadlines. Nothing else fails here.
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(bodyTime))
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, http.StatusRequestEntityTooLarge, fleet.Invalid("the body is larger than %d bytes", maxBody)
	}
	if err != nil {
		return nil, http.StatusBadRequest, fleet.Invalid("the body can't be read: %w", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	_ = c.SetWriteDeadline(time.Now().Add(bodyTime))
	return b, 0, nil
}

func (s *server) note(r *http.Request, provider string, o Outcome, err error) {
	if o == Failed {
		s.Log.ErrorContext(r.Context(), "a forge's call could not be passed on", "provider", provider, "error", err)
		return
	}
	s.refused.Do(func() {
		s.Log.WarnContext(r.Context(), "refused a forge's call", "provider", provider, "remote", r.RemoteAddr, "error", err)
	})
}

func (s *server) fail(w http.ResponseWriter, status int, err error) {
	s.answer(w, status, client.ProblemType, client.Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: err.Error(), Hint: fleet.Hint(err),
	})
}

func (s *server) answer(w http.ResponseWriter, status int, kind string, v any) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.Log.Debug("answer not delivered", "error", err)
	}
}
