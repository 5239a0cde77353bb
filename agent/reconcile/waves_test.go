package reconcile_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// inWave is a ConfigMap of a wave.
func inWave(name, wave, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: shop, annotations: {capstan.dev/wave: %q}}\ndata: {value: %q}\n", name, wave, value)
}

func inWaves(value string) string {
	return inWave("late", "2", value) + "\n---\n" + inWave("early", "-1", value) + "\n---\n" + configMaps(value, "plain")
}

func waitsFor(text string) func(fleet.AppStatus) bool {
	return func(a fleet.AppStatus) bool {
		return a.Sync == fleet.OutOfSync && a.Reason == "WaitsForWave" && strings.Contains(a.Message, text)
	}
}

func TestAWaveWaitsForTheOneBeforeItToBeHealthy(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.unwell["early"], s.cluster.unwell["plain"] = true, true
	s.push(map[string]string{"root": rootOf("web"), "web": inWaves("1")})

	s.until("web", "waiting for the first wave", waitsFor("wave 0 comes after wave -1, in which ConfigMap shop/early is Progressing: starts"))
	if s.cluster.there(configMap("plain")) || s.cluster.there(configMap("late")) {
		t.Error("a later wave came before its time")
	}
	renders := len(s.repo.renders)
	s.cluster.becomes(configMap("early"), true)
	s.until("web", "waiting for the second wave", waitsFor("ConfigMap shop/plain is Progressing"))
	if s.cluster.there(configMap("late")) {
		t.Error("the last wave came before its time")
	}
	s.cluster.becomes(configMap("plain"), true)
	s.synced("web")
	s.repo.mu.Lock()
	defer s.repo.mu.Unlock()
	if n := len(s.repo.renders); n != renders {
		t.Errorf("going on took %d renders", n-renders)
	}
}

func TestANewCommitEndsTheWait(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("0", "old")}, nil)
	s.synced("web")
	s.cluster.unwell["early"] = true
	s.push(map[string]string{"web": inWaves("1")})
	s.until("web", "waiting", waitsFor("early"))
	if !s.cluster.there(configMap("old")) {
		t.Error("something was pruned in the middle of a change")
	}
	// What runs meanwhile is healed to what was applied last, not to what came before.
	s.cluster.edit(configMap("early"), strings.ReplaceAll(s.cluster.content(configMap("early")), "1", "by hand"))
	s.until("web", "healed", func(fleet.AppStatus) bool {
		return strings.Contains(s.cluster.content(configMap("early")), `"value":"1"`)
	})

	s.push(map[string]string{"web": configMaps("2", "plain")})
	s.until("web", "at the new content", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("plain")), `"2"`)
	})
	if s.cluster.there(configMap("early")) || s.cluster.there(configMap("old")) {
		t.Error("what left the app is there still")
	}
}

func TestARestartInTheMiddleGoesOnWhereItWas(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.unwell["early"] = true
	s.push(map[string]string{"root": rootOf("web"), "web": inWaves("1")})
	s.until("web", "waiting", waitsFor("early"))
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	sent := s.cluster.sent
	s.start()
	s.until("web", "waiting again", waitsFor("early"))
	if s.cluster.sent != sent {
		t.Errorf("%d objects were sent again", s.cluster.sent-sent)
	}
	s.cluster.becomes(configMap("early"), true)
	s.synced("web")
}

func TestAWaveThatTakesTooLongSaysSoAndGoesOnWaiting(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.unwell["early"] = true
	s.push(map[string]string{"root": strings.Replace(rootOf("web"), "spec: {", "spec: {sync: {waveTimeout: 1ms}, ", 1), "web": inWaves("1")})
	late := s.because("web", "WaveTimedOut")
	if !strings.Contains(late.Message, "for more than 1ms") {
		t.Errorf("%+v", late)
	}
	s.cluster.becomes(configMap("early"), true)
	s.synced("web")
}

func TestAWaveThatIsNoNumberTouchesNothing(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("0", "plain")}, nil)
	s.synced("web")
	s.push(map[string]string{"web": inWave("early", "soon", "1")})
	bad := s.because("web", "ApplyFailed")
	if !strings.Contains(bad.Message, "early") || !strings.Contains(bad.Message, "soon") || bad.Hint == "" || !s.cluster.there(configMap("plain")) {
		t.Errorf("%+v", bad)
	}
}

func dependsOn(name string, on ...string) string {
	return strings.Replace(rootOf(name), "spec: {", "spec: {dependsOn: [{name: "+strings.Join(on, "}, {name: ")+"}], ", 1)
}

