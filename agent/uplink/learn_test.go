package uplink_test

import (
	"crypto/tls"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/capstan-gitops/capstan/agent/uplink"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// tlsHub is a hub whose certificate can be changed, from one start to the next.
func tlsHub(t *testing.T) (h *fakeHub, shows func(*tls.Config)) {
	t.Helper()
	config, ca := certified(t)
	h = newHubWith(t, func(h *fakeHub) {
		h.ca = ca
		h.options = func(o *server.Options) { o.TLSConfig, o.TLSTimeout = config, 10 }
	})
	return h, func(c *tls.Config) { config = c }
}

// says has the hub tell agents where it is.
func (h *fakeHub) says(l wire.Link) { h.set(func() { h.link = &l }) }

// keeps waits until an agent has taken something down.
func (v *vault) keeps(t *testing.T, h *fakeHub, what string, is func(uplink.Kept) bool) {
	t.Helper()
	h.is(what, func() bool { return is(v.now()) })
}

// hears waits for a line of the log that says something.
func hears(t *testing.T, said <-chan string, what string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case line := <-said:
			if strings.Contains(line, what) {
				return
			}
		case <-deadline:
			t.Fatalf("nothing says %q", what)
		}
	}
}

func TestAnAgentFollowsItsHubToAnotherCA(t *testing.T) {
	h, shows := tlsHub(t)
	v, urls := &vault{}, []string{h.srv.ClientURL()}
	run(t, h.token("j1"), newSpoke(), v)
	h.is("it is there", func() bool { return h.resent == 1 })

	next, nextCA := certified(t)
	h.says(wire.Link{URLs: urls, CA: h.ca + nextCA})
	v.keeps(t, h, "both CAs are trusted", func(k uplink.Kept) bool { return k.CA == h.ca+nextCA })
	h.down()
	shows(next)
	h.up()
	h.is("it came back to the new certificate", func() bool { return h.resent == 2 })
	h.says(wire.Link{URLs: urls, CA: nextCA})
	v.keeps(t, h, "the old CA is trusted no more", func(k uplink.Kept) bool { return k.CA == nextCA })
	h.down()
	h.up()
	h.is("it came back again", func() bool { return h.resent == 3 })
}

func TestACAThatDoesNotVouchForTheHubIsNotTaken(t *testing.T) {
	h, _ := tlsHub(t)
	_, another := certified(t)
	v, said := &vault{}, make(chan string, 1000)
	u := openWith(t, uplink.Config{Token: h.token("j1"), LearnEvery: time.Nanosecond, Log: slog.New(secretsGuard{t, said})}, newSpoke(), v)
	begin(t, u)
	h.is("it is there", func() bool { return h.resent == 1 })
	for what, l := range map[string]wire.Link{
		"does not vouch for its own certificate":   {URLs: []string{h.srv.ClientURL()}, CA: another},
		"not a PEM certificate":                    {URLs: []string{h.srv.ClientURL()}, CA: "none"},
		"unknown authority":                        {URLs: []string{"tls://127.0.0.1:1"}}, // the system does not know it either
		"ws://127.0.0.1:1, which leaves TLS out":   {URLs: []string{"ws://127.0.0.1:1"}, CA: h.ca},
		"WS://127.0.0.1:2, which leaves TLS out":   {URLs: []string{"WS://127.0.0.1:2"}, CA: h.ca},
		"NATS://127.0.0.1:3, which leaves TLS out": {URLs: []string{"NATS://127.0.0.1:3"}},
	} {
		h.says(l)
		hears(t, said, what)
		asked := 0
		h.set(func() { asked, h.beats = h.links, 0 })
		h.is("it goes on", func() bool { return h.beats > 2 })
		h.set(func() {
			if h.links != asked {
				t.Errorf("%s: it is asked for with every heartbeat", what)
			}
		})
	}
	if k := v.now(); k.CA != h.ca || !slices.Equal(k.URLs, []string{h.srv.ClientURL()}) || len(k.OldURLs) > 0 {
		t.Errorf("kept %q, %q, %q", k.URLs, k.OldURLs, k.CA)
	}
}

