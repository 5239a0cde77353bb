package wire_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

var update = flag.Bool("update", false, "write the golden files")

var (
	at  = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	web = fleet.AppName{Namespace: "shop", Name: "web"}
)

// samples has one of each message, as full as it gets.
var samples = []wire.Message{
	wire.Report{Epoch: 3, Seq: 14, App: &fleet.AppStatus{
		Cluster: "dev", Namespace: "shop", App: "web", Revision: "main@sha1:0123456789abcdef0123456789abcdef01234567",
		Digest: "sha256:aa", Sync: fleet.Pending, Health: fleet.Healthy, Message: "waits <for> approval", Hint: "capstan approve web",
		Reason: "Pending", Objects: 4, Path: "apps/web/dev", Changed: at,
		Holds:   []fleet.Hold{{Kind: fleet.HoldSuspend, By: "ada", At: at, Refused: "not here"}},
		Pending: &fleet.PendingPlan{Revision: "main@sha1:bb", Digest: "sha256:bb", Gate: fleet.GateApproval, Plan: "p1", Action: fleet.ActionApply, Since: at, Need: 1},
		Drift:   []fleet.DriftSummary{{Object: fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: "shop", Name: "web"}, Manager: "kubectl-edit", Fields: []string{"/data/a"}, Since: at}},
	}},
	wire.Resent{Epoch: 3},
	wire.Ack{},
	wire.Heartbeat{Epoch: 3, Cluster: fleet.ClusterReport{
		UID: "u-1", AgentVersion: "v0.1.0", KubernetesVersion: "v1.37.2",
		Declared: map[string]string{"env": "prod"}, Assignable: []string{"tier"}, Head: "main@sha1:bb", AgentKey: "UABC", Interval: 10 * time.Second,
		Sources: []fleet.SourceStatus{{URL: "https://git.example.com/fleet.git", Follows: "branch main", Head: "main@sha1:bb", ServedBy: "file:///m.git", Failing: true, Reached: at, Message: "read from the mirror"}},
	}},
	wire.HeartbeatAck{Instance: "hub1", Revision: 7, Epoch: 2},
	wire.IntentGet{},
	wire.Intent{Intent: fleet.Intent{
		Instance: "hub1", Revision: 7, Labels: map[string]string{"tier": "edge"}, Removed: []string{"env"},
		Approvals: []fleet.SignedApproval{{Statement: []byte(`{"app":"shop/web"}`), Signature: "-----BEGIN SSH SIGNATURE-----"}},
		Syncs:     []fleet.SyncRequest{{ID: "s1", App: web, At: at}},
		Rejected:  []fleet.Rejection{{Plan: "p0", By: "ada", Why: "too early", At: at}},
		Holds: []fleet.HoldOrder{
			{App: web, Hold: fleet.Hold{Kind: fleet.HoldRollback, By: "ada", At: at, Why: "bad", Revision: "main@sha1:aa", Digest: "sha256:aa"}},
			{App: web, Hold: fleet.Hold{Kind: fleet.HoldSuspend, By: "ada", At: at}, Lifted: true},
		},
	}},
	wire.Ask{What: wire.AskPlan, App: web, Offset: 131072, ETag: "e1"},
	wire.Part{ETag: "e1", Total: 5, Data: []byte("<{}>x")},
	wire.Enrol{Key: "UABC", Proof: []byte("proof")},
	wire.Enrolled{JWT: "eyJ", Cluster: "dev", Instance: "hub1"},
	wire.Renew{Key: "UABC"},
	wire.Renewed{JWT: "eyJ"},
	wire.LinkGet{},
	wire.Link{URLs: []string{"tls://hub.example.com:4222", "wss://hub.example.com"}, CA: "-----BEGIN CERTIFICATE-----"},
	wire.GitNotice{URL: "https://git.example.com/fleet.git", Refs: []string{"refs/heads/main", "refs/tags/v1"}, Agents: 3},
	wire.Failure{Code: "conflict", Text: "too late", Hint: "try again"},
}

