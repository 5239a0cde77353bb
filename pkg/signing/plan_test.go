package signing_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signing"
)

func newAgentKey(t testing.TB) (nkeys.KeyPair, string) {
	t.Helper()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

func plan(t testing.TB) fleet.Plan {
	t.Helper()
	wanted := fleet.Document{
		Spec:    json.RawMessage(`{"path":"apps/guestbook"}`),
		RepoURL: "https://git.example.com/fleet",
		Objects: []json.RawMessage{json.RawMessage(`{"kind":"ConfigMap","data":{"a":"<b> & \u2028"}}`)},
	}
	to, err := wanted.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return fleet.Plan{
		ID: "p1", Action: fleet.ActionApply, App: fleet.AppName{Namespace: "shop", Name: "guestbook"},
		Cluster: "prod", ClusterUID: "uid-prod", To: to, Created: now, Wanted: &wanted,
	}
}

func TestPlansComeBackAsTheyWereSigned(t *testing.T) {
	key, public := newAgentKey(t)
	s, err := signing.SignPlan(key.Sign, public, plan(t))
	if err != nil {
		t.Fatal(err)
	}
	// On its way it is embedded in other JSON, by encoders of both habits.
	wire, err := json.Marshal(map[string]any{"plan": s})
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Plan fleet.SignedPlan }
	if err := json.Unmarshal(wire, &got); err != nil {
		t.Fatal(err)
	}
	var plainly bytes.Buffer
	e := json.NewEncoder(&plainly)
	e.SetEscapeHTML(false)
	if err := e.Encode(got.Plan); err != nil {
		t.Fatal(err)
	}
	var last fleet.SignedPlan
	if err := json.Unmarshal(plainly.Bytes(), &last); err != nil {
		t.Fatal(err)
	}
	p, err := signing.VerifyPlan(last, public)
	if err != nil {
		t.Fatal(err)
	}
	if p.ID != "p1" || p.To != plan(t).To {
		t.Errorf("got %+v", p)
	}
}

func TestVerifyPlanRefuses(t *testing.T) {
	key, public := newAgentKey(t)
	_, other := newAgentKey(t)
	good, err := signing.SignPlan(key.Sign, public, plan(t))
	if err != nil {
		t.Fatal(err)
	}
	// resign signs what SignPlan would refuse, as a broken agent might.
	resign := func(f func(*fleet.Plan)) fleet.SignedPlan {
		p := plan(t)
		f(&p)
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return signRaw(t, key, public, data)
	}
	with := func(f func(*fleet.SignedPlan)) fleet.SignedPlan {
		s := good
		f(&s)
		return s
	}
	for _, test := range []struct {
		name string
		s    fleet.SignedPlan
		pin  string
		want error
	}{
		{"unsigned", with(func(s *fleet.SignedPlan) { s.Signature = "" }), public, signing.ErrUnsigned},
		{"another key", good, other, signing.ErrKeyChanged},
		{"claims the pinned key", with(func(s *fleet.SignedPlan) { s.Key = other }), other, signing.ErrBadSignature},
		{"not a key", with(func(s *fleet.SignedPlan) { s.Key = "U" }), "U", signing.ErrMalformed},
		{"altered", with(func(s *fleet.SignedPlan) { s.Plan = bytes.Replace(s.Plan, []byte("prod"), []byte("test"), 1) }), public, signing.ErrBadSignature},
		{"signature is no base64", with(func(s *fleet.SignedPlan) { s.Signature = "%" }), public, signing.ErrMalformed},
		{"other objects than its digest's", resign(func(p *fleet.Plan) { p.Wanted.RepoURL = "https://evil.example.com" }), public, signing.ErrMalformed},
		{"no objects", resign(func(p *fleet.Plan) { p.Wanted = nil }), public, signing.ErrMalformed},
		{"applies nothing", resign(func(p *fleet.Plan) { p.To, p.Wanted = "", nil }), public, signing.ErrMalformed},
		{"removes, but to something", resign(func(p *fleet.Plan) { p.Action = fleet.ActionRemove }), public, signing.ErrMalformed},
		{"an unknown action", resign(func(p *fleet.Plan) { p.Action = "dance" }), public, signing.ErrMalformed},
		{"no id", resign(func(p *fleet.Plan) { p.ID = "" }), public, signing.ErrMalformed},
		{"a bad cluster name", resign(func(p *fleet.Plan) { p.Cluster = "*" }), public, signing.ErrMalformed},
		{"a bad app name", resign(func(p *fleet.Plan) { p.App.Name = "A b" }), public, signing.ErrMalformed},
		{"an unknown field", signRaw(t, key, public, append([]byte(`{"more":1,`), good.Plan[1:]...)), public, signing.ErrMalformed},
		{"two plans", signRaw(t, key, public, append(bytes.Clone(good.Plan), good.Plan...)), public, signing.ErrMalformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := signing.VerifyPlan(test.s, test.pin); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}

func signRaw(t testing.TB, key nkeys.KeyPair, public string, data []byte) fleet.SignedPlan {
	t.Helper()
	first := true
	s, err := signing.SignPlan(func([]byte) ([]byte, error) {
		first = false
		return key.Sign(append([]byte("capstan-plan\x00"), data...))
	}, public, plan(t))
	if err != nil || first {
		t.Fatal(err)
	}
	s.Plan = data
	return s
}

func TestARemovalCarriesNoObjects(t *testing.T) {
	key, public := newAgentKey(t)
	p := plan(t)
	p.Action, p.From, p.To, p.Wanted = fleet.ActionRemove, p.To, "", nil
	s, err := signing.SignPlan(key.Sign, public, p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signing.VerifyPlan(s, public); err != nil {
		t.Error(err)
	}
}

func FuzzVerifyPlan(f *testing.F) {
	key, public := newAgentKey(f)
	good, err := signing.SignPlan(key.Sign, public, plan(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(good.Plan), true)
	f.Add([]byte(good.Plan), false)
	f.Add([]byte(`{"id":"x","wanted":{"objects":[null]}}`), true)
	f.Fuzz(func(t *testing.T, data []byte, resigned bool) {
		s := good
		s.Plan = data
		if resigned {
			s = signRaw(t, key, public, data)
		}
		p, err := signing.VerifyPlan(s, public)
		if err != nil {
			return
		}
		if !resigned && !bytes.Equal(data, good.Plan) {
			t.Error("an altered plan was accepted")
		}
		if p.Wanted == nil != (p.To == fleet.NoDigest) {
			t.Errorf("accepted %+v", p)
		}
	})
}
