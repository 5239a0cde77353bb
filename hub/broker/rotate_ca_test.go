package broker_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/capstan-gitops/capstan/hub/broker"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// trusts tells whether an agent that was told a CA trusts the hub at a time.
func trusts(t *testing.T, b *broker.Broker, ca string, now func() time.Time) bool {
	t.Helper()
	urls, _ := b.Address()
	nc, err := nats.Connect(urls[0], append(joiner(t, b, "j1"), trusting(t, ca, now))...)
	if err == nil {
		nc.Close()
	} else if !errors.Is(err, nats.ErrTLS) {
		t.Fatal(err)
	}
	return err == nil
}

func TestTheHubsCAIsRotatedUnderARunningHub(t *testing.T) {
	var passed atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }
	cfg := broker.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", TLS: broker.TLSOn, Now: now}
	tls := filepath.Join(cfg.Dir, "tls")
	b := open(t, cfg)
	_, old := b.Address()
	rotate := func(grace time.Duration) {
		t.Helper()
		if err := broker.RotateCA(tls, grace, now()); err != nil {
			t.Fatal(err)
		}
		passed.Add(int64(2 * time.Second)) // it is looked for once a second
	}
	rotate(time.Hour)
	rotate(time.Hour) // takes the place of the one that has not signed yet
	_, both := b.Address()
	next, ok := strings.CutPrefix(both, old)
	if !ok || strings.Count(next, "BEGIN CERTIFICATE") != 1 {
		t.Fatalf("agents are told %s", both)
	}
	if !trusts(t, b, old, now) || !trusts(t, b, both, now) || trusts(t, b, next, now) {
		t.Error("in the grace it is not the old CA that signs")
	}
	if info, err := os.Stat(filepath.Join(tls, "next.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the new CA's key: %v, %v", info, err)
	}

	passed.Add(int64(time.Hour))
	if trusts(t, b, old, now) || !trusts(t, b, both, now) || !trusts(t, b, next, now) {
		t.Error("after the grace it is not the new CA that signs")
	}
	if _, told := b.Address(); told != next {
		t.Errorf("agents are told %s", told)
	}
	if _, err := os.Stat(filepath.Join(tls, "next.pem")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of the CA that was to come: %v", err)
	}
	b.Close()
	b = open(t, cfg)
	if _, told := b.Address(); told != next || !trusts(t, b, next, now) {
		t.Error("after a restart it is another CA")
	}

	// A hub that was not there when the time came goes on with the new one.
	b.Close()
	rotate(time.Hour)
	passed.Add(int64(2 * time.Hour))
	b = open(t, cfg)
	if _, told := b.Address(); told == next || !trusts(t, b, told, now) {
		t.Error("the CA is the one from before")
	}
}

func TestCAsThatMakeNoSenseAreNotTaken(t *testing.T) {
	empty := t.TempDir()
	if err := broker.RotateCA(empty, time.Hour, time.Now()); !errors.Is(err, fleet.ErrInvalid) || fleet.Hint(err) == "" {
		t.Errorf("a directory without a CA: %v", err)
	}
	cfg := broker.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", TLS: broker.TLSOn}
	b := open(t, cfg)
	_, ca := b.Address()
	tls := filepath.Join(cfg.Dir, "tls")
	for _, grace := range []time.Duration{-time.Second, 91 * 24 * time.Hour} {
		if err := broker.RotateCA(tls, grace, time.Now()); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("a grace of %s: %v", grace, err)
		}
	}
	b.Close()
	if err := os.WriteFile(filepath.Join(tls, "next.pem"), []byte(ca), 0o600); err != nil { // no key
		t.Fatal(err)
	}
	b, err := broker.Open(cfg)
	if err == nil {
		b.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "next.pem") || fleet.Hint(err) == "" {
		t.Errorf("a damaged one: %v", err)
	}
}

func TestAgentsAreToldWhereTheHubIs(t *testing.T) {
	b := serve(t)
	a, _ := b.agent(t, "c1")
	got, err := ask[wire.Link](t, a, wire.LinkSubject("c1"), wire.LinkGet{})
	if err != nil {
		t.Fatal(err)
	}
	urls, ca := b.Address()
	if want := (wire.Link{URLs: urls, CA: ca}); got.Stamp() != want.Stamp() {
		t.Errorf("got %+v, want %+v", got, want)
	}
	ack, err := ask[wire.HeartbeatAck](t, a, wire.HeartbeatSubject("c1"), wire.Heartbeat{Epoch: 1, Cluster: fleet.ClusterReport{Interval: time.Minute}})
	if err != nil || ack.Link != got.Stamp() {
		t.Errorf("a heartbeat is answered with %+v, %v", ack, err)
	}
}
