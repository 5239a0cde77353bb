package health_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/agent/health"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// database is a check as users of Flux write it.
var database = health.Check{
	APIVersion: "example.com/v1", Kind: "Database",
	InProgress: "status.phase == 'Creating'",
	Failed:     "status.phase == 'Failed'",
	Suspended:  "has(spec.paused) && spec.paused",
	Current:    "status.phase == 'Ready' && status.conditions.filter(c, c.type == 'Synced').all(c, c.status == 'True')",
}

func compile(t *testing.T, list ...health.Check) *health.Checks {
	t.Helper()
	checks, err := new(health.Compiler).Compile(list)
	if err != nil {
		t.Fatal(err)
	}
	return checks
}

func TestExpressionsSayHowAKindIs(t *testing.T) {
	checks := compile(t, database)
	for _, c := range []struct {
		name, body string
		want       fleet.Health
		message    string
	}{
		{"ready", "status: {phase: Ready, conditions: [{type: Synced, status: 'True'}]}", fleet.Healthy, ""},
		{"on its way", "status: {phase: Creating, conditions: []}", fleet.Progressing, "inProgress is true: status.phase == 'Creating'"},
		{"failed, in its own words", "status: {phase: Failed, conditions: [{type: Ready, status: 'False', reason: NoDisk, message: the disk is full}]}", fleet.Degraded, "NoDisk: the disk is full"},
		{"stopped by somebody", "spec: {paused: true}\nstatus: {phase: Idle, conditions: []}", fleet.Suspended, "suspended is true: has(spec.paused) && spec.paused"},
		{"none of these", "status: {phase: Odd, conditions: []}", fleet.Progressing, "current is not true yet: " + database.Current},
		{"without a status yet", "spec: {}", fleet.Progressing, "has no status yet (inProgress: no such key: phase)"},
		{"without what is asked for", "status: {conditions: []}", fleet.HealthUnknown, "the health check's inProgress can't be told: no such key: phase"},
		{"with another type of it", "status: {phase: Ready, conditions: 7}", fleet.HealthUnknown, "the health check's current can't be told: a value is of another type than the expression takes it for"},
		{"not seen by its controller", "metadata: {generation: 2}\nstatus: {observedGeneration: 1, phase: Ready, conditions: []}", fleet.Progressing, "its controller has seen generation 1 of 2"},
		{"on its way out", "metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}\nstatus: {phase: Ready}", fleet.Progressing, "is being deleted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := health.Of(parse(t, "example.com/v2 Database", c.body), checks)
			if got.Health != c.want || got.Message != c.message {
				t.Errorf("got %s %q, want %s %q", got.Health, got.Message, c.want, c.message)
			}
		})
	}
}

func TestTheFirstCheckOfAKindCounts(t *testing.T) {
	own := compile(t, health.Check{APIVersion: "apps/v1", Kind: "Deployment", Current: "object.spec.?replicas.orValue(0) == 0"})
	cluster := compile(t,
		health.Check{APIVersion: "apps/v1", Kind: "Deployment", Current: "false"},
		health.Check{APIVersion: "v1", Kind: "ConfigMap", Current: "'ready' in data", Message: "'waits for ' + metadata.name"})
	if got := health.Of(parse(t, "apps/v1 Deployment", "spec: {}"), own, cluster); got.Health != fleet.Healthy {
		t.Errorf("the app's own: %+v", got)
	}
	if got := health.Of(parse(t, "v1 ConfigMap", "metadata: {name: a}\ndata: {a: b}"), own, cluster); got.Health != fleet.Progressing || got.Message != "waits for a" {
		t.Errorf("the cluster's: %+v", got)
	}
	if got := health.Of(parse(t, "v1 Service", "spec: {clusterIP: 10.0.0.1}"), own, nil, cluster); got.Health != fleet.Healthy {
		t.Errorf("a kind without one: %+v", got)
	}
}

