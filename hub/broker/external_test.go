package broker_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/capstan-gitops/capstan/hub/broker"
	"github.com/capstan-gitops/capstan/hub/broker/brokertest"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// together is what hubs keep of revocations, in memory.
type together struct {
	mu  sync.Mutex
	all map[string]int64
}

func (r *together) Add(_ context.Context, key string, at int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[key] = at
	return nil
}

func (r *together) All(context.Context) (map[string]int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.all), nil
}

// nats starts a server with the configuration that nats-config prints.
func natsServer(t *testing.T, keys, dir string) *server.Server {
	t.Helper()
	text, err := broker.ServerConfig{Keys: keys, Name: "nats-1", Listen: "127.0.0.1:-1", StoreDir: dir}.Text()
	if err != nil {
		t.Fatal(err)
	}
	return brokertest.Server(t, text)
}

func onServer(t *testing.T, s *server.Server, keys string, r broker.Revoked, desk *memo) *bench {
	t.Helper()
	b, err := broker.Open(broker.Config{Servers: []string{s.ClientURL()}, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	b.KeepRevocations(r)
	x := &bench{Broker: b, desk: desk}
	if err := b.Serve(x.desk); err != nil {
		t.Fatal(err)
	}
	return x
}

func TestAgentsAreServedThroughServersOfOnesOwn(t *testing.T) {
	keys := t.TempDir()
	s := natsServer(t, keys, t.TempDir())
	revoked := &together{all: map[string]int64{}}
	desk := newMemo() // one state
	one, two := onServer(t, s, keys, revoked, desk), onServer(t, s, keys, revoked, desk)
	if one.Instance() != two.Instance() || one.Process() == two.Process() {
		t.Error("two hubs are one instance in two processes")
	}
	refused := make(chan error, 100)
	a, key := one.agent(t, "c1", nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if _, err := ask[wire.Ack](t, a, wire.StatusSubject("c1", web), status("well")); err != nil {
		t.Fatal(err)
	}
	// The permissions are the embedded server's.
	for _, subject := range []string{"up.c2.hb", "down.c1.intent", "all.git", "$JS.API.INFO", "$KV.intent.c1", "$SYS.REQ.CLAIMS.UPDATE", "_INBOX_hub.x"} {
		if err := a.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-refused:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: %v", subject, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s: it is let through", subject)
		}
	}
	cut := make(chan struct{})
	a.SetClosedHandler(func(*nats.Conn) { close(cut) })
	a.Opts.AllowReconnect = false
	if err := two.Revoke(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	select {
	case <-cut:
	case <-time.After(20 * time.Second):
		t.Error("a revoked agent stays connected")
	}
}

func TestAServerThatLostItsFilesLearnsTheRevocationsAnew(t *testing.T) {
	keys := t.TempDir()
	revoked := &together{all: map[string]int64{}}
	first := natsServer(t, keys, t.TempDir())
	b := onServer(t, first, keys, revoked, newMemo())
	_, key := b.agent(t, "c1")
	if err := b.Revoke(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	b.Close()
	first.Shutdown()
	first.WaitForShutdown()
	b = onServer(t, natsServer(t, keys, t.TempDir()), keys, revoked, newMemo())
	a, other := b.agent(t, "c2")
	if err := b.Affirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !a.IsConnected() {
		t.Error("the others were cut off with the one that is revoked")
	}
	cut := make(chan struct{})
	a.SetClosedHandler(func(*nats.Conn) { close(cut) })
	a.Opts.AllowReconnect = false
	if err := revoked.Add(t.Context(), other, time.Now().Unix()); err != nil { // by a hub that died then
		t.Fatal(err)
	}
	if err := b.Affirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-cut:
	case <-time.After(20 * time.Second):
		t.Error("what was written down was not carried out")
	}
}

func TestServersWithoutTheirKeysAreRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "nats://" + l.Addr().String()
	l.Close()
	keys := t.TempDir()
	for name, c := range map[string]struct {
		cfg  broker.Config
		kind error
	}{
		"no keys":               {broker.Config{Servers: []string{address}}, fleet.ErrInvalid},
		"an empty directory":    {broker.Config{Servers: []string{address}, Keys: t.TempDir()}, fleet.ErrInvalid},
		"a URL that is none":    {broker.Config{Servers: []string{"http://x"}, Keys: keys}, fleet.ErrInvalid},
		"a secret in a URL":     {broker.Config{Servers: []string{"nats://me:pw@x:1"}, Keys: keys}, fleet.ErrInvalid},
		"a certificate of ours": {broker.Config{Servers: []string{address}, Keys: keys, CertFile: "c", KeyFile: "k"}, fleet.ErrInvalid},
	} {
		b, err := broker.Open(c.cfg)
		if !errors.Is(err, c.kind) || fleet.Hint(err) == "" {
			t.Errorf("%s: %v (hint %q)", name, err, fleet.Hint(err))
		}
		if err == nil {
			b.Close()
		}
	}
	if _, err := (broker.ServerConfig{Keys: keys, Name: "n", Listen: "127.0.0.1:0", StoreDir: "s"}).Text(); err != nil {
		t.Fatal(err)
	}
	if b, err := broker.Open(broker.Config{Servers: []string{address}, Keys: keys}); !errors.Is(err, fleet.ErrUnavailable) || fleet.Hint(err) == "" {
		t.Errorf("nobody is there: %v", err)
		if err == nil {
			b.Close()
		}
	}
}

func TestAServersConfigurationIsCheckedAndHoldsNoSecret(t *testing.T) {
	keys := t.TempDir()
	good := broker.ServerConfig{
		Keys: keys, Name: "nats-1", Listen: "0.0.0.0:4222", WSListen: "0.0.0.0:8443", StoreDir: "/var/lib/nats", CertFile: "a", KeyFile: "b",
		ClusterListen: "0.0.0.0:6222", Routes: []string{"nats-2:6222"},
	}
	text, err := good.Text()
	if err != nil {
		t.Fatal(err)
	}
	again, err := good.Text()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(keys, "*.nk"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		seed, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, strings.TrimSpace(string(seed))) {
			t.Errorf("%s is in it", f)
		}
	}
	operator := func(s string) string {
		_, rest, _ := strings.Cut(s, "system_account: ")
		line, _, _ := strings.Cut(rest, "\n")
		return line
	}
	if operator(text) != operator(again) {
		t.Error("the second is for other keys")
	}
	for name, alter := range map[string]func(*broker.ServerConfig){
		"no keys":                  func(c *broker.ServerConfig) { c.Keys = "" },
		"a name with a dot":        func(c *broker.ServerConfig) { c.Name = "a.b" },
		"no port":                  func(c *broker.ServerConfig) { c.Listen = "host" },
		"routes to nowhere":        func(c *broker.ServerConfig) { c.Routes = []string{"x"} },
		"routes without a cluster": func(c *broker.ServerConfig) { c.ClusterListen = "" },
		"half a certificate":       func(c *broker.ServerConfig) { c.KeyFile = "" },
		"a directory with a quote": func(c *broker.ServerConfig) { c.StoreDir = "a\"\ninclude: x" },
	} {
		c := good
		alter(&c)
		if _, err := c.Text(); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
