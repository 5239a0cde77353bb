package store_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/hub/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryKeepsThePromises(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return store.NewMemory() })
}

func TestKVKeepsThePromises(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		t.Helper()
		return openKV(t, t.TempDir())
	})
}

func TestKVIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	t.Run("before", func(t *testing.T) {
		s := openKV(t, dir)
		if _, err := s.Bucket(store.Intent).Put(t.Context(), "dev", []byte("kept"), 0); err != nil {
			t.Fatal(err)
		}
		if err := s.Log().Append(t.Context(), "dev", []byte("noted")); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("after", func(t *testing.T) {
		s := openKV(t, dir)
		if v, _, err := s.Bucket(store.Intent).Get(t.Context(), "dev"); err != nil || string(v) != "kept" {
			t.Errorf("got %q, %v", v, err)
		}
		if l, err := s.Log().Last(t.Context(), 1); err != nil || len(l) != 1 || string(l[0]) != "noted" {
			t.Errorf("got %q, %v", l, err)
		}
	})
}

// The rules that keep one message from touching more than its own key.
func TestStreamsRefuseWhatAHostileMessageCouldAsk(t *testing.T) {
	js := connect(t, t.TempDir())
	if _, err := store.OpenKV(t.Context(), js, 1); err != nil {
		t.Fatal(err)
	}
	for _, bucket := range []string{store.Intent, store.Status, store.Clusters, store.Joins, store.Approvals, store.Revoked, store.Leases, store.Tokens} {
		s, err := js.Stream(t.Context(), "KV_"+bucket)
		if err != nil {
			t.Fatal(err)
		}
		c := s.CachedInfo().Config
		if c.AllowRollup || !c.DenyDelete || c.MaxMsgsPerSubject != 1 || c.MaxBytes <= 0 || c.MaxMsgSize <= 0 || c.MaxConsumers <= 0 || c.Discard != jetstream.DiscardNew {
			t.Errorf("%s: %+v", bucket, c)
		}
		if want := map[string]time.Duration{store.Joins: time.Hour, store.Leases: store.LeaseLife, store.Revoked: 100 * 24 * time.Hour}[bucket]; c.MaxAge != want {
			t.Errorf("%s: kept for %s", bucket, c.MaxAge)
		}
		m := nats.NewMsg("$KV." + bucket + ".a")
		m.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupAll)
		if _, err := js.PublishMsg(t.Context(), m); err == nil {
			t.Errorf("%s: a rollup was accepted", bucket)
		}
	}
}

func openKV(t *testing.T, dir string) *store.KV {
	t.Helper()
	s, err := store.OpenKV(t.Context(), connect(t, dir), 1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func connect(t *testing.T, dir string) jetstream.JetStream {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", DontListen: true, JetStream: true, StoreDir: dir, JetStreamMaxStore: 8 << 30, NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(srv))
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
