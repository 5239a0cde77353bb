package desk

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// The most one cluster may keep here.
const (
	maxApps  = 2000
	maxBytes = 8 << 20
)

// seenEvery is how often a heartbeat that says nothing new is written down.
const seenEvery = 5 * time.Minute

// Enrol takes note of the key that a join token's holder has shown to own, and
// returns the cluster it is for. The same key may try again, because an answer
// can get lost. ErrForbidden: the token is not known, has expired, or was used
// by another key. ErrConflict: the cluster has an agent.
func (p *Spokes) Enrol(ctx context.Context, id, key string) (string, error) {
	refuse := func(why string) (string, error) {
		return "", fleet.WithHint(fleet.Forbidden("join token: %s", why), "make a new one with: capstan join CLUSTER")
	}
	var j join
	_, err := get(ctx, p.cfg.Joins, id, &j)
	if errors.Is(err, fleet.ErrNotFound) {
		return refuse("it is not known here, or has expired")
	}
	if err != nil {
		return "", err
	}
	s := p.findOrNew(j.Cluster)
	defer s.mu.Unlock()
	// Once more, now that the cluster can't be removed meanwhile: that takes its
	// tokens along, and a key that was revoked must not enrol again.
	version, err := get(ctx, p.cfg.Joins, id, &j)
	if errors.Is(err, fleet.ErrNotFound) {
		return refuse("it is not known here, or has expired")
	}
	if err != nil {
		return "", err
	}
	now := p.cfg.Now()
	switch {
	case j.Key != "" && j.Key != key:
		return refuse("it has been used")
	case now.After(j.Expires):
		return refuse("it has expired")
	}
	if s.live() && s.rec.Key != key {
		return "", taken(j.Cluster)
	}
	if j.Key == "" {
		if err := p.audit(ctx, entry{Action: "enrol", Cluster: j.Cluster, Detail: map[string]string{"key": key}}); err != nil {
			return "", err
		}
		j.Key = key
		if _, err := put(ctx, p.cfg.Joins, id, j, version); errors.Is(err, fleet.ErrConflict) {
			return refuse("it has been used")
		} else if err != nil {
			return "", err
		}
	}
	if s.live() {
		return j.Cluster, nil
	}
	again := func(ctx context.Context) error { return p.reread(ctx, s) }
	err = afresh(ctx, again, func() error {
		switch {
		case s.live() && s.rec.Key == key:
			return nil
		case s.live():
			return taken(j.Cluster)
		}
		return p.save(ctx, s, record{Key: key, Enrolled: now.UTC(), Epoch: s.rec.Epoch})
	})
	return j.Cluster, err
}

// Lost takes note that an agent's last connection has ended. Heartbeats are the
// truth: the next one says that it is back.
func (p *Spokes) Lost(cluster string, at time.Time) {
	p.ifLive(cluster, func(*spoke) { // else it was removed, and cut off for that
		p.look(func(v View, _ time.Time) { v.Lost(cluster, at) })
	})
}

// ifLive does something with a cluster, locked, that is known here and was not
// removed.
func (p *Spokes) ifLive(cluster string, do func(s *spoke)) {
	p.mu.Lock()
	s := p.spokes[cluster]
	p.mu.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live() {
		do(s)
	}
}

// MayRenew tells whether a key is the enrolled one of a cluster. ErrForbidden:
// it is not.
func (p *Spokes) MayRenew(ctx context.Context, cluster, key string) error {
	s, err := p.known(ctx, cluster)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.rec.Key != key {
		return fleet.Forbidden("cluster %s is enrolled with another key", cluster)
	}
	return nil
}

