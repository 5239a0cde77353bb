package broker_test

import (
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/capstan-gitops/capstan/pkg/wire"
)

// as connects with the credential of another connection.
func as(nc *nats.Conn) nats.Option {
	return nats.UserJWT(nc.Opts.UserJWT, nc.Opts.SignatureCB)
}

func (m *memo) losses(cluster string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, c := range m.lost {
		if c == cluster {
			n++
		}
	}
	return n
}

func TestALostConnectionIsToldAtOnce(t *testing.T) {
	b := serve(t)
	first, _ := b.agent(t, "c1")
	other, _ := b.agent(t, "c2")
	second, err := nats.Connect(b.url(t), as(first), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := second.Flush(); err != nil {
		t.Fatal(err)
	}
	first.Close()
	other.Close()
	eventually(t, "c2 is told", func() bool { return b.desk.losses("c2") == 1 })
	if b.desk.losses("c1") != 0 {
		t.Error("c1 has a connection left")
	}
	second.Close()
	eventually(t, "c1 is told", func() bool { return b.desk.losses("c1") == 1 })
	if b.desk.mu.Lock(); slices.ContainsFunc(b.desk.lost, func(c string) bool { return c != "c1" && c != "c2" }) {
		t.Errorf("told of %v", b.desk.lost) // of joins, or of the hub itself
	}
	b.desk.mu.Unlock()
}

func TestAHubThatEndsTellsOfNoLosses(t *testing.T) {
	b := serve(t)
	b.agent(t, "c1", nats.NoReconnect())
	b.Close()
	if b.desk.losses("c1") != 0 {
		t.Error("the hub let go of the agent, and not the agent of the hub")
	}
}

// crowd connects again and again as an agent that is connected, until all but a
// few of its connections were cut. It returns them all.
func (b *bench) crowd(t *testing.T, a *nats.Conn) []*nats.Conn {
	t.Helper()
	var more []*nats.Conn
	for range 20 {
		nc, err := nats.Connect(b.url(t), as(a), nats.NoReconnect(), quiet)
		if err != nil {
			continue // it was cut already
		}
		t.Cleanup(nc.Close)
		more = append(more, nc)
	}
	eventually(t, "all but a few are cut", func() bool {
		open := 0
		for _, nc := range more {
			if !nc.IsClosed() {
				open++
			}
		}
		return open == 7
	})
	return more
}

func TestACredentialHoldsFewConnections(t *testing.T) {
	b := serve(t)
	a, _ := b.agent(t, "c1")
	other, _ := b.agent(t, "c2")
	b.crowd(t, a)
	for cluster, nc := range map[string]*nats.Conn{"c1": a, "c2": other} {
		if _, err := ask[wire.Ack](t, nc, wire.StatusSubject(cluster, web), status("well")); err != nil {
			t.Errorf("%s: %v", cluster, err)
		}
	}
}
