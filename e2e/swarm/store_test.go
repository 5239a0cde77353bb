package swarm_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/swarm"
	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/hub/store/storetest"
)

// replicas is how many of the servers keep each thing.
const replicas = 3

// The hub's store keeps its promises on three servers as it does on the embedded
// one.
func TestAStoreOnThreeServersKeepsThePromises(t *testing.T) {
	programs, err := build.MakeAll(context.Background(), nil, build.Hub, build.NATSServer)
	if err != nil {
		t.Fatal(err)
	}
	s, err := swarm.NewServers(t.Context(), programs[build.NATSServer], programs[build.Hub], t.TempDir(), replicas)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for i := range s.Len() {
		if err := s.Start(i); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	js := asHub(t, s)
	storetest.Run(t, func(t *testing.T) store.Store {
		t.Helper()
		empty(t, js)
		kv, err := store.OpenKV(t.Context(), js, replicas)
		if err != nil {
			t.Fatal(err)
		}
		return kv
	})
	kept := 0
	for info := range js.ListStreams(t.Context()).Info() {
		kept++
		if info.Config.Replicas != replicas {
			t.Errorf("%s is on %d servers", info.Config.Name, info.Config.Replicas)
		}
	}
	if kept == 0 {
		t.Error("the servers keep nothing")
	}
}

// asHub connects to the account that only hubs reach.
func asHub(t *testing.T, s *swarm.Servers) jetstream.JetStream {
	t.Helper()
	seed, err := os.ReadFile(filepath.Join(s.Keys, "hub.nk"))
	if err != nil {
		t.Fatal(err)
	}
	account, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		t.Fatal(err)
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	key, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.NewUserClaims(key).Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(s.URLs(), nats.UserJWT(func() (string, error) { return token, nil }, user.Sign))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// empty takes everything off the servers. One that has just become a leader may
// not answer at once.
func empty(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	wait(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		names := js.StreamNames(ctx)
		for name := range names.Name() {
			if err := js.DeleteStream(ctx, name); err != nil {
				return err
			}
		}
		return names.Err()
	})
}