func TestACheckMayLookAtTheGenerationItself(t *testing.T) {
	checks := compile(t, health.Check{APIVersion: "example.com/v1", Kind: "Database", Current: "status.observedGeneration >= 1"})
	if got := health.Of(parse(t, "example.com/v1 Database", "metadata: {generation: 2}\nstatus: {observedGeneration: 1}"), checks); got.Health != fleet.Healthy {
		t.Errorf("%+v", got)
	}
}

func TestABadExpressionIsNamedWithItsField(t *testing.T) {
	long := "true" + strings.Repeat(" && true", 300)
	for _, c := range []struct {
		name  string
		check health.Check
		want  []string
	}{
		{"not CEL", health.Check{APIVersion: "v1", Kind: "Pod", Current: "status.phase =="}, []string{"[0].current:", "line 1, column"}},
		{"an unknown name", health.Check{APIVersion: "v1", Kind: "Pod", Current: "true", Failed: "stats.phase == 'Failed'"}, []string{"[0].failed:", "undeclared reference to 'stats'"}},
		{"no condition", health.Check{APIVersion: "v1", Kind: "Pod", Current: "'Ready'"}, []string{"[0].current:", "is string, not true or false"}},
		{"no words", health.Check{APIVersion: "v1", Kind: "Pod", Current: "true", Message: "1"}, []string{"[0].message:", "is int, not a string"}},
		{"words from what may be secret", health.Check{APIVersion: "v1", Kind: "ConfigMap", Current: "true", Message: "data.password"}, []string{"[0].message:", "undeclared reference to 'data'"}},
		{"too long", health.Check{APIVersion: "v1", Kind: "Pod", Current: long}, []string{"[0].current:", "longer than 2048 bytes"}},
		{"a pattern that is made up", health.Check{APIVersion: "v1", Kind: "Pod", Current: "metadata.name.matches(status.pattern)"}, []string{"[0].current:", "must be a literal"}},
		{"a pattern that explodes", health.Check{APIVersion: "v1", Kind: "Pod", Current: "metadata.name.matches('((a{10}){10}){10}(b{10}){99}')"}, []string{"[0].current:", "too large"}},
		{"many patterns", health.Check{APIVersion: "v1", Kind: "Pod", Current: "kind.matches('a{600}') || kind.matches('b{600}')"}, []string{"[0].current:", "too large"}},
		{"a pattern that is none", health.Check{APIVersion: "v1", Kind: "Pod", Current: "metadata.name.matches('(')"}, []string{"[0].current:"}},
		{"no version", health.Check{APIVersion: "a/b/c", Kind: "Pod", Current: "true"}, []string{"[0].apiVersion:"}},
		{"a Secret", health.Check{APIVersion: "v1", Kind: "Secret", Current: "true"}, []string{"[0].kind:", "not looked into"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := new(health.Compiler).Compile([]health.Check{c.check})
			if !errors.Is(err, fleet.ErrInvalid) {
				t.Fatalf("%v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("several lines: %q", err)
			}
		})
	}
}

func TestWhatAnExpressionMayCostIsBounded(t *testing.T) {
	loop := "spec.l.all(a, spec.l.all(b, spec.l.all(c, a + b + c != 'x')))"
	large := "spec.l.map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).size() > 0"
	var list strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&list, "%q, ", strings.Repeat("x", 100)+fmt.Sprint(i))
	}
	u := parse(t, "example.com/v1 Database", "spec: {l: ["+list.String()+"]}\nstatus: {phase: a}")
	for _, text := range []string{loop, large} {
		got := health.Of(u, compile(t, health.Check{APIVersion: "example.com/v1", Kind: "Database", Current: text}))
		if got.Health != fleet.HealthUnknown || !strings.Contains(got.Message, "costs more than an expression may") {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

func TestWhatAllExpressionsMayTakeIsBounded(t *testing.T) {
	var c *health.Compiler
	c = c.Next()
	var err error
	for i := range 200 {
		_, err = c.Compile([]health.Check{{APIVersion: "v1", Kind: "Pod", Current: fmt.Sprintf("status.phase == '%01500d'", i)}})
		if err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "[0].current: all different health expressions on this cluster are larger than 128 KiB") {
		t.Fatalf("%v", err)
	}
	// What is not in use any more makes room.
	c = c.Next()
	if _, err := c.Compile([]health.Check{{APIVersion: "v1", Kind: "Pod", Current: fmt.Sprintf("status.phase == '%01500d'", 199)}}); err != nil {
		t.Error(err)
	}
}

func TestAnErrorTellsNothingOfTheObject(t *testing.T) {
	u := parse(t, "v1 ConfigMap", "data: {password: hunter2}\nstatus: {a: b}")
	for _, text := range []string{"int(data.password) == 1", "object.data[data.password] == 'a'", "timestamp(data.password) < timestamp('2026-01-01T00:00:00Z')", "data.password", "{data.password: 1}['a'] == 1"} {
		got := health.Of(u, compile(t, health.Check{APIVersion: "v1", Kind: "ConfigMap", Current: text}))
		if got.Health != fleet.HealthUnknown || strings.Contains(got.Message, "hunter2") {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

func TestChecksThatSayTheSameAreTheSame(t *testing.T) {
	var none *health.Checks
	a, b := compile(t, database), compile(t, database)
	other := database
	other.Failed = ""
	if !a.Same(b) || a.Same(compile(t, other)) || a.Same(none) || none.Same(a) || !none.Same(nil) {
		t.Error("they are told apart wrongly")
	}
}

func TestSinceWhenAnObjectIsAsItIs(t *testing.T) {
	const written = "metadata: {creationTimestamp: '2026-01-01T00:00:00Z', managedFields: [" +
		"{manager: capstan, time: '2026-01-02T00:00:00Z'}, {manager: controller, subresource: status, time: '2026-01-05T00:00:00Z'}]}\n"
	for _, c := range []struct{ name, body, want string }{
		{"a condition tells", written + "status: {conditions: [{type: Ready, status: 'False', reason: Waits, lastTransitionTime: '2026-01-03T00:00:00Z'}]}", "2026-01-03T00:00:00Z"},
		{"what is wanted is newer than the condition", strings.Replace(written, "2026-01-02", "2026-01-04", 1) + "status: {conditions: [{type: Ready, status: 'False', reason: Waits, lastTransitionTime: '2026-01-03T00:00:00Z'}]}", "2026-01-04T00:00:00Z"},
		{"nothing tells but who wrote last", written + "status: {phase: Creating}", "2026-01-05T00:00:00Z"},
		{"only its age is known", "metadata: {creationTimestamp: '2026-01-01T00:00:00Z'}", "2026-01-01T00:00:00Z"},
		{"nothing is known", "status: {conditions: [{type: Ready, reason: Waits, lastTransitionTime: soon}]}", "0001-01-01T00:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := health.Since(parse(t, "example.com/v1 Database", c.body), health.State{Health: fleet.Progressing, Message: "Waits"})
			if got := got.UTC().Format(time.RFC3339); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func FuzzExpressions(f *testing.F) {
	f.Add(database.Current, "status.message", `{"status":{"phase":"Ready","conditions":[]}}`)
	f.Add("metadata.name.matches('a+')", "", `{"metadata":{"name":"a"}}`)
	f.Add("object.?spec.?a.orValue(1) > 0", "metadata.name", `{"spec":{"a":[1,"x"]}}`)
	f.Fuzz(func(t *testing.T, current, message, body string) {
		checks, err := new(health.Compiler).Compile([]health.Check{{APIVersion: "example.com/v1", Kind: "Database", Current: current, Message: message}})
		if err != nil {
			if !errors.Is(err, fleet.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON([]byte(body)); err != nil && u.Object == nil {
			return
		}
		u.SetAPIVersion("example.com/v1")
		u.SetKind("Database")
		if got := health.Of(u, checks); got.Health == "" {
			t.Errorf("%s of %s: no word for it", current, body)
		}
	})
}