func TestAnAgentFollowsItsHubToAnotherAddress(t *testing.T) {
	h, _ := tlsHub(t)
	before := h.srv.ClientURL()
	there := newForward(t, closedPort(t), h.srv.Addr().String())
	after := "tls://" + there.Addr().String()
	h.urls = func() []string { return []string{after} }
	s, v := newSpoke(), &vault{}
	begin(t, openWith(t, uplink.Config{Token: h.token("j1"), SwitchAfter: 100 * time.Millisecond}, s, v))
	h.is("it is there", func() bool { return h.resent == 1 })
	h.says(wire.Link{URLs: []string{before}, CA: h.ca})
	v.keeps(t, h, "the new address is known, and the old one yet", func(k uplink.Kept) bool {
		return slices.Equal(k.URLs, []string{before}) && slices.Equal(k.OldURLs, []string{after})
	})
	there.Close() // nobody comes that way any more
	h.down()
	h.up()
	h.is("it came by the new address", func() bool { return h.resent == 2 })
	v.keeps(t, h, "the old address is forgotten", func(k uplink.Kept) bool { return len(k.OldURLs) == 0 })
}

func TestAnAddressThatIsWrongLosesNoAgent(t *testing.T) {
	h, _ := tlsHub(t)
	right, v := h.srv.ClientURL(), &vault{}
	_, stop := run(t, h.token("j1"), newSpoke(), v)
	h.is("it is there", func() bool { return h.resent == 1 })
	wrong := "tls://" + closedPort(t)
	h.says(wire.Link{URLs: []string{wrong}, CA: h.ca})
	v.keeps(t, h, "the address is taken", func(k uplink.Kept) bool { return slices.Equal(k.URLs, []string{wrong}) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	run(t, h.token("j1"), newSpoke(), v)
	h.is("it came back after a restart", func() bool { return h.resent == 2 })
	if k := v.now(); !slices.Equal(k.OldURLs, []string{right}) {
		t.Errorf("old URLs %q", k.OldURLs)
	}
	h.says(wire.Link{URLs: []string{right}, CA: h.ca})
	v.keeps(t, h, "the mistake is mended", func(k uplink.Kept) bool { return slices.Equal(k.URLs, []string{right}) && len(k.OldURLs) == 0 })
}

func TestAHubThatChangesItsMindIsNotFollowedWithEveryHeartbeat(t *testing.T) {
	h, _ := tlsHub(t)
	v, url := &vault{}, h.srv.ClientURL()
	run(t, h.token("j1"), newSpoke(), v)
	h.is("it is there", func() bool { return h.resent == 1 })
	first, second := []string{url, "tls://one.example.com"}, []string{url, "tls://two.example.com"}
	h.says(wire.Link{URLs: first, CA: h.ca})
	v.keeps(t, h, "the first is taken", func(k uplink.Kept) bool { return slices.Equal(k.URLs, first) })
	h.says(wire.Link{URLs: second, CA: h.ca})
	h.set(func() { h.beats = 0 })
	h.is("it goes on", func() bool { return h.beats > 3 })
	h.set(func() {
		if h.links != 1 {
			t.Errorf("it asked %d times where the hub is", h.links)
		}
	})
	if k := v.now(); !slices.Equal(k.URLs, first) {
		t.Errorf("kept %q", k.URLs)
	}
	h.down()
	h.up()
	v.keeps(t, h, "a connection later it is taken", func(k uplink.Kept) bool { return slices.Equal(k.URLs, second) })
}

func TestOneOfSeveralHubsThatSaysWhatIsKnownChangesNothing(t *testing.T) {
	h, _ := tlsHub(t)
	v, said := &vault{}, make(chan string, 1000)
	begin(t, openWith(t, uplink.Config{Token: h.token("j1"), Log: slog.New(secretsGuard{t, said})}, newSpoke(), v))
	h.is("it is there", func() bool { return h.resent == 1 })
	h.set(func() {
		h.link = &wire.Link{URLs: []string{h.srv.ClientURL()}, CA: h.ca}
		h.stamp = "another's"
	})
	h.is("it asked", func() bool { return h.links == 1 })
	h.set(func() { h.beats = 0 })
	h.is("it goes on", func() bool { return h.beats > 1 })
	for len(said) > 0 {
		if line := <-said; strings.Contains(line, "is to be found") {
			t.Errorf("it said %q", line)
		}
	}
}

func TestAHubThatWasTakenOverForAWhileIsFoundAgain(t *testing.T) {
	h, _ := tlsHub(t)
	right, v := []string{h.srv.ClientURL()}, &vault{}
	agent := func() func() error {
		t.Helper()
		_, stop := run(t, h.token("j1"), newSpoke(), v)
		return stop
	}
	stop := agent()
	h.is("it is there", func() bool { return h.resent == 1 })
	evil, _ := tlsHub(t)
	theirs := wire.Link{URLs: []string{evil.srv.ClientURL()}, CA: evil.ca}
	h.says(wire.Link{URLs: theirs.URLs, CA: h.ca + evil.ca})
	v.keeps(t, h, "another hub is named", func(k uplink.Kept) bool { return slices.Equal(k.URLs, theirs.URLs) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	evil.says(theirs)
	stop = agent()
	v.keeps(t, evil, "nothing else is known", func(k uplink.Kept) bool { return k.CA == evil.ca && len(k.OldURLs) == 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	evil.down()
	h.says(wire.Link{URLs: right, CA: h.ca})
	h.set(func() { h.resent, h.epoch = 0, 0 })
	agent()
	h.is("it is back where it was", func() bool { return h.resent == 1 })
	v.keeps(t, h, "what was said meanwhile is forgotten", func(k uplink.Kept) bool {
		return slices.Equal(k.URLs, right) && k.CA == h.ca && k.Before == nil
	})
	evil.up()
}

func TestWhatCountedBeforeIsKeptForAWhileAlone(t *testing.T) {
	h, _ := tlsHub(t)
	v, url := &vault{}, h.srv.ClientURL()
	_, stop := run(t, h.token("j1"), newSpoke(), v)
	h.is("it is there", func() bool { return h.resent == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-time.Hour)
	v.kept.Before = &uplink.Before{URLs: []string{"tls://127.0.0.1:1"}, CA: h.ca, Until: long}
	run(t, h.token("j1"), newSpoke(), v)
	h.is("it is back", func() bool { return h.resent == 2 })
	h.says(wire.Link{URLs: []string{url, "tls://127.0.0.1:2"}, CA: h.ca})
	v.keeps(t, h, "the last counts", func(k uplink.Kept) bool {
		return k.Before != nil && slices.Equal(k.Before.URLs, []string{url}) && k.Before.CA == h.ca && k.Before.Until.After(long)
	})
}

func TestNoAddressFromBeforeLeavesTLSOut(t *testing.T) {
	old := []string{"NATS://one:4222", "tls://two:4222", "ws://three", "wss://four", "tls://one:4222"}
	for ca, want := range map[string][]string{
		"":   {"tls://one:4222", "tls://two:4222"},
		"CA": {"NATS://one:4222", "tls://two:4222", "tls://one:4222"},
	} {
		if got := uplink.Older(old, wire.Link{URLs: []string{"wss://four"}, CA: ca}); !slices.Equal(got, want) {
			t.Errorf("CA %q: kept %q", ca, got)
		}
	}
}

func TestWithoutTLSNothingIsLearnt(t *testing.T) {
	h, v := newHub(t), &vault{}
	run(t, h.token("j1"), newSpoke(), v)
	h.is("it is there", func() bool { return h.resent == 1 })
	h.says(wire.Link{URLs: []string{"tls://elsewhere.example.com:4222"}})
	h.set(func() { h.beats = 0 })
	h.is("it goes on", func() bool { return h.beats > 2 })
	h.set(func() {
		if h.links > 0 {
			t.Error("it asked where the hub is")
		}
	})
	if k := v.now(); !slices.Equal(k.URLs, []string{h.srv.ClientURL()}) {
		t.Errorf("kept %q", k.URLs)
	}
}
