package reconcile_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestAppsMayExchangeObjectsWithOneCommit(t *testing.T) {
	for name, c := range map[string]struct{ before, after map[string][]string }{
		"two": {
			map[string][]string{"web": {"a", "one"}, "db": {"b", "two"}},
			map[string][]string{"web": {"a", "two"}, "db": {"b", "one"}},
		},
		"three in a ring": {
			map[string][]string{"web": {"a", "one"}, "db": {"b", "two"}, "mq": {"c", "three"}},
			map[string][]string{"web": {"a", "three"}, "db": {"b", "one"}, "mq": {"c", "two"}},
		},
		"two, and a third takes from one": {
			map[string][]string{"web": {"a", "one", "three"}, "db": {"b", "two"}, "mq": {"c"}},
			map[string][]string{"web": {"a", "two"}, "db": {"b", "one"}, "mq": {"c", "three"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := exchanging(t, c.before)
			s.push(contentsOf("2", c.after))
			s.haveAll("2", c.after)
		})
	}
}

// contentsOf are the files of apps that have objects.
func contentsOf(value string, apps map[string][]string) map[string]string {
	files := map[string]string{}
	for name, objects := range apps {
		files[name] = configMaps(value, objects...)
	}
	return files
}

// What is not to be pruned changes hands as it is.
func TestWhatStaysWhenItLeavesIsExchangedWithoutBeingDeleted(t *testing.T) {
	stays := func(value, name string) string {
		return strings.Replace(configMaps(value, name), "shop}", `shop, annotations: {capstan.dev/prune: "false"}}`, 1)
	}
	s := newSpoke(t, map[string]string{
		"root": rootOf("web", "db"), "web": docs(configMaps("1", "a"), stays("1", "one")), "db": docs(configMaps("1", "b"), stays("1", "two")),
	}, nil)
	s.haveAll("1", map[string][]string{"web": {"a", "one"}, "db": {"b", "two"}})
	one, two := s.cluster.uid(configMap("one")), s.cluster.uid(configMap("two"))
	s.push(map[string]string{"web": docs(configMaps("2", "a"), stays("2", "two")), "db": docs(configMaps("2", "b"), stays("2", "one"))})
	s.haveAll("2", map[string][]string{"web": {"a", "two"}, "db": {"b", "one"}})
	if s.cluster.uid(configMap("one")) != one || s.cluster.uid(configMap("two")) != two {
		t.Error("they were made anew")
	}
}

func exchanging(t *testing.T, apps map[string][]string, adapt ...func(*reconcile.Config)) *spoke {
	t.Helper()
	files := contentsOf("1", apps)
	var names []string
	for name := range apps {
		names = append(names, name)
	}
	files["root"] = rootOf(names...)
	s := newSpoke(t, files, func(c *reconcile.Config) {
		for _, a := range adapt {
			a(c)
		}
	})
	s.haveAll("1", apps)
	return s
}

// haveAll waits until each app is synced and has its objects, at a value.
func (s *spoke) haveAll(value string, apps map[string][]string) {
	s.t.Helper()
	for name, objects := range apps {
		s.until(name, fmt.Sprintf("with %v at %s", objects, value), func(a fleet.AppStatus) bool {
			for _, o := range objects {
				if s.cluster.holder(configMap(o)) != app(name) || !strings.Contains(s.cluster.content(configMap(o)), `"`+value+`"`) {
					return false
				}
			}
			return a.Sync == fleet.Synced && a.Objects == len(objects)
		})
	}
}

// Each write of the one app in turn is its last.
func TestAnAgentThatEndsAtAnyWriteGoesOnExchanging(t *testing.T) {
	before := map[string][]string{"web": {"a", "one"}, "db": {"b", "two"}}
	after := map[string][]string{"web": {"a", "two"}, "db": {"b", "one"}}
	for _, lost := range []bool{false, true} {
		for n := 1; n < 4; n++ {
			s := exchanging(t, before)
			s.memory.endAt(n, lost)
			s.push(contentsOf("2", after))
			ended := s.endsOr("exchanged", func() bool {
				return s.cluster.holder(configMap("two")) == app("web") && s.cluster.holder(configMap("one")) == app("db") && s.memory.uid("web", configMap("two")) != ""
			})
			s.memory.endAt(0, false)
			if ended {
				s.start()
			}
			s.haveAll("2", after)
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestOfAppsThatBothWantAnObjectNoneGivesUpAnother(t *testing.T) {
	before := map[string][]string{"web": {"a", "one"}, "db": {"b", "two"}, "mq": {"c", "three"}}
	for name, after := range map[string]map[string][]string{
		"nor leave one to each other":           {"web": {"a", "one", "two"}, "db": {"b", "one", "two"}},
		"one leaves one to the other":           {"web": {"a", "b"}, "db": {"b", "one", "two"}},
		"both leave one to each other":          {"web": {"a", "two", "b"}, "db": {"b", "one"}},
		"one waits for a third that is refused": {"web": {"a", "two", "three"}, "db": {"b", "one"}, "mq": {"c", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := exchanging(t, before)
			s.push(contentsOf("2", after))
			s.because("web", "ApplyFailed")
			s.because("db", "ApplyFailed")
			for _, o := range []string{"a", "one", "b", "two", "c", "three"} {
				if !strings.Contains(s.cluster.content(configMap(o)), `"1"`) {
					t.Errorf("%s is %s", o, s.cluster.content(configMap(o)))
				}
			}
		})
	}
}

// What is given up beforehand is no leave for a new account: all that stays is checked.
func TestAnAccountThatIsNewInAnExchangeIsCheckedForAllThatStays(t *testing.T) {
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: key, namespace: shop}\n"
	s := newSpoke(t, map[string]string{
		"root": docs(appliedAs("web", "first"), rootOf("db")), "web": docs(configMaps("1", "a", "one"), secret), "db": configMaps("1", "b", "two"),
	}, nil)
	s.synced("web")
	s.synced("db")
	s.cluster.mu.Lock()
	s.cluster.powerless["capstan-system/second"] = "Secret"
	s.cluster.mu.Unlock()
	s.push(map[string]string{"root": docs(appliedAs("web", "second"), rootOf("db")), "web": docs(configMaps("2", "a", "two"), secret), "db": configMaps("2", "b", "one")})
	got := s.until("web", "refused", func(a fleet.AppStatus) bool {
		return a.Reason == "ApplyFailed" && strings.Contains(a.Message, "second")
	})
	if !strings.Contains(got.Message, "Secret") {
		t.Errorf("%+v", got)
	}
}

// untouched tells that objects are as they were made.
func (s *spoke) untouched(objects ...string) {
	s.t.Helper()
	for _, o := range objects {
		if !strings.Contains(s.cluster.content(configMap(o)), `"1"`) {
			s.t.Errorf("%s is %q", o, s.cluster.content(configMap(o)))
		}
	}
}

func TestWhoWentBackToWhatItHasKeepsItInAnExchange(t *testing.T) {
	s := exchanging(t, map[string][]string{"web": {"a", "one"}, "db": {"b", "two"}})
	s.push(map[string]string{"db": configMaps("1", "b", "one")})
	s.because("db", "ApplyFailed")
	s.push(map[string]string{"db": configMaps("1", "b", "two"), "web": configMaps("1", "a", "two")})
	s.because("web", "ApplyFailed")
	s.synced("db")
	s.lookedAt("web", configMap("a"))
	s.because("web", "ApplyFailed")
	s.untouched("a", "one", "b", "two")
}

func TestWhatAnAppHasSinceBeforeARestartIsNotTakenForGivenUp(t *testing.T) {
	s := exchanging(t, map[string][]string{"web": {"a", "one"}, "db": {"b", "two"}, "mq": {"c", "three"}})
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.synced("db")
	s.push(contentsOf("1", map[string][]string{"web": {"a", "two", "three"}, "mq": {"c", "one"}}))
	s.because("web", "ApplyFailed")
	s.because("mq", "ApplyFailed")
	s.untouched("a", "one", "b", "two", "c", "three")
}

func TestWhoPrunesNothingExchangesNothing(t *testing.T) {
	unpruned := func(name string) string {
		return strings.Replace(rootOf(name), "spec: {", "spec: {sync: {prune: false}, ", 1)
	}
	for name, root := range map[string]string{
		"neither": docs(unpruned("web"), unpruned("db")),
		"one":     docs(unpruned("web"), rootOf("db")),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpoke(t, map[string]string{"root": root, "web": configMaps("1", "a", "one"), "db": configMaps("1", "b", "two")}, nil)
			s.synced("web")
			s.synced("db")
			s.push(map[string]string{"web": configMaps("2", "a", "two"), "db": configMaps("2", "b", "one")})
			s.because("web", "ApplyFailed")
			s.because("db", "ApplyFailed")
			s.untouched("a", "one", "b", "two")
		})
	}
}

// One gave its own up, and the other one goes on in its own time: that is no error, and
// costs neither a render nor a write.
func TestWhoHasGivenItsOwnUpWaitsWithoutWork(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "a", "one"), "db": configMaps("1", "b", "two")},
		func(c *reconcile.Config) { c.Workers = 1 })
	s.synced("web")
	s.synced("db")
	s.cluster.ills("first", "early")
	s.push(map[string]string{
		"web": docs(inWave("first", "-1", "2"), configMaps("2", "a", "two")),
		"db":  docs(inWave("early", "-1", "2"), configMaps("2", "b", "one")),
	})
	reason := func(name string) string {
		s.told.mu.Lock()
		defer s.told.mu.Unlock()
		return s.told.apps[app(name)].Reason
	}
	waits, has, own := "web", "db", "a"
	s.eventually("one waits for the other", func() bool {
		if reason(waits) != "WaitsForApp" {
			waits, has, own = "db", "web", "b"
		}
		if reason(waits) != "WaitsForApp" {
			waits, has, own = "web", "db", "a"
		}
		return reason(waits) == "WaitsForApp" && reason(has) == "WaitsForWave"
	})
	if got := s.because(waits, "WaitsForApp"); !strings.Contains(got.Message, ", which capstan-system/"+has+" is about to give up") {
		t.Errorf("%+v", got)
	}
	renders, writes := s.work()
	s.lookedAt(waits, configMap(own))
	if r, w := s.work(); r != renders || w != writes {
		t.Errorf("%d renders and %d writes", r-renders, w-writes)
	}
	s.because(waits, "WaitsForApp")
	s.cluster.becomes(configMap("first"), true)
	s.cluster.becomes(configMap("early"), true)
	s.haveAll("2", map[string][]string{"web": {"a", "two", "first"}, "db": {"b", "one", "early"}})
}