// Heartbeat takes note of a cluster's own report and answers with what its
// agent may have missed. ErrForbidden: the cluster is not enrolled.
func (p *Spokes) Heartbeat(ctx context.Context, cluster string, hb wire.Heartbeat) (ack wire.HeartbeatAck, err error) {
	s, err := p.known(ctx, cluster)
	if err != nil {
		return ack, err
	}
	defer s.mu.Unlock()
	again := func(ctx context.Context) error {
		if err := p.reread(ctx, s); err != nil {
			return err
		}
		if !s.live() {
			return notEnrolled(cluster)
		}
		return nil
	}
	if p.cfg.Shared && hb.Epoch != s.rec.Epoch {
		if err := again(ctx); err != nil {
			return ack, err
		}
	}
	err = afresh(ctx, again, func() error {
		ack = wire.HeartbeatAck{Instance: p.cfg.Instance, Revision: s.intent.Revision, Epoch: s.rec.Epoch, Every: p.pace()}
		if hb.Epoch < s.rec.Epoch {
			return nil // of a process that has been followed by another
		}
		return p.heard(ctx, s, hb)
	})
	return ack, err
}

// The hub has agents beat less often where there are many, in whole steps, so
// that a fleet that grows does not tell each of them something new every time.
const (
	beatsPerSecond = 170
	paceStep       = 10 * time.Second
	mostPace       = time.Minute
)

// pace is how much time the hub wants between an agent's heartbeats; 0: it has
// no wish.
func (l *ledger) pace() time.Duration {
	l.mu.Lock()
	n := len(l.spokes)
	l.mu.Unlock()
	every := time.Duration(n) * time.Second / beatsPerSecond
	if every <= paceStep {
		return 0
	}
	return min((every+paceStep-1)/paceStep*paceStep, mostPace)
}

// heard takes note of a heartbeat, and writes down what is new in it.
func (p *Spokes) heard(ctx context.Context, s *spoke, hb wire.Heartbeat) error {
	rec := s.rec
	rec.Epoch, rec.Report, rec.Seen = hb.Epoch, hb.Cluster, p.cfg.Now().UTC()
	rec.Report.AgentKey = s.rec.Key // whatever it says
	news := rec.Epoch != s.rec.Epoch || !reflect.DeepEqual(rec.Report, s.rec.Report)
	if news {
		rec.Declared = declaredSince(s.rec, rec.Report.Declared, rec.Seen)
	}
	if news || rec.Seen.Sub(s.saved) >= seenEvery {
		return p.save(ctx, s, rec)
	}
	p.see(s, rec.Seen)
	return nil
}

// see notes that a cluster was heard of, in memory alone. s is locked.
func (p *Spokes) see(s *spoke, at time.Time) {
	s.rec.Seen = at
	p.look(func(v View, _ time.Time) {
		v.Heard(s.name, s.rec.Report, at)
		p.beaten = true
	})
}

// Noticed takes note of a heartbeat that another hub may be answering. What is
// new in it that one writes down.
func (p *Spokes) Noticed(cluster string, hb wire.Heartbeat) {
	p.ifLive(cluster, func(s *spoke) {
		if hb.Epoch == s.rec.Epoch {
			p.see(s, p.cfg.Now().UTC())
		}
	})
}

// Report takes note of how one app is. ErrConflict: a later report is known, or
// the agent has not said its epoch with a heartbeat. ErrInvalid: the cluster
// keeps too much here.
func (p *Spokes) Report(ctx context.Context, cluster string, r wire.Report) error {
	s, err := p.known(ctx, cluster)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	if p.cfg.Shared && r.Epoch != s.rec.Epoch {
		if err := p.reread(ctx, s); err != nil {
			return err
		}
	}
	app := r.Name()
	again := func(ctx context.Context) error { return p.rereadStatus(ctx, s, app) }
	return afresh(ctx, again, func() error {
		old := s.marks[app]
		if r.Epoch != s.rec.Epoch || !wire.Newer(r.Epoch, r.Seq, old.epoch, old.seq) {
			return fleet.Conflict("report %d.%d of %s: %d.%d is known, in epoch %d", r.Epoch, r.Seq, app, old.epoch, old.seq, s.rec.Epoch)
		}
		if r.Gone != nil {
			if err := p.bury(ctx, s, app, r.Epoch, r.Seq); err != nil {
				return err
			}
			p.noteGone(ctx, s, app, old)
			return nil
		}
		st := status{Epoch: r.Epoch, Seq: r.Seq, App: *r.App}
		st.App.Cluster, st.App.Stale = cluster, false
		return p.keep(ctx, s, st)
	})
}

