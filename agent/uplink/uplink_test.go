package uplink_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/agent/uplink"
	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signing"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

func TestANewAgentEnrolsAndReports(t *testing.T) {
	h, s, v := newHub(t), newSpoke(status("web", "well"), status("api", "well")), &vault{}
	u, _ := run(t, h.token("j1"), s, v)
	h.is("all is reported, and said to be all", func() bool { return len(h.statuses) == 2 && h.resent == 1 })
	u.Changed(status("web", "worse"))
	u.Gone(fleet.AppName{Namespace: "shop", Name: "api"})
	h.is("changes arrive", func() bool { return h.statuses["web"] == "worse" && len(h.statuses) == 1 })
	if k := v.now(); k.JWT == "" || k.Instance != "hub1" || k.Join != "j1" || k.Epoch == 0 || len(k.URLs) != 1 {
		t.Errorf("kept %+v", k)
	}
}

func TestAnAgentBeatsLessOftenWhereTheHubAsks(t *testing.T) {
	h := newHub(t)
	run(t, h.token("j1"), newSpoke(), &vault{})
	h.is("it beats as it is set", func() bool { return h.interval == 30*time.Millisecond })
	h.set(func() { h.every = 40 * time.Millisecond })
	h.is("it beats as asked, and says so", func() bool { return h.interval == 40*time.Millisecond })
	h.set(func() { h.every = time.Millisecond })
	h.is("it beats no more often than it is set", func() bool { return h.interval == 30*time.Millisecond })
}

func TestAStatusThatChangesWhileAllAreCollectedWins(t *testing.T) {
	h, s, v := newHub(t), newSpoke(status("web", "old")), &vault{}
	u := open(t, h.token("j1"), s, v)
	s.onStatus = func() { u.Changed(status("web", "new")) } // before Run begins
	begin(t, u)
	h.is("all is reported", func() bool { return h.resent > 0 })
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.statuses["web"] != "new" {
		t.Errorf("the hub ends with %q", h.statuses["web"])
	}
}

