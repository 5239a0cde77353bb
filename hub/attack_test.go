package hub_test

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// An attack is something that must not work. try makes it as well as it can and
// returns what refused it; nil says that it worked.
type attack struct {
	name string
	try  func(x *attacker) error
}

// attacks are all there are, by who makes them.
func attacks() []attack {
	var all []attack
	for _, some := range [][]attack{
		speaksForOthers(), listensToOthers(), forgesReplies(), addsHeaders(),
		sendsBadDocuments(), sendsOldReports(), takesMoreThanItsShare(),
		abusesTokens(), abusesCredentials(), comesAsAStranger(), asksTooMuch(),
	} {
		all = append(all, some...)
	}
	return all
}

// Nobody gets in where they don't belong: not an enrolled agent, not who holds a
// join token, not a stranger; not over NATS itself and not over WebSocket.
func TestIsolation(t *testing.T) {
	f := newFort(t)
	names := map[string]bool{}
	for _, a := range attacks() {
		if names[a.name] {
			t.Errorf("two attacks are called %q", a.name)
		}
		names[a.name] = true
	}
	if len(names) < 60 {
		t.Errorf("there are %d attacks", len(names))
	}
	for _, over := range []string{"tls", "wss"} {
		for _, a := range attacks() {
			t.Run(over+"/"+a.name, func(t *testing.T) {
				f.resist(t, over, a)
			})
		}
	}
}

// resist has an attack made, and looks whether it was refused and did no harm.
func (f *fort) resist(t *testing.T, over string, a attack) {
	t.Helper()
	x := &attacker{T: t, fort: f, over: over, cluster: f.nextName()}
	if err := a.try(x); err == nil {
		t.Error("nothing refused it")
	} else {
		t.Logf("refused: %v", err)
	}
	f.stands(t)
}

// fort is a hub as it runs, with a victim in it.
type fort struct {
	admins  []*client.Client // who take turns: each is held to so many requests a second
	url     string           // of the API
	urls    map[string]string
	trust   *tls.Config
	dir     string // the hub's
	clients int
	turn    atomic.Int64

	victim *agent
	heard  chan *nats.Msg // by the victim
	want   facts
}

// facts are what is known of the victim, and must stay.
type facts struct {
	Cluster fleet.Cluster
	Apps    []fleet.AppStatus
	Intent  fleet.Intent
}

func newFort(t *testing.T) *fort {
	t.Helper()
	return newFortWith(t, t.TempDir(), hub.Config{})
}

func newFortWith(t *testing.T, dir string, cfg hub.Config) *fort {
	t.Helper()
	var lines strings.Builder
	for i := range 20 {
		fmt.Fprintf(&lines, "admin%d admin sha256:%x\n", i, sha256.Sum256(fmt.Appendf(nil, "secret%d", i)))
	}
	if err := os.WriteFile(filepath.Join(dir, "tokens"), []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.DataDir = dir
	if cfg.NATSKeys == "" {
		cfg.NATSTLS, cfg.NATSWSListen = "on", "127.0.0.1:0"
	}
	a, stop := run(t, cfg)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the hub ended with %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	f := &fort{dir: dir, url: a.URL, urls: map[string]string{}, heard: make(chan *nats.Msg, 1000)}
	for i := range 20 {
		c, err := client.New(client.Config{URL: a.URL, Token: fmt.Sprintf("secret%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		f.admins = append(f.admins, c)
	}
	for _, u := range a.NATSURLs {
		scheme, _, _ := strings.Cut(u, "://")
		f.urls[scheme] = u
	}
	x := &attacker{T: t, fort: f, over: "tls", cluster: "victim"}
	f.victim = x.agent()
	for _, subject := range []string{"down.victim.>", "_INBOX_victim.>", "all.>"} {
		if _, err := f.victim.ChanSubscribe(subject, f.heard); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.victim.report(web, "untouched"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.people().LabelCluster(t.Context(), "victim", map[string]string{"env": "prod"}, nil); err != nil {
		t.Fatal(err)
	}
	f.sentinel(t)
	f.want = f.facts(t)
	return f
}

// people are the hub's administrators.
func (f *fort) people() *client.Client { return f.admins[int(f.turn.Add(1))%len(f.admins)] }

func (f *fort) nextName() string {
	f.clients++
	return fmt.Sprintf("mallory-%d", f.clients)
}

// facts asks for what is known of the victim: at the hub, and from the hub as
// the victim does.
func (f *fort) facts(t *testing.T) facts {
	t.Helper()
	clusters, err := f.people().Clusters(t.Context(), fleet.ClusterFilter{Names: []string{"victim"}})
	if err != nil || len(clusters) != 1 {
		t.Fatalf("the victim at the hub: %v, %v", clusters, err)
	}
	apps, err := f.people().Apps(t.Context(), fleet.AppFilter{Clusters: []string{"victim"}})
	if err != nil {
		t.Fatal(err)
	}
	in, err := say[wire.Intent](f.victim, wire.IntentGetSubject("victim"), wire.IntentGet{})
	if err != nil {
		t.Fatalf("the victim's intent: %v", err)
	}
	clusters[0].LastSeen = time.Time{}
	in.Intent.Revision, in.Intent.Syncs = 0, nil // the sentinels'
	return facts{clusters[0], apps, in.Intent}
}

// sentinel has the hub tell the victim something, and returns what it heard
// before that: nothing of an attack can be under way behind it.
func (f *fort) sentinel(t *testing.T) (before []*nats.Msg) {
	t.Helper()
	if _, err := f.people().Sync(t.Context(), web, []string{"victim"}); err != nil {
		t.Fatal(err)
	}
	latest := f.latest(t)
	for {
		select {
		case m := <-f.heard:
			in, err := wire.Decode[wire.Intent](m.Data)
			if err == nil && m.Subject == "down.victim.intent" && in.Intent.Revision == latest {
				return before
			}
			before = append(before, m)
		case <-time.After(10 * time.Second):
			t.Fatal("the hub does not reach the victim")
		}
	}
}

func (f *fort) latest(t *testing.T) uint64 {
	t.Helper()
	in, err := say[wire.Intent](f.victim, wire.IntentGetSubject("victim"), wire.IntentGet{})
	if err != nil {
		t.Fatal(err)
	}
	return in.Intent.Revision
}

// stands checks that the hub is alive and the victim unharmed: it heard nothing
// but the hub, what is known of it is what was known, and it is served.
func (f *fort) stands(t *testing.T) {
	t.Helper()
	if code, text := get(t, f.url+"/readyz", ""); code != http.StatusOK {
		t.Errorf("the hub is not ready: %d %s", code, text)
	}
	for _, m := range f.sentinel(t) {
		if !strings.HasPrefix(m.Subject, "_INBOX_victim.") || len(m.Data) == 0 || len(m.Header) > 0 || !f.victim.asked[m.Subject] {
			t.Errorf("the victim heard %s on %s", m.Data, m.Subject)
		}
	}
	if err := f.victim.hello(); err != nil {
		t.Errorf("the victim's heartbeat: %v", err)
	}
	if err := f.victim.report(web, "untouched"); err != nil {
		t.Errorf("the victim's report: %v", err)
	}
	if got := f.facts(t); !reflect.DeepEqual(got, f.want) {
		t.Errorf("the victim is known as\n%+v\nand was\n%+v", got, f.want)
	}
}
