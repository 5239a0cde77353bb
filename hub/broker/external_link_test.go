package broker_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/capstan-gitops/capstan/hub/broker"
)

func TestServersOfOnesOwnTellWhoIsThere(t *testing.T) {
	keys := t.TempDir()
	b := onServer(t, natsServer(t, keys, t.TempDir()), keys, &together{all: map[string]int64{}}, newMemo())
	a, _ := b.agent(t, "c1", nats.NoReconnect())
	more := b.crowd(t, a)
	for _, nc := range append(more, a) {
		nc.Close()
	}
	eventually(t, "that the last has gone is told", func() bool { return b.desk.losses("c1") == 1 })
}

func TestKeysAreRotatedOnServersOfOnesOwn(t *testing.T) {
	keys := t.TempDir()
	s := natsServer(t, keys, t.TempDir())
	revoked := &together{all: map[string]int64{}}
	one := onServer(t, s, keys, revoked, newMemo())
	two := onServer(t, s, keys, revoked, one.desk)
	a, _ := one.agent(t, "c1", nats.NoReconnect())
	old := issuer(t, a, "c1")
	if err := broker.RotateKeys(keys, time.Hour, time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new key signs", func() bool { return issuer(t, a, "c1") != old })
	if again, err := nats.Connect(one.url(t), as(a), nats.NoReconnect(), quiet); err != nil {
		t.Errorf("a credential from before: %v", err)
	} else {
		again.Close()
	}
	two.agent(t, "c2", nats.NoReconnect()) // joins by the new key, whichever hub answers
	if err := broker.RotateKeys(keys, 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what no key in force signed is cut", func() bool {
		again, err := nats.Connect(one.url(t), as(a), nats.NoReconnect(), quiet)
		if err == nil {
			again.Close()
		}
		return err != nil || a.IsClosed()
	})
}