// Commit after commit deals the objects to the apps anew, in whatever rings and rows
// come of it, and the agent ends now and then: all of them have their own in the end.
func TestHoweverObjectsAreDealtEachAppComesToHaveItsOwn(t *testing.T) {
	names, objects := []string{"web", "db", "mq", "api"}, []string{"one", "two", "three", "four", "five", "six"}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret
	deal := func() map[string][]string {
		out := map[string][]string{}
		for _, n := range names {
			out[n] = []string{"of-" + n}
		}
		for _, o := range objects {
			n := names[r.IntN(len(names))]
			out[n] = append(out[n], o)
		}
		return out
	}
	s := exchanging(t, deal(), func(c *reconcile.Config) { c.Guard.MaxPercent = 100 })
	for i := range 20 {
		value := fmt.Sprint(i + 2)
		now := deal()
		t.Logf("seed %d, deal %s: %v", seed, value, now)
		s.push(contentsOf(value, now))
		if r.IntN(4) == 0 {
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			s.start()
		}
		s.haveAll(value, now)
	}
}

// work is how many renders and writes there were.
func (s *spoke) work() (renders, writes int) {
	s.repo.mu.Lock()
	defer s.repo.mu.Unlock()
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	return len(s.repo.renders), s.memory.writes
}

func TestAnExchangeWaitsForTheApprovalsOfBoth(t *testing.T) {
	key, line := newKey(t, alice)
	s := guarded(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "a", "one"), "db": configMaps("1", "b", "two")}, line, nil)
	var all []fleet.SignedApproval
	approve := func(name string) {
		all = append(all, s.sign(key, s.statement(name)))
		s.bring(all...)
	}
	for _, name := range []string{"web", "db"} {
		s.because(name, "WaitsForApproval")
		approve(name)
		s.synced(name)
	}
	s.push(map[string]string{"web": configMaps("2", "a", "two"), "db": configMaps("2", "b", "one")})
	s.because("web", "WaitsForApproval")
	s.because("db", "WaitsForApproval")
	s.untouched("a", "one", "b", "two")
	approve("web")
	s.because("web", "WaitsForApp")
	s.eventually("given up", func() bool { return !s.cluster.there(configMap("one")) })
	s.because("db", "WaitsForApproval")
	s.untouched("a", "b", "two")
	renders, writes := s.work()
	s.lookedAt("web", configMap("a"))
	s.lookedAt("db", configMap("b"))
	if r, w := s.work(); r != renders || w != writes {
		t.Errorf("%d renders and %d writes", r-renders, w-writes)
	}
	approve("db")
	s.haveAll("2", map[string][]string{"web": {"a", "two"}, "db": {"b", "one"}})
}

