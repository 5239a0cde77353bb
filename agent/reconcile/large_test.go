package reconcile_test

import (
	"crypto/sha512"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/state/statetest"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// An app of thousands of objects does not fit into one Secret. It is kept all the
// same, through restarts, and taken away to the last object.
func TestAnAppOfThousandsIsKeptAndTakenAwayToTheLastObject(t *testing.T) {
	const many = 2000
	api := statetest.Serve(t)
	names := make([]string, many)
	docs := make([]string, many)
	for i := range many {
		names[i] = fmt.Sprint("object-", i)
		noise := "" // does not compress
		for n := range 9 {
			noise += fmt.Sprintf("%x", sha512.Sum512(fmt.Append(nil, i, n)))
		}
		docs[i] = configMaps(noise, names[i])
	}
	s := newSpoke(t, map[string]string{"root": rootOf("db"), "large": strings.Join(docs, "\n---\n"), "db": configMaps("1", "db")}, nil)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.store = func() reconcile.Memory {
		store, err := state.New(api.Config(), "capstan-system")
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	s.patience = time.Minute
	s.start()
	s.synced("db")
	s.push(map[string]string{"root": rootOf("db", "large")})
	s.synced("large")
	if n := partsOf(api, "large"); n < 3 {
		t.Fatalf("it is kept in %d parts: this test shows nothing", n)
	}

	restart := func() {
		t.Helper()
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		s.start()
	}
	restart()
	if got := s.synced("large"); got.Objects != many {
		t.Fatalf("%d objects are known after a restart", got.Objects)
	}

	// It is stopped in the middle of its end, and goes on from there.
	s.cluster.hold(names[many/2], true)
	s.push(map[string]string{"root": rootOf("db")})
	s.because("large", "Removing")
	restart()
	s.cluster.hold(names[many/2], false)
	s.cluster.touch(configMap(names[many/2]))
	s.until("large", "gone", func(a fleet.AppStatus) bool { return a.App == "" && partsOf(api, "large") == 0 })
	for _, name := range names {
		if s.cluster.there(configMap(name)) {
			t.Fatalf("%s was forgotten", name)
		}
	}
	for _, name := range api.Names() {
		if strings.Contains(name, ".large") {
			t.Errorf("Secret %s is left", name)
		}
	}
}

func partsOf(api *statetest.API, app string) int {
	n := 0
	for _, name := range api.Names() {
		if strings.HasPrefix(name, "capstan-app.capstan-system."+app+".") {
			n++
		}
	}
	return n
}
