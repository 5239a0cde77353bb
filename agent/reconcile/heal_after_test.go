package reconcile_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func healedAfter(d string) string {
	return strings.Replace(rootOf("web"), "spec: {", "spec: {sync: {selfHealAfter: "+d+"}, ", 1)
}

func TestADriftMayStandForAWhileAndIsThenUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": healedAfter("5m"), "web": configMaps("1", "a")}, nil)
		s.synced("web")
		applied := s.cluster.content(configMap("a"))
		edited := strings.ReplaceAll(applied, `"1"`, `"by hand"`)
		s.cluster.edit(configMap("a"), edited)
		told := s.because("web", "Drifted")
		due := told.Drift[0].Since.Add(5 * time.Minute)
		if want := "it is put back at " + due.UTC().Format(time.RFC3339); !strings.Contains(told.Message, want) {
			t.Errorf("%q does not say %q", told.Message, want)
		}
		// Another change meanwhile does not begin the time anew.
		time.Sleep(4 * time.Minute)
		edited = strings.ReplaceAll(applied, `"1"`, `"by hand again"`)
		s.cluster.edit(configMap("a"), edited)
		synctest.Wait()
		if s.cluster.content(configMap("a")) != edited {
			t.Fatal("it was undone before its time")
		}
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if s.cluster.content(configMap("a")) != applied {
			t.Fatal("it was not undone")
		}
		if got := s.synced("web"); len(got.Drift) > 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestADriftFromBeforeARestartIsAsOldAsTheObjectTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": healedAfter("1h"), "web": configMaps("1", "a")}, nil)
		s.synced("web")
		applied := s.cluster.content(configMap("a"))
		theirs := strings.Replace(strings.Replace(applied, `"1"`, `"9"`, 1), `"metadata":{`, `"metadata":{"managedFields":[
			{"manager":"tuner","operation":"Update","apiVersion":"v1","time":"`+time.Now().UTC().Format(time.RFC3339)+`","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:value":{}}}}],`, 1)
		s.cluster.edit(configMap("a"), theirs)
		s.because("web", "Drifted")
		time.Sleep(50 * time.Minute)
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		s.start()
		s.because("web", "Drifted")
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		if s.cluster.content(configMap("a")) != applied {
			t.Error("the hour began anew")
		}
	})
}

func TestASyncThatAPersonAsksForUndoesWhatStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpoke(t, map[string]string{"root": healedAfter("1h"), "web": configMaps("1", "a")}, nil)
		s.synced("web")
		applied := s.cluster.content(configMap("a"))
		s.cluster.edit(configMap("a"), strings.ReplaceAll(applied, `"1"`, `"by hand"`))
		s.because("web", "Drifted")
		in := fleet.Intent{Instance: "hub", Revision: 1, Syncs: []fleet.SyncRequest{{ID: "now", App: app("web")}}}
		if err := s.engine.TakeIntent(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		s.synced("web")
		if s.cluster.content(configMap("a")) != applied {
			t.Error("it stands still")
		}
	})
}
