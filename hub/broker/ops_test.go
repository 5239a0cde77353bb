package broker_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/capstan-gitops/capstan/hub/broker"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// queries answer with what they are told.
func queries(answer string, status int) []broker.Query {
	return []broker.Query{{Name: "echo", Does: "Says it again.", Answer: func(_ context.Context, params []byte) ([]byte, int) {
		return append([]byte(answer), params...), status
	}}}
}

func opsConn(t *testing.T, keys, url string) *nats.Conn {
	t.Helper()
	nc, _ := opsAs(t, keys, url)
	return nc
}

func opsAs(t *testing.T, keys, url string) (*nats.Conn, []byte) {
	t.Helper()
	creds, err := broker.OpsCredentials(keys, "jane", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(url, nats.UserCredentialBytes(creds), nats.NoReconnect(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, creds
}

func TestQuestionsAreSharedByHubsOnServersOfOnesOwn(t *testing.T) {
	keys := t.TempDir()
	s := natsServer(t, keys, t.TempDir())
	revoked := &together{all: map[string]int64{}}
	one, two := onServer(t, s, keys, revoked, newMemo()), onServer(t, s, keys, revoked, newMemo())
	for _, b := range []*bench{one, two} {
		if err := b.ServeOps(queries("said ", http.StatusOK)); err != nil {
			t.Fatal(err)
		}
	}
	nc := opsConn(t, keys, s.ClientURL())
	ask := func() {
		t.Helper()
		if m, err := nc.Request("capstan.echo", []byte("hello"), 20*time.Second); err != nil || string(m.Data) != "said hello" {
			t.Fatalf("got %v, %v", m, err)
		}
	}
	ask()
	// One that is drained leaves them to the other.
	if err := one.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		ask()
	}
}

func TestARotationEndsOpsCredentials(t *testing.T) {
	b := serve(t)
	if err := b.ServeOps(queries("", http.StatusOK)); err != nil {
		t.Fatal(err)
	}
	old := opsConn(t, filepath.Join(b.dir, "keys"), b.url(t))
	b.rotate(t, 0)
	eventually(t, "what the old key signed is cut", old.IsClosed)
	again := opsConn(t, filepath.Join(b.dir, "keys"), b.url(t))
	if _, err := again.Request("capstan.echo", []byte("x"), 20*time.Second); err != nil {
		t.Errorf("a new one: %v", err)
	}
}

func TestOpsHearWhatWentWrong(t *testing.T) {
	b := serve(t)
	if err := b.ServeOps(queries("no", http.StatusTooManyRequests)); err != nil {
		t.Fatal(err)
	}
	m, err := opsConn(t, filepath.Join(b.dir, "keys"), b.url(t)).Request("capstan.echo", nil, 20*time.Second)
	if err != nil || string(m.Data) != "no" || m.Header.Get("Nats-Service-Error-Code") != "429" || m.Header.Get("Nats-Service-Error") == "" {
		t.Errorf("got %v, %v", m, err)
	}
}

func TestOneOpsCredentialIsTakenBackAndNoOther(t *testing.T) {
	b := serve(t)
	keys := filepath.Join(b.dir, "keys")
	stays, _ := opsAs(t, keys, b.url(t))
	first, creds := opsAs(t, keys, b.url(t))
	second, more := opsAs(t, keys, b.url(t))
	if err := broker.RevokeOpsFile(keys, creds, time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "whose file it is is cut", first.IsClosed)
	key, err := broker.OpsKey(more)
	if err != nil {
		t.Fatal(err)
	}
	if err := broker.RevokeOps(keys, key, time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "whose key it is is cut", second.IsClosed)
	for _, c := range [][]byte{creds, more} {
		if nc, err := nats.Connect(b.url(t), nats.UserCredentialBytes(c), nats.NoReconnect(), quiet); err == nil {
			nc.Close()
			t.Error("a credential that was taken back is let in")
		}
	}
	if stays.IsClosed() {
		t.Error("another was cut as well")
	}
	// It outlives the hub.
	b.Close()
	again := start(t, b.dir)
	if err := again.Serve(again.desk); err != nil {
		t.Fatal(err)
	}
	if nc, err := nats.Connect(again.url(t), nats.UserCredentialBytes(creds), nats.NoReconnect(), quiet); err == nil {
		nc.Close()
		t.Error("after a restart it is let in again")
	}
}

func TestServersOfOnesOwnLearnWhichOpsCredentialsAreTakenBack(t *testing.T) {
	keys := t.TempDir()
	s := natsServer(t, keys, t.TempDir())
	onServer(t, s, keys, &together{all: map[string]int64{}}, newMemo())
	nc, creds := opsAs(t, keys, s.ClientURL())
	if err := broker.RevokeOpsFile(keys, creds, time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is cut", nc.IsClosed)
}

func TestAHubThatWasNotToldLetsNoRevokedOpsCredentialInAgain(t *testing.T) {
	keys, others := t.TempDir(), t.TempDir()
	s := natsServer(t, keys, t.TempDir())
	if err := os.CopyFS(others, os.DirFS(keys)); err != nil {
		t.Fatal(err)
	}
	revoked := &together{all: map[string]int64{}}
	desk := newMemo() // either may be asked
	onServer(t, s, keys, revoked, desk)
	other := onServer(t, s, others, revoked, desk)
	nc, creds := opsAs(t, keys, s.ClientURL())
	if err := broker.RevokeOpsFile(keys, creds, time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is cut", nc.IsClosed)
	_, key := other.agent(t, "c1")
	if err := other.Revoke(t.Context(), key); err != nil { // tells the servers anew what counts
		t.Fatal(err)
	}
	if nc, err := nats.Connect(s.ClientURL(), nats.UserCredentialBytes(creds), nats.NoReconnect(), quiet); err == nil {
		nc.Close()
		t.Error("a credential that was taken back is let in")
	}
}

func TestACredentialOfAClockThatIsAheadIsTakenBack(t *testing.T) {
	b := serve(t)
	keys := filepath.Join(b.dir, "keys")
	creds, err := broker.OpsCredentials(keys, "jane", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(b.url(t), nats.UserCredentialBytes(creds), nats.NoReconnect(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if err := broker.RevokeOpsFile(keys, creds, time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is cut", nc.IsClosed)
}

func TestWhatIsNoOpsCredentialIsNotTakenBack(t *testing.T) {
	b, other := serve(t), serve(t)
	keys := filepath.Join(b.dir, "keys")
	_, foreign := opsAs(t, filepath.Join(other.dir, "keys"), other.url(t))
	for what, err := range map[string]error{
		"no file":               broker.RevokeOpsFile(keys, []byte("x"), time.Now()),
		"another hub's":         broker.RevokeOpsFile(keys, foreign, time.Now()),
		"no key":                broker.RevokeOps(keys, "jane", time.Now()),
		"a directory of none's": broker.RevokeOpsFile(t.TempDir(), foreign, time.Now()),
	} {
		if !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
