package reconcile_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestAFightIsOverAfterTenMinutesWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "a")}, nil)
		s.synced("web")
		applied := s.cluster.content(configMap("a"))
		theirs := strings.Replace(strings.Replace(applied, `"1"`, `"9"`, 1), `"metadata":{`, `"metadata":{"managedFields":[
			{"manager":"tuner","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:value":{}}}}],`, 1)
		undone := func() {
			t.Helper()
			s.cluster.edit(configMap("a"), theirs)
			s.until("web", "put back", func(fleet.AppStatus) bool { return s.cluster.content(configMap("a")) == applied })
		}
		for range 5 {
			undone()
		}
		s.because("web", "Fight")

		time.Sleep(9 * time.Minute) // of the bubble's own clock
		synctest.Wait()
		s.because("web", "Fight")

		// Once more within the ten minutes: they begin anew.
		undone()
		time.Sleep(9 * time.Minute)
		synctest.Wait()
		s.because("web", "Fight")

		time.Sleep(time.Minute + 2*time.Second)
		synctest.Wait()
		if over := s.synced("web"); over.Reason != "Healthy" || over.Hint != "" {
			t.Fatalf("it is told still: %+v", over)
		}
		// What was counted is forgotten: one change more is no fight, and undone at once.
		before := time.Now()
		undone()
		if waited := time.Since(before); waited > time.Second {
			t.Errorf("it was put back after %s only", waited)
		}
		synctest.Wait()
		if got := s.synced("web"); got.Reason != "Healthy" {
			t.Errorf("%+v", got)
		}
	})
}