func TestMessagesLookOnTheWireAsTheyDid(t *testing.T) {
	for _, m := range samples {
		t.Run(string(m.Kind()), func(t *testing.T) {
			got, err := wire.Encode(m)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", string(m.Kind())+".json")
			if *update {
				if err := os.WriteFile(file, append(got, '\n'), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(got)+"\n" != string(want) {
				t.Errorf("%s changed: agents and hubs of other releases read it as\n%s\nnow it is\n%s", m.Kind(), want, got)
			}
			if again := decodeAny(t, got); again != string(got) {
				t.Errorf("does not survive a round trip:\n%s\n%s", got, again)
			}
		})
	}
}

// decodeAny decodes as whatever kind fits, and encodes again.
func decodeAny(t *testing.T, data []byte) string {
	t.Helper()
	for _, try := range decoders {
		if m, err := try(data); err == nil {
			out, err := wire.Encode(m)
			if err != nil {
				t.Fatalf("decoded, but can't be encoded: %v", err)
			}
			return string(out)
		}
	}
	return ""
}

var decoders = []func([]byte) (wire.Message, error){
	as[wire.Report], as[wire.Resent], as[wire.Ack], as[wire.Heartbeat], as[wire.HeartbeatAck], as[wire.IntentGet], as[wire.Intent],
	as[wire.Ask], as[wire.Part], as[wire.Enrol], as[wire.Enrolled], as[wire.Renew], as[wire.Renewed], as[wire.LinkGet], as[wire.Link], as[wire.GitNotice], as[wire.Failure],
}

func as[M wire.Message](data []byte) (wire.Message, error) { return wire.Decode[M](data) }

func TestDecodeRefuses(t *testing.T) {
	for name, data := range map[string]string{
		"nothing":                    ``,
		"no envelope":                `[]`,
		"another version":            `{"v":2,"kind":"resent","body":{"epoch":1}}`,
		"another kind":               `{"v":1,"kind":"ack","body":{}}`,
		"an unknown envelope field":  `{"v":1,"kind":"resent","body":{"epoch":1},"sudo":true}`,
		"two values":                 `{"v":1,"kind":"resent","body":{"epoch":1}} {}`,
		"a body that is no object":   `{"v":1,"kind":"resent","body":[1]}`,
		"no body":                    `{"v":1,"kind":"resent"}`,
		"a field of the wrong type":  `{"v":1,"kind":"resent","body":{"epoch":"1"}}`,
		"a number that is too large": `{"v":1,"kind":"resent","body":{"epoch":99999999999999999999}}`,
		"epoch zero":                 `{"v":1,"kind":"resent","body":{"epoch":0}}`,
		"text that is cut short":     `{"v":1,"kind":"resent","body":{"epoch":1}`,
		"bytes that are no UTF-8":    "{\"v\":1,\"kind\":\"resent\",\"body\":{\"epoch\":1,\"x\":\"\xff\"}}",
		"deep nesting":               `{"v":1,"kind":"resent","body":{"epoch":1,"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}}`,
		"a key twice":                `{"v":1,"kind":"resent","body":{"epoch":1,"epoch":2}}`,
		"a key twice, escaped":       `{"v":1,"kind":"resent","body":{"epoch":1,"\u0065poch":2}}`,
		"a key twice, further in":    `{"v":1,"kind":"resent","body":{"epoch":1,"x":[{"y":{"a":1,"b":2,"a":3}}]}}`,
		"a body twice":               `{"v":1,"kind":"resent","body":{"epoch":1},"body":{"epoch":2}}`,
		"too much":                   `{"v":1,"kind":"resent","body":{"epoch":1,"x":"` + strings.Repeat("x", 9000) + `"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := wire.Decode[wire.Resent]([]byte(data)); !errors.Is(err, fleet.ErrInvalid) {
				t.Errorf("got %+v, %v; want ErrInvalid", m, err)
			}
		})
	}
}

func TestUnknownFieldsOfANewerReleaseArePassedOver(t *testing.T) {
	m, err := wire.Decode[wire.Resent]([]byte(`{"v":1,"kind":"resent","body":{"epoch":5,"later":{"a":[1]}}}`))
	if err != nil || m.Epoch != 5 {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestAPaceThatIsNoneIsRefused(t *testing.T) {
	for _, every := range []time.Duration{-1, wire.MaxInterval + 1} {
		if _, err := wire.Encode(wire.HeartbeatAck{Every: every}); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%d: %v", every, err)
		}
	}
}

func TestReportsAreChecked(t *testing.T) {
	ok := fleet.AppStatus{Namespace: "shop", App: "web", Sync: fleet.Synced, Health: fleet.Healthy}
	alter := func(f func(*fleet.AppStatus)) *fleet.AppStatus { s := ok; f(&s); return &s }
	for name, r := range map[string]wire.Report{
		"neither here nor gone": {Epoch: 1, Seq: 1},
		"both here and gone":    {Epoch: 1, Seq: 1, App: &ok, Gone: &web},
		"no epoch":              {Seq: 1, App: &ok},
		"no sequence":           {Epoch: 1, App: &ok},
		"a wildcard for a name": {Epoch: 1, Seq: 1, Gone: &fleet.AppName{Namespace: "shop", Name: "*"}},
		"dots in a name":        {Epoch: 1, Seq: 1, App: alter(func(s *fleet.AppStatus) { s.App = "a.b" })},
		"a word for sync":       {Epoch: 1, Seq: 1, App: alter(func(s *fleet.AppStatus) { s.Sync = "Fine" })},
		"a word for health":     {Epoch: 1, Seq: 1, App: alter(func(s *fleet.AppStatus) { s.Health = "Fine" })},
	} {
		if _, err := wire.Encode(r); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	long := wire.Report{Epoch: 1, Seq: 1, App: alter(func(s *fleet.AppStatus) { s.Message = strings.Repeat("x", wire.MaxStatus) })}
	if _, err := wire.Encode(long); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("over %d bytes: got %v, want ErrInvalid", wire.MaxStatus, err)
	}
}

func TestHoldsAreChecked(t *testing.T) {
	ok := fleet.HoldOrder{App: web, Hold: fleet.Hold{Kind: fleet.HoldRollback, By: "ada", Revision: "main@sha1:aa"}}
	alter := func(f func(*fleet.HoldOrder)) []fleet.HoldOrder { o := ok; f(&o); return []fleet.HoldOrder{o} }
	for name, holds := range map[string][]fleet.HoldOrder{
		"more than may be":      slices.Repeat([]fleet.HoldOrder{ok}, fleet.MaxOrders+1),
		"a wildcard for a name": alter(func(o *fleet.HoldOrder) { o.App.Name = "*" }),
		"to no commit":          alter(func(o *fleet.HoldOrder) { o.Revision = "main" }),
		"for a long tale":       alter(func(o *fleet.HoldOrder) { o.Why = strings.Repeat("x", fleet.MaxWhy+1) }),
	} {
		if _, err := wire.Encode(wire.Intent{Intent: fleet.Intent{Instance: "h", Holds: holds}}); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	later := alter(func(o *fleet.HoldOrder) { o.Kind = "of a newer release" })
	if _, err := wire.Encode(wire.Intent{Intent: fleet.Intent{Instance: "h", Holds: later}}); err != nil {
		t.Errorf("a kind that is for the cluster to refuse: %v", err)
	}
}

func TestAFailureComesBackAsTheErrorItWas(t *testing.T) {
	for _, want := range []error{
		fleet.WithHint(fleet.NotFound("no plan"), "look elsewhere"), fleet.Conflict("late"), fleet.Forbidden("no"), fleet.Invalid("what?"), fleet.Unavailable("away"),
	} {
		data, err := wire.Encode(wire.Fail(want))
		if err != nil {
			t.Fatal(err)
		}
		_, got := wire.Decode[wire.Part](data)
		if got == nil || got.Error() != want.Error() || fleet.Hint(got) != fleet.Hint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		for _, kind := range []error{fleet.ErrInvalid, fleet.ErrForbidden, fleet.ErrNotFound, fleet.ErrConflict, fleet.ErrUnavailable} {
			if errors.Is(got, kind) != errors.Is(want, kind) {
				t.Errorf("%v: kind %v changed", want, kind)
			}
		}
	}
}

func TestAFailureOfOnesOwnIsNotSpelledOut(t *testing.T) {
	if f := wire.Fail(errors.New("password=hunter2")); strings.Contains(f.Text, "hunter2") {
		t.Errorf("says %q", f.Text)
	}
}

func TestSubjects(t *testing.T) {
	for subject, want := range map[string]wire.Up{
		wire.StatusSubject("dev", web): {Cluster: "dev", Verb: wire.VerbStatus, App: web},
		wire.HeartbeatSubject("dev"):   {Cluster: "dev", Verb: wire.VerbHeartbeat},
		wire.ResentSubject("dev"):      {Cluster: "dev", Verb: wire.VerbResent},
		wire.IntentGetSubject("dev"):   {Cluster: "dev", Verb: wire.VerbIntent},
		wire.RenewSubject("dev"):       {Cluster: "dev", Verb: wire.VerbRenew},
		wire.LinkSubject("dev"):        {Cluster: "dev", Verb: wire.VerbLink},
	} {
		if got, err := wire.ParseUp(subject); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", subject, got, err)
		}
	}
	for _, subject := range []string{
		"", "up", "up.dev", "up.dev.", "up..hb", "up.*.hb", "up.dev.status", "up.dev.status.shop", "up.dev.status.shop.web.x",
		"up.dev.status.shop.*", "up.dev.hb.x", "up.dev.intent", "up.dev.intent.put", "up.dev.nothing", "down.dev.intent", "up.DEV.hb",
	} {
		if got, err := wire.ParseUp(subject); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%s: got %+v, %v; want ErrInvalid", subject, got, err)
		}
	}
}

func TestOnlyTheOwnInboxIsAnswered(t *testing.T) {
	for reply, want := range map[string]bool{
		"_INBOX_c1.abc": true, "_INBOX_c1.abc.def": true,
		"": false, "_INBOX_c1": false, "_INBOX_c1.": false, "_INBOX_c2.abc": false, "_INBOX_c1x.abc": false,
		"down.c2.intent": false, "$KV.intent.c2": false, "$JS.API.STREAM.PURGE.KV_status": false, "_INBOX_c1.>": false, "_INBOX_c1.*": false,
	} {
		if got := wire.AnswersWithin(reply, wire.Inbox("c1")); got != want {
			t.Errorf("%q: got %v", reply, got)
		}
	}
}

func TestJoinTokens(t *testing.T) {
	want := wire.JoinToken{URLs: []string{"nats://hub:4222"}, CA: "pem", Cluster: "dev", Join: "j1", Instance: "hub1", JWT: "eyJ", Seed: "SU"}
	s, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := wire.ParseJoinToken(" " + s + "\n")
	if err != nil || got.Cluster != want.Cluster || got.Seed != want.Seed || got.URLs[0] != want.URLs[0] {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "x", "e30", s[:len(s)/2], strings.Repeat("A", 100000)} {
		if _, err := wire.ParseJoinToken(bad); !errors.Is(err, fleet.ErrInvalid) || fleet.Hint(err) == "" {
			t.Errorf("%.20q: got %v, want ErrInvalid with a hint", bad, err)
		}
	}
}
