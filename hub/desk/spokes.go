package desk

import (
	"context"
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
const seenEvery = time.Minute

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
		if _, _, err := put(ctx, p.cfg.Joins, id, j, version); errors.Is(err, fleet.ErrConflict) {
			return refuse("it has been used")
		} else if err != nil {
			return "", err
		}
	}
	if s.live() {
		return j.Cluster, nil
	}
	if err := p.save(ctx, s, record{Key: key, Enrolled: now.UTC(), Epoch: s.rec.Epoch}); err != nil {
		return "", err
	}
	p.fold(func(v View) {
		v.Enrolled(s.name)
		v.Assigned(s.name, s.intent.Labels)
	})
	return j.Cluster, nil
}

// Lost takes note that an agent's last connection has ended. Heartbeats are the
// truth: the next one says that it is back.
func (p *Spokes) Lost(cluster string, at time.Time) {
	s, err := p.known(cluster)
	if err != nil {
		return // removed, and cut off for that
	}
	defer s.mu.Unlock()
	p.look(func(v View, _ time.Time) { v.Lost(cluster, at) })
}

// MayRenew tells whether a key is the enrolled one of a cluster. ErrForbidden:
// it is not.
func (p *Spokes) MayRenew(_ context.Context, cluster, key string) error {
	s, err := p.known(cluster)
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
func (p *Spokes) Heartbeat(ctx context.Context, cluster string, hb wire.Heartbeat) (wire.HeartbeatAck, error) {
	s, err := p.known(cluster)
	if err != nil {
		return wire.HeartbeatAck{}, err
	}
	defer s.mu.Unlock()
	ack := wire.HeartbeatAck{Instance: p.cfg.Instance, Revision: s.intent.Revision, Epoch: s.rec.Epoch}
	if hb.Epoch < s.rec.Epoch {
		return ack, nil // of a process that has been followed by another
	}
	rec := s.rec
	rec.Epoch, rec.Report, rec.Seen = hb.Epoch, hb.Cluster, p.cfg.Now().UTC()
	rec.Report.AgentKey = s.rec.Key // whatever it says
	news := rec.Epoch != s.rec.Epoch || !reflect.DeepEqual(rec.Report, s.rec.Report)
	if news || rec.Seen.Sub(s.saved) >= seenEvery {
		if err := p.save(ctx, s, rec); err != nil {
			return wire.HeartbeatAck{}, err
		}
	}
	s.rec = rec
	heard := func(v View) { v.Heard(cluster, rec.Report, rec.Seen) }
	if news {
		p.fold(heard)
		return ack, nil
	}
	p.look(func(v View, _ time.Time) {
		heard(v)
		p.beaten = true
	})
	return ack, nil
}

// Report takes note of how one app is. ErrConflict: a later report is known, or
// the agent has not said its epoch with a heartbeat. ErrInvalid: the cluster
// keeps too much here.
func (p *Spokes) Report(ctx context.Context, cluster string, r wire.Report) error {
	s, err := p.known(cluster)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	app := r.Name()
	old := s.marks[app]
	if r.Epoch != s.rec.Epoch || !wire.Newer(r.Epoch, r.Seq, old.epoch, old.seq) {
		return fleet.Conflict("report %d.%d of %s: %d.%d is known, in epoch %d", r.Epoch, r.Seq, app, old.epoch, old.seq, s.rec.Epoch)
	}
	if r.Gone != nil {
		if err := p.bury(ctx, s, app, r.Epoch, r.Seq); err != nil {
			return err
		}
		p.noteGone(ctx, s, app, old)
		p.fold(func(v View) { v.Gone(cluster, app) })
		return nil
	}
	app0 := *r.App
	app0.Cluster, app0.Stale = cluster, false
	return p.keep(ctx, s, s.key(app), status{Epoch: r.Epoch, Seq: r.Seq, App: app0})
}

// keep writes a status within the cluster's quota.
func (p *Spokes) keep(ctx context.Context, s *spoke, key string, st status) error {
	app := st.App.Name()
	old := s.marks[app]
	if (old.version == 0 || old.gone) && s.apps() >= maxApps {
		return fleet.Invalid("cluster %s reports more than %d apps", s.name, maxApps)
	}
	if s.bytes-old.size+wire.MaxStatus > maxBytes {
		return fleet.Invalid("cluster %s keeps more than %d bytes of reports here", s.name, maxBytes)
	}
	version, size, err := put(ctx, p.cfg.Statuses, key, st, old.version)
	if err != nil {
		return err
	}
	s.bytes += size - old.size
	s.marks[app] = mark{epoch: st.Epoch, seq: st.Seq, version: version, size: size, known: knownOf(st.App)}
	p.noteReport(ctx, s, old, st.App)
	p.fold(func(v View) { v.Reported(s.name, st.App) })
	return nil
}

// Resent forgets the apps that were not reported in the agent's epoch.
func (p *Spokes) Resent(ctx context.Context, cluster string, r wire.Resent) error {
	s, err := p.known(cluster)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	if r.Epoch != s.rec.Epoch {
		return fleet.Conflict("epoch %d is not the current one, which is %d", r.Epoch, s.rec.Epoch)
	}
	for app, m := range s.marks {
		if m.epoch >= r.Epoch {
			continue
		}
		if m.version != 0 {
			if err := p.cfg.Statuses.Delete(ctx, s.key(app)); err != nil {
				return err
			}
		}
		p.noteGone(ctx, s, app, m)
		s.bytes -= m.size
		delete(s.marks, app)
		p.fold(func(v View) { v.Gone(cluster, app) })
	}
	s.resent = r.Epoch
	return nil
}

// Intent returns what is wanted of a cluster.
func (p *Spokes) Intent(_ context.Context, cluster string) (fleet.Intent, error) {
	s, err := p.known(cluster)
	if err != nil {
		return fleet.Intent{}, err
	}
	defer s.mu.Unlock()
	in := cloneIntent(s.intent)
	in.Instance = p.cfg.Instance
	return in, nil
}

// known is find, with the error an agent gets.
func (p *Spokes) known(cluster string) (*spoke, error) {
	s, err := p.find(cluster)
	if err != nil {
		return nil, fleet.Forbidden("cluster %s is not enrolled here", cluster)
	}
	return s, nil
}

// apps counts the apps that are kept.
func (s *spoke) apps() int {
	n := 0
	for _, m := range s.marks {
		if !m.gone {
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