// keep writes a status within the cluster's quota.
func (p *Spokes) keep(ctx context.Context, s *spoke, st status) error {
	app := st.App.Name()
	old := s.marks[app]
	if !old.there() && s.apps() >= maxApps {
		return fleet.Invalid("cluster %s reports more than %d apps", s.name, maxApps)
	}
	if s.bytes-old.size+wire.MaxStatus > maxBytes {
		return fleet.Invalid("cluster %s keeps more than %d bytes of reports here", s.name, maxBytes)
	}
	value, err := json.Marshal(st)
	if err != nil {
		return err
	}
	if !p.cfg.Shared && st.Epoch == old.epoch && old.there() && contentOf(value) == old.sum {
		// Told again, after the link was gone, and as it was. No other hub will take
		// a late one for newer than this.
		old.seq = st.Seq
		s.marks[app] = old
		return nil
	}
	version, err := p.cfg.Statuses.Put(ctx, s.key(app), value, old.version)
	if err != nil {
		return moved(err)
	}
	p.adoptStatus(s, app, value, st, version)
	p.noteReport(ctx, s, old, st.App)
	return nil
}

// Resent forgets the apps that were not reported in the agent's epoch.
func (p *Spokes) Resent(ctx context.Context, cluster string, r wire.Resent) error {
	s, err := p.known(ctx, cluster)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	if p.cfg.Shared && r.Epoch != s.rec.Epoch {
		if err := p.reread(ctx, s); err != nil {
			return err
		}
	}
	if r.Epoch != s.rec.Epoch {
		return fleet.Conflict("epoch %d is not the current one, which is %d", r.Epoch, s.rec.Epoch)
	}
	for app := range s.marks {
		again := func(ctx context.Context) error { return p.rereadStatus(ctx, s, app) }
		err := afresh(ctx, again, func() error {
			m, ok := s.marks[app]
			if !ok || m.epoch >= r.Epoch {
				return nil // another hub has heard of it
			}
			if err := p.drop(ctx, s, app); err != nil {
				return err
			}
			p.noteGone(ctx, s, app, m)
			return nil
		})
		if err != nil {
			return err
		}
	}
	s.resent = r.Epoch
	return nil
}

// drop deletes what is kept of an app. s is locked.
func (l *ledger) drop(ctx context.Context, s *spoke, app fleet.AppName) error {
	m := s.marks[app]
	if m.version != 0 {
		if err := l.cfg.Statuses.DeleteIf(ctx, s.key(app), m.version); err != nil {
			return moved(err)
		}
	}
	s.bytes -= m.size
	delete(s.marks, app)
	l.fold(func(v View) { v.Gone(s.name, app) })
	return nil
}

// Intent returns what is wanted of a cluster.
func (p *Spokes) Intent(ctx context.Context, cluster string) (fleet.Intent, error) {
	s, err := p.known(ctx, cluster)
	if err != nil {
		return fleet.Intent{}, err
	}
	defer s.mu.Unlock()
	in := cloneIntent(s.intent)
	in.Instance = p.cfg.Instance
	return in, nil
}

// known is find, with the error an agent gets.
func (p *Spokes) known(ctx context.Context, cluster string) (*spoke, error) {
	s, err := p.find(ctx, cluster)
	if err != nil && !errors.Is(err, fleet.ErrUnavailable) {
		err = notEnrolled(cluster)
	}
	return s, err
}

func notEnrolled(cluster string) error {
	return fleet.Forbidden("cluster %s is not enrolled here", cluster)
}

// apps counts the apps that are kept.
func (s *spoke) apps() int {
	n := 0
	for _, m := range s.marks {
		if m.gone == nil {
			n++
		}
	}
	return n
}

func get(ctx context.Context, b Bucket, key string, into any) (uint64, error) {
	data, version, err := b.Get(ctx, key)
	if err != nil {
		return 0, err
	}
	return version, unmarshal(key, data, into)
}

func taken(cluster string) error {
	return fleet.WithHint(fleet.Conflict("cluster %s is enrolled already", cluster),
		"take the old one out first with: capstan cluster remove "+cluster)
}