func TestARestartNeedsNoTokenAndRaisesTheEpoch(t *testing.T) {
	h, v := newHub(t), &vault{}
	token := h.token("j1")
	s := newSpoke()
	_, stop := run(t, token, s, v)
	h.is("it is there", func() bool { return h.resent == 1 })
	h.push(fleet.Intent{Instance: "hub1", Revision: 1, Labels: map[string]string{"env": "dev"}})
	take(t, s)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	first := v.now().Epoch
	for i, tok := range []string{"", token} {
		s := newSpoke()
		_, stop := run(t, tok, s, v)
		if in := take(t, s); in.Revision != 1 || in.Labels["env"] != "dev" {
			t.Errorf("the kept intent is %+v", in)
		}
		h.is("it is back", func() bool { return h.resent == i+2 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	if h.mu.Lock(); len(h.enrols) != 1 || h.epoch != first+2 {
		t.Errorf("enrolled %d times, epoch %d after %d", len(h.enrols), h.epoch, first)
	}
	h.mu.Unlock()
}

func TestTheKeptIntentIsHandedOutWithTheHubGone(t *testing.T) {
	h, v := newHub(t), &vault{}
	v.kept = uplink.Kept{JWT: "x", URLs: []string{h.srv.ClientURL()}, Instance: "hub1", Intent: fleet.Intent{Instance: "hub1", Revision: 4, Labels: map[string]string{"env": "dev"}}}
	h.down()
	s := newSpoke()
	run(t, "", s, v)
	if in := take(t, s); in.Revision != 4 || in.Labels["env"] != "dev" {
		t.Errorf("got %+v", in)
	}
	h.up()
}

func TestTheEpochGoesAboveWhatTheHubHasSeen(t *testing.T) {
	h, v := newHub(t), &vault{}
	h.set(func() { h.epoch = 41 }) // the state here is from a backup
	run(t, h.token("j1"), newSpoke(status("web", "well")), v)
	h.is("it is reported", func() bool { return h.statuses["web"] == "well" })
	if k := v.now(); k.Epoch != 42 {
		t.Errorf("epoch %d", k.Epoch)
	}
}

func TestAnotherProcessTakesOver(t *testing.T) {
	h, v := newHub(t), &vault{}
	u := open(t, h.token("j1"), newSpoke(), v)
	done := make(chan error, 1)
	go func() { done <- u.Run(t.Context()) }()
	h.is("it is there", func() bool { return h.resent == 1 })
	v.mu.Lock()
	v.version++ // the other one raised the epoch, here and at the hub
	v.mu.Unlock()
	h.mu.Lock()
	h.epoch = 100
	h.mu.Unlock()
	select {
	case err := <-done:
		if !errors.Is(err, uplink.ErrSuperseded) {
			t.Errorf("got %v, want ErrSuperseded", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on")
	}
}

func TestAfterTheLinkWasGoneTheHubKnowsTheLatest(t *testing.T) {
	h, s, v := newHub(t), newSpoke(status("web", "one"), status("api", "one"), status("old", "one")), &vault{}
	u, _ := run(t, h.token("j1"), s, v)
	h.is("it is there", func() bool { return h.resent == 1 && len(h.statuses) == 3 })
	h.down()
	h.mu.Lock()
	h.statuses, h.reports, h.resent = map[string]string{}, nil, 0 // a hub that forgot
	h.mu.Unlock()
	for i := range 1000 {
		u.Changed(status("web", fmt.Sprint(i)))
	}
	u.Gone(fleet.AppName{Namespace: "shop", Name: "old"})
	s.mu.Lock()
	s.statuses = []fleet.AppStatus{status("web", "999"), status("api", "one")}
	s.mu.Unlock()
	h.up()
	h.is("all is known again", func() bool {
		return h.resent > 0 && h.statuses["web"] == "999" && h.statuses["api"] == "one" && len(h.statuses) == 2
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.reports) != 3 {
		t.Errorf("each app is to be told once, got %v", h.reports)
	}
}

func TestOnlyNewerIntentOfTheAcceptedHubIsTaken(t *testing.T) {
	h, s, v := newHub(t), newSpoke(), &vault{}
	h.set(func() { h.intent = fleet.Intent{Revision: 3, Labels: map[string]string{"env": "dev", "tier": "gold"}} })
	run(t, h.token("j1"), s, v)
	if in := take(t, s); in.Revision != 3 || in.Labels["env"] != "dev" {
		t.Fatalf("at connect: %+v", in)
	}
	h.push(fleet.Intent{Instance: "hub1", Revision: 2, Labels: map[string]string{"env": "old"}})
	h.push(fleet.Intent{Instance: "hub1", Revision: 3, Labels: map[string]string{"env": "same"}})
	h.push(fleet.Intent{Instance: "hub2", Revision: 99, Removed: []string{"env"}})
	h.push(fleet.Intent{Instance: "hub1", Revision: 4, Labels: map[string]string{"tier": "lead"}})
	if in := take(t, s); in.Revision != 4 || in.Labels["tier"] != "lead" || in.Labels["env"] != "dev" {
		t.Errorf("absence took a label away, or what is older was taken: %+v", in)
	}
	h.push(fleet.Intent{Instance: "hub1", Revision: 5, Labels: map[string]string{"tier": "lead"}, Removed: []string{"env"}})
	in := take(t, s)
	if _, there := in.Labels["env"]; in.Revision != 5 || there {
		t.Errorf("what was removed is there: %+v", in)
	}
	if k := v.now(); k.Intent.Revision != 5 {
		t.Errorf("kept %+v", k.Intent)
	}
}

func TestAHubThatWasReplacedDoesNotDeselect(t *testing.T) {
	h, s, v := newHub(t), newSpoke(), &vault{}
	h.set(func() { h.intent = fleet.Intent{Revision: 3, Labels: map[string]string{"env": "dev"}} })
	run(t, h.token("j1"), s, v)
	take(t, s)
	h.mu.Lock()
	h.instance, h.intent = "hub2", fleet.Intent{Revision: 50, Removed: []string{"env"}}
	beats := h.beats
	h.mu.Unlock()
	h.push(fleet.Intent{Instance: "hub2", Revision: 51, Removed: []string{"env"}})
	h.is("some time passes", func() bool { return h.beats > beats+3 })
	if len(s.taken) != 0 || v.now().Intent.Labels["env"] != "dev" {
		t.Errorf("taken %d, kept %+v", len(s.taken), v.now().Intent)
	}
}

func TestJoiningAnewTakesANewKeyAndKeepsTheLabels(t *testing.T) {
	h, s, v := newHub(t), newSpoke(), &vault{}
	h.set(func() { h.intent = fleet.Intent{Revision: 3, Labels: map[string]string{"env": "dev"}} })
	_, stop := run(t, h.token("j1"), s, v)
	take(t, s)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	h.instance, h.intent = "hub2", fleet.Intent{Revision: 1, Labels: map[string]string{"tier": "gold"}}
	h.mu.Unlock()
	s = newSpoke()
	run(t, h.token("j2"), s, v)
	if in := take(t, s); in.Labels["env"] != "dev" {
		t.Errorf("the kept intent is %+v", in)
	}
	if in := take(t, s); in.Instance != "hub2" || in.Revision != 1 || in.Labels["env"] != "dev" || in.Labels["tier"] != "gold" {
		t.Errorf("the new hub's intent is %+v", in)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.enrols) != 2 || h.enrols[0] == h.enrols[1] {
		t.Errorf("enrolled with %v", h.enrols)
	}
}

func TestOnlyAnOrderLiftsAHold(t *testing.T) {
	h, s, v := newHub(t), newSpoke(), &vault{}
	held := func(name string) fleet.HoldOrder {
		return fleet.HoldOrder{App: fleet.AppName{Namespace: "shop", Name: name}, Hold: fleet.Hold{Kind: fleet.HoldSuspend, By: "jane"}}
	}
	h.set(func() { h.intent = fleet.Intent{Revision: 3, Holds: []fleet.HoldOrder{held("a"), held("b")}} })
	_, stop := run(t, h.token("j1"), s, v)
	take(t, s)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	over := held("a")
	over.Lifted = true
	h.mu.Lock()
	h.instance, h.intent = "hub2", fleet.Intent{Revision: 1}
	h.mu.Unlock()
	s = newSpoke()
	run(t, h.token("j2"), s, v)
	for range 2 { // what was kept, and what the new hub says
		if in := take(t, s); len(in.Holds) != 2 {
			t.Errorf("taken: %+v", in)
		}
	}
	h.push(fleet.Intent{Instance: "hub2", Revision: 2, Holds: []fleet.HoldOrder{over}})
	if in := take(t, s); len(in.Holds) != 2 || !in.Holds[0].Lifted || in.Holds[1].Lifted {
		t.Errorf("taken: %+v", in)
	}
	h.push(fleet.Intent{Instance: "hub2", Revision: 3})
	if in := take(t, s); len(in.Holds) != 1 || in.Holds[0].App.Name != "b" {
		t.Errorf("taken: %+v", in)
	}
}

func TestARefusedTokenLeavesTheOldCredentials(t *testing.T) {
	h, v := newHub(t), &vault{}
	_, stop := run(t, h.token("j1"), newSpoke(), v)
	h.is("it is there", func() bool { return h.resent == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	before := v.now()
	h.mu.Lock()
	h.refuse["enrol"] = fleet.Forbidden("join token: it has been used")
	h.mu.Unlock()
	run(t, h.token("j2"), newSpoke(), v)
	h.is("it is back all the same", func() bool { return h.resent == 2 })
	if k := v.now(); k.JWT != before.JWT || k.Seed != before.Seed {
		t.Error("its credentials changed")
	}
}

func TestAnIntentThatCannotBeKeptOrTakenIsTriedAgain(t *testing.T) {
	h, s, v := newHub(t), newSpoke(), &vault{}
	s.fail = 1
	run(t, h.token("j1"), s, v)
	h.is("it is there", func() bool { return h.resent == 1 })
	v.mu.Lock()
	v.down = true
	v.mu.Unlock()
	h.push(fleet.Intent{Instance: "hub1", Revision: 1})
	var beats int
	h.set(func() { beats = h.beats })
	h.is("some time passes", func() bool { return h.beats > beats+2 })
	if len(s.taken) != 0 {
		t.Error("it was acted on before it was kept")
	}
	v.mu.Lock()
	v.down = false
	v.mu.Unlock()
	if in := take(t, s); in.Revision != 1 {
		t.Errorf("got %+v", in)
	}
}

func TestTheCredentialIsRenewed(t *testing.T) {
	h, v := newHub(t), &vault{}
	token := h.token("j1")
	h.set(func() { h.life = 2 * time.Second })
	run(t, token, newSpoke(), v)
	h.is("it asks in good time", func() bool { return h.renewals > 0 })
	h.is("and is content then", func() bool { return h.beats > 3 })
}

func TestTheCredentialIsRenewedWhenAnotherKeySigns(t *testing.T) {
	h := newHub(t)
	run(t, h.token("j1"), newSpoke(status("web", "well")), &vault{})
	h.is("all is reported", func() bool { return h.resent == 1 })
	next, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	h.set(func() {
		if h.renewals != 0 {
			t.Error("renewed for nothing")
		}
		h.key = next
	})
	h.is("it is renewed", func() bool { return h.renewals == 1 })
	h.set(func() { h.beats = 0 })
	h.is("and that is enough", func() bool { return h.beats > 3 && h.renewals == 1 })
}

func TestAReportTheHubWillNotTakeDoesNotHoldUpTheRest(t *testing.T) {
	h, v := newHub(t), &vault{}
	h.set(func() {
		h.refuse["bad"] = fleet.Invalid("too many apps")
		h.refuse["slow"] = fleet.Unavailable("later")
	})
	u, _ := run(t, h.token("j1"), newSpoke(status("bad", "x"), status("web", "well")), v)
	h.is("the rest is reported", func() bool { return h.statuses["web"] == "well" && h.resent == 1 })
	u.Changed(status("slow", "x"))
	h.is("it tries again", func() bool { return h.lastSeq > 4 })
	h.mu.Lock()
	delete(h.refuse, "slow")
	h.mu.Unlock()
	h.is("until it is taken", func() bool { return h.statuses["slow"] == "x" })
}

func TestQuestionsAreAnsweredInParts(t *testing.T) {
	h, s, v := newHub(t), newSpoke(), &vault{}
	for i := range 5000 {
		s.history = append(s.history, fleet.HistoryEntry{Digest: fleet.Digest(fmt.Sprint(i)), Revision: "<&>"})
	}
	run(t, h.token("j1"), s, v)
	h.is("it is there", func() bool { return h.resent == 1 })
	ask := func(a wire.Ask) (wire.Part, error) {
		t.Helper()
		data, err := wire.Encode(a)
		if err != nil {
			t.Fatal(err)
		}
		m, err := h.nc.Request(wire.AskSubject("dev"), data, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return wire.Decode[wire.Part](m.Data)
	}
	var all []byte
	question := wire.Ask{What: wire.AskHistory, App: web}
	for parts := 1; ; parts++ {
		p, err := ask(question)
		if err != nil || question.ETag != "" && p.ETag != question.ETag {
			t.Fatal(p.ETag, err)
		}
		all = append(all, p.Data...)
		question.ETag, question.Offset = p.ETag, len(all)
		if parts == 1 { // the rest comes from the same answer, though it changes
			s.mu.Lock()
			s.history = append([]fleet.HistoryEntry{}, s.history...)
			s.history[4999].Digest = "changed"
			s.mu.Unlock()
		}
		if len(all) == p.Total {
			if parts < 2 {
				t.Error("all came in one part")
			}
			break
		}
	}
	var got []fleet.HistoryEntry
	if err := json.Unmarshal(all, &got); err != nil || len(got) != 5000 || got[4999].Digest != "4999" || got[0].Revision != "<&>" {
		t.Errorf("got %d, %v", len(got), err)
	}
	if p, err := ask(wire.Ask{What: wire.AskHistory, App: web, Offset: 200000, ETag: "forgotten"}); err != nil || p.ETag == "forgotten" || !strings.HasPrefix(string(p.Data), "[") {
		t.Errorf("an answer that is forgotten is to begin anew: %v", err)
	}
	if _, err := ask(wire.Ask{What: wire.AskPlan, App: web}); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestAPushIsHeard(t *testing.T) {
	h, s, v := newHub(t), newSpoke(), &vault{}
	run(t, h.token("j1"), s, v)
	h.is("it is there", func() bool { return h.resent == 1 })
	h.send(wire.GitSubject, wire.GitNotice{URL: "https://git.example.com/fleet.git", Refs: []string{"refs/heads/main", "refs/tags/v1"}, Agents: 7})
	if got := <-s.pushed; got.RepoURL != "https://git.example.com/fleet.git" || !slices.Equal(got.Refs, []string{"refs/heads/main", "refs/tags/v1"}) || got.Agents != 7 {
		t.Errorf("got %+v", got)
	}
	h.send(wire.GitSubject, wire.GitNotice{URL: "https://git.example.com/fleet.git"}) // as an older hub says it
	if got := <-s.pushed; got.RepoURL != "https://git.example.com/fleet.git" || len(got.Refs) > 0 || got.Agents != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestRubbishFromTheHubHarmsNothing(t *testing.T) {
	h, s, v := newHub(t), newSpoke(), &vault{}
	run(t, h.token("j1"), s, v)
	h.is("it is there", func() bool { return h.resent == 1 })
	for _, subject := range []string{wire.IntentSubject("dev"), wire.AskSubject("dev"), wire.GitSubject} {
		for _, data := range []string{"", "{", "null", strings.Repeat("[", 100000), `{"v":1,"kind":"intent","body":{"intent":{"instance":"hub1","revision":9,"labels":{"a b":"c"}}}}`} {
			if err := h.nc.Publish(subject, []byte(data)); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.push(fleet.Intent{Instance: "hub1", Revision: 1})
	if in := take(t, s); in.Revision != 1 {
		t.Errorf("got %+v", in)
	}
}

func TestWithoutAHubPlansAreSignedAllTheSame(t *testing.T) {
	v := &vault{}
	u, stop := run(t, "", newSpoke(), v)
	if u.HasHub() {
		t.Error("it says it has a hub")
	}
	u.Changed(status("web", "well")) // goes nowhere, and does not block
	doc := &fleet.Document{Spec: []byte(`{}`), RepoURL: "https://git.example.com", Objects: []json.RawMessage{[]byte(`{"kind":"ConfigMap"}`)}}
	to, err := doc.Digest()
	if err != nil {
		t.Fatal(err)
	}
	plan := fleet.Plan{ID: "p1", Action: fleet.ActionApply, App: web, Cluster: "dev", ClusterUID: "u1", To: to, Wanted: doc}
	signed, err := u.SignPlan(plan)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signing.VerifyPlan(signed, signed.Key); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	again, err := open(t, "", newSpoke(), v).SignPlan(plan)
	if err != nil || again.Key != signed.Key {
		t.Errorf("the key changed with a restart: %v", err)
	}
}

func TestATokenForAnotherClusterIsRefusedAtOnce(t *testing.T) {
	h := newHub(t)
	_, err := uplink.New(uplink.Config{Token: h.token("j1"), Cluster: "prod"}, newSpoke(), &vault{})
	if !errors.Is(err, fleet.ErrInvalid) || fleet.Hint(err) == "" {
		t.Errorf("got %v, want ErrInvalid with a hint", err)
	}
	if _, err := uplink.New(uplink.Config{Token: "rubbish", Cluster: "dev"}, newSpoke(), &vault{}); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}

func TestALongStatusIsCutToWhatMayTravel(t *testing.T) {
	h, v := newHub(t), &vault{}
	for name, text := range map[string]string{"plain": strings.Repeat("x", 20000), "escaped": strings.Repeat("<\n\u2028", 20000), "wide": strings.Repeat("\U0001F600", 20000), "broken": strings.Repeat("x\xff", 20000)} {
		s := status(name, text)
		s.Hint, s.Path, s.Reason = text, text, text
		s.Source = &fleet.SourceStatus{URL: text, Follows: text, ServedBy: text}
		for range 100 {
			s.Holds = append(s.Holds, fleet.Hold{Kind: fleet.HoldSuspend, By: text, Why: text, Refused: text})
			s.Drift = append(s.Drift, fleet.DriftSummary{Object: fleet.ObjectRef{Kind: "ConfigMap", Version: "v1", Name: "web"}, Manager: text, Fields: []string{text, text, text}})
			s.Images = append(s.Images, strings.Repeat("i", 200), text)
		}
		t.Run(name, func(t *testing.T) {
			u, stop := run(t, h.token("j-"+name), newSpoke(), v)
			u.Changed(s)
			h.is("it arrives", func() bool { return h.statuses[name] != "" })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if got := h.statuses[name]; !strings.HasSuffix(got, "(cut)") || len(got) > 2048 {
				t.Errorf("%d bytes, ending in %q", len(got), got[max(0, len(got)-20):])
			}
		})
	}
}

func TestManyRepositoriesDoNotKeepAClusterFromBeingHeard(t *testing.T) {
	long := strings.Repeat("<&", 2000)
	for name, one := range map[string]fleet.SourceStatus{"short": {URL: "https://git.example.com/x.git", Follows: "branch main"}, "long": {URL: long, Follows: long, ServedBy: long, Head: fleet.Revision(long), Message: long}} {
		t.Run(name, func(t *testing.T) {
			h, s := newHub(t), newSpoke()
			for i := range 500 {
				each := one
				each.URL = fmt.Sprint(i, each.URL)
				s.sources = append(s.sources, each)
			}
			run(t, h.token("j1"), s, &vault{})
			h.is("some of them arrive, in their order", func() bool {
				return len(h.sources) > 2 && len(h.sources) <= fleet.MaxSources && strings.HasPrefix(h.sources[1].URL, "1"+one.URL[:2])
			})
		})
	}
}

// A request that was under way when the link went is not waited for.
func TestALostLinkDoesNotHoldUpTheNextOne(t *testing.T) {
	h, v := newHub(t), &vault{}
	u, _ := run(t, h.token("j1"), newSpoke(status("web", "well")), v)
	h.is("it is there", func() bool { return h.resent == 1 })
	h.set(func() { h.mute = true })
	beats := 0
	h.set(func() { beats = h.beats })
	u.Changed(status("web", "worse"))
	h.is("a heartbeat and a report are under way", func() bool { return h.beats > beats && h.unanswered > 1 })
	h.down()
	h.set(func() { h.mute = false })
	began := time.Now()
	h.up()
	h.is("it is back", func() bool { return h.statuses["web"] == "worse" })
	if waited := time.Since(began); waited > 6*time.Second {
		t.Errorf("it took %s", waited)
	}
}
