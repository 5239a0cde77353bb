package broker_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/hub/broker"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

func (b *bench) rotate(t *testing.T, grace time.Duration) {
	t.Helper()
	if err := broker.RotateKeys(filepath.Join(b.dir, "keys"), grace, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// issuer is who the hub says signs now.
func issuer(t *testing.T, a *nats.Conn, cluster string) string {
	t.Helper()
	ack, err := ask[wire.HeartbeatAck](t, a, wire.HeartbeatSubject(cluster), wire.Heartbeat{Epoch: 1, Cluster: fleet.ClusterReport{Interval: time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	return ack.Issuer
}

func TestKeysAreRotatedUnderARunningHub(t *testing.T) {
	b := serve(t)
	a, key := b.agent(t, "c1", nats.NoReconnect())
	stays, _ := b.agent(t, "c2", nats.NoReconnect())
	old := issuer(t, a, "c1")
	join, err := b.token(t, "early", "c3", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := os.ReadFile(filepath.Join(b.dir, "keys", "agents-role-agent.nk"))
	if err != nil {
		t.Fatal(err)
	}

	b.rotate(t, time.Hour)
	eventually(t, "the hub signs with the new key", func() bool { return issuer(t, a, "c1") != old })
	renewed, err := ask[wire.Renewed](t, a, wire.RenewSubject("c1"), wire.Renew{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := jwt.DecodeUserClaims(renewed.JWT); err != nil || c.Issuer == old || c.Issuer != issuer(t, a, "c1") {
		t.Errorf("the renewed credential is signed by %s, %v", c.Issuer, err)
	}
	// What was made before is good for the grace.
	kp, _ := newKey(t)
	if _, err := enrol(t, join, "early", kp); err != nil {
		t.Errorf("a token from before: %v", err)
	}
	again, err := nats.Connect(b.url(t), as(stays), nats.NoReconnect(), quiet)
	if err != nil {
		t.Fatalf("a credential from before: %v", err)
	}
	again.Close()
	next, err := nats.Connect(b.url(t), nats.UserJWT(func() (string, error) { return renewed.JWT, nil }, a.Opts.SignatureCB), nats.CustomInboxPrefix(wire.Inbox("c1")), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()

	b.passed.Store(int64(2 * time.Hour))
	eventually(t, "who did not renew is cut", func() bool { return stays.IsClosed() && a.IsClosed() })
	if nc, err := nats.Connect(b.url(t), as(stays), nats.NoReconnect(), quiet); err == nil {
		nc.Close()
		t.Error("a credential from before is good after the grace")
	}
	if issuer(t, next, "c1") == old {
		t.Error("the old key signs again")
	}
	signer, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(stolen))))
	if err != nil {
		t.Fatal(err)
	}
	forged, pub := newKey(t)
	c := jwt.NewUserClaims(pub)
	c.Name, c.IssuerAccount = "c2", mustClaims(t, renewed.JWT).IssuerAccount
	c.SetScoped(true)
	token, err := c.Encode(signer)
	if err != nil {
		t.Fatal(err)
	}
	if nc, err := nats.Connect(b.url(t), user(token, forged), nats.NoReconnect(), quiet); err == nil {
		nc.Close()
		t.Error("the retired key makes credentials")
	}
}

func mustClaims(t *testing.T, token string) *jwt.UserClaims {
	t.Helper()
	c, err := jwt.DecodeUserClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestKeysThatLeakedEndAtOnce(t *testing.T) {
	b := serve(t)
	a, _ := b.agent(t, "c1", nats.NoReconnect())
	b.rotate(t, 0)
	eventually(t, "everybody is cut", a.IsClosed)
	if _, err := nats.Connect(b.url(t), as(a), nats.NoReconnect(), quiet); err == nil {
		t.Error("the old credential is good")
	}
	b.agent(t, "c2") // joins with the new keys
}

func TestARotationOutlivesTheHub(t *testing.T) {
	b := serve(t)
	a, _ := b.agent(t, "c1")
	old := issuer(t, a, "c1")
	b.Close()
	b.rotate(t, time.Hour)
	again := start(t, b.dir)
	if err := again.Serve(again.desk); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(again.url(t), as(a), nats.CustomInboxPrefix(wire.Inbox("c1")), nats.NoReconnect(), quiet)
	if err != nil {
		t.Fatalf("a credential from before, within the grace: %v", err)
	}
	defer nc.Close()
	if issuer(t, nc, "c1") == old {
		t.Error("the old key signs")
	}
	info, err := os.Stat(filepath.Join(b.dir, "keys", "retired.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestKeysThatMakeNoSenseAreNotTaken(t *testing.T) {
	b := serve(t)
	a, _ := b.agent(t, "c1", nats.NoReconnect())
	if err := broker.RotateKeys(t.TempDir(), time.Hour, time.Now()); !errors.Is(err, fleet.ErrInvalid) || fleet.Hint(err) == "" {
		t.Errorf("a directory without keys: got %v, want ErrInvalid with a hint", err)
	}
	if err := broker.RotateKeys(filepath.Join(b.dir, "keys"), -1, time.Now()); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("a grace below zero: got %v, want ErrInvalid", err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "keys", "agents-role-agent.nk"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is said", func() bool { return strings.Contains(b.said.String(), "agents-role-agent.nk is damaged") })
	if _, err := ask[wire.Ack](t, a, wire.StatusSubject("c1", web), status("well")); err != nil {
		t.Errorf("the hub serves on with the keys it has: %v", err)
	}
}

func TestKeysThatLieOpenAreTakenBack(t *testing.T) {
	dir := t.TempDir()
	start(t, dir).Close()
	keys := filepath.Join(dir, "keys")
	for path, mode := range map[string]os.FileMode{keys: 0o755, filepath.Join(keys, "operator.nk"): 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	start(t, dir)
	for path, mode := range map[string]os.FileMode{keys: 0o700, filepath.Join(keys, "operator.nk"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}