func dependency(text string) func(fleet.AppStatus) bool {
	return func(a fleet.AppStatus) bool {
		return a.Sync == fleet.OutOfSync && a.Reason == "WaitsForDependency" && strings.Contains(a.Message, text)
	}
}

func TestAnAppWaitsForThoseItDependsOn(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": ""}, nil)
	s.cluster.unwell["db"] = true
	files := map[string]string{"root": dependsOn("web", "db") + "\n---\n" + rootOf("db"), "web": configMaps("1", "web"), "db": configMaps("1", "db")}
	s.push(files)
	s.until("web", "waiting", dependency("it depends on capstan-system/db, which is Progressing"))
	if s.cluster.there(configMap("web")) {
		t.Error("it came before what it depends on")
	}
	s.cluster.becomes(configMap("db"), true)
	s.synced("web")

	// A commit to both: the old health of the one is no leave for the other.
	s.cluster.mu.Lock()
	s.cluster.unwell["db"] = true
	s.cluster.mu.Unlock()
	s.push(map[string]string{"web": configMaps("2", "web"), "db": configMaps("2", "db")})
	s.until("web", "waiting again", dependency("db"))
	if strings.Contains(s.cluster.content(configMap("web")), `"2"`) {
		t.Error("it changed before what it depends on was well")
	}
	s.cluster.becomes(configMap("db"), true)
	s.until("web", "changed", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("web")), `"2"`)
	})
}

// After a restart Git may be fetched, and the root not read yet: how an app is then, is
// how it was before, and no leave for those that depend on it.
func TestHowAnAppWasBeforeARestartLetsNoneChangeThatDependsOnIt(t *testing.T) {
	files := map[string]string{"root": dependsOn("web", "db") + "\n---\n" + rootOf("db"), "web": configMaps("1", "web"), "db": configMaps("1", "db")}
	s := newSpoke(t, files, nil)
	s.synced("web")
	s.synced("db")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	files["web"], files["db"] = configMaps("2", "web"), configMaps("2", "db")
	waits := map[string]chan struct{}{"root": make(chan struct{}), "db": make(chan struct{})}
	goOn := map[string]func(){}
	begun := make(chan struct{})
	begins := sync.OnceFunc(func() { close(begun) })
	for path, c := range waits {
		goOn[path] = sync.OnceFunc(func() { close(c) })
		t.Cleanup(goOn[path])
	}
	s.repo.onRender = func(path string) {
		if path == "root" {
			begins()
		}
		if c := waits[path]; c != nil {
			<-c
		}
	}
	s.repo.mu.Lock()
	s.start()
	s.eventually("wanted as before", func() bool { return s.sources.askedFor("db") > 0 })
	s.repo.mu.Unlock()
	<-begun
	s.lookedAt("db", configMap("db"))
	goOn["root"]()
	s.until("web", "waiting", dependency("db, which was not looked at yet"))
	if strings.Contains(s.cluster.content(configMap("web")), `"2"`) {
		t.Error("it changed before what it depends on")
	}
	goOn["db"]()
	s.until("web", "changed", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("web")), `"2"`)
	})
}

func TestADependencyThatIsNotHereIsNamed(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": dependsOn("web", "db"), "web": configMaps("1", "web")}, nil)
	s.until("web", "waiting", dependency("capstan-system/db, which is not for this cluster"))
	s.push(map[string]string{"root": dependsOn("web", "db") + "\n---\n" + rootOf("db"), "db": configMaps("1", "db")})
	s.synced("web")
}

func TestAppsThatDependOnThemselvesAreRefusedAndKeepWhatRuns(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("a", "b", "c"), "a": configMaps("1", "a"), "b": configMaps("1", "b"), "c": configMaps("1", "c")}, nil)
	s.synced("a")
	s.synced("b")
	s.push(map[string]string{"root": dependsOn("a", "b") + "\n---\n" + dependsOn("b", "a") + "\n---\n" + rootOf("c"), "a": configMaps("2", "a"), "c": configMaps("2", "c")})
	for name, way := range map[string]string{"a": "capstan-system/a -> capstan-system/b -> capstan-system/a", "b": "capstan-system/b -> capstan-system/a -> capstan-system/b"} {
		bad := s.because(name, "InvalidSpec")
		if bad.Sync != fleet.SyncUnknown || !strings.Contains(bad.Message, way) || bad.Hint == "" {
			t.Errorf("%+v", bad)
		}
	}
	s.until("c", "at the new content", func(fleet.AppStatus) bool { return strings.Contains(s.cluster.content(configMap("c")), `"2"`) })
	if !strings.Contains(s.cluster.content(configMap("a")), `"1"`) {
		t.Error("an app in a circle was changed")
	}
}