// A plan that waited, and is wanted no more, keeps no name from others.
func TestWhatAnAppIsToHaveNoMoreIsFreeForOthers(t *testing.T) {
	key, line := newKey(t, alice)
	s := guarded(t, map[string]string{"root": rootOf("web", "db"), "web": docs(configMaps("1", "a"), hookOf("job", "1", postSync)), "db": configMaps("1", "b")}, line, nil)
	var all []fleet.SignedApproval
	for _, name := range []string{"web", "db"} {
		s.because(name, "WaitsForApproval")
		all = append(all, s.sign(key, s.statement(name)))
		s.bring(all...)
		s.synced(name)
	}
	s.push(map[string]string{"web": docs(configMaps("1", "a", "new"), hookOf("job", "1", postSync))})
	s.because("web", "WaitsForApproval")
	s.push(map[string]string{"web": docs(configMaps("1", "a"), hookOf("job", "1", postSync))})
	s.synced("web")
	s.push(map[string]string{"db": configMaps("1", "b", "new")})
	s.because("db", "WaitsForApproval")
	s.push(map[string]string{"db": docs(configMaps("1", "b"), hookOf("job", "2", postSync))})
	if got := s.because("db", "ApplyFailed"); !strings.Contains(got.Message, "capstan-system/web has it already") {
		t.Errorf("%+v", got)
	}
}

