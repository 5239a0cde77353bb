package uplink

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// beat says regularly, and at every connect, that the agent lives.
func (s *session) beat(ctx context.Context) error {
	pause := firstPause
	for {
		wait := s.interval() // as the hub is told
		var err error
		if s.nc.IsConnected() { // else a kick will come
			err = s.heartbeat(ctx)
		}
		switch {
		case errors.Is(err, ErrSuperseded) || ctx.Err() != nil:
			return err
		case err != nil && s.nc.IsConnected():
			s.cfg.Log.WarnContext(ctx, "a heartbeat failed", errorAttrs(err)...)
			s.probe(ctx)
			wait, pause = min(pause, wait), min(2*pause, mostPause)
		case err == nil && s.nc.IsConnected():
			pause = firstPause
			if err := s.upkeep(ctx); err != nil {
				return err
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-s.kick:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// upkeep does what an answered heartbeat gives reason to. The error is
// ErrSuperseded.
func (s *session) upkeep(ctx context.Context) error {
	for _, do := range []struct {
		failed string
		what   func(context.Context) error
	}{
		{"can't renew the agent's credential", s.renew},
		{"what the hub says of where it is to be found is not taken", s.learn},
	} {
		if err := do.what(ctx); errors.Is(err, ErrSuperseded) {
			return err
		} else if err != nil {
			s.cfg.Log.WarnContext(ctx, do.failed, errorAttrs(err)...)
		}
	}
	return nil
}

// leastPatience is how long a heartbeat waits for its answer at least.
const leastPatience = 2 * time.Second

// patience is how long a heartbeat waits for its answer: until the next is due.
func (s *session) patience() time.Duration {
	return min(max(s.interval(), leastPatience), requestWithin)
}

const deadAfter = 30 * time.Second

// probe connects anew where the server at the other end does not answer either:
// a line that something in between has dropped looks as if it were up. A hub
// that is only behind is left in peace.
func (s *session) probe(ctx context.Context) {
	if err := s.nc.FlushTimeout(s.cfg.DeadAfter); !errors.Is(err, nats.ErrTimeout) || ctx.Err() != nil {
		return
	}
	s.cfg.Log.WarnContext(ctx, "the link to the hub is dead: connecting anew")
	if err := s.nc.ForceReconnect(); err != nil {
		s.cfg.Log.WarnContext(ctx, "can't connect anew", "error", err)
	}
}

// interval is the time between heartbeats: the hub of a large fleet asks for
// more than is set here.
func (s *session) interval() time.Duration { return max(s.cfg.HeartbeatEvery, s.asked) }

const (
	// mostRaises bounds what one heartbeat makes the agent write down: a hub
	// that names a higher epoch each time must not keep it busy.
	mostRaises = 3
	// farEpoch is more restarts than an agent lives through. A hub that names an
	// epoch so far ahead would only have this one's run out of numbers.
	farEpoch = 1 << 32
)

// heartbeat says that the agent lives until the hub has heard of its epoch.
func (s *session) heartbeat(ctx context.Context) error {
	for range mostRaises {
		line, k := s.line.Load(), s.state()
		report := s.spoke.Report()
		report.Interval = s.interval()
		s.mu.Lock()
		report.AgentKey = s.pub
		s.mu.Unlock()
		report.Message = shorten(report.Message, 4*mostMessage)
		report.Sources = fitSources(report.Sources)
		patient, cancel := context.WithTimeout(ctx, s.patience())
		ack, err := call[wire.HeartbeatAck](patient, s, wire.HeartbeatSubject(s.cfg.Cluster), wire.Heartbeat{Epoch: k.Epoch, Cluster: report})
		cancel()
		if err != nil {
			return err
		}
		if ack.Epoch > k.Epoch && ack.Epoch-k.Epoch > farEpoch {
			return fleet.Invalid("the hub says that epoch %d was heard, and this is %d", ack.Epoch, k.Epoch)
		}
		if ack.Epoch > k.Epoch || ack.Epoch == k.Epoch && !s.said {
			// Somebody spoke in this epoch, or a later one, before: the state kept
			// here is older than what the hub heard.
			s.line.Add(1)
			if err := s.raise(ctx, ack.Epoch); err != nil {
				return err
			}
			continue
		}
		s.said = true
		s.heard(ctx, ack, line)
		return nil
	}
	return fleet.Unavailable("the hub names a higher epoch at every heartbeat")
}

// heard acts on a heartbeat's answer.
func (s *session) heard(ctx context.Context, ack wire.HeartbeatAck, line int64) {
	k := s.state()
	s.issuer, s.asked, s.link = ack.Issuer, ack.Every, ack.Link
	if ack.Instance != k.Instance {
		s.link = ""
		s.cfg.Log.WarnContext(ctx, "another hub instance answers: its intent is not taken", "accepted", k.Instance, "answers", ack.Instance,
			"hint", "to accept it, join the cluster anew: capstan join "+s.cfg.Cluster)
	}
	first := s.greeted.Load() != line
	if first {
		s.out.refill(s.spoke.Statuses)
		s.greeted.Store(line)
		s.out.wake()
	}
	if first || ack.Instance == k.Instance && ack.Revision > k.Intent.Revision {
		signal(s.fetch)
	}
}

// renew asks for a fresh credential once a third of the present one's life has
// passed, and when the hub signs with another key by now.
func (s *session) renew(ctx context.Context) error {
	claims, err := jwt.DecodeUserClaims(s.state().JWT)
	if err != nil {
		return errors.New("the agent's credential can't be read")
	}
	old := claims.Expires != 0 && time.Now().Unix() >= claims.IssuedAt+(claims.Expires-claims.IssuedAt)/3
	if !old && (s.issuer == "" || s.issuer == claims.Issuer) {
		return nil
	}
	s.mu.Lock()
	key := s.pub
	s.mu.Unlock()
	got, err := call[wire.Renewed](ctx, s, wire.RenewSubject(s.cfg.Cluster), wire.Renew{Key: key})
	if err != nil {
		return err
	}
	if next, err := jwt.DecodeUserClaims(got.JWT); err != nil || next.Subject != key {
		return fleet.Invalid("the hub's new credential is not for this agent's key")
	}
	return s.change(ctx, func(k *Kept) { k.JWT = got.JWT })
}

// post sends what waits in the outbox, one report in flight.
func (s *session) post(ctx context.Context) error {
	var complete int64 // the line on which all has been sent
	pause := firstPause
	for {
		line := s.greeted.Load()
		app, l := s.out.next()
		if s.line.Load() != line || l == nil && complete == line {
			select {
			case <-s.out.ready:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		s.seq++
		epoch := s.state().Epoch
		err := s.send(ctx, epoch, s.seq, app, l)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && l == nil {
			complete = line
			s.whole.Store(s.line.Load() == line)
		}
		if errors.Is(err, fleet.ErrInvalid) && l != nil {
			// The hub will not take it, now or later: the rest is not to wait for it.
			s.cfg.Log.WarnContext(ctx, "the hub refused a report", append(errorAttrs(err), "app", app.String())...)
			err = nil
		}
		if err == nil {
			if l != nil {
				s.out.done(app, l)
			}
			pause = firstPause
			continue
		}
		s.cfg.Log.DebugContext(ctx, "a report failed", append(errorAttrs(err), "app", app.String())...)
		if errors.Is(err, fleet.ErrConflict) {
			signal(s.kick) // which sorts the epochs out
		} else if l != nil {
			s.out.later() // it may be this one alone that gets no answer
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// send sends one letter, or, with none, that all has been sent.
func (s *session) send(ctx context.Context, epoch, seq uint64, app fleet.AppName, l *letter) error {
	if l == nil {
		_, err := call[wire.Ack](ctx, s, wire.ResentSubject(s.cfg.Cluster), wire.Resent{Epoch: epoch})
		return err
	}
	r := wire.Report{Epoch: epoch, Seq: seq}
	if l.status == nil {
		r.Gone = &app
	} else {
		fitted := fit(*l.status)
		fitted.Cluster = s.cfg.Cluster
		r.App = &fitted
	}
	_, err := call[wire.Ack](ctx, s, wire.StatusSubject(s.cfg.Cluster, app), r)
	return err
}