// What is given up beforehand goes in the waves backwards, too, and is waited for without work.
func TestWhatIsExchangedGoesInTheWavesBackwards(t *testing.T) {
	s := newSpoke(t, map[string]string{
		"root": rootOf("web", "db"),
		"web":  docs(configMaps("1", "a"), inWave("late", "2", "1"), inWave("early", "1", "1")), "db": docs(configMaps("1", "b"), inWave("last", "2", "1"), inWave("first", "1", "1")),
	}, nil)
	s.synced("web")
	s.synced("db")
	s.cluster.hold("late", true)
	s.cluster.hold("last", true)
	s.push(map[string]string{"web": configMaps("2", "a", "last", "first"), "db": configMaps("2", "b", "late", "early")})
	reason := func(name string) string {
		s.told.mu.Lock()
		defer s.told.mu.Unlock()
		return s.told.apps[app(name)].Reason
	}
	s.eventually("one gives up", func() bool { return reason("web") == "Pruning" || reason("db") == "Pruning" })
	s.untouched("early", "first")
	for _, name := range []string{"late", "last"} {
		s.cluster.hold(name, false)
		s.cluster.touch(configMap(name))
	}
	s.haveAll("2", map[string][]string{"web": {"a", "last", "first"}, "db": {"b", "late", "early"}})
}

// What the API server refuses of a change is known before anything is given up for it.
func TestNothingIsGivenUpForAChangeThatIsRefused(t *testing.T) {
	refuse := "\n---\n" + configMaps("refuse", "bad")
	const dislikes, keeps = "the API server does not like it", "has it already"
	for name, c := range map[string]struct {
		web, db string
		says    map[string]string // of each app
	}{
		"one's":                  {configMaps("2", "a", "two") + refuse, configMaps("2", "b", "one"), map[string]string{"web": dislikes, "db": keeps}},
		"what stays and changes": {configMaps("2", "a", "two"), docs(configMaps("refuse", "b"), configMaps("2", "one")), map[string]string{"web": keeps, "db": dislikes}},
		"both":                   {configMaps("2", "a", "two") + refuse, configMaps("2", "b", "one") + refuse, map[string]string{"web": "", "db": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 5 { // whoever comes first
				s := exchanging(t, map[string][]string{"web": {"a", "one"}, "db": {"b", "two"}})
				s.push(map[string]string{"web": c.web, "db": strings.ReplaceAll(c.db, "name: bad", "name: worse")})
				for name, says := range c.says {
					s.until(name, "refused", func(a fleet.AppStatus) bool { return a.Reason == "ApplyFailed" && strings.Contains(a.Message, says) })
				}
				s.untouched("a", "one", "b", "two")
				after := map[string][]string{"web": {"a", "two"}, "db": {"b", "one"}}
				s.push(contentsOf("3", after))
				s.haveAll("3", after)
				if err := s.stop(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// What can't be checked before others gave it up is left out of that: objects of theirs,
// and what is in a Namespace of theirs.
func TestWhatHangsOnOthersObjectsIsNotCheckedBeforeTheyAreGivenUp(t *testing.T) {
	space := "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"
	s := newSpoke(t, map[string]string{"root": rootOf("web", "db"), "web": configMaps("1", "one"), "db": docs(space, configMaps("1", "two"))},
		func(c *reconcile.Config) { c.Guard.MaxPercent = 100 })
	s.synced("web")
	s.synced("db")
	s.cluster.mu.Lock()
	s.cluster.checked = nil
	s.cluster.mu.Unlock()
	elsewhere := strings.ReplaceAll(configMaps("2", "far", "away"), "shop", "elsewhere")
	s.push(map[string]string{"web": docs(space, configMaps("2", "three"), elsewhere), "db": docs(configMaps("2", "one", "two"))})
	plan := s.because("db", "WaitsForConfirmation")
	s.confirm("db", plan.Pending.Plan)
	s.synced("db")
	s.synced("web")
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	times := map[string]int{}
	for _, name := range s.cluster.checked {
		times[name]++
	}
	if times["far"] != 2 || times["away"] != 2 || times["three"] != 1 || times["shop"] != 1 || times["one"] > 1 {
		t.Errorf("checked %v", s.cluster.checked)
	}
}
